import pytest

from dbclusterref.digitalocean.fair_queue import ABSENT, FairQueue


@pytest.fixture
def line() -> FairQueue:
    turns = FairQueue()
    for uuid in ("a", "b", "c"):
        turns.join(uuid, now=0.0)
    return turns


def position(line: FairQueue, *uuids: str, now: float = 0.0) -> list[int]:
    return [line.position(uuid, now=now) for uuid in uuids]


def test_who_came_first_is_first_and_a_stranger_comes_after_all(line: FairQueue) -> None:
    assert position(line, "a", "b", "c", "stranger") == [0, 1, 2, 3]
    assert line.length(0.0) == 3, "to ask is not to join in line"


def test_who_stands_in_line_keeps_its_place_however_often_it_looks(line: FairQueue) -> None:
    line.join("a", now=1.0)
    assert position(line, "a", "b", "c") == [0, 1, 2]


def test_the_line_moves_up_when_one_leaves(line: FairQueue) -> None:
    line.leave("a")
    line.leave("a")
    line.join("a", now=1.0)
    assert position(line, "b", "c", "a") == [0, 1, 2]


def test_who_leaves_from_the_middle_moves_up_those_behind_alone(line: FairQueue) -> None:
    line.leave("b")
    assert position(line, "a", "c", "stranger") == [0, 1, 2]


def test_who_has_gone_without_a_word_holds_nobody_up(line: FairQueue) -> None:
    line.join("c", now=ABSENT)
    assert position(line, "c", now=ABSENT) == [2]
    assert position(line, "c", "stranger", now=ABSENT + 1) == [0, 1]
