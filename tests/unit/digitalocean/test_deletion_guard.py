"""The clocks begin at a million seconds: a machine that has been up for days."""

from collections.abc import Iterable

import pytest

from dbclusterref.digitalocean.deletion_guard import FORGOTTEN_AFTER, PRUNED_FROM, DeletionGuard

START = 1e6


@pytest.fixture
def guard() -> DeletionGuard:
    return DeletionGuard()


def found(guard: DeletionGuard, names: Iterable[str], *, at: float) -> None:
    for name in names:
        guard.found(name, now=START + at)


def missing(guard: DeletionGuard, names: Iterable[str], *, at: float, was_known: bool = True) -> None:
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


DAY = 24 * 3600.0


def test_what_it_keeps_does_not_grow_with_clusters_that_come_and_go(guard: DeletionGuard) -> None:
    for number in range(20 * PRUNED_FROM):
        at = number * FORGOTTEN_AFTER / PRUNED_FROM
        found(guard, [f"{number}"], at=at)
        missing(guard, [f"{number}", f"other-{number}"], at=at + 1)
    assert guard.size <= 6 * PRUNED_FROM


def test_clusters_that_are_read_once_a_day_are_known_however_many_others_come_and_go(guard: DeletionGuard) -> None:
    found(guard, "abc", at=0)
    found(guard, map(str, range(5 * PRUNED_FROM)), at=DAY)
    missing(guard, "abc", at=DAY + 1, was_known=False)
    assert is_open(guard, at=DAY + 2)


def test_clusters_that_stay_missing_for_days_never_count_as_new_ones(guard: DeletionGuard) -> None:
    for minute in range(0, 4 * 24 * 60, 5):
        missing(guard, "abcd", at=minute * 60)
        found(guard, (f"{minute}-{number}" for number in range(PRUNED_FROM // 100)), at=minute * 60)
        assert minute < 60 or not is_open(guard, at=minute * 60 + 1)


def test_a_cluster_that_answers_again_and_vanishes_again_counts_from_then_on(guard: DeletionGuard) -> None:
    missing(guard, "abc", at=0)
    found(guard, "abc", at=2 * 3600)
    missing(guard, "abc", at=2 * 3600 + 1)
    assert is_open(guard, at=2 * 3600 + 2)
