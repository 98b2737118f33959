import itertools
import logging
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from dbclusterref.errors import KubernetesError, TooLarge
from dbclusterref.kube.client import references_path, secrets_path
from dbclusterref.metrics import Metrics
from dbclusterref.reconcile.namespace_limit import NamespaceLimit
from dbclusterref.reconcile.store import FREE_BYTES, NAMESPACE_BYTES, Store
from dbclusterref.resource.objects import FIELD_MANAGER, MANAGED_BY, ObjectKey
from dbclusterref.resource.shard import Shard
from dbclusterref.secret.state import REFERENCE, REFERENCE_UID
from dbclusterref.watch.resync import Resync, SecretsUnreadableError
from tests.support.builders import KEY, UID, Body, applied, reference_body, secret_body
from tests.support.fake_kubernetes import FakeKubernetes

# ruff: noqa: ARG002 - stand-ins take what they are given


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


class Bench:
    def __init__(
        self,
        *,
        shard: Shard | None = None,
        namespaces: tuple[str, ...] = (),
        most: int = 0,
        store: Store | None = None,
    ) -> None:
        self.restored = 0
        self.api, self.marks, self.metrics = FakeKubernetes(), Marks(), Metrics()
        self.refused: list[ObjectKey] = []
        limit = NamespaceLimit(most)
        self.store = Store(shard=shard, limit=limit, on_refused=self.refused.append) if store is None else store
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
    bench = Bench()
    bench.put()
    await bench.resync.run()
    assert bench.marks.marked == [KEY]
    assert bench.missed == 1
    await bench.resync.run()
    assert bench.missed == 1


async def test_at_first_the_secrets_are_known_before_the_resources_that_want_them() -> None:
    bench = Bench()
    bench.put()
    bench.api.put_secret(secret_body({"a": "b"}, key=KEY, labels={MANAGED_BY: FIELD_MANAGER}))
    known: list[bool] = []
    bench.marks.mark = lambda key, **_: known.append(bench.store.secret(key) is not None)  # type: ignore[method-assign]
    await bench.resync.run(first=True)
    assert known == [True]
    assert bench.missed == 0


async def test_of_a_namespace_with_too_many_the_oldest_alone_are_served_whatever_the_order_of_the_listing() -> None:
    bench = Bench(most=2)
    keys = {age: ObjectKey("shop", f"db-{9 - age}") for age in range(5)}  # the oldest has the last name
    for age in sorted(keys, reverse=True):
        bench.put(key=keys[age], uid=f"uid-{age}", metadata={"creationTimestamp": f"2026-01-05T12:00:0{age}Z"})
    bench.put(key=ObjectKey("team", "db"), uid="team")
    await bench.resync.run(first=True)
    assert set(bench.marks.marked) == {keys[0], keys[1], ObjectKey("team", "db")}
    assert {entry.identity.key for entry in bench.store} == {keys[0], keys[1], ObjectKey("team", "db")}
    assert set(bench.refused) == {keys[2], keys[3], keys[4]}
    assert bench.store.limit.refused == {"shop": 3}
    bench.marks.marked.clear()
    bench.api.references.pop(keys[0])
    bench.store.drop(keys[0], uid="uid-0")
    await bench.resync.run()
    assert bench.marks.marked == [keys[2]], "the place that became free"
    assert bench.missed == 0
    assert bench.store.limit.refused == {"shop": 2}


async def test_what_a_listing_took_in_is_marked_although_it_broke_off() -> None:
    bench = Bench(most=5)
    bench.put()
    list_all = bench.listing.list_references

    async def break_off(namespace: str, *, listed_at: Callable[[str], object]) -> AsyncIterator[dict[str, object]]:
        async for body in list_all(namespace, listed_at=listed_at):
            yield body
        raise KubernetesError("gone", status=410)

    bench.listing.list_references = break_off  # type: ignore[method-assign]
    with pytest.raises(KubernetesError):
        await bench.resync.run(first=True)
    assert bench.marks.marked == [KEY]


async def test_secrets_that_no_resource_names_are_neither_kept_nor_read_by_name() -> None:
    bench = Bench()
    bench.put()
    for name in ("orders-db", "stranger"):
        bench.api.put_secret(secret_body({"a": "b"}, key=ObjectKey("shop", name), labels={MANAGED_BY: FIELD_MANAGER}))
    await bench.resync.run(first=True)
    assert list(bench.store.secret_versions()) == [KEY]
    bench.listing.get_secret = None  # type: ignore[assignment, method-assign]
    await bench.resync.run()
    assert list(bench.store.secret_versions()) == [KEY]


async def test_another_shards_secrets_and_resources_are_no_missed_changes() -> None:
    bench = Bench(shard=Shard(index=0, count=2))
    for number in range(8):
        key, uid = ObjectKey("shop", f"db-{number}"), f"uid-{number}"
        bench.put(key=key, uid=uid)
        body = secret_body({"a": "b"}, key=key, labels={MANAGED_BY: FIELD_MANAGER})
        body["metadata"]["annotations"] = {REFERENCE_UID: uid}
        bench.api.put_secret(body)
    await bench.resync.run(first=True)
    assert 0 < len(bench.store) < 8
    assert len(bench.store.secret_versions()) == len(bench.store)
    await bench.resync.run()
    assert bench.missed == 0


async def test_a_resource_that_is_gone_is_forgotten() -> None:
    bench = Bench()
    bench.put()
    await bench.resync.run(first=True)
    bench.api.references.clear()
    await bench.resync.run()
    assert bench.store.get(KEY) is None
    assert bench.marks.forgotten == [KEY]


async def test_a_resource_that_a_listing_lacks_is_not_given_up_while_it_can_be_read() -> None:
    bench = Bench()
    bench.put()
    await bench.resync.run(first=True)
    bench.listing.hidden.add(KEY)
    await bench.resync.run()
    assert bench.store.get(KEY) is not None
    assert bench.missed == 0


async def test_a_resource_made_again_takes_the_place_of_the_former() -> None:
    bench = Bench()
    bench.put(uid="first")
    await bench.resync.run(first=True)
    bench.api.references.clear()
    bench.put(uid="second")
    await bench.resync.run()
    entry = bench.store.get(KEY)
    assert entry is not None
    assert entry.identity.uid == "second"


async def test_after_a_restored_backup_what_is_listed_is_believed_though_it_is_older() -> None:
    bench = Bench()
    secret = secret_body({"a": "new"}, key=KEY, labels={MANAGED_BY: FIELD_MANAGER})
    bench.put(generation=2)
    bench.api.put_secret(secret)
    await bench.resync.run(first=True)
    before = bench.store.secret(KEY)
    assert before is not None

    bench.listing.version = "50"
    bench.api.numbers = itertools.count(11)
    bench.put(generation=1)
    bench.api.put_secret(secret_body({"a": "old"}, key=KEY, labels={MANAGED_BY: FIELD_MANAGER}))
    await bench.resync.run()
    entry, live = bench.store.get(KEY), bench.store.secret(KEY)
    assert entry is not None
    assert live is not None
    assert entry.identity.generation == 1
    assert live.resource_version == "12"
    assert bench.restored == 1
    await bench.resync.run()
    assert bench.restored == 1, "versions count from there on"


async def test_versions_that_go_back_once_more_are_a_trouble_that_passes() -> None:
    # A watch of before begins again meanwhile, at the version it had.
    bench = Bench()
    await bench.resync.run(first=True)
    bench.listing.version = "50"
    list_secrets = bench.listing.list_secrets

    def listing(namespace: str, **how: Any) -> AsyncIterator[dict[str, object]]:
        bench.resync._versions.saw(references_path(""), "100")
        return list_secrets(namespace, **how)

    bench.listing.list_secrets = listing  # type: ignore[method-assign]
    with pytest.raises(KubernetesError):
        await bench.resync.run()
    bench.listing.list_secrets = list_secrets  # type: ignore[method-assign]
    await bench.resync.run()


async def test_an_older_object_in_a_listing_that_did_not_go_back_is_believed_too() -> None:
    # A backup that was restored so long ago that versions have caught up.
    bench = Bench()
    bench.put(generation=2)
    await bench.resync.run(first=True)
    bench.api.numbers = itertools.count(11)
    bench.put(generation=1)
    bench.api.put_secret(secret_body({"a": "b"}, key=KEY, labels={MANAGED_BY: FIELD_MANAGER}))
    await bench.resync.run()
    entry, live = bench.store.get(KEY), bench.store.secret(KEY)
    assert entry is not None
    assert entry.identity.generation == 1
    assert live is not None
    assert bench.restored == 0


async def test_a_secret_that_a_restored_backup_lacks_is_found_out() -> None:
    bench = Bench()
    bench.put()
    bench.api.put_secret(secret_body({"a": "b"}, key=KEY, labels={MANAGED_BY: FIELD_MANAGER}))
    await bench.resync.run(first=True)
    bench.listing.version = "50"
    bench.api.secrets.clear()
    bench.marks.marked.clear()
    await bench.resync.run()
    assert bench.store.secret(KEY) is None
    assert KEY in bench.marks.marked


@pytest.mark.parametrize("status", [429, 500, 503])
async def test_secrets_that_cannot_be_listed_cost_no_resource(status: int) -> None:
    bench = Bench()
    bench.put()
    bench.listing.trouble = KubernetesError("unable to decrypt", status=status)
    with pytest.raises(SecretsUnreadableError, match="unable to decrypt"):
        await bench.resync.run(first=True)
    assert bench.store.get(KEY) is not None


async def test_a_listing_gives_its_version_once_and_only_when_it_is_complete() -> None:
    bench = Bench()
    bench.put()
    await bench.resync.run(first=True)
    paths = references_path(""), secrets_path("")
    assert [bench.resync.take_version(path) for path in paths] == ["100", "100"]
    assert [bench.resync.take_version(path) for path in paths] == ["", ""]
    bench.listing.trouble = KubernetesError("no", status=500)
    with pytest.raises(SecretsUnreadableError):
        await bench.resync.run()
    assert bench.resync.take_version(secrets_path("")) == ""


async def test_a_namespace_that_may_not_be_listed_is_left_out_and_named() -> None:
    bench = Bench(namespaces=("shop", "gone"))
    bench.put()
    bench.listing.forbidden = {"gone"}
    refused = await bench.resync.run(first=True)
    assert set(refused) == {"gone"}
    assert bench.store.get(KEY) is not None


async def test_where_no_namespace_may_be_listed_that_is_an_error() -> None:
    bench = Bench(namespaces=("gone",))
    bench.listing.forbidden = {"gone"}
    with pytest.raises(KubernetesError) as raised:
        await bench.resync.run(first=True)
    assert raised.value.status == 403


@pytest.mark.parametrize("status", [401, 404, 0])
async def test_other_trouble_with_the_secrets_is_no_reason_to_do_without_them(status: int) -> None:
    bench = Bench()
    bench.listing.trouble = KubernetesError("no", status=status)
    with pytest.raises(KubernetesError) as raised:
        await bench.resync.run(first=True)
    assert not isinstance(raised.value, SecretsUnreadableError)


async def test_a_resource_that_is_gone_with_its_secret_does_not_make_it_again() -> None:
    bench = Bench()
    bench.put()
    bench.api.put_secret(secret_body({"a": "b"}, key=KEY, labels={MANAGED_BY: FIELD_MANAGER}))
    await bench.resync.run(first=True)
    bench.api.references.clear()
    bench.api.secrets.clear()
    bench.marks.marked.clear()
    await bench.resync.run()
    assert bench.marks.marked == []
    assert bench.store.secret(KEY) is None


@pytest.mark.parametrize("answered_before", [True, False])
async def test_a_resource_made_again_while_its_former_was_asked_for_keeps_its_mark(*, answered_before: bool) -> None:
    bench = Bench()
    bench.put()
    await bench.resync.run(first=True)
    del bench.api.references[KEY]

    async def get_reference(key: ObjectKey) -> dict[str, object] | None:
        bench.put(uid="successor")
        successor = bench.api.references[key]
        assert bench.store.observe_reference(successor) == key, "a watch tells of it before the answer arrives"
        return None if answered_before else successor

    bench.listing.get_reference = get_reference  # type: ignore[method-assign]
    await bench.resync.run()
    assert bench.marks.forgotten == []
    assert KEY in bench.store


async def test_a_listing_serves_what_had_no_room_although_it_is_as_it_was() -> None:
    bench, size = Bench(), 16_000
    keys = [ObjectKey("shop", f"db-{number:03}") for number in range(NAMESPACE_BYTES // (size - FREE_BYTES))]
    for key in keys:
        bench.put(key=key, uid=key.name, secret={"template": {"k": "x" * size}})
    await bench.resync.run(first=True)
    without_room = [entry.identity.key for entry in bench.store if isinstance(entry.invalid, TooLarge)]
    bench.marks.marked.clear()
    del bench.api.references[keys[0]]
    bench.store.drop(keys[0], uid=keys[0].name)
    await bench.resync.run()
    assert bench.marks.marked == without_room[:1] != []
    assert bench.missed == 0, "it waited for room"


@pytest.mark.parametrize("breaks", ["get_secret", "list_references"])
async def test_a_changed_secret_is_worked_on_although_the_listing_that_found_it_broke_off(breaks: str) -> None:
    bench = Bench()
    keys = [ObjectKey("shop", name) for name in ("first", "second")]
    for key in keys:
        bench.put(key=key, uid=key.name)
        bench.api.put_secret(secret_body({"a": "b"}, key=key, labels={MANAGED_BY: FIELD_MANAGER}))
    await bench.resync.run(first=True)
    bench.marks.marked.clear()
    for key in keys:
        del bench.api.secrets[key]
    whole = getattr(bench.listing, breaks)

    async def refuse(key: ObjectKey) -> dict[str, object] | None:
        if key == keys[1]:
            raise KubernetesError("refused", status=0)
        return bench.api.secrets.get(key)

    def broken(*_: object, **__: object) -> AsyncIterator[dict[str, object]]:
        raise KubernetesError("refused", status=0)

    setattr(bench.listing, breaks, refuse if breaks == "get_secret" else broken)
    with pytest.raises(KubernetesError):
        await bench.resync.run()
    assert bench.marks.marked == [], "a resource that is gone, too, would have its Secret made again"
    setattr(bench.listing, breaks, whole)
    await bench.resync.run()
    assert set(bench.marks.marked) == set(keys)


async def test_a_resource_made_again_in_another_shard_is_given_up() -> None:
    shard = Shard(index=0, count=2)
    ours, theirs = (next(uid for uid in map(str, range(9)) if shard.owns(uid) is owned) for owned in (True, False))
    bench = Bench(shard=shard)
    bench.put(uid=ours)
    await bench.resync.run(first=True)
    bench.put(uid=theirs)
    await bench.resync.run()
    assert bench.store.get(KEY) is None
    assert bench.marks.forgotten == [KEY]


# --- Secrets of former names -----------------------------------------------------------------------------------------------


def left_behind(*, key: ObjectKey = KEY) -> Body:
    """A Secret that this operator wrote for the resource under a name that is neither in its spec nor in its status."""
    annotations = {REFERENCE: KEY.name, REFERENCE_UID: UID}
    manifest = {
        "kind": "Secret",
        "metadata": {
            "name": key.name,
            "namespace": key.namespace,
            "labels": {MANAGED_BY: FIELD_MANAGER},
            "annotations": annotations,
        },
        "type": "Opaque",
        "data": {"password": "eA=="},
    }
    body = applied(manifest)
    body["metadata"] |= {"uid": "left", "resourceVersion": "7"}
    return body


@pytest.mark.parametrize("namespaces", [(), ("shop",), ("team", "shop")])
async def test_at_first_a_secret_that_its_resource_does_not_name_is_found(namespaces: tuple[str, ...]) -> None:
    bench = Bench(namespaces=namespaces)
    bench.put(secret={"name": "renamed"})
    bench.api.put_secret(left_behind())
    await bench.resync.run(first=True)
    entry = bench.store.get(KEY)
    assert entry
    assert entry.published.former_names == (KEY.name,)
    assert bench.store.secret(KEY) is None, "nothing is kept of it"
    assert bench.missed == 0


async def test_a_secret_that_its_resource_does_not_name_and_no_watch_told_of_is_found_and_its_resource_marked() -> None:
    bench = Bench()
    bench.put(secret={"name": "renamed"})
    await bench.resync.run(first=True)
    bench.marks.marked.clear()
    bench.api.put_secret(left_behind())
    await bench.resync.run()
    assert bench.marks.marked == [KEY]
    assert bench.missed == 1
    await bench.resync.run()
    assert bench.marks.marked == [KEY]


class OddStore(Store):
    """One that has a bug with whatever is called odd."""

    def observe_secret(self, body: Any, **how: Any) -> frozenset[ObjectKey]:
        assert body["metadata"]["name"] != "odd", body["data"]
        return super().observe_secret(body, **how)

    def observe_reference(self, body: Any, **how: Any) -> ObjectKey | None:
        assert body["metadata"]["name"] != "odd", body["spec"]
        return super().observe_reference(body, **how)


async def test_a_bug_with_one_object_costs_that_object_and_not_the_listing(caplog: pytest.LogCaptureFixture) -> None:
    odd = ObjectKey("shop", "odd")
    bench = Bench(store=OddStore())
    bench.api.put_reference(reference_body(key=odd, uid="odd-uid"))
    bench.api.put_reference(reference_body())
    for key in (odd, KEY):
        bench.api.put_secret(secret_body(key=key, data={"a": "CANARY"}, labels={MANAGED_BY: FIELD_MANAGER}))
    await bench.resync.run(first=True)
    assert bench.marks.marked == [KEY]
    assert bench.store.secret(KEY)
    await bench.resync.run()
    bugs = bench.metrics.registry.get_sample_value("dbclusterref_unexpected_errors_total")
    assert bugs == 2 + 1, "the first listing has both, the second the resource alone: its Secret is in nobody's name"
    assert "Secret shop/odd: unexpected AssertionError; please report it" in caplog.text
    assert "Q0FOQVJZ" not in caplog.text, "what a bug's own message says may be a password"
