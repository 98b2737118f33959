"""Reads that the rate limit delays: said once they are late, and for as long as they come late. No status flips with each."""

import asyncio

import pytest

from dbclusterref.digitalocean.cache import LATE
from dbclusterref.digitalocean.model import ClusterPage
from dbclusterref.digitalocean.rate_limit import ObserveReply
from dbclusterref.errors import Forbidden, UpstreamUnavailable
from dbclusterref.reconcile.conditions import HEARTBEAT
from dbclusterref.reconcile.workqueue import WorkQueue
from dbclusterref.resource.objects import ObjectKey
from dbclusterref.resource.status import ConditionType
from dbclusterref.secret.state import SPEC_DIGEST
from tests.support.bench import TOKEN_SECRET, Bench, a_bench, change_spec, request_refresh, set_value
from tests.support.builders import KEY, TOKEN, UUID, a_cluster, reference_body, secret_body
from tests.support.fake_digitalocean import FakeUpstream
from tests.support.fake_kubernetes import FakeKubernetes
from tests.support.fake_time import LoopClock, in_fake_time

INTERVAL = 60.0


@pytest.fixture
async def bench() -> Bench:
    bench = a_bench()
    await bench.reconcile()
    bench.forget_writes()
    return bench


def one_request_takes(bench: Bench, seconds: float) -> None:
    budget = bench.account._reader.budget
    budget.seconds_until(bench.clock())
    budget._left = 1 - seconds * budget.pace


async def read_late(bench: Bench, *, late: float = 100.0) -> None:
    """One refresh whose read has to wait: it is due after an interval, and comes so many seconds after the former."""
    read_at = bench.entry().reads.answered_at
    assert read_at is not None
    bench.clock.advance(INTERVAL)
    one_request_takes(bench, late - INTERVAL)
    wait = await bench.reconcile()
    while bench.entry().reads.answered_at == read_at:
        assert wait
        wait = await bench.refresh(after=wait)
    assert bench.entry().reads.answered_at == pytest.approx(read_at + late, abs=0.1)


async def test_a_read_that_waits_is_not_late_while_its_answer_is_young_enough(bench: Bench) -> None:
    for _ in range(5):
        await read_late(bench, late=LATE * INTERVAL - 1)
    assert bench.kubernetes.writes == []
    assert bench.fresh == (True, "Synced")


async def test_a_read_that_waits_is_told_when_its_answer_is_too_old(bench: Bench) -> None:
    bench.clock.advance(INTERVAL)
    one_request_takes(bench, 300)
    assert await bench.reconcile() == (LATE - 1) * INTERVAL
    assert bench.fresh == (True, "Synced")
    await bench.refresh(after=(LATE - 1) * INTERVAL)
    assert (bench.ready, bench.fresh) == ((True, "Synced"), (False, "RateLimited"))


async def test_late_reads_are_told_once_and_a_rotation_is_written_meanwhile(bench: Bench) -> None:
    await read_late(bench)
    assert bench.fresh == (False, "RateLimited"), "it has come, and late"
    bench.forget_writes()
    for _ in range(10):
        await read_late(bench)
        assert (bench.ready, bench.fresh) == ((True, "Synced"), (False, "RateLimited"))
    assert bench.kubernetes.writes == [], "nothing flips"
    bench.rotate("pw-2", version="18")
    await read_late(bench)
    assert bench.password == "pw-2"
    assert "pg 18" in bench.status().conditions[ConditionType.READY].message
    assert (bench.ready, bench.fresh) == ((True, "Synced"), (False, "RateLimited"))


async def test_late_reads_are_over_when_one_comes_in_time(bench: Bench) -> None:
    await read_late(bench)
    assert bench.fresh == (False, "RateLimited")
    await read_late(bench, late=INTERVAL + 5)
    assert bench.fresh == (False, "RateLimited"), "it has waited, and came after its interval"
    one_request_takes(bench, 0)
    await bench.refresh(after=INTERVAL)
    assert bench.fresh == (True, "Synced")


@pytest.mark.parametrize("change", ["deleted", "edited", "of another spec"])
async def test_after_a_restart_a_secret_that_is_not_there_does_not_pass_for_one_that_waits(bench: Bench, change: str) -> None:
    if change == "deleted":
        del bench.kubernetes.secrets[KEY]
    elif change == "edited":
        bench.kubernetes.edit_secret(KEY, set_value("password", "aGFja2Vk"))
    else:
        bench.kubernetes.secrets[KEY]["metadata"]["annotations"][SPEC_DIGEST] = "other"
    again = bench.restarted()
    one_request_takes(again, 300)
    await again.reconcile()
    assert (again.ready, again.fresh) == ((False, "RateLimited"), (False, "RateLimited"))


async def test_a_suspension_is_no_delay(bench: Bench) -> None:
    await read_late(bench)
    assert bench.fresh == (False, "RateLimited")
    bench.clock.advance(1)
    change_spec(bench, suspend=True)
    await bench.reconcile()
    bench.clock.advance(3600)
    change_spec(bench, suspend=False)
    await bench.reconcile()
    assert bench.fresh == (True, "Synced")


async def test_a_refresh_that_a_person_requests_is_never_answered_late(bench: Bench) -> None:
    await read_late(bench)
    request_refresh(bench)
    one_request_takes(bench, 0)
    await bench.refresh(after=2 * INTERVAL)
    assert bench.status().last_handled_refresh_at == "now"
    assert bench.fresh == (True, "Synced")


async def test_replicas_that_are_read_late_are_no_delay_of_the_cluster(bench: Bench) -> None:
    change_spec(bench, secret={"endpoints": ["Private", "Replicas"]})
    one_request_takes(bench, 4)
    await bench.reconcile()
    assert bench.fresh == (False, "RateLimited"), "a first list that waits"
    await bench.refresh(after=5)
    assert bench.fresh == (True, "Synced"), "the cluster's answer is the same"


async def test_a_secret_that_is_read_late_keeps_its_heartbeat_and_stays_ready_for_hours_also_after_a_restart(
    bench: Bench,
) -> None:
    await read_late(bench)
    bench.forget_writes()
    start = bench.clock()
    while bench.clock() - start < 2 * HEARTBEAT.total_seconds():
        await read_late(bench)
        assert bench.ready == (True, "Synced")
    assert bench.kubernetes.writes == ["Status shop/orders-db"] * 2
    again = bench.restarted()
    one_request_takes(again, 2 * INTERVAL)
    for _ in range(2):
        await again.reconcile()
        assert (again.ready, again.fresh) == ((True, "Synced"), (False, "RateLimited"))
        again.clock.advance(LATE * INTERVAL)


async def test_late_reads_stay_late_when_the_check_has_been_told_meanwhile(bench: Bench) -> None:
    bench.upstream.databases.add("orders")
    change_spec(bench, database="orders")
    await bench.reconcile()
    await read_late(bench)
    bench.forget_writes()
    for _ in range(12):
        await read_late(bench)
        assert (bench.ready, bench.fresh) == ((True, "Synced"), (False, "RateLimited"))
    assert ("database", UUID) not in bench.upstream.requests, "it is told, too"
    assert bench.kubernetes.writes == []
    bench.upstream.on_request = lambda: one_request_takes(bench, 0)  # the check follows its cluster at once
    for _ in range(3):
        await read_late(bench)
        assert bench.fresh == (False, "RateLimited"), "the cluster is as late as before"
    assert ("database", UUID) in bench.upstream.requests
    assert bench.kubernetes.writes == []


async def test_late_reads_stay_late_when_a_part_has_failed_meanwhile(bench: Bench) -> None:
    change_spec(bench, secret={"endpoints": ["Private", "Replicas"]})
    await bench.reconcile()
    bench.upstream.on_request = lambda: one_request_takes(bench, 0)  # the list follows its cluster at once
    await read_late(bench)
    assert bench.fresh == (False, "RateLimited")
    bench.upstream.trouble["replicas"] = UpstreamUnavailable("Down.")
    await read_late(bench)
    assert (bench.ready, bench.fresh) == ((True, "Synced"), (False, "UpstreamUnavailable"))
    bench.upstream.trouble.clear()
    await read_late(bench)
    assert (bench.ready, bench.fresh) == ((True, "Synced"), (False, "RateLimited"))


async def test_late_reads_stay_late_when_one_has_failed_meanwhile(bench: Bench) -> None:
    await read_late(bench)
    bench.upstream.trouble["*"] = UpstreamUnavailable("Down.")
    one_request_takes(bench, 0)
    await bench.refresh(after=LATE * INTERVAL)
    assert (bench.ready, bench.fresh) == ((True, "Synced"), (False, "UpstreamUnavailable"))
    bench.upstream.trouble.clear()
    one_request_takes(bench, 0)
    await bench.refresh(after=5)
    assert (bench.ready, bench.fresh) == ((True, "Synced"), (False, "RateLimited"))
    one_request_takes(bench, 0)
    await bench.refresh(after=INTERVAL)
    assert bench.fresh == (True, "Synced")


async def test_late_reads_are_over_when_a_person_must_act(bench: Bench) -> None:
    await read_late(bench)
    bench.upstream.trouble["*"] = Forbidden("No.")
    one_request_takes(bench, 0)
    await bench.refresh(after=INTERVAL)
    assert bench.fresh == (False, "Forbidden")
    bench.upstream.trouble.clear()
    one_request_takes(bench, 0)
    await bench.refresh(after=2 * HEARTBEAT.total_seconds())
    assert bench.fresh == (True, "Synced")


def references_on(upstream: FakeUpstream, *, pages: int) -> tuple[Bench, WorkQueue[ObjectKey], list[ObjectKey]]:
    """A reference to each cluster of so many pages, all of them marked."""
    kubernetes, queue = FakeKubernetes(), WorkQueue[ObjectKey]()
    kubernetes.put_secret(secret_body({"token": TOKEN}, key=TOKEN_SECRET))
    keys = [ObjectKey("shop", f"db-{number}") for number in range(upstream.per_page * pages)]
    for number, key in enumerate(keys):
        uuid = f"00000000-0000-4000-8000-{number:012d}"
        upstream.clusters[uuid] = a_cluster(uuid=uuid)
        kubernetes.put_reference(reference_body(key=key, uid=f"uid-{number}", clusterUUID=uuid))
        queue.mark(key)
    return Bench(kubernetes, upstream, LoopClock()), queue, keys


@pytest.mark.simulation
@in_fake_time
async def test_references_whose_walks_take_too_long_are_told_once() -> None:
    upstream = FakeUpstream(per_page=2)
    bench, queue, keys = references_on(upstream, pages=6)
    await bench.work(queue, seconds=100)
    assert {bench.fresh_of(key) for key in keys} == {(True, "Synced")}
    budget = bench.account._reader.budget
    upstream.remaining = 10  # a walk of six pages takes two minutes
    budget._left = 0.0
    await bench.work(queue, seconds=400)
    assert {bench.fresh_of(key) for key in keys} == {(False, "RateLimited")}
    bench.kubernetes.writes.clear()
    await bench.work(queue, seconds=500)
    assert bench.kubernetes.writes == []
    upstream.remaining = 4999
    await bench.work(queue, seconds=300)
    assert {bench.fresh_of(key) for key in keys} == {(True, "Synced")}
    bench.account.close()
    await asyncio.sleep(0)


class SlowPages(FakeUpstream):
    async def get_page(self, token: str, after: str | None, *, known: ClusterPage | None, observe: ObserveReply) -> ClusterPage:
        await asyncio.sleep(10)
        return await super().get_page(token, after, known=known, observe=observe)


@pytest.mark.simulation
@in_fake_time
async def test_slow_pages_are_told_once_and_not_at_each_walk() -> None:
    bench, queue, keys = references_on(SlowPages(per_page=2), pages=12)
    await bench.work(queue, seconds=600)
    bench.kubernetes.writes.clear()
    await bench.work(queue, seconds=500)
    assert bench.kubernetes.writes == []
    assert {bench.fresh_of(key) for key in keys} == {(False, "UpstreamUnavailable")}
    assert {bench.status(key).is_true(ConditionType.READY) for key in keys} == {True}
    bench.account.close()
    await asyncio.sleep(0)
