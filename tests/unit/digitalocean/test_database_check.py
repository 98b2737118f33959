import pytest

from dbclusterref.digitalocean.database_check import DatabaseChecks
from dbclusterref.digitalocean.demand import Freshness, Requested, Routine
from dbclusterref.digitalocean.details import LATE_INTERVALS, MISSING_MAX_AGE
from dbclusterref.digitalocean.reader import Reader
from dbclusterref.digitalocean.snapshot import pack_cluster
from dbclusterref.errors import Cause, DatabaseNotFound, RateLimited, TokenInvalid, UpstreamUnavailable, WaitingForCluster
from tests.support.builders import TOKEN, a_cluster, a_reference
from tests.support.fake_digitalocean import FakeUpstream
from tests.support.fake_time import FakeClock, a_clock

REFERENCE = a_reference(database="orders")
CLUSTER = pack_cluster(a_cluster())


@pytest.fixture
def upstream() -> FakeUpstream:
    return FakeUpstream(databases={"orders"})


@pytest.fixture
def checks(clock: FakeClock, upstream: FakeUpstream) -> DatabaseChecks:
    return DatabaseChecks(Reader(TOKEN, upstream=upstream, clock=a_clock(clock)))


async def check(
    checks: DatabaseChecks, *, wanted: Freshness | None = None, was_served: bool = False, of: bytes = CLUSTER
) -> Cause | None:
    wanted = wanted or Routine(checks._reader.clock.monotonic() - 30)
    return await checks.check(REFERENCE, of=of, wanted=wanted, was_served=was_served, behind=0)


def use_up(checks: DatabaseChecks, clock: FakeClock) -> None:
    budget = checks._reader.budget
    while not budget.seconds_until(clock()):
        budget.spend(clock())


async def test_a_database_that_was_there_is_checked_in_its_turn_and_told_once_that_is_late(
    checks: DatabaseChecks, upstream: FakeUpstream, clock: FakeClock
) -> None:
    assert not checks.follows(REFERENCE, was_served=False)
    assert await check(checks) is None
    assert checks.follows(REFERENCE, was_served=False)
    clock.advance(MISSING_MAX_AGE + 1)
    use_up(checks, clock)
    assert await check(checks) is None
    clock.advance(LATE_INTERVALS * 60)
    use_up(checks, clock)
    assert isinstance(await check(checks), RateLimited)
    assert len(upstream.requests) == 1
    clock.advance(60)
    assert await check(checks) is None
    assert len(upstream.requests) == 2


async def test_a_requested_check_that_waits_is_told_at_once(checks: DatabaseChecks, clock: FakeClock) -> None:
    await check(checks)
    clock.advance(1)
    use_up(checks, clock)
    assert isinstance(await check(checks, wanted=Requested(clock())), RateLimited)


async def test_what_an_earlier_process_found_holds_until_this_one_has_asked(
    checks: DatabaseChecks, upstream: FakeUpstream, clock: FakeClock
) -> None:
    upstream.trouble["database"] = UpstreamUnavailable("Down.")
    assert isinstance(await check(checks, was_served=True), UpstreamUnavailable)
    with pytest.raises(UpstreamUnavailable):
        await check(checks, was_served=False)
    upstream.trouble.clear()
    upstream.databases.clear()
    for _ in range(2):
        with pytest.raises(DatabaseNotFound):
            await check(checks, was_served=True)
        clock.advance(MISSING_MAX_AGE - 1)
    assert not checks.follows(REFERENCE, was_served=True)


async def test_a_database_that_may_be_made_after_its_cluster_is_waited_for(
    checks: DatabaseChecks, upstream: FakeUpstream
) -> None:
    await check(checks)
    upstream.databases.clear()
    with pytest.raises(WaitingForCluster):
        await check(checks, of=pack_cluster(a_cluster(status="forking")))


async def test_a_rejected_token_is_told_since_another_may_be_at_hand(checks: DatabaseChecks, upstream: FakeUpstream) -> None:
    upstream.trouble["database"] = TokenInvalid("No.")
    with pytest.raises(TokenInvalid):
        await check(checks, was_served=True)
