import pytest

from dbclusterref.digitalocean.fair_queue import FairQueue, Rank


@pytest.fixture
def queue() -> FairQueue:
    queue = FairQueue()
    for name in ("a", "b", "c"):
        queue.join("shop", name, rank=Rank.ROUTINE, now=1e6)
    return queue


def position(queue: FairQueue, *names: str, lane: str = "shop", rank: Rank = Rank.ROUTINE, now: float = 1e6) -> list[int]:
    return [queue.position(lane, name, rank=rank, now=now) for name in names]


def served(queue: FairQueue, places: dict[tuple[str, str], int], *, count: int) -> list[str]:
    """Serve whoever is first, so many times; each that is served joins again, and makes as many requests each time."""
    lanes = []
    for lane, name in places:
        queue.join(lane, name, rank=Rank.ROUTINE, now=1e6)
    for _ in range(count):
        lane, name = next(place for place in places if queue.position(*place, rank=Rank.ROUTINE, now=1e6) == 0)
        queue.serve(lane, name, requests=places[lane, name])
        queue.join(lane, name, rank=Rank.ROUTINE, now=1e6)
        lanes.append(lane)
    return lanes


def test_the_first_to_come_is_first_and_a_stranger_comes_after_all(queue: FairQueue) -> None:
    assert position(queue, "a", "b", "c", "stranger") == [0, 1, 2, 3]
    assert len(queue) == 3, "to ask is not to join"


def test_a_place_is_kept_however_often_its_caller_looks(queue: FairQueue) -> None:
    queue.join("shop", "a", rank=Rank.ROUTINE, now=1e6 + 1)
    assert position(queue, "a", "b", "c") == [0, 1, 2]


def test_the_queue_moves_up_when_one_leaves(queue: FairQueue) -> None:
    queue.leave("shop", "b")
    queue.leave("shop", "b")
    queue.leave("elsewhere", "b")
    assert position(queue, "a", "c", "stranger") == [0, 1, 2]


def test_urgent_places_come_before_routine_ones_of_the_same_namespace(queue: FairQueue) -> None:
    assert position(queue, "new", rank=Rank.URGENT) == [0]
    queue.join("shop", "new", rank=Rank.URGENT, now=1e6)
    assert position(queue, "newer", "new", rank=Rank.URGENT) == [1, 0]
    assert position(queue, "a", "b") == [1, 2]
    queue.join("shop", "b", rank=Rank.URGENT, now=1e6)
    assert position(queue, "b", rank=Rank.URGENT) == [1]
    assert len(queue) == 4, "it has moved, and is there once"


def test_what_nothing_waits_for_comes_after_all_else_of_the_same_namespace(queue: FairQueue) -> None:
    queue.join("shop", "check", rank=Rank.LAST, now=1e6)
    queue.join("shop", "d", rank=Rank.ROUTINE, now=1e6)
    queue.join("shop", "new", rank=Rank.URGENT, now=1e6)
    assert position(queue, "new", rank=Rank.URGENT) == [0]
    assert position(queue, "a", "d") == [1, 4]
    assert position(queue, "check", rank=Rank.LAST) == [5]
    queue.join("shop", "check", rank=Rank.URGENT, now=1e6)
    assert position(queue, "check", rank=Rank.URGENT) == [1], "somebody has asked for it"
    assert len(queue) == 6


def test_a_newcomer_waits_for_one_place_of_each_other_namespace(queue: FairQueue) -> None:
    for number in range(1000):
        queue.join("noisy", str(number), rank=Rank.URGENT, now=1e6)
    assert position(queue, "x", lane="quiet") == [2]
    queue.join("quiet", "x", rank=Rank.ROUTINE, now=1e6)
    queue.join("quiet", "y", rank=Rank.ROUTINE, now=1e6)
    assert position(queue, "x", "y", lane="quiet") == [2, 5]
    assert position(queue, "c") == [6]
    assert position(queue, "999", lane="noisy", rank=Rank.URGENT) == [999 + 3 + 2]


def test_namespaces_take_turns() -> None:
    places = {("noisy", "a"): 1, ("noisy", "b"): 1, ("noisy", "c"): 1, ("quiet", "x"): 1}
    assert served(FairQueue(), places, count=6) == ["noisy", "quiet"] * 3


def test_a_turn_of_several_requests_is_made_up_for_by_as_many_turns_of_others() -> None:
    lanes = served(FairQueue(), {("noisy", "a"): 3, ("quiet", "x"): 1}, count=40)
    assert lanes.count("quiet") == pytest.approx(30, abs=1)


def test_what_a_namespace_used_while_nobody_waited_is_not_held_against_it() -> None:
    queue = FairQueue()
    for _ in range(100):
        queue.serve("early", "a", requests=1)
    queue.join("late", "x", rank=Rank.ROUTINE, now=1e6)
    queue.join("late", "y", rank=Rank.ROUTINE, now=1e6)
    assert queue.position("early", "a", rank=Rank.ROUTINE, now=1e6) == 1


def test_a_namespace_that_was_away_saves_up_nothing() -> None:
    queue = FairQueue()
    served(queue, {("a", "1"): 1, ("b", "1"): 1}, count=100)
    for number in range(10):
        queue.join("away", str(number), rank=Rank.ROUTINE, now=1e6)
    assert queue.position("a", "1", rank=Rank.ROUTINE, now=1e6) <= 2


def test_a_caller_that_has_gone_without_a_word_delays_nobody(queue: FairQueue) -> None:
    queue.join("shop", "c", rank=Rank.ROUTINE, now=1e6 + 120)
    assert position(queue, "c", now=1e6 + 120) == [2]
    assert position(queue, "c", "stranger", now=1e6 + 140) == [0, 1]
    assert position(queue, "stranger", now=1e6 + 400) == [0]
    assert len(queue) == 0
