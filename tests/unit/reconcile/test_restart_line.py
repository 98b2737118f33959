"""Whose turn it is to restart a workload."""

from collections import Counter

from dbclusterref.reconcile.restart_line import AT_ONCE, FRONT, OF_A_NAMESPACE, OVERDUE, RestartLine, may_begin
from dbclusterref.resource.objects import ObjectKey


def key(text: str) -> ObjectKey:
    return ObjectKey(*text.split("/"))


def a_line(*keys: str) -> RestartLine:
    line = RestartLine()
    for one in keys:
        line.wait(key(one), until=5.0)
    return line


def test_each_namespace_has_its_turn_and_in_it_who_came_first() -> None:
    line = a_line("a/1", "a/2", "a/3", "b/1", "c/1", "b/2")
    assert [str(one) for one in line.front(0.0)] == ["a/1", "b/1", "c/1", "a/2", "b/2", "a/3"]
    line.wait(key("a/1"), until=9.0)
    assert line.front(0.0)[0] == key("a/1"), "who looks again keeps its place"
    line.begin(key("a/1"))
    assert [str(one) for one in line.front(0.0)] == ["b/1", "c/1", "a/2", "b/2", "a/3"]


def test_the_front_is_short() -> None:
    assert len(a_line(*(f"a/{number}" for number in range(3 * FRONT))).front(0.0)) == FRONT


def test_who_does_not_look_when_it_said_loses_its_turn() -> None:
    line = a_line("a/1", "b/1")
    line.wait(key("b/1"), until=60.0)
    assert line.front(5.0 + OVERDUE) == (key("a/1"), key("b/1"))
    assert line.front(6.0 + OVERDUE) == (key("b/1"),)


def test_who_leaves_is_forgotten_whether_it_waited_or_not() -> None:
    line = a_line("a/1")
    for one in ("a/1", "a/1", "b/1"):
        line.leave(key(one))
    assert line.front(0.0) == ()


def test_as_many_begin_as_there_are_places() -> None:
    front = a_line("a/1", "b/1", "c/1", "d/1").front(0.0)
    assert [may_begin(one, front, under_way=Counter()) for one in front] == [True] * AT_ONCE + [False]
    assert [may_begin(one, front, under_way=Counter({"x": 2})) for one in front] == [True, False, False, False]
    assert not may_begin(front[0], front, under_way=Counter({"x": 2, "y": 1}))


def test_a_namespace_leaves_the_others_a_place() -> None:
    front = a_line("a/1", "a/2", "a/3").front(0.0)
    assert [may_begin(one, front, under_way=Counter()) for one in front] == [True] * OF_A_NAMESPACE + [False]
    behind = a_line("a/1", "b/1").front(0.0)
    assert [may_begin(one, behind, under_way=Counter({"a": OF_A_NAMESPACE})) for one in behind] == [False, True]


def test_who_does_not_wait_may_not_begin() -> None:
    assert not may_begin(key("a/1"), (), under_way=Counter())
