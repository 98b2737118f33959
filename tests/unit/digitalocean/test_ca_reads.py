import pytest

from dbclusterref.digitalocean.ca_reads import FIRST_CA_WAIT, CaReads
from dbclusterref.digitalocean.cache import ClusterCache
from dbclusterref.digitalocean.demand import Requested, Routine
from dbclusterref.digitalocean.reader import Reader
from dbclusterref.errors import RateLimited, UpstreamUnavailable
from dbclusterref.resource.objects import ObjectKey
from tests.support.builders import KEY, PEM, TOKEN, UUID
from tests.support.fake_digitalocean import FakeUpstream
from tests.support.fake_time import FakeClock, a_clock

PLACE = ("Routine", UUID, "user", "")


@pytest.fixture
def upstream() -> FakeUpstream:
    return FakeUpstream()


@pytest.fixture
def told() -> list[ObjectKey]:
    return []


@pytest.fixture
def reads(clock: FakeClock, upstream: FakeUpstream, told: list[ObjectKey]) -> CaReads:
    cache = ClusterCache(on_change=told.append)
    cache.demand.want(UUID, KEY, interval=60.0, now=clock())
    return CaReads(Reader(TOKEN, upstream=upstream, clock=a_clock(clock)), cache)


def follows(reads: CaReads) -> bool:
    return reads.follow(UUID, lane="shop", place=PLACE)


async def test_a_requested_ca_that_is_new_marks_the_references(reads: CaReads, clock: FakeClock, told: list[ObjectKey]) -> None:
    assert await reads.read_requested(UUID, Routine(clock())) is None
    assert told == []
    for _ in range(2):
        assert await reads.read_requested(UUID, Requested(clock() - 1)) is None
    assert told == [KEY], "read once"


async def test_why_a_requested_ca_cannot_be_read_is_returned(reads: CaReads, clock: FakeClock, upstream: FakeUpstream) -> None:
    upstream.trouble["ca"] = UpstreamUnavailable("Down.")
    assert isinstance(await reads.read_requested(UUID, Requested(clock())), UpstreamUnavailable)


async def test_a_ca_follows_where_its_turn_is_far_or_was_put_off_before(reads: CaReads, clock: FakeClock) -> None:
    assert not follows(reads)
    budget = reads._reader.budget
    budget.spend(clock())
    budget._left = -2 * FIRST_CA_WAIT * budget.pace
    assert follows(reads)
    budget._left = budget.burst
    reads._reader.ca_schedule.plan(UUID, at=clock())
    assert follows(reads)


async def test_a_first_ca_that_the_rate_limit_delays_is_still_to_come(
    reads: CaReads, clock: FakeClock, upstream: FakeUpstream
) -> None:
    upstream.trouble["ca"] = RateLimited("Slow.")
    assert await reads.find(UUID, known=b"", follows=False) == (b"", True)
    assert await reads.find(UUID, known=PEM, follows=False) == (PEM, False)
