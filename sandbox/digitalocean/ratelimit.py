"""The provider's two limits per token, in a sliding hour and a sliding minute. The clock is an argument."""

import math
from collections import deque
from dataclasses import dataclass

HOUR = 3600.0
MINUTE = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Requests allowed; the defaults are the provider's."""

    per_hour: int = 5000
    per_minute: int = 250


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What the limiter said to one request, and the headers every reply to it carries."""

    allowed: bool
    limit: int
    remaining: int
    reset: int
    """Unix epoch: when the oldest request of the hour expires."""
    retry_after: int | None = None
    """Seconds; given when the minute is full, not when the hour is."""

    @property
    def headers(self) -> dict[str, str]:
        """The reply's headers."""
        found = {
            "ratelimit-limit": str(self.limit),
            "ratelimit-remaining": str(self.remaining),
            "ratelimit-reset": str(self.reset),
        }
        if self.retry_after is not None:
            found["retry-after"] = str(self.retry_after)
        return found


class RateLimiter:
    """One token's requests of the last hour.

    A refused request uses nothing up: it was not made, as far as the provider's description goes.
    """

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._hour: deque[float] = deque()
        self._minute: deque[float] = deque()

    def admit(self, *, now: float) -> Verdict:
        """Count a request at `now` (Unix epoch, seconds), or refuse it."""
        self._expire(now)
        if len(self._hour) >= self.limits.per_hour:
            return self._verdict(now, allowed=False, remaining=0)
        if len(self._minute) >= self.limits.per_minute:
            free_at = (self._minute[0] if self._minute else now) + MINUTE
            return self._verdict(now, allowed=False, remaining=0, retry_after=max(1, math.ceil(free_at - now)))
        self._hour.append(now)
        self._minute.append(now)
        return self._verdict(now, allowed=True, remaining=self.limits.per_hour - len(self._hour))

    def _expire(self, now: float) -> None:
        for times, window in ((self._hour, HOUR), (self._minute, MINUTE)):
            while times and times[0] + window <= now:
                times.popleft()

    def _verdict(self, now: float, *, allowed: bool, remaining: int, retry_after: int | None = None) -> Verdict:
        oldest = self._hour[0] if self._hour else now
        return Verdict(
            allowed=allowed,
            limit=self.limits.per_hour,
            remaining=remaining,
            reset=math.ceil(oldest + HOUR),
            retry_after=retry_after,
        )
