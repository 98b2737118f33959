"""Repairs of one Secret: a handful at once, then one each window; and the same on a machine that has been up for long."""

import pytest

from dbclusterref.reconcile.repair_backoff import AT_ONCE, RepairBackoff
from dbclusterref.resource.objects import ObjectKey
from dbclusterref.timing import Timing

SECRET = ObjectKey("shop", "orders-db")
TIMING = Timing()
WINDOW, CALM = TIMING.conflict_window, TIMING.conflict_calm


@pytest.fixture(params=[0.0, 1e6], ids=["just booted", "up for long"])
def start(request: pytest.FixtureRequest) -> float:
    return float(request.param)


def contested(start: float) -> RepairBackoff:
    backoff = RepairBackoff(TIMING)
    for number in range(AT_ONCE):
        assert backoff.seconds_to_wait(SECRET, now=start + number) == 0
        backoff.repaired(SECRET, now=start + number)
    return backoff


def test_five_repairs_within_the_window_are_a_contest(start: float) -> None:
    backoff = RepairBackoff(TIMING)
    for after in (0.0, 20.0, 40.0, WINDOW - 1):
        backoff.repaired(SECRET, now=start + after)
        assert not backoff.is_contested(SECRET, now=start + after)
    backoff.repaired(SECRET, now=start + WINDOW)
    assert backoff.is_contested(SECRET, now=start + WINDOW)


def test_five_repairs_in_more_than_the_window_are_none(start: float) -> None:
    backoff = RepairBackoff(TIMING)
    for after in (0.0, 50.0, 60.0, 70.0, 80.0):
        backoff.repaired(SECRET, now=start + after)
    assert not backoff.is_contested(SECRET, now=start + 80.0)
    assert backoff.seconds_to_wait(SECRET, now=start + 80.0) == 0


def test_the_next_repair_waits_for_a_window_after_the_last(start: float) -> None:
    backoff = contested(start)
    last = start + AT_ONCE - 1
    assert backoff.seconds_to_wait(SECRET, now=last + 10) == WINDOW - 10
    assert backoff.seconds_to_wait(SECRET, now=last + WINDOW) == 0
    assert backoff.seconds_until_over(SECRET, now=last + 10) == CALM - 10


def test_a_contest_that_is_repaired_once_a_window_goes_on(start: float) -> None:
    backoff, now = contested(start), start
    for _ in range(10):
        now += WINDOW + AT_ONCE
        assert backoff.is_contested(SECRET, now=now)
        backoff.repaired(SECRET, now=now)
    assert backoff.seconds_to_wait(SECRET, now=now) == WINDOW


def test_a_contest_is_over_after_a_calm_and_the_next_repairs_are_made_at_once(start: float) -> None:
    backoff = contested(start)
    last = start + AT_ONCE - 1
    assert backoff.is_contested(SECRET, now=last + CALM)
    assert not backoff.is_contested(SECRET, now=last + CALM + 1)
    backoff.repaired(SECRET, now=last + CALM + 2)
    assert not backoff.is_contested(SECRET, now=last + CALM + 2)


def test_of_many_secrets_the_contested_and_the_recent_are_kept(start: float) -> None:
    backoff = contested(start)
    for number in range(1100):
        backoff.repaired(ObjectKey("shop", f"db-{number}"), now=start + number / 5)
    assert backoff.is_contested(SECRET, now=start + 200)
    late = start + 10 * CALM
    for number in range(1100, 1200):
        backoff.repaired(ObjectKey("shop", f"db-{number}"), now=late + number / 100)
    assert len(backoff._repairs) <= 100, "the old ones are forgotten"
    assert ObjectKey("shop", "db-1199") in backoff._repairs
    assert ObjectKey("shop", "db-0") not in backoff._repairs
