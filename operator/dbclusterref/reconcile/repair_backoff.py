"""How often a Secret is repaired that another client keeps overwriting: a few times at once, then once a window.

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
    """Recent repairs, by Secret."""

    timing: Timing
    _repairs: dict[ObjectKey, deque[float]] = field(default_factory=dict)
    _contested: dict[ObjectKey, float] = field(default_factory=dict)

    def repaired(self, secret: ObjectKey, *, now: float) -> None:
        """Record a repair."""
        repairs = self._repairs.setdefault(secret, deque(maxlen=AT_ONCE))
        repairs.append(now)
        many = len(repairs) == AT_ONCE and now - repairs[0] <= self.timing.conflict_window
        if many or secret in self._contested:
            self._contested[secret] = now
        if len(self._repairs) > 2 * len(self._contested) + 1000:
            self._prune(now)

    def is_contested(self, secret: ObjectKey, *, now: float) -> bool:
        """Return whether repairs of a Secret are limited at the moment."""
        last = self._contested.get(secret)
        if last is not None and now - last > self.timing.conflict_calm:
            del self._contested[secret]
            self._repairs.pop(secret, None)
            return False
        return last is not None

    def seconds_to_wait(self, secret: ObjectKey, *, now: float) -> float:
        """Return how long to leave a Secret as it is before the next repair; 0 where repairs are not limited."""
        if not self.is_contested(secret, now=now):
            return 0.0
        return max(0.0, self._contested[secret] + self.timing.conflict_window - now)

    def seconds_until_over(self, secret: ObjectKey, *, now: float) -> float:
        """Return when the limit ends at the earliest."""
        return max(0.0, self._contested.get(secret, now) + self.timing.conflict_calm - now)

    def _prune(self, now: float) -> None:
        for secret in [key for key, repairs in self._repairs.items() if now - repairs[-1] > self.timing.conflict_calm]:
            self._repairs.pop(secret)
            self._contested.pop(secret, None)
