import pytest

from dbclusterref.digitalocean.cache import LATE, SPARE, ClusterCache
from dbclusterref.resource.objects import ObjectKey

KEY = ObjectKey("shop", "orders-db")
UUID, OTHER = "one", "other"


@pytest.fixture
def told() -> list[ObjectKey]:
    return []


@pytest.fixture
def answers(told: list[ObjectKey]) -> ClusterCache:
    known = ClusterCache(on_news=told.append)
    known.demand.want(UUID, KEY, interval=60.0, now=0.0)
    return known


def test_a_change_is_news_and_a_first_answer_is_none(answers: ClusterCache, told: list[ObjectKey]) -> None:
    answers.put(UUID, b"a", now=1.0)
    answers.put(UUID, b"a", now=2.0)
    answers.confirm(UUID, now=3.0)
    assert told == []
    answers.put(UUID, b"b", now=4.0)
    assert told == [KEY]


@pytest.mark.parametrize("kind", ["waiting", "late"])
def test_an_answer_that_is_waited_for_is_news_once(answers: ClusterCache, told: list[ObjectKey], kind: str) -> None:
    getattr(answers, kind).add(UUID)
    answers.put(UUID, b"a", now=1.0)
    answers.put(UUID, b"a", now=2.0)
    assert told == [KEY]


def test_a_confirmed_answer_is_as_young_as_a_new_one(answers: ClusterCache) -> None:
    answers.put(UUID, b"a", now=1.0)
    answers.confirm(UUID, now=100.0)
    assert answers.overdue(100.0 + LATE * 60.0) == []
    assert answers.overdue(101.0 + LATE * 60.0) == [UUID]
    answers.late.add(UUID)
    assert answers.overdue(101.0 + LATE * 60.0) == []


def test_what_nobody_wants_is_kept_for_a_while_and_never_overdue(answers: ClusterCache) -> None:
    answers.put(UUID, b"a", now=0.0)
    answers.put(OTHER, b"a", now=0.0)
    answers.forget_unwanted(SPARE)
    assert answers.get(OTHER) is not None
    assert OTHER not in answers.overdue(SPARE)
    answers.forget_unwanted(SPARE + 1)
    assert OTHER not in answers
    assert UUID in answers


def test_equal_answers_are_one_object(answers: ClusterCache) -> None:
    first = answers.put(UUID, bytes([1, 2]), now=1.0)
    assert answers.put(UUID, bytes([1, 2]), now=2.0) is first


def test_an_answer_that_was_never_given_cannot_be_confirmed(answers: ClusterCache) -> None:
    answers.confirm(UUID, now=1.0)
    assert UUID not in answers
