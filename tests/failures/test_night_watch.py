"""The parts that only time or chance would show: the breaker, the fights, the fence, the pulse and the full listing."""

# ruff: noqa: ARG002 - stand-ins take what they are given

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest

from dbclusterref.errors import KubernetesError, SettingsError
from dbclusterref.kube.fence import Fence
from dbclusterref.metrics import Metrics
from dbclusterref.reconcile.repair_backoff import AT_ONCE, RepairBackoff
from dbclusterref.reconcile.store import Store
from dbclusterref.resource.objects import FIELD_MANAGER, MANAGED_BY, ObjectKey
from dbclusterref.resource.shard import Shard
from dbclusterref.secret.state import REFERENCE_UID
from dbclusterref.timing import Timing
from dbclusterref.watch.resync import Resync
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

    async def list_references(self, namespace: str) -> AsyncIterator[dict[str, object]]:
        for key, body in self.api.references.items():
            if key not in self.hidden:
                yield body

    async def list_secrets(self, namespace: str, *, metadata_alone: bool = False) -> AsyncIterator[dict[str, object]]:
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
    def __init__(self, *, shard: Shard | None = None) -> None:
        self.api, self.store, self.marks, self.metrics = FakeKubernetes(), Store(shard=shard), Marks(), Metrics()
        self.listing = Listing(self.api)
        self.resync = Resync(
            self.listing,
            store=self.store,
            marks=self.marks,
            metrics=self.metrics,
            logger=logging.getLogger("test"),
            namespaces=(),
            sees_secrets=lambda: True,
        )

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


# --- timing


def test_the_leases_periods_must_grow() -> None:
    with pytest.raises(SettingsError, match="grow in this order"):
        Timing.from_text("lease_duration=5")
    assert Timing.from_text("resync=5,watch_idle=3.5") == Timing(resync=5, watch_idle=3.5)
