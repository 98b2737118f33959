"""Many references on one token: the account's own task, in front of the real simulator with its rate limiter on."""

import asyncio
import itertools
import math
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import cast

import pytest

from dbclusterref.digitalocean.account import Queued
from dbclusterref.digitalocean.ca_reads import CaReads
from dbclusterref.digitalocean.ca_schedule import AFTER_FAILURE, CA_MAX_AGE
from dbclusterref.digitalocean.cache import ClusterCache
from dbclusterref.digitalocean.demand import Freshness, Requested, Routine
from dbclusterref.digitalocean.model import ClusterPage, DatabaseCluster
from dbclusterref.digitalocean.planner import Plan
from dbclusterref.digitalocean.poller import LISTING_TRIES, REPLAN, Poller, _Failing, _GivenUp
from dbclusterref.digitalocean.rate_limit import ObserveReply
from dbclusterref.digitalocean.reader import Reader
from dbclusterref.digitalocean.snapshot import Snapshot
from dbclusterref.errors import (
    Cause,
    ClusterNotFound,
    Forbidden,
    RateLimited,
    TokenInvalid,
    UnconfirmedNotFound,
    UpstreamUnavailable,
)
from dbclusterref.resource.objects import ObjectKey
from sandbox.digitalocean.api import Paging
from sandbox.digitalocean.faults import Fault, FaultKind
from sandbox.digitalocean.simulator import Simulator
from sandbox.digitalocean.tokens import Token
from sandbox.digitalocean.verbs import rotate_password
from sandbox.digitalocean.world import Recipe
from tests.support.builders import KEY, PEM, TOKEN, UUID, a_cluster, a_pool
from tests.support.fake_digitalocean import FakeUpstream
from tests.support.fake_time import FakeClock, FakeTimeLoop, a_clock, in_fake_time
from tests.support.fleet import Fleet, fleet, fleet_of, in_memory, numbered_reference

MINUTE = 60.0


def now() -> float:
    return asyncio.get_running_loop().time()


def uuids(count: int) -> list[str]:
    return [f"00000000-0000-4000-8000-{number:012d}" for number in range(count)]


def small(count: int = 100, *, interval: str = "1m", per_page: int = 200) -> tuple[Fleet, FakeUpstream]:
    upstream = FakeUpstream(clusters={uuid: a_cluster(uuid=uuid) for uuid in uuids(count)}, per_page=per_page)
    return fleet(upstream, uuids(count), clock=asyncio.get_running_loop().time, interval=interval), upstream


def kinds(upstream: FakeUpstream) -> Counter[str]:
    return Counter(kind for kind, _ in upstream.requests)


async def simulated(count: int) -> tuple[Fleet, Simulator]:
    clock = asyncio.get_running_loop().time
    simulator = Simulator(seed=1, clock=clock)
    simulator.tokens.put(Token(value=TOKEN))
    ids = simulator.world.seed_clusters(count, Recipe())
    return fleet(in_memory(simulator), list(ids), clock=clock), simulator


def password_of(found: Fleet, uuid: str) -> str:
    key = next(key for key, reference in found.references.items() if reference.cluster_uuid == uuid)
    private = found.snapshots[key].cluster.endpoints.private
    assert private is not None
    return private.password


def oldest(found: Fleet) -> float:
    return max(now() - kept.read_at for kept in found.account._cache._answers.values())


@pytest.mark.simulation
@in_fake_time
async def test_a_thousand_references_are_fresh_within_both_limits() -> None:
    found, simulator = await simulated(1000)
    worst = 0.0
    for _ in range(20):
        await found.run(MINUTE)
        worst = max(worst, oldest(found))
    report = simulator.log.report(limit=0)
    assert report["statuses"] == {"200": report["total"]}, "no 429, ever"
    assert worst <= MINUTE
    assert len(found.snapshots) == 1000
    assert not any(snapshot.ca_pending for snapshot in found.snapshots.values()), "all CAs have come, one by one"
    found.account.close()


@in_fake_time
async def test_two_hundred_new_references_have_their_ca_in_the_first_answer() -> None:
    found, simulator = await simulated(200)
    await found.run(MINUTE)
    assert len(found.snapshots) == 200
    assert all(snapshot.ca for snapshot in found.snapshots.values())
    assert not found.without_ca
    report = simulator.log.report(limit=0)
    assert report["statuses"] == {"200": report["total"]}, "no 429"
    found.account.close()


@pytest.mark.simulation
@in_fake_time
async def test_of_a_crowd_only_the_first_wait_for_their_ca() -> None:
    found, _ = await simulated(600)
    await found.run(MINUTE / 4)
    assert len(found.snapshots) == 600, "those that came before it was a crowd have stopped waiting"
    await found.run(MINUTE)
    assert len(found.snapshots) == 600
    assert 90 < 600 - len(found.without_ca) <= 225
    found.account.close()


@in_fake_time
async def test_no_refresh_waits_for_a_ca_that_follows() -> None:
    found, simulator = await simulated(300)
    await found.run(MINUTE)
    key = next(key for key, snapshot in found.snapshots.items() if snapshot.ca_pending)
    uuid = found.references[key].cluster_uuid
    before = password_of(found, uuid)
    simulator.world.replace(rotate_password(simulator.world.get(uuid), seed=2))
    await found.run(MINUTE)
    assert password_of(found, uuid) != before
    found.account.close()


@pytest.mark.slow
@pytest.mark.timeout(900)
@in_fake_time
async def test_ten_thousand_references_are_fresh_within_both_limits() -> None:
    found, simulator = await simulated(10_000)
    hour, worst = [0], 0.0
    for minute in range(65):
        await found.run(MINUTE)
        hour.append(cast("int", simulator.log.report(limit=0)["total"]))
        if minute:
            worst = max(worst, oldest(found))
    report = simulator.log.report(limit=0)
    assert report["statuses"] == {"200": report["total"]}, "no 429, ever"
    assert max(after - before for before, after in itertools.pairwise(hour)) <= 250
    assert hour[60] < 5000
    assert worst <= MINUTE
    assert len(found.snapshots) == 10_000
    found.account.close()


@in_fake_time
async def test_a_change_reaches_its_reference_without_anybody_asking() -> None:
    found, upstream = small()
    await found.run(3 * MINUTE)
    looks = found.looks
    changed = uuids(100)[42]
    upstream.clusters[changed] = a_cluster(uuid=changed, password="pw-2")
    await found.run(MINUTE)
    keys = [key for key, reference in found.references.items() if reference.cluster_uuid == changed]
    private = found.snapshots[keys[0]].cluster.endpoints.private
    assert private is not None
    assert private.password == "pw-2"
    assert found.looks - looks <= 2, "those whose cluster is as it was are left alone"


class SlowAnswers(FakeUpstream):
    """Says how things were when it was asked, so many seconds later."""

    page_takes = cluster_takes = 0.0

    async def get_page(self, token: str, after: str | None, *, known: ClusterPage | None, observe: ObserveReply) -> ClusterPage:
        page = await FakeUpstream.get_page(self, token, after, known=known, observe=observe)
        await asyncio.sleep(self.page_takes)
        return page

    async def get_cluster(self, token: str, uuid: str, *, observe: ObserveReply) -> DatabaseCluster:
        cluster = await FakeUpstream.get_cluster(self, token, uuid, observe=observe)
        await asyncio.sleep(self.cluster_takes)
        return cluster


async def listed_by_slow_answers() -> tuple[Fleet, SlowAnswers, str]:
    upstream = SlowAnswers(clusters={uuid: a_cluster(uuid=uuid) for uuid in uuids(10)})
    found = fleet(upstream, uuids(10), clock=asyncio.get_running_loop().time)
    await found.run(3 * MINUTE)
    return found, upstream, uuids(10)[0]


async def read_password(found: Fleet, uuid: str, *, wanted: Freshness) -> str:
    async def no_ca() -> bytes:
        return b""

    reference = next(reference for reference in found.references.values() if reference.cluster_uuid == uuid)
    snapshot = await found.account.read(reference, wanted=wanted, known_ca=no_ca)
    assert isinstance(snapshot, Snapshot)
    private = snapshot.cluster.endpoints.private
    assert private is not None
    return private.password


async def waits_for_a_first_walk(*, granted: bool) -> tuple[Fleet, SlowAnswers, Callable[[], Awaitable[Queued]]]:
    """A hundred new references, whose clusters come on ten pages that take four seconds each."""
    upstream = SlowAnswers(clusters={uuid: a_cluster(uuid=uuid) for uuid in uuids(100)}, per_page=10)
    upstream.page_takes = 4.0
    found = fleet(upstream, uuids(100), clock=asyncio.get_running_loop().time)
    last = uuids(100)[-1]
    if granted:
        reference = next(one for one in found.references.values() if one.cluster_uuid == last)
    else:
        reference = replace(numbered_reference(100, last), token_secret=None)

    async def no_ca() -> bytes:
        return b""

    async def look() -> Queued:
        queued = await found.account.read(reference, wanted=Routine(now() - MINUTE / 2), known_ca=no_ca)
        assert isinstance(queued, Queued)
        return queued

    return found, upstream, look


@pytest.mark.parametrize("granted", [True, False])
@in_fake_time
async def test_a_first_walk_that_takes_long_is_not_taken_for_a_rate_limit(*, granted: bool) -> None:
    found, _, look = await waits_for_a_first_walk(granted=granted)
    for _ in range(3):
        await found.run(10)
        why = (await look()).why
        assert isinstance(why, UpstreamUnavailable)
        assert "page by page" in why.message
    assert found.account._reader.budget.seconds_until(now()) == 0
    found.account.close()


@pytest.mark.parametrize("granted", [True, False])
@in_fake_time
async def test_a_first_walk_that_the_rate_limit_slows_is_one(*, granted: bool) -> None:
    found, _, look = await waits_for_a_first_walk(granted=granted)
    await found.run(10)
    budget = found.account._reader.budget
    budget.spend(now())
    budget._left, budget.remaining = -50.0, 0
    assert (await look()).why is None
    found.account.close()


@in_fake_time
async def test_a_page_that_was_asked_for_before_a_single_read_does_not_undo_its_answer() -> None:
    found, upstream, uuid = await listed_by_slow_answers()
    upstream.page_takes = 5.0
    upstream.clusters[uuids(10)[9]] = a_cluster(uuid=uuids(10)[9], password="pw-2")  # so that the page is parsed
    found.account._poller.wait_for(uuid)
    await asyncio.sleep(1)
    upstream.clusters[uuid] = a_cluster(uuid=uuid, password="pw-2")
    assert await read_password(found, uuid, wanted=Requested(now())) == "pw-2"
    await asyncio.sleep(6)
    assert await read_password(found, uuid, wanted=Routine(now() - MINUTE / 2)) == "pw-2"
    found.account.close()


@in_fake_time
async def test_a_single_read_that_was_asked_for_before_a_page_gives_what_the_page_has_brought() -> None:
    found, upstream, uuid = await listed_by_slow_answers()
    upstream.cluster_takes = 5.0
    single = asyncio.create_task(read_password(found, uuid, wanted=Requested(now())))
    await asyncio.sleep(1)
    upstream.clusters[uuid] = a_cluster(uuid=uuid, password="pw-2")
    found.account._poller.wait_for(uuid)
    await asyncio.sleep(1)
    assert await read_password(found, uuid, wanted=Routine(now() - MINUTE / 2)) == "pw-2"
    assert await single == "pw-2"
    assert await read_password(found, uuid, wanted=Routine(now() - MINUTE / 2)) == "pw-2"
    found.account.close()


@in_fake_time
async def test_who_comes_long_after_the_first_walk_is_served_by_the_next_one() -> None:
    found, upstream = small(200)
    late = list(found.references)[100:]
    for key in late:
        found.queue.forget(key)
    await found.run(20 * MINUTE)
    assert len(found.snapshots) == 100
    before = len(upstream.requests)
    for key in late:
        found.queue.mark(key)
    await found.run(MINUTE)
    assert len(found.snapshots) == 200
    assert Counter(kind for kind, _ in upstream.requests[before:])["page"] < 10, "no walk goes in circles"


@in_fake_time
async def test_an_idle_minute_costs_one_request_for_up_to_two_hundred_clusters() -> None:
    found, upstream = small(200)
    await found.run(10 * MINUTE)
    before = kinds(upstream)
    await found.run(9 * MINUTE)
    assert kinds(upstream)["page"] - before["page"] == pytest.approx(10, abs=1)
    assert kinds(upstream)["cluster"] == before["cluster"]


@in_fake_time
async def test_pages_are_spread_evenly_over_the_interval() -> None:
    found, upstream = small(100, per_page=10)
    await found.run(5 * MINUTE)
    before = kinds(upstream)["page"]
    await found.run(27)
    assert kinds(upstream)["page"] - before == pytest.approx(5, abs=1), "half a walk in half the time"


@in_fake_time
async def test_a_cluster_that_the_listing_lacks_is_asked_for_individually() -> None:
    found, upstream = small()
    await found.run(2 * MINUTE)
    gone = uuids(100)[7]
    del upstream.clusters[gone]
    await found.run(2 * MINUTE)
    assert [type(cause) for cause in found.causes.values()] == [UnconfirmedNotFound]
    assert ("cluster", gone) in upstream.requests
    upstream.clusters[gone] = a_cluster(uuid=gone)
    await found.run(2 * MINUTE)
    assert not found.causes


@in_fake_time
async def test_a_revoked_token_is_told_to_everyone_and_costs_a_request_at_a_time() -> None:
    found, upstream = small()
    await found.run(2 * MINUTE)
    before = len(upstream.requests)
    upstream.trouble["*"] = TokenInvalid("no")
    await found.run(2 * MINUTE)
    assert {type(cause) for cause in found.causes.values()} == {TokenInvalid}
    assert len(found.causes) == 100
    assert len(upstream.requests) - before < 15
    upstream.trouble.clear()
    await found.run(2 * MINUTE)
    assert not found.causes


@pytest.mark.simulation
@in_fake_time
async def test_a_minute_without_upstream_is_over_within_a_refresh_interval_and_costs_few_requests() -> None:
    found, simulator = await simulated(1000)
    await found.run(20 * MINUTE)
    before = simulator.log.report(limit=0)["total"]
    simulator.faults.add(Fault(kind=FaultKind.STATUS, status=503))
    await found.run(MINUTE)
    simulator.faults.clear()
    assert cast("int", simulator.log.report(limit=0)["total"]) - cast("int", before) < 20
    for _ in range(12):
        await found.run(5)
        assert {type(cause) for cause in found.causes.values()} <= {UpstreamUnavailable}, "no other reason than the true one"
    await found.run(MINUTE / 2)
    assert not found.causes
    assert oldest(found) <= MINUTE
    found.account.close()


@in_fake_time
async def test_a_process_that_was_frozen_catches_up_and_does_not_call_it_a_quota() -> None:
    found, upstream = small()
    await found.run(3 * MINUTE)
    upstream.gate = asyncio.Event()  # an answer takes its time
    loop = asyncio.get_running_loop()
    assert isinstance(loop, FakeTimeLoop)
    loop.pass_at_once(5 * MINUTE)
    await found.run(5)
    assert not found.causes
    upstream.gate.set()
    await found.run(5)
    assert not found.causes
    assert oldest(found) <= 10


@in_fake_time
async def test_a_listing_that_keeps_failing_is_done_without() -> None:
    found, upstream = small(20)
    upstream.trouble["page"] = UpstreamUnavailable("another host")
    await found.run(3 * MINUTE)
    assert len(found.snapshots) == 20
    assert not found.causes
    assert kinds(upstream)["page"] <= 4


@in_fake_time
async def test_a_listing_that_leads_in_a_circle_is_done_without() -> None:
    found, upstream = small(40, per_page=10)
    upstream.last_page_leads_to = "20"
    await found.run(4 * MINUTE)
    assert len(found.snapshots) == 40
    assert not found.causes
    assert kinds(upstream)["page"] == LISTING_TRIES * 4
    assert kinds(upstream)["cluster"] > 40
    upstream.last_page_leads_to = None
    await found.run(20 * MINUTE)
    assert kinds(upstream)["page"] > LISTING_TRIES * 4, "it is tried again"
    assert oldest(found) <= MINUTE


@pytest.mark.simulation
@in_fake_time
async def test_where_the_listing_stays_broken_a_thousand_clusters_are_read_in_turn() -> None:
    found, simulator = await simulated(1000)
    await found.run(20 * MINUTE)  # all CAs have come
    simulator.faults.add(Fault(kind=FaultKind.STATUS, path=r"per_page=", status=500))
    await found.run(10 * MINUTE)
    looks = found.looks
    for _ in range(15):
        await found.run(MINUTE)
        assert oldest(found) < 14 * MINUTE, "75 a minute, none a second time while others wait for longer"
    assert found.looks - looks < 15 * 1000 * 2, "a waiting caller looks about once a minute"
    assert set(cast("dict[str, int]", simulator.log.report(limit=0)["statuses"])) == {"200", "500"}, "no 429, ever"
    found.account.close()


def listings(simulator: Simulator) -> int:
    return cast("dict[str, int]", simulator.log.report(limit=0)["kinds"])["list"]


@in_fake_time
async def test_a_listing_whose_later_page_keeps_failing_is_done_without() -> None:
    found, simulator = await simulated(45)
    simulator.paging = Paging.FIXED
    await found.run(3 * MINUTE)
    simulator.faults.add(Fault(kind=FaultKind.STATUS, path=r"[?&]page=2\b", status=500))
    for _ in range(12):
        await found.run(MINUTE / 4)
        assert {type(cause) for cause in found.causes.values()} <= {UpstreamUnavailable}, "no other reason than the true one"
    walked = listings(simulator)
    await found.run(4 * MINUTE)
    assert oldest(found) <= 1.25 * MINUTE
    assert not found.causes
    assert listings(simulator) == walked


@in_fake_time
async def test_a_low_hour_stretches_the_walks_and_says_so() -> None:
    found, upstream = small(100, per_page=2)
    await found.run(3 * MINUTE)
    found.account._reader.budget.limit, upstream.per_page = 5000, 2
    before = len(upstream.requests)
    upstream.remaining = 10
    await found.run(10 * MINUTE)
    assert len(upstream.requests) - before < 60
    assert {type(cause) for cause in found.causes.values()} == {RateLimited}
    assert found.account.slowdown > 10
    upstream.remaining = 4999
    await found.run(20 * MINUTE)
    assert not found.causes


@in_fake_time
async def test_a_cluster_wanted_often_is_read_individually_beside_slow_walks() -> None:
    found, upstream = small(100, interval="1h")
    await found.run(5 * MINUTE)
    assert kinds(upstream)["page"] <= 2
    assert not any(isinstance(cause, ClusterNotFound) for cause in found.causes.values())


@in_fake_time
async def test_a_bug_that_a_page_provokes_is_a_cause_and_the_clusters_are_read_individually() -> None:
    found, upstream = small(20)
    await found.run(3 * MINUTE)
    upstream.trouble["page"] = UnicodeEncodeError("utf-8", "?\ud800", 1, 2, "surrogates not allowed")
    changed = uuids(20)[7]
    upstream.clusters[changed] = a_cluster(uuid=changed, password="pw-2")
    await found.run(2 * MINUTE)
    assert not found.causes
    assert password_of(found, changed) == "pw-2"
    assert {type(bug) for bug in found.account.take_bugs()} == {UnicodeEncodeError}
    assert found.account.problems() == [], "its task has not ended"
    upstream.trouble.clear()
    await found.run(20 * MINUTE)
    assert oldest(found) <= MINUTE
    found.account.close()


@in_fake_time
async def test_a_bug_in_what_is_done_with_a_page_is_a_cause_too() -> None:
    found, _ = small(20)
    await found.run(3 * MINUTE)

    def take(page: ClusterPage) -> tuple[tuple[str, ...], bool]:
        raise KeyError(page.next)

    found.account._poller._walk.take = take  # type: ignore[method-assign]
    await found.run(5 * MINUTE)
    assert not found.causes
    assert oldest(found) <= 1.25 * MINUTE
    assert KeyError in {type(bug) for bug in found.account.take_bugs()}
    found.account.close()


@pytest.mark.parametrize("method", ["_tell_late", "_next_step"])
@in_fake_time
async def test_a_task_that_keeps_dying_is_a_problem_and_the_clusters_are_read_individually(method: str) -> None:
    found, upstream = small(20)
    await found.run(3 * MINUTE)
    poller = found.account._poller

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(poller, method, die)
        for _ in range(24):
            await found.run(5)
            found.account.keep_going()
        assert found.account.problems() == ["the background reads of an API token keep ending unexpectedly (KeyError)"]
        changed = uuids(20)[7]
        upstream.clusters[changed] = a_cluster(uuid=changed, password="pw-2")
        await found.run(MINUTE)
        assert password_of(found, changed) == "pw-2"
    pages = kinds(upstream)["page"]
    for _ in range(150):
        await found.run(5)
        found.account.keep_going()
    assert not found.causes
    assert found.account.problems() == []
    assert kinds(upstream)["page"] > pages
    found.account.close()


def die(now: float) -> None:
    raise KeyError(now)


async def keep_dying(found: Fleet, *, seconds: float) -> None:
    for _ in range(int(seconds / 5)):
        await found.run(5)
        found.account.keep_going()


@in_fake_time
async def test_where_a_task_that_keeps_dying_makes_reads_wait_that_is_why(monkeypatch: pytest.MonkeyPatch) -> None:
    found, upstream = small(300)
    await found.run(3 * MINUTE)
    monkeypatch.setattr(found.account._poller, "_next_step", die)
    await keep_dying(found, seconds=60)
    upstream.remaining = 20
    await keep_dying(found, seconds=120)
    waits = [await found.account.read(one, wanted=Routine(now()), known_ca=no_ca) for one in found.references.values()]
    causes = {wait.why.reason if wait.why else None for wait in waits if isinstance(wait, Queued)}
    assert causes == {"UpstreamUnavailable"}
    found.account.close()


@in_fake_time
async def test_a_ca_that_a_dying_task_does_not_read_again_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    found, _ = small(3, interval="6h")
    await found.run(3 * MINUTE)
    monkeypatch.setattr(found.account._poller, "_next_step", die)
    await keep_dying(found, seconds=120)
    assert {snapshot.unread for snapshot in found.snapshots.values()} == {None}, "the clusters are read individually, in time"
    await found.run(1.3 * CA_MAX_AGE, step=MINUTE)
    assert {snapshot.unread.reason for snapshot in found.snapshots.values() if snapshot.unread} == {"UpstreamUnavailable"}
    assert len(found.snapshots) == sum(snapshot.unread is not None for snapshot in found.snapshots.values())
    found.account.close()


async def no_ca() -> bytes:
    return b""


@in_fake_time
async def test_clusters_that_do_not_exist_start_no_walk_after_walk() -> None:
    found, upstream = small(20)
    for uuid in uuids(20)[10:]:
        del upstream.clusters[uuid]
    await found.run(5 * MINUTE)
    assert {type(cause) for cause in found.causes.values()} == {UnconfirmedNotFound}
    assert kinds(upstream)["page"] <= 8
    found.account.close()


@in_fake_time
async def test_callers_that_relied_on_walks_read_individually_when_walks_are_no_longer_worthwhile() -> None:
    found, upstream = small(20)
    await found.run(3 * MINUTE)
    for key in list(found.references)[2:]:
        found.queue.forget(key)
    demand = found.account._cache.demand
    for uuid in uuids(20)[2:]:
        demand._by_cluster.pop(uuid, None)
    upstream.clusters[uuids(20)[0]] = a_cluster(uuid=uuids(20)[0], password="pw-2")
    upstream.trouble["page"] = UpstreamUnavailable("nobody needs it")
    found.account._poller.plan_again()
    await found.run(MINUTE + REPLAN)
    assert password_of(found, uuids(20)[0]) == "pw-2"
    found.account.close()


@in_fake_time
async def test_a_pool_that_is_made_again_is_noticed_within_the_interval_although_its_cluster_is_unchanged() -> None:
    upstream = FakeUpstream(clusters={uuid: a_cluster(uuid=uuid) for uuid in uuids(100)}, pools={"orders-pool": a_pool()})
    wanted = [numbered_reference(number, uuid, pool="orders-pool") for number, uuid in enumerate(uuids(20))]
    others = [numbered_reference(number + 100, uuid) for number, uuid in enumerate(uuids(100)[20:])]
    found = fleet_of(upstream, [*wanted, *others], clock=asyncio.get_running_loop().time)
    await found.run(20 * MINUTE)
    upstream.pools["orders-pool"] = a_pool(password="pw-2")
    await found.run(MINUTE)
    assert all(found.snapshots[reference.key].pool == a_pool(password="pw-2") for reference in wanted)
    found.account.close()


@pytest.mark.simulation
@in_fake_time
async def test_a_failed_read_of_a_known_ca_is_tried_again() -> None:
    found, upstream = small(1)
    await found.run(MINUTE)
    upstream.trouble["ca"] = UpstreamUnavailable("down")
    await found.run(CA_MAX_AGE, step=MINUTE)
    assert 1 < kinds(upstream)["ca"] < 30
    upstream.trouble.clear()
    upstream.cas[uuids(1)[0]] = PEM + b"new"
    await found.run(AFTER_FAILURE + MINUTE)
    assert [snapshot.ca for snapshot in found.snapshots.values()] == [PEM + b"new"]
    found.account.close()


# --- the poller alone ------------------------------------------------------------------------------------------------------

SCOPE = Forbidden("The token lacks a scope.")
DOWN = UpstreamUnavailable("down")
GIVEN_UP = _GivenUp(until=math.inf)


def failing(cause: Cause) -> _Failing:
    return _Failing(cause=cause, failures=1, retry_at=0.0)


def lone(upstream: FakeUpstream, *, listing: _Failing | _GivenUp | None = None) -> tuple[Poller, ClusterCache]:
    cache = ClusterCache(on_change=lambda _: None)
    poller = Poller(reader := Reader(TOKEN, upstream=upstream, clock=a_clock(FakeClock())), cache, CaReads(reader, cache))
    poller._listing = listing or poller._listing
    return poller, cache


@pytest.mark.parametrize(
    ("listing", "waited_for", "late", "said"),
    [
        (failing(SCOPE), True, False, SCOPE),
        (failing(SCOPE), False, False, None),
        (None, True, True, RateLimited),
        (None, True, False, None),
        (None, False, True, None),
        (GIVEN_UP, True, True, None),
    ],
)
def test_a_cluster_is_told_why_it_is_not_fresh_only_where_a_page_should_have_brought_it(
    listing: _Failing | _GivenUp | None, *, waited_for: bool, late: bool, said: Cause | type[Cause] | None
) -> None:
    poller, cache = lone(FakeUpstream(), listing=listing)
    poller._plan = Plan(sweep_every=1.0, covers=0.0, per_second=0.0)  # four pages a second are more than the budget allows
    cache.waiting |= {UUID} if waited_for else set()
    cache.late |= {UUID} if late else set()
    cause = poller.why_not_fresh(UUID)
    assert cause is said or type(cause) is said


@pytest.mark.parametrize(("cause", "shown"), [(SCOPE, None), (DOWN, DOWN)])
async def test_the_first_good_page_ends_what_a_person_had_to_fix_and_nothing_else(cause: Cause, shown: Cause | None) -> None:
    upstream = FakeUpstream(clusters={uuid: a_cluster(uuid=uuid) for uuid in uuids(2)}, per_page=1)
    poller, cache = lone(upstream, listing=failing(cause))
    await poller._take_page()
    cache.waiting.add(UUID)
    assert poller.why_not_fresh(UUID) is shown
    await poller._take_page()
    assert poller.why_not_fresh(UUID) is None, "the walk is complete"


async def test_a_cluster_that_is_waited_for_is_remembered_and_every_page_of_the_next_walk_is_parsed() -> None:
    poller, cache = lone(FakeUpstream())
    poller.wait_for(UUID)
    assert cache.waiting == {UUID}
    assert poller._walk._reread == [True, True]
    poller.close()


def test_where_walks_stop_each_reference_is_marked_and_where_the_plan_stays_none_is() -> None:
    clock, told = FakeClock(), list[ObjectKey]()
    cache = ClusterCache(on_change=told.append)
    poller = Poller(reader := Reader(TOKEN, upstream=FakeUpstream(), clock=a_clock(clock)), cache, CaReads(reader, cache))
    cache.demand.want(UUID, KEY, interval=MINUTE, now=clock())
    poller._plan = Plan(sweep_every=54.0, covers=10.0, per_second=0.0)
    poller.replan(clock())
    assert (poller._plan.sweep_every, told) == (None, [KEY]), "one reference is read individually"
    clock.advance(REPLAN)
    poller.replan(clock())
    assert told == [KEY]
