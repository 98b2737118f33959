from math import inf

import pytest

from dbclusterref.digitalocean.demand import Freshness, Requested, Routine
from dbclusterref.digitalocean.details import LATE_INTERVALS
from dbclusterref.digitalocean.fair_queue import LOOK_AGAIN, Rank
from dbclusterref.digitalocean.reader import Reader
from dbclusterref.digitalocean.replica_reads import ReplicaReads
from dbclusterref.digitalocean.replicas import Address, not_listed
from dbclusterref.errors import Cause, Forbidden, RateLimited, TokenInvalid, UpstreamUnavailable
from dbclusterref.resource.reference import Reference
from tests.support.builders import TOKEN, UUID, a_reference, replica_body
from tests.support.fake_digitalocean import FakeUpstream
from tests.support.fake_time import FakeClock, a_clock

KNOWN = (Address(host="known", port=25060),)
READ_1 = Address(host="private-read-1-orders.db.example.com", port=25060)


@pytest.fixture
def upstream() -> FakeUpstream:
    return FakeUpstream(replicas=[replica_body()])


@pytest.fixture
def reads(clock: FakeClock, upstream: FakeUpstream) -> ReplicaReads:
    return ReplicaReads(Reader(TOKEN, upstream=upstream, clock=a_clock(clock)))


def asking(*, namespace: str = "shop", endpoints: tuple[str, ...] = ("Private", "Replicas")) -> Reference:
    return a_reference({"secret": {"endpoints": list(endpoints)}}, namespace=namespace)


async def read(
    reads: ReplicaReads,
    *,
    reference: Reference | None = None,
    engine: str = "pg",
    wanted: Freshness | None = None,
    known: tuple[Address, ...] = KNOWN,
) -> tuple[tuple[Address, ...], Cause | None]:
    wanted = wanted or Routine(reads._reader.clock.monotonic() - 30)
    return await reads.read(reference or asking(), engine=engine, region="ams3", wanted=wanted, known=known, behind=0)


def use_up(reads: ReplicaReads, clock: FakeClock) -> None:
    budget = reads._reader.budget
    while not budget.seconds_until(clock(), spare=0):
        budget.spend(clock())


async def test_a_list_is_read_once_for_all_and_kept_within_the_interval(
    reads: ReplicaReads, upstream: FakeUpstream, clock: FakeClock
) -> None:
    assert await read(reads) == ((READ_1,), None)
    assert await read(reads, reference=asking(namespace="team")) == ((READ_1,), None)
    assert len(upstream.requests) == 1
    clock.advance(31)
    upstream.replicas = []
    assert await read(reads) == ((), None), "the last one was deleted"
    await read(reads, wanted=Requested(clock()))
    assert upstream.requests == [("replicas", UUID)] * 3


@pytest.mark.parametrize("engine", ["redis", "valkey", "mongodb", "kafka", "opensearch"])
async def test_engines_without_replicas_are_not_asked(reads: ReplicaReads, upstream: FakeUpstream, engine: str) -> None:
    assert await read(reads, engine=engine) == ((), None)
    assert reads.next_look(asking(), engine=engine) == inf
    assert upstream.requests == []


async def test_nobody_is_asked_for_what_the_spec_does_not_name(reads: ReplicaReads, upstream: FakeUpstream) -> None:
    plain = asking(endpoints=("Private", "Standby", "Public", "PublicStandby"))
    assert await read(reads, reference=plain) == ((), None)
    assert reads.next_look(plain, engine="pg") == inf
    assert upstream.requests == []


@pytest.mark.parametrize("cause", [UpstreamUnavailable("Down."), Forbidden("No."), RateLimited("Slow.", retry_after=9.0)])
async def test_where_the_list_cannot_be_read_the_known_replicas_serve_on(
    reads: ReplicaReads, upstream: FakeUpstream, clock: FakeClock, cause: Cause
) -> None:
    await read(reads)
    clock.advance(31)
    upstream.trouble["replicas"] = cause
    replicas, unread = await read(reads)
    assert replicas == KNOWN
    assert unread is not None
    assert (unread.reason, unread.message) == (cause.reason, cause.message)
    upstream.trouble.clear()
    clock.advance(90)
    assert await read(reads) == ((READ_1,), None)


async def test_an_engine_that_turns_out_to_have_no_list_has_no_replicas_and_is_asked_for_it_rarely(
    reads: ReplicaReads, upstream: FakeUpstream, clock: FakeClock
) -> None:
    upstream.trouble["replicas"] = not_listed()
    for _ in range(5):
        assert await read(reads, engine="brand_new", known=()) == ((), None)
        assert reads.next_look(asking(), engine="brand_new") == 60.0, "nothing waits for its turn"
        clock.advance(60)
    assert len(upstream.requests) == 1
    upstream.trouble.clear()
    clock.advance(1)
    assert await read(reads, engine="brand_new", known=()) == ((READ_1,), None), "it has one now"


async def test_a_list_that_an_unknown_engine_had_is_not_believed_to_be_gone(
    reads: ReplicaReads, upstream: FakeUpstream, clock: FakeClock
) -> None:
    await read(reads, engine="brand_new", known=())
    clock.advance(60)
    upstream.trouble["replicas"] = not_listed()
    for _ in range(2):
        replicas, unread = await read(reads, engine="brand_new", known=(READ_1,))
        assert replicas == (READ_1,)
        assert unread is not None
        assert unread.message == not_listed().message
        clock.advance(301)


@pytest.mark.parametrize("engine", ["pg", "mysql"])
async def test_an_engine_that_is_known_to_have_replicas_is_asked_again_soon_where_the_list_is_missing(
    reads: ReplicaReads, upstream: FakeUpstream, clock: FakeClock, engine: str
) -> None:
    upstream.trouble["replicas"] = not_listed()
    _, unread = await read(reads, engine=engine, known=())
    assert unread is not None
    upstream.trouble.clear()
    clock.advance(1)
    assert await read(reads, engine=engine, known=()) == ((READ_1,), None)


async def test_a_rejected_token_is_told_since_another_may_be_at_hand(reads: ReplicaReads, upstream: FakeUpstream) -> None:
    upstream.trouble["replicas"] = TokenInvalid("No.")
    with pytest.raises(TokenInvalid):
        await read(reads)


async def test_a_read_that_waits_for_its_turn_holds_up_nothing_and_is_told_once_it_is_late(
    reads: ReplicaReads, upstream: FakeUpstream, clock: FakeClock
) -> None:
    reference, interval = asking(), 60.0
    await read(reads)
    assert reads.next_look(reference, engine="pg") == interval
    clock.advance(interval)
    upstream.requests.clear()
    use_up(reads, clock)
    assert await read(reads) == (KNOWN, None)
    assert reads.next_look(reference, engine="pg") == LOOK_AGAIN
    assert upstream.requests == []
    place = ("replicas", UUID, "Routine")
    assert reads._reader.queue.position("shop", place, rank=Rank.ROUTINE, now=clock()) == 0, "it has a place"
    clock.advance(LATE_INTERVALS * interval)
    use_up(reads, clock)
    replicas, unread = await read(reads)
    assert isinstance(unread, RateLimited)
    assert unread.message.startswith("The read of the read-only replicas is queued: ")
    assert replicas == KNOWN
    clock.advance(60)
    assert await read(reads) == ((READ_1,), None)


async def test_where_no_replica_is_known_and_no_list_was_read_a_wait_is_told_at_once(
    reads: ReplicaReads, clock: FakeClock
) -> None:
    use_up(reads, clock)
    _, unread = await read(reads, known=())
    assert isinstance(unread, RateLimited)


async def test_after_a_restart_a_list_is_late_no_earlier_than_otherwise(reads: ReplicaReads, clock: FakeClock) -> None:
    use_up(reads, clock)
    for _ in range(LATE_INTERVALS + 1):
        assert await read(reads) == (KNOWN, None)
        clock.advance(60)
        use_up(reads, clock)
    _, unread = await read(reads)
    assert isinstance(unread, RateLimited)


async def test_a_requested_read_that_waits_is_told_at_once(reads: ReplicaReads, clock: FakeClock) -> None:
    await read(reads)
    clock.advance(1)
    use_up(reads, clock)
    replicas, unread = await read(reads, wanted=Requested(clock()))
    assert replicas == KNOWN
    assert isinstance(unread, RateLimited)


async def test_a_list_that_waits_before_it_is_an_interval_old_keeps_its_place(reads: ReplicaReads, clock: FakeClock) -> None:
    reference = a_reference({"refreshInterval": "1h", "secret": {"endpoints": ["Private", "Replicas"]}})
    await read(reads, reference=reference)
    clock.advance(3300)
    use_up(reads, clock)
    assert await read(reads, reference=reference, wanted=Routine(clock() - 1800)) == (KNOWN, None)
    assert reads.next_look(reference, engine="pg") == LOOK_AGAIN, "before its place is given up"
