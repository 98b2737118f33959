from math import inf

import pytest

from dbclusterref.digitalocean.demand import Requested, Routine
from dbclusterref.digitalocean.details import What
from dbclusterref.digitalocean.fair_queue import LOOK_AGAIN, Rank
from dbclusterref.digitalocean.own_turn import OwnTurn
from dbclusterref.digitalocean.reader import Reader
from dbclusterref.errors import RateLimited
from tests.support.builders import TOKEN, UUID
from tests.support.fake_digitalocean import FakeUpstream
from tests.support.fake_time import FakeClock, a_clock

WHAT: What = ("replicas", UUID)


@pytest.fixture
def reader(clock: FakeClock) -> Reader:
    return Reader(TOKEN, upstream=FakeUpstream(), clock=a_clock(clock))


def may_read(reader: Reader, turn: OwnTurn, *, requested: bool = False) -> bool:
    now = reader.clock.monotonic()
    wanted = Requested(now) if requested else Routine(now - 30)
    return turn.may_read(WHAT, of=b"", lane="shop", rank=Rank.LAST, wanted=wanted, behind=0)


def use_up(reader: Reader, clock: FakeClock) -> None:
    while not reader.budget.seconds_until(clock()):
        reader.budget.spend(clock())


def test_a_read_that_waits_is_behind_those_that_a_secret_is_made_from(reader: Reader, clock: FakeClock) -> None:
    turn = OwnTurn(reader)
    use_up(reader, clock)
    assert not may_read(reader, turn)
    assert reader.queue.position("shop", "a cluster", rank=Rank.ROUTINE, now=clock()) == 0
    assert not may_read(reader, turn, requested=True)
    assert reader.queue.position("shop", "a cluster", rank=Rank.ROUTINE, now=clock()) == 1, "a person has asked"


def test_a_pause_is_told(reader: Reader, clock: FakeClock) -> None:
    reader.budget.stay_away_until = clock() + 17
    with pytest.raises(RateLimited):
        may_read(reader, OwnTurn(reader))


async def test_a_read_that_waits_is_looked_at_again_before_its_place_is_given_up(reader: Reader, clock: FakeClock) -> None:
    turn = OwnTurn(reader)
    assert turn.next_look(WHAT, of=b"", interval=3600.0) == LOOK_AGAIN
    assert turn.next_look(WHAT, of=b"", interval=10.0) == 10.0
    await reader.replicas(UUID, always_listed=True, wanted=Routine(clock()))
    assert turn.next_look(WHAT, of=b"", interval=3600.0) == inf
    clock.advance(1800)
    assert turn.next_look(WHAT, of=b"", interval=3600.0) == LOOK_AGAIN


def test_after_a_restart_nothing_is_late_before_its_time(reader: Reader, clock: FakeClock) -> None:
    turn = OwnTurn(reader)
    routine = Routine(clock())
    assert turn.is_late(WHAT, lane="shop", wanted=routine, interval=20.0, since_restart=False), "it was never read"
    assert not turn.is_late(WHAT, lane="shop", wanted=routine, interval=20.0, since_restart=True)
    assert turn.is_late(WHAT, lane="shop", wanted=Requested(clock()), interval=20.0, since_restart=True)
    clock.advance(61)
    assert turn.is_late(WHAT, lane="shop", wanted=routine, interval=20.0, since_restart=True)
