"""What only time or chance would show: repairs of a contested Secret, and the periods of the Lease."""

import pytest

from dbclusterref.errors import SettingsError
from dbclusterref.reconcile.repair_backoff import AT_ONCE, RepairBackoff
from dbclusterref.resource.objects import ObjectKey
from dbclusterref.timing import Timing

SECRET = ObjectKey("shop", "orders-db")


# --- backoff


def test_a_handful_of_repairs_is_made_at_once_and_then_one_each_window() -> None:
    backoff = RepairBackoff(Timing())
    for number in range(AT_ONCE):
        assert backoff.seconds_to_wait(SECRET, now=float(number)) == 0
        backoff.repaired(SECRET, now=float(number))
    assert backoff.seconds_to_wait(SECRET, now=5.0) == 59.0
    assert backoff.seconds_to_wait(SECRET, now=70.0) == 0


def test_repairs_far_apart_are_no_conflict() -> None:
    backoff = RepairBackoff(Timing())
    for number in range(20):
        backoff.repaired(SECRET, now=number * 60.0)
        assert not backoff.is_contested(SECRET, now=number * 60.0)


def test_a_conflict_is_over_when_nothing_was_repaired_for_a_while() -> None:
    backoff = RepairBackoff(Timing())
    for _ in range(AT_ONCE):
        backoff.repaired(SECRET, now=0.0)
    assert backoff.is_contested(SECRET, now=299.0)
    assert not backoff.is_contested(SECRET, now=301.0)
    backoff.repaired(SECRET, now=302.0)
    assert not backoff.is_contested(SECRET, now=302.0)


def test_old_repairs_are_forgotten() -> None:
    backoff = RepairBackoff(Timing())
    for number in range(3000):
        backoff.repaired(ObjectKey("shop", f"db-{number}"), now=float(number))
    assert len(backoff._repairs) < 1100


# --- timing


def test_the_leases_periods_must_grow() -> None:
    with pytest.raises(SettingsError, match="grow in this order"):
        Timing.from_text("lease_duration=5")
    assert Timing.from_text("resync=5,watch_idle=3.5") == Timing(resync=5, watch_idle=3.5)
