"""RepairBackoff over a Secret with another writer: repaired at once a handful of times, then only now and then.

Pure: the clock is an argument, in seconds on any one monotonic clock.
"""

from collections import deque
from dataclasses import dataclass, field

from dbclusterref.resource.objects import ObjectKey
from dbclusterref.timing import Timing

AT_ONCE = 5
"""Repairs of one Secret within the window that are made without delay."""


@dataclass(slots=True)
class RepairBackoff:
    """The repairs of late, by Secret."""

    timing: Timing
    _repairs: dict[ObjectKey, deque[float]] = field(default_factory=dict)
    _fighting: dict[ObjectKey, float] = field(default_factory=dict)

    def repaired(self, secret: ObjectKey, *, now: float) -> None:
        """Takes note of a repair."""
        repairs = self._repairs.setdefault(secret, deque(maxlen=AT_ONCE))
        repairs.append(now)
        if (len(repairs) == AT_ONCE and now - repairs[0] <= self.timing.fight_window) or secret in self._fighting:
            self._fighting[secret] = now
        if len(self._repairs) > 2 * len(self._fighting) + 1000:
            self._prune(now)

    def is_contested(self, secret: ObjectKey, *, now: float) -> bool:
        """Tells whether a Secret is fought over."""
        last = self._fighting.get(secret)
        if last is not None and now - last > self.timing.fight_calm:
            del self._fighting[secret]
            self._repairs.pop(secret, None)
            return False
        return last is not None

    def seconds_to_wait(self, secret: ObjectKey, *, now: float) -> float:
        """How long to leave a Secret as it is before the next repair; 0 where nobody fights."""
        if not self.is_contested(secret, now=now):
            return 0.0
        return max(0.0, self._fighting[secret] + self.timing.fight_window - now)

    def seconds_until_over(self, secret: ObjectKey, *, now: float) -> float:
        """When a fight can be declared over at the earliest."""
        return max(0.0, self._fighting.get(secret, now) + self.timing.fight_calm - now)

    def _prune(self, now: float) -> None:
        for secret in [key for key, repairs in self._repairs.items() if now - repairs[-1] > self.timing.fight_calm]:
            self._repairs.pop(secret)
            self._fighting.pop(secret, None)
