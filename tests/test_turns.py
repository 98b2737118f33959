import pytest

from dbclusterref.turns import ABSENT, Turns


@pytest.fixture
def line() -> Turns:
    turns = Turns()
    for uuid in ("a", "b", "c"):
        turns.stand(uuid, now=0.0)
    return turns


def in_front(line: Turns, *uuids: str, now: float = 0.0) -> list[int]:
    return [line.in_front(uuid, now=now) for uuid in uuids]


def test_who_came_first_is_first_and_a_stranger_comes_after_all(line: Turns) -> None:
    assert in_front(line, "a", "b", "c", "stranger") == [0, 1, 2, 3]
    assert line.length(0.0) == 3, "to ask is not to stand in line"


def test_who_stands_in_line_keeps_its_place_however_often_it_looks(line: Turns) -> None:
    line.stand("a", now=1.0)
    assert in_front(line, "a", "b", "c") == [0, 1, 2]


def test_the_line_moves_up_when_one_leaves(line: Turns) -> None:
    line.leave("a")
    line.leave("a")
    line.stand("a", now=1.0)
    assert in_front(line, "b", "c", "a") == [0, 1, 2]


def test_who_leaves_from_the_middle_moves_up_those_behind_alone(line: Turns) -> None:
    line.leave("b")
    assert in_front(line, "a", "c", "stranger") == [0, 1, 2]


def test_who_has_gone_without_a_word_holds_nobody_up(line: Turns) -> None:
    line.stand("c", now=ABSENT)
    assert in_front(line, "c", now=ABSENT) == [2]
    assert in_front(line, "c", "stranger", now=ABSENT + 1) == [0, 1]
