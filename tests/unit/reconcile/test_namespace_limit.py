"""How many references and Secrets of one namespace take memory."""

import asyncio
import random
from collections.abc import Iterable

import pytest

from dbclusterref.digitalocean.snapshot import PackedSnapshot
from dbclusterref.errors import TooLarge
from dbclusterref.reconcile.namespace_limit import NamespaceLimit
from dbclusterref.reconcile.refusals import MOST_TO_REFUSE
from dbclusterref.reconcile.store import Store
from dbclusterref.resource.objects import FIELD_MANAGER, MANAGED_BY, ObjectKey
from dbclusterref.resource.status import ConditionType
from tests.support.bench import Bench, a_bench
from tests.support.builders import KEY, UID, Body, a_snapshot, reference_body, secret_body

MOST = 3


def born(second: int, *, name: str = "", uid: str = "", namespace: str = "shop", version: int = 1) -> Body:
    """A reference that was created in some second of an hour."""
    name = name or f"db-{second}"
    created = {"creationTimestamp": f"2026-01-05T12:{second // 60:02}:{second % 60:02}Z"}
    return reference_body(key=ObjectKey(namespace, name), uid=uid or f"{namespace}-{name}", version=version, metadata=created)


class Told:
    """A store with room for three, and whom it refuses."""

    def __init__(self) -> None:
        self.refused: list[str] = []
        self.store = Store(limit=NamespaceLimit(MOST), on_refused=lambda key: self.refused.append(key.name))

    def see(self, *bodies: Body, listed: bool = False) -> list[str]:
        keys = [self.store.observe_reference(body, listed=listed) for body in bodies]
        return [key.name for key in keys if key]

    def list_all(self, *bodies: Body) -> None:
        self.store.limit.begin_listing()
        self.see(*bodies, listed=True)
        self.store.limit.end_listing("")

    @property
    def served(self) -> set[str]:
        return {entry.identity.key.name for entry in self.store}


def test_what_comes_beyond_the_limit_is_refused_by_name_and_another_namespace_is_served() -> None:
    told = Told()
    assert told.see(*(born(second) for second in range(5))) == ["db-0", "db-1", "db-2"]
    assert told.refused == ["db-3", "db-4"]
    entry = told.store.get(ObjectKey("shop", "db-4"))
    assert entry is not None
    assert isinstance(entry.invalid, TooLarge)
    for part in (
        "Namespace shop",
        "more than 3",
        "--max-per-namespace",
        "count/databaseclusterrefs.dbclusterref.io",
        "nothing uses any more",
    ):
        assert part in entry.invalid.message
    assert told.see(born(9, namespace="other")) == ["db-9"]


def test_zero_is_no_limit() -> None:
    store = Store(limit=NamespaceLimit(0))
    assert all(store.observe_reference(born(second)) for second in range(50))
    assert len(store) == 50


@pytest.mark.parametrize("seed", range(5))
def test_a_listing_in_any_order_serves_the_oldest(seed: int) -> None:
    bodies = [born(second) for second in range(20)]
    random.Random(seed).shuffle(bodies)  # noqa: S311 - an order, no secret
    told = Told()
    told.list_all(*bodies)
    assert told.served == {"db-0", "db-1", "db-2"}
    assert told.store.limit.refused == {"shop": 17}


def test_of_one_second_the_uid_decides_so_that_a_restart_serves_the_same() -> None:
    bodies = [born(7, name=name, uid=uid) for name, uid in (("a", "4"), ("b", "1"), ("c", "3"), ("d", "2"))]
    told, restarted = Told(), Told()
    told.see(*bodies)
    restarted.list_all(*reversed(bodies))
    assert told.served == restarted.served == {"b", "c", "d"}


def test_a_place_that_becomes_free_waits_for_the_oldest_and_nobody_newer_takes_it() -> None:
    told = Told()
    bodies = [born(second) for second in range(5)]
    told.see(*bodies)
    told.see(bodies[1])
    told.store.observe_reference(born(1, version=2), gone=True)
    assert told.see(born(30)) == []
    told.list_all(born(4), born(30), born(3), born(0), born(2))
    assert told.served == {"db-0", "db-2", "db-3"}
    told.store.observe_reference(born(3, version=2), gone=True)
    told.store.observe_reference(born(4, version=2), gone=True)
    told.list_all(born(30), born(0), born(2))
    assert told.store.limit.refused == {}
    assert told.see(born(31)) == []
    told.store.observe_reference(born(0, version=2), gone=True)
    told.list_all(born(2), born(30), born(31))
    told.store.observe_reference(born(2, version=2), gone=True)
    assert told.see(born(40)) == ["db-40"], "with nobody refused, a new one takes the place"


def test_a_listing_of_one_namespace_says_nothing_of_another() -> None:
    told = Told()
    told.see(*(born(second, namespace=namespace) for second in range(5) for namespace in ("shop", "other")))
    told.store.limit.begin_listing()
    told.store.limit.end_listing("shop")
    assert told.store.limit.refused == {"other": 2}


def test_one_that_keeps_its_place_changes_and_one_made_a_second_time_goes_to_the_end_of_the_line() -> None:
    told = Told()
    told.see(*(born(second) for second in range(5)))
    changed = born(1, version=9)
    changed["metadata"]["generation"] = 2
    assert told.see(changed) == ["db-1"]
    again = born(50, name="db-1", uid="again", version=10)
    assert told.see(again) == []
    assert told.served == {"db-0", "db-2"}
    assert told.refused[-1] == "db-1"


def test_of_those_that_have_no_place_nothing_is_kept_once_they_are_told() -> None:
    told = Told()
    told.see(*(born(second) for second in range(5000)))
    assert len(told.refused) == MOST_TO_REFUSE
    assert told.store.limit.refused == {"shop": 5000 - MOST}
    for name in told.refused:
        entry = told.store.get(ObjectKey("shop", name))
        assert entry is not None
        assert told.store.is_current(entry)
        told.store.told(entry)
        assert told.store.get(entry.identity.key) is None
    assert len(told.store) == MOST
    told.refused.clear()
    told.list_all(*(born(second) for second in range(5000)))
    assert len(told.refused) == MOST_TO_REFUSE, "those that were not told yet, a part with each listing"


def test_those_that_wait_for_their_status_count_in_a_listing_so_that_nobody_newer_takes_a_place() -> None:
    told = Told()
    bodies = [born(second) for second in range(5)]
    told.see(*bodies)
    told.list_all(*bodies)
    assert told.store.limit.refused == {"shop": 2}
    told.store.observe_reference(born(0, version=2), gone=True)
    assert told.see(born(30)) == []


def test_one_that_another_process_has_told_waits_no_longer() -> None:
    told = Told()
    told.see(*(born(second) for second in range(5)))
    entry = told.store.get(ObjectKey("shop", "db-4"))
    assert entry is not None
    assert entry.invalid is not None
    stalled: Body = {"type": "Stalled", "status": "True", "reason": "TooLarge", "message": entry.invalid.message}
    stalled |= {"observedGeneration": 1, "lastTransitionTime": "2026-01-05T12:00:09Z"}
    assert told.see(born(4, version=2) | {"status": {"conditions": [stalled]}}) == []
    assert told.store.get(ObjectKey("shop", "db-4")) is None
    assert told.refused == ["db-3", "db-4"]


def test_a_listing_that_began_before_one_was_told_does_not_tell_it_a_second_time() -> None:
    told = Told()
    told.see(*(born(second) for second in range(4)))
    entry = told.store.get(ObjectKey("shop", "db-3"))
    assert entry is not None
    entry.resource_version = "7"  # as its status' write is answered
    told.store.told(entry)
    told.list_all(*(born(second) for second in range(4)))
    assert told.refused == ["db-3"]
    assert told.store.limit.refused == {"shop": 1}
    told.see(born(3, version=8))
    assert told.refused == ["db-3", "db-3"], "somebody has taken the status away"
    told.store.told(entry)
    told.store.forget_versions()
    told.see(born(3, version=2))
    assert len(told.refused) == 3, "the API server's storage was restored from a backup"


def test_one_that_is_gone_before_it_is_told_is_forgotten() -> None:
    told = Told()
    told.see(*(born(second) for second in range(5)))
    told.store.observe_reference(born(4, version=2), gone=True)
    assert told.store.get(ObjectKey("shop", "db-4")) is None


# --- Secrets with our label that no resource names


def secret(name: str, *, version: int = 1) -> Body:
    body = secret_body({"a": "b"}, key=ObjectKey("shop", name), labels={MANAGED_BY: FIELD_MANAGER})
    body["metadata"] |= {"uid": f"uid-{name}", "resourceVersion": str(version)}
    return body


def kept(store: Store) -> set[str]:
    return {key.name for key in store.secret_versions()}


def test_a_secret_that_no_resource_names_costs_nothing() -> None:
    store = Store()
    store.observe_reference(reference_body())
    for name in ("stranger-1", KEY.name, "stranger-2"):
        store.observe_secret(secret(name))
    assert kept(store) == {KEY.name}


def test_secrets_that_are_listed_before_the_resources_are_bounded_and_dropped_when_those_are_known() -> None:
    store = Store(limit=NamespaceLimit(MOST))
    for body in (secret(KEY.name), *(secret(f"stranger-{number}") for number in range(50))):
        store.observe_secret(body, in_advance=True)
    assert len(kept(store)) == MOST
    store.observe_reference(reference_body())
    store.drop_unclaimed()
    assert kept(store) == {KEY.name}


def test_the_secret_of_a_resource_that_goes_is_dropped_with_it() -> None:
    store = Store()
    store.observe_reference(reference_body())
    store.observe_secret(secret(KEY.name))
    store.drop(KEY, uid=UID)
    assert kept(store) == set()


def test_the_secret_of_a_spec_that_cannot_be_read_is_the_one_in_its_status() -> None:
    store = Store()
    store.observe_reference(reference_body(clusterUUID="no") | {"status": {"binding": {"name": "bound"}}})
    store.observe_secret(secret("bound"))
    assert kept(store) == {"bound"}
    assert store.secret_is_gone(ObjectKey("shop", "bound")) == {KEY}
    store.drop(KEY, uid=UID)
    assert store.secret_is_gone(ObjectKey("shop", "bound")) == frozenset()


def test_the_secret_of_a_former_name_is_kept_until_the_new_one_is_written() -> None:
    store = Store()
    body = reference_body(secret={"name": "renamed"}) | {"status": {"binding": {"name": KEY.name}}}
    for name in (KEY.name, "stranger"):
        store.observe_secret(secret(name), in_advance=True)
    store.observe_reference(body)
    store.drop_unclaimed()
    assert kept(store) == {KEY.name}
    entry = store.get(KEY)
    assert entry is not None
    assert entry.reference is not None
    store.record_published(entry, entry.reference, PackedSnapshot.of(a_snapshot()))
    assert kept(store) == set()
    store.observe_secret(secret(KEY.name, version=2))
    assert kept(store) == set(), "whoever has that name now"
    assert entry.published.former_names == (KEY.name,)
    store.drop(KEY, uid=UID)
    assert store.secret_is_gone(ObjectKey("shop", "renamed")) == frozenset()


# --- the whole


def limited(bench: Bench, most: int) -> Bench:
    """Start a process over the same API server with another limit."""
    return Bench(bench.kubernetes, bench.upstream, bench.clock, limit=NamespaceLimit(most))


def aged(key: ObjectKey, *, second: int) -> Body:
    return reference_body(key=key, uid=f"uid-{key.name}", metadata={"creationTimestamp": f"2026-01-05T12:00:{second:02}Z"})


async def reconcile_all(bench: Bench, keys: Iterable[ObjectKey]) -> None:
    for key in keys:
        await bench.reconcile(key)


async def test_one_that_loses_its_place_keeps_its_secret_is_told_once_and_is_served_again_after_a_listing() -> None:
    bench = a_bench()
    older, younger = KEY, ObjectKey("shop", "younger")
    bench.kubernetes.put_reference(aged(older, second=1) | {"metadata": aged(older, second=1)["metadata"] | {"uid": UID}})
    bench.kubernetes.put_reference(aged(younger, second=2))
    await asyncio.sleep(0)
    await reconcile_all(bench, (older, younger))
    assert bench.fresh_of(younger) == (True, "Synced")
    held = bench.kubernetes.data(younger)

    bench = limited(bench, 1)
    bench.forget_writes()
    await reconcile_all(bench, (older, younger))
    assert bench.fresh_of(older) == (True, "Synced")
    assert bench.says(ConditionType.STALLED, younger) == (True, "TooLarge")
    assert bench.kubernetes.data(younger) == held
    assert bench.kubernetes.writes == [f"Status {younger}"]
    assert bench.status(younger).binding_name == "younger", "who uses the Secret still finds its name"

    bench.forget_writes()
    restarted = limited(bench, 1)
    await reconcile_all(restarted, (older, younger))
    assert restarted.kubernetes.writes == [], "a restart serves the same, and tells nobody a second time"
    assert restarted.store.get(younger) is None

    served = limited(restarted, 2)
    await reconcile_all(served, (older, younger))
    assert served.fresh_of(younger) == (True, "Synced")
    assert served.kubernetes.data(younger) == held


async def test_a_known_secret_is_found_again_by_a_resource_that_is_served_again_and_then_repaired() -> None:
    bench = a_bench()
    await bench.reconcile()
    held = bench.kubernetes.data()
    bench.store.observe_reference(bench.kubernetes.references[KEY], gone=True)
    bench.store.observe_reference(bench.kubernetes.references[KEY])
    bench.forget_writes()
    await bench.reconcile()
    assert bench.kubernetes.writes == []
    assert bench.store.secret(KEY) is not None, "its watch tells of it from now on"
    bench.kubernetes.remove_secret(KEY)
    await asyncio.sleep(0)
    assert bench.marked == {KEY}
    await bench.reconcile()
    assert bench.kubernetes.data() == held
