"""Time and chance, handed to whatever needs them, so that a test can have its own."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Clock:
    """Time and chance: a monotonic clock in seconds, the time of day, and a number in [0, 1)."""

    monotonic: Callable[[], float]
    now: Callable[[], datetime]
    jitter: Callable[[], float]


def seconds_since_boot() -> float:
    """A monotonic clock that goes on while the machine is suspended, where there is one: a Lease runs out meanwhile."""
    return time.clock_gettime(_CLOCK)


def system_clock(jitter: Callable[[], float]) -> Clock:
    """The real clock."""
    return Clock(monotonic=seconds_since_boot, now=lambda: datetime.now().astimezone(), jitter=jitter)
