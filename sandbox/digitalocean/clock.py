"""The clock the rate limits are kept by. It follows a real one until it is told otherwise."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(slots=True, kw_only=True)
class SimulatedClock:
    """Seconds since the Unix epoch: the source's, run at `speed` from an anchor. Speed 0 holds it still."""

    source: Callable[[], float]
    speed: float = 1.0
    _source_at_anchor: float = 0.0
    _time_at_anchor: float = 0.0

    def now(self) -> float:
        """The simulated time."""
        return self._time_at_anchor + (self.source() - self._source_at_anchor) * self.speed

    def set(self, *, now: float | None = None, speed: float | None = None, advance: float = 0.0) -> float:
        """Move the clock to `now` (or leave it), then `advance` seconds on; returns the time it then shows."""
        moved = (self.now() if now is None else now) + advance
        self._source_at_anchor = self.source()
        self._time_at_anchor = moved
        if speed is not None:
            self.speed = speed
        return moved
