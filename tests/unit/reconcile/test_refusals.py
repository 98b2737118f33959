"""What a reference without a place is told, and how often. `test_namespace_limit.py` has who gets a place."""

from typing import Any

import pytest

from dbclusterref.reconcile import store
from dbclusterref.reconcile.entry import Entry
from dbclusterref.reconcile.namespace_limit import NamespaceLimit
from dbclusterref.reconcile.refusals import MOST_TOLD, Refusals
from dbclusterref.reconcile.repair_backoff import AT_ONCE
from dbclusterref.resource.objects import ObjectKey
from dbclusterref.resource.status import ConditionType, Status
from dbclusterref.timing import Timing
from tests.support.bench import TOKEN_SECRET, Bench, changed
from tests.support.builders import KEY, TOKEN, UUID, a_cluster, an_identity, reference_body, secret_body
from tests.support.fake_digitalocean import FakeUpstream
from tests.support.fake_kubernetes import FakeKubernetes
from tests.support.fake_time import FakeClock, settle

YOUNGER = ObjectKey("shop", "younger")


def a_bench(*, most: int, **spec: Any) -> Bench:
    """Two references, of which the younger one is what a test is about."""
    kubernetes = FakeKubernetes()
    kubernetes.put_secret(secret_body({"token": TOKEN}, key=TOKEN_SECRET))
    for second, key in enumerate((KEY, YOUNGER)):
        created = {"creationTimestamp": f"2026-01-05T12:00:0{second}Z"}
        members: dict[str, Any] = spec if key == YOUNGER else {}
        kubernetes.put_reference(reference_body(key=key, uid=f"uid-{key.name}", metadata=created, **members))
    upstream = FakeUpstream(clusters={UUID: a_cluster()})
    return Bench(kubernetes, upstream, FakeClock(), limit=NamespaceLimit(most))


async def writes_of_a_status_that_is_wiped_each_second(bench: Bench, *, seconds: int) -> int:
    """Have another client take the status away as often as it is written; return how often that was."""
    wiped, due = 0, 0.0
    for second in range(seconds):
        body = bench.kubernetes.references[YOUNGER]
        if body["status"]:
            await bench.kubernetes.patch_status(YOUNGER, uid=body["metadata"]["uid"], status={})
            wiped += 1
        await settle()
        if YOUNGER in bench.marked or (due and second >= due):
            wait = await bench.reconcile(YOUNGER)
            due = second + wait if wait else 0.0
        bench.clock.advance(1)
    return wiped


@pytest.mark.parametrize("why", ["too many", "too large", "no spec"])
async def test_a_refusal_that_another_client_keeps_overwriting_is_written_a_few_times_and_then_once_a_minute(
    why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "NAMESPACE_BYTES", 0)
    secret = {"too many": {}, "too large": {"template": {"A": "x" * 2000}}, "no spec": "x"}[why]
    bench = a_bench(most=1 if why == "too many" else 2, secret=secret)
    await bench.reconcile(YOUNGER)
    assert bench.says(ConditionType.STALLED, YOUNGER) == (True, "InvalidSpec" if why == "no spec" else "TooLarge")
    written = await writes_of_a_status_that_is_wiped_each_second(bench, seconds=240)
    assert AT_ONCE < written <= AT_ONCE + 1 + 240 / 60
    bench.clock.advance(Timing().conflict_calm)
    await bench.reconcile(YOUNGER)
    assert bench.says(ConditionType.STALLED, YOUNGER)[0], "the last one stays"


async def test_a_refused_resource_whose_spec_is_changed_often_is_told_at_once() -> None:
    bench = a_bench(most=1)
    for _ in range(3 * AT_ONCE):
        await bench.reconcile(YOUNGER)
        body = bench.kubernetes.references[YOUNGER]
        assert bench.status(YOUNGER).observed_generation == body["metadata"]["generation"]
        bench.kubernetes.put_reference(changed(body))


def refused(refusals: Refusals, uid: str = "uid", *, status: Status | None = None, version: str = "5") -> Entry:
    identity = an_identity(uid=uid)
    refusals.refuse(identity, status=status or Status(), version=version, listed=False, policy=None)
    entry = refusals.get(identity.key)
    assert entry is not None
    return entry


def test_who_had_a_place_meanwhile_is_told_as_for_the_first_time() -> None:
    refusals = Refusals(NamespaceLimit(1), on_refused=lambda _: None)
    refusals.told(refused(refusals))
    overwritten = refused(refusals, version="6")
    assert overwritten.status_was_overwritten
    assert refusals.get(KEY) is overwritten
    refusals.has_place(an_identity(uid="uid"))
    assert refusals.get(KEY) is None
    assert not refused(refusals, version="7").status_was_overwritten


def test_whom_it_has_told_is_known_of_a_bounded_number() -> None:
    refusals = Refusals(NamespaceLimit(1), on_refused=lambda _: None)
    for number in range(MOST_TOLD + 1):
        refusals.told(refused(refusals, f"uid-{number}"))
    assert not refused(refusals, "uid-0", version="6").status_was_overwritten
    assert refused(refusals, f"uid-{MOST_TOLD}", version="6").status_was_overwritten


def test_one_that_is_told_is_kept_no_longer_and_told_again_only_by_what_is_newer() -> None:
    refused: list[ObjectKey] = []
    refusals = Refusals(NamespaceLimit(1), on_refused=refused.append)
    for version in ("5", "4", "5", "6"):
        refusals.refuse(an_identity(uid="uid"), status=Status(), version=version, listed=False, policy=None)
        if entry := refusals.get(KEY):
            refusals.told(entry)
        assert refusals.get(KEY) is None
    assert refused == [KEY, KEY]
