"""The parts that only time or chance would show: the breaker, the fights, the fence, the pulse and the full listing."""

# ruff: noqa: ARG002 - stand-ins take what they are given

import asyncio
import itertools
import logging
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from dbclusterref.errors import KubernetesError, SettingsError
from dbclusterref.kube.client import references_path, secrets_path
from dbclusterref.kube.fence import Fence
from dbclusterref.metrics import Metrics
from dbclusterref.reconcile.repair_backoff import AT_ONCE, RepairBackoff
from dbclusterref.reconcile.store import Store
from dbclusterref.resource.objects import FIELD_MANAGER, MANAGED_BY, ObjectKey
from dbclusterref.resource.shard import Shard
from dbclusterref.secret.state import REFERENCE_UID
from dbclusterref.timing import Timing
from dbclusterref.watch.resync import Resync, SecretsUnreadableError
from tests.support.fakes import KEY, FakeKubernetes, reference_body, secret_body

SECRET = ObjectKey("shop", "orders-db")


# --- fights


def test_a_handful_of_repairs_is_made_at_once_and_then_one_each_window() -> None:
    fights = RepairBackoff(Timing())
    for number in range(AT_ONCE):
        assert fights.seconds_to_wait(SECRET, now=float(number)) == 0
        fights.repaired(SECRET, now=float(number))
    assert fights.seconds_to_wait(SECRET, now=5.0) == 59.0
    assert fights.seconds_to_wait(SECRET, now=70.0) == 0


def test_repairs_far_apart_are_no_fight() -> None:
    fights = RepairBackoff(Timing())
    for number in range(20):
        fights.repaired(SECRET, now=number * 60.0)
        assert not fights.is_on(SECRET, now=number * 60.0)


def test_a_fight_is_over_when_nothing_was_repaired_for_a_while() -> None:
    fights = RepairBackoff(Timing())
    for _ in range(AT_ONCE):
        fights.repaired(SECRET, now=0.0)
    assert fights.is_on(SECRET, now=299.0)
    assert not fights.is_on(SECRET, now=301.0)
    fights.repaired(SECRET, now=302.0)
    assert not fights.is_on(SECRET, now=302.0)


def test_old_repairs_are_forgotten() -> None:
    fights = RepairBackoff(Timing())
    for number in range(3000):
        fights.repaired(ObjectKey("shop", f"db-{number}"), now=float(number))
    assert len(fights._repairs) < 1100


# --- the fence


async def test_nothing_is_written_without_the_lease() -> None:
    api = FakeKubernetes()
    fence = Fence(api, seconds_left=lambda: 0.0)
    with pytest.raises(KubernetesError, match="not the leader"):
        await fence.apply_secret({"metadata": {"name": "x", "namespace": "y"}}, force=False)
    with pytest.raises(KubernetesError, match="not the leader"):
        await fence.delete_secret(SECRET, uid="u")
    with pytest.raises(KubernetesError, match="not the leader"):
        await fence.patch_status(SECRET, uid="u", status={})
    assert api.calls == []
    assert await fence.get_secret(SECRET) is None


async def test_a_write_that_outlasts_the_lease_is_broken_off() -> None:
    class Slow(FakeKubernetes):
        async def delete_secret(self, key: ObjectKey, *, uid: str) -> None:
            await asyncio.Event().wait()

    fence = Fence(Slow(), seconds_left=lambda: 0.01)
    with pytest.raises(KubernetesError, match="broken off"):
        await fence.delete_secret(SECRET, uid="u")


# --- the full listing


class Listing:
    """What the API server says."""

    def __init__(self, api: FakeKubernetes) -> None:
        self.api = api
        self.hidden: set[ObjectKey] = set()
        self.trouble: KubernetesError | None = None
        self.version = "100"
        self.forbidden: set[str] = set()

    def _require_right(self, namespace: str) -> None:
        if namespace in self.forbidden:
            raise KubernetesError("forbidden", status=403)

    async def list_references(self, namespace: str, *, listed_at: Callable[[str], object]) -> AsyncIterator[dict[str, object]]:
        self._require_right(namespace)
        listed_at(self.version)
        for key, body in self.api.references.items():
            if key not in self.hidden:
                yield body

    async def list_secrets(
        self, namespace: str, *, metadata_alone: bool = False, listed_at: Callable[[str], object]
    ) -> AsyncIterator[dict[str, object]]:
        if self.trouble:
            raise self.trouble
        self._require_right(namespace)
        listed_at(self.version)
        for key, body in self.api.secrets.items():
            if key not in self.hidden:
                yield body

    async def get_reference(self, key: ObjectKey) -> dict[str, object] | None:
        return self.api.references.get(key)

    async def get_secret(self, key: ObjectKey) -> dict[str, object] | None:
        return self.api.secrets.get(key)


class Marks:
    def __init__(self) -> None:
        self.marked: list[ObjectKey] = []
        self.forgotten: list[ObjectKey] = []

    def mark(self, key: ObjectKey, *, urgent: bool = False) -> None:
        self.marked.append(key)

    def forget(self, key: ObjectKey) -> None:
        self.forgotten.append(key)


class Night:
    def __init__(self, *, shard: Shard | None = None, namespaces: tuple[str, ...] = ()) -> None:
        self.restored = 0
        self.api, self.store, self.marks, self.metrics = FakeKubernetes(), Store(shard=shard), Marks(), Metrics()
        self.listing = Listing(self.api)
        self.resync = Resync(
            self.listing,
            store=self.store,
            marks=self.marks,
            metrics=self.metrics,
            logger=logging.getLogger("test"),
            namespaces=namespaces,
            sees_secrets=lambda: True,
            on_restore=self._count_restore,
        )

    def _count_restore(self) -> None:
        self.restored += 1

    @property
    def missed(self) -> float:
        value: Any = self.metrics.registry.get_sample_value("dbclusterref_missed_changes_total")
        return float(value)

    def put(self, **body: Any) -> None:
        self.api.put_reference(reference_body(**body))


async def test_a_resource_that_no_watch_told_of_is_taken_in() -> None:
    night = Night()
    night.put()
    await night.resync.run()
    assert night.marks.marked == [KEY]
    assert night.missed == 1
    await night.resync.run()
    assert night.missed == 1


async def test_at_first_the_secrets_are_known_before_the_resources_that_want_them() -> None:
    night = Night()
    night.put()
    night.api.put_secret(secret_body({"a": "b"}, key=KEY, labels={MANAGED_BY: FIELD_MANAGER}))
    known: list[bool] = []
    night.marks.mark = lambda key, **_: known.append(night.store.secret(key) is not None)  # type: ignore[method-assign]
    await night.resync.run(first=True)
    assert known == [True]
    assert night.missed == 0


async def test_another_shards_secrets_and_resources_are_no_missed_changes() -> None:
    night = Night(shard=Shard(index=0, count=2))
    for number in range(8):
        key, uid = ObjectKey("shop", f"db-{number}"), f"uid-{number}"
        night.put(key=key, uid=uid)
        body = secret_body({"a": "b"}, key=key, labels={MANAGED_BY: FIELD_MANAGER})
        body["metadata"]["annotations"] = {REFERENCE_UID: uid}
        night.api.put_secret(body)
    await night.resync.run(first=True)
    assert 0 < len(night.store) < 8
    assert len(night.store.secret_versions()) == len(night.store)
    await night.resync.run()
    assert night.missed == 0


async def test_a_resource_that_is_gone_is_forgotten() -> None:
    night = Night()
    night.put()
    await night.resync.run(first=True)
    night.api.references.clear()
    await night.resync.run()
    assert night.store.get(KEY) is None
    assert night.marks.forgotten == [KEY]


async def test_a_resource_that_a_listing_lacks_is_not_given_up_while_it_can_be_read() -> None:
    night = Night()
    night.put()
    await night.resync.run(first=True)
    night.listing.hidden.add(KEY)
    await night.resync.run()
    assert night.store.get(KEY) is not None
    assert night.missed == 0


async def test_a_resource_made_anew_takes_the_place_of_the_former() -> None:
    night = Night()
    night.put(uid="first")
    await night.resync.run(first=True)
    night.api.references.clear()
    night.put(uid="second")
    await night.resync.run()
    entry = night.store.get(KEY)
    assert entry is not None
    assert entry.identity.uid == "second"


async def test_after_a_restored_backup_what_is_listed_is_believed_though_it_is_older() -> None:
    night = Night()
    secret = secret_body({"a": "new"}, key=KEY, labels={MANAGED_BY: FIELD_MANAGER})
    night.put(generation=2)
    night.api.put_secret(secret)
    await night.resync.run(first=True)
    before = night.store.secret(KEY)
    assert before is not None

    night.listing.version = "50"
    night.api.numbers = itertools.count(11)
    night.put(generation=1)
    night.api.put_secret(secret_body({"a": "old"}, key=KEY, labels={MANAGED_BY: FIELD_MANAGER}))
    await night.resync.run()
    entry, live = night.store.get(KEY), night.store.secret(KEY)
    assert entry is not None
    assert live is not None
    assert entry.identity.generation == 1
    assert live.resource_version == "12"
    assert night.restored == 1
    await night.resync.run()
    assert night.restored == 1, "versions count from there on"


async def test_an_older_object_in_a_listing_that_did_not_go_back_is_believed_too() -> None:
    # A backup that was restored so long ago that versions have caught up.
    night = Night()
    night.put(generation=2)
    await night.resync.run(first=True)
    night.api.numbers = itertools.count(11)
    night.put(generation=1)
    night.api.put_secret(secret_body({"a": "b"}, key=KEY, labels={MANAGED_BY: FIELD_MANAGER}))
    await night.resync.run()
    entry, live = night.store.get(KEY), night.store.secret(KEY)
    assert entry is not None
    assert entry.identity.generation == 1
    assert live is not None
    assert night.restored == 0


async def test_a_secret_that_a_restored_backup_lacks_is_found_out() -> None:
    night = Night()
    night.put()
    night.api.put_secret(secret_body({"a": "b"}, key=KEY, labels={MANAGED_BY: FIELD_MANAGER}))
    await night.resync.run(first=True)
    night.listing.version = "50"
    night.api.secrets.clear()
    night.marks.marked.clear()
    await night.resync.run()
    assert night.store.secret(KEY) is None
    assert KEY in night.marks.marked


@pytest.mark.parametrize("status", [429, 500, 503])
async def test_secrets_that_cannot_be_listed_cost_no_resource(status: int) -> None:
    night = Night()
    night.put()
    night.listing.trouble = KubernetesError("unable to decrypt", status=status)
    with pytest.raises(SecretsUnreadableError, match="unable to decrypt"):
        await night.resync.run(first=True)
    assert night.store.get(KEY) is not None


async def test_a_listing_gives_its_version_once_and_only_when_it_is_complete() -> None:
    night = Night()
    night.put()
    await night.resync.run(first=True)
    paths = references_path(""), secrets_path("")
    assert [night.resync.take_version(path) for path in paths] == ["100", "100"]
    assert [night.resync.take_version(path) for path in paths] == ["", ""]
    night.listing.trouble = KubernetesError("no", status=500)
    with pytest.raises(SecretsUnreadableError):
        await night.resync.run()
    assert night.resync.take_version(secrets_path("")) == ""


async def test_a_namespace_that_may_not_be_listed_is_left_out_and_named() -> None:
    night = Night(namespaces=("shop", "gone"))
    night.put()
    night.listing.forbidden = {"gone"}
    refused = await night.resync.run(first=True)
    assert set(refused) == {"gone"}
    assert night.store.get(KEY) is not None


async def test_where_no_namespace_may_be_listed_that_is_an_error() -> None:
    night = Night(namespaces=("gone",))
    night.listing.forbidden = {"gone"}
    with pytest.raises(KubernetesError) as raised:
        await night.resync.run(first=True)
    assert raised.value.status == 403


# --- timing


def test_the_leases_periods_must_grow() -> None:
    with pytest.raises(SettingsError, match="grow in this order"):
        Timing.from_text("lease_duration=5")
    assert Timing.from_text("resync=5,watch_idle=3.5") == Timing(resync=5, watch_idle=3.5)
