import pytest

from dbclusterref.digitalocean.cache import CachedCluster, ClusterCache
from dbclusterref.resource.objects import ObjectKey

KEY = ObjectKey("shop", "orders-db")
UUID, OTHER = "one", "other"
T = 1e6
"""A clock that started long ago, as real ones have."""


@pytest.fixture
def told() -> list[ObjectKey]:
    return []


@pytest.fixture
def answers(told: list[ObjectKey]) -> ClusterCache:
    known = ClusterCache(on_change=told.append)
    known.demand.want(UUID, KEY, interval=60.0, now=T)
    return known


def test_a_change_is_announced_and_a_first_answer_is_not(answers: ClusterCache, told: list[ObjectKey]) -> None:
    answers.put(UUID, b"a", now=T + 1.0)
    answers.put(UUID, b"a", now=T + 2.0)
    answers.confirm(UUID, now=T + 3.0)
    assert told == []
    answers.put(UUID, b"b", now=T + 4.0)
    assert told == [KEY]


@pytest.mark.parametrize("kind", ["waiting", "late"])
def test_an_answer_that_is_waited_for_is_announced_once(answers: ClusterCache, told: list[ObjectKey], kind: str) -> None:
    getattr(answers, kind).add(UUID)
    answers.put(UUID, b"a", now=T + 1.0)
    answers.put(UUID, b"a", now=T + 2.0)
    assert told == [KEY]


def test_a_confirmed_answer_is_as_young_as_a_new_one(answers: ClusterCache) -> None:
    answers.put(UUID, b"a", now=T + 1.0)
    answers.confirm(UUID, now=T + 100.0)
    # One and a quarter of the interval, which is a minute.
    assert answers.overdue(T + 175.0) == []
    assert answers.overdue(T + 175.1) == [UUID]
    answers.late.add(UUID)
    assert answers.overdue(T + 175.1) == []


def test_what_nobody_wants_is_kept_for_a_while_and_never_overdue(answers: ClusterCache) -> None:
    answers.put(UUID, b"a", now=T)
    answers.put(OTHER, b"a", now=T)
    answers.forget_unwanted(T + 300.0)
    assert answers.get(OTHER) is not None
    assert OTHER not in answers.overdue(T + 300.0)
    answers.forget_unwanted(T + 300.1)
    assert OTHER not in answers
    assert UUID in answers


def test_equal_answers_are_one_object(answers: ClusterCache) -> None:
    first = answers.put(UUID, bytes([1, 2]), now=T + 1.0)
    assert answers.put(UUID, bytes([1, 2]), now=T + 2.0) is first


def test_an_answer_that_was_asked_for_before_the_one_that_is_kept_changes_nothing(
    answers: ClusterCache, told: list[ObjectKey]
) -> None:
    answers.put(UUID, b"new", now=T + 2.0)
    assert answers.put(UUID, b"old", now=T + 1.0) == b"new"
    answers.confirm(UUID, now=T + 1.0)
    assert answers.get(UUID) == CachedCluster(b"new", T + 2.0)
    assert told == []


def test_an_answer_that_was_never_given_cannot_be_confirmed(answers: ClusterCache) -> None:
    answers.confirm(UUID, now=T + 1.0)
    assert UUID not in answers


def test_a_cached_cluster_shows_none_of_its_bytes(answers: ClusterCache) -> None:
    answers.put(UUID, b"sesame", now=T)
    assert "sesame" not in repr(answers.get(UUID))


def test_all_who_refer_to_a_cluster_are_marked_and_nobody_else(answers: ClusterCache, told: list[ObjectKey]) -> None:
    second, stranger = ObjectKey("shop", "second"), ObjectKey("shop", "stranger")
    answers.demand.want(UUID, second, interval=60.0, now=T)
    answers.demand.want(OTHER, stranger, interval=60.0, now=T)
    answers.tell(UUID)
    assert sorted(told) == [KEY, second]
    told.clear()
    answers.tell_all()
    assert sorted(told) == [KEY, second, stranger]
