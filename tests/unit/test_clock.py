import random
from datetime import UTC, datetime, timedelta

from dbclusterref.clock import seconds_since_boot, system_clock


def test_the_monotonic_clock_does_not_go_back() -> None:
    times = [seconds_since_boot() for _ in range(100)]
    assert times == sorted(times)
    assert times[0] > 0


def test_the_time_of_day_has_a_zone_and_is_now() -> None:
    now = system_clock(random.random).now()
    assert now.tzinfo is not None
    assert abs(now - datetime.now(tz=UTC)) < timedelta(minutes=1)


def test_chance_is_the_one_that_was_given() -> None:
    assert system_clock(lambda: 0.25).jitter() == 0.25
