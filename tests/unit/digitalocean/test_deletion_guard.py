"""The clocks begin at a million seconds: a machine that has been up for days."""

import pytest

from dbclusterref.digitalocean.deletion_guard import DeletionGuard

START = 1e6


@pytest.fixture
def guard() -> DeletionGuard:
    return DeletionGuard()


def found(guard: DeletionGuard, names: str, *, at: float) -> None:
    for name in names:
        guard.found(name, now=START + at)


def missing(guard: DeletionGuard, names: str, *, at: float, was_known: bool = True) -> None:
    for name in names:
        guard.missing(name, now=START + at, was_known=was_known)


def is_open(guard: DeletionGuard, *, at: float) -> bool:
    return guard.is_open(now=START + at)


def test_two_missing_clusters_are_believed(guard: DeletionGuard) -> None:
    missing(guard, "ab", at=1)
    assert not is_open(guard, at=2)


def test_three_missing_clusters_are_not_believed_where_no_other_answers(guard: DeletionGuard) -> None:
    found(guard, "abcde", at=0)
    missing(guard, "abc", at=1)
    assert is_open(guard, at=2)


def test_three_of_many_are_believed_where_most_still_answer(guard: DeletionGuard) -> None:
    missing(guard, "abc", at=1)
    found(guard, "defg", at=2)
    assert not is_open(guard, at=3)


def test_half_of_an_account_that_is_missing_is_not_believed(guard: DeletionGuard) -> None:
    missing(guard, "abcd", at=1)
    found(guard, "efg", at=2)
    assert is_open(guard, at=3)
    found(guard, "h", at=3)
    assert is_open(guard, at=4)
    found(guard, "i", at=4)
    assert not is_open(guard, at=5)


def test_a_cluster_counts_as_answering_where_it_answered_after_the_first_one_went_missing(guard: DeletionGuard) -> None:
    missing(guard, "a", at=0)
    missing(guard, "b", at=5)
    found(guard, "wxyz", at=7)
    missing(guard, "c", at=10)
    assert not is_open(guard, at=11)


def test_clusters_that_never_answered_do_not_count_as_missing(guard: DeletionGuard) -> None:
    missing(guard, "abcd", at=1, was_known=False)
    assert not is_open(guard, at=2)


def test_clusters_that_only_this_process_has_found_count(guard: DeletionGuard) -> None:
    found(guard, "abc", at=0)
    missing(guard, "abc", at=1, was_known=False)
    assert is_open(guard, at=2)


def test_it_closes_when_clusters_answer_again(guard: DeletionGuard) -> None:
    missing(guard, "abcd", at=1)
    assert is_open(guard, at=2)
    found(guard, "ab", at=3)
    assert not is_open(guard, at=4)


def test_after_an_hour_it_closes_however_often_the_404_was_repeated(guard: DeletionGuard) -> None:
    missing(guard, "abcd", at=0)
    missing(guard, "abcd", at=1800)
    assert is_open(guard, at=3599)
    assert not is_open(guard, at=3600)
