"""Signs of life: how long each watch has been silent, and how late the event loop is."""

import asyncio
from collections.abc import Callable

LAG_PERIOD = 1.0
LAGGING = 10.0
"""Seconds by which the event loop may be late before the process reports itself unhealthy."""


class WatchSilence:
    """How long each watch has been silent. `clock` is monotonic, in seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._last_received: dict[str, float] = {}
        self._nothing_yet: set[str] = set()

    def expect(self, *watches: str) -> None:
        """Start over: these are the paths of the watches there are."""
        now = self._clock()
        self._last_received = dict.fromkeys(watches, now)
        self._nothing_yet = set(watches)

    def received(self, path: str) -> None:
        """Record that a watch received data: an event, or one of the bookmarks that come about once a minute."""
        self._last_received[path] = self._clock()
        self._nothing_yet.discard(path)

    @property
    def all_received(self) -> bool:
        """Return whether each watch has received data since the start."""
        return not self._nothing_yet

    def ages(self) -> dict[str, float]:
        """Return the seconds since each watch last received data."""
        now = self._clock()
        return {watch: now - at for watch, at in self._last_received.items()}

    def longest(self) -> float:
        """Return the seconds since the quietest watch last received data; 0 where there is no watch."""
        return max(self.ages().values(), default=0.0)


class LoopLag:
    """How late the event loop is. `clock` is monotonic, in seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self.seconds = 0.0

    async def measure(self) -> None:
        """Measure until cancelled."""
        while True:
            began = self._clock()
            await asyncio.sleep(LAG_PERIOD)
            self.seconds = max(0.0, self._clock() - began - LAG_PERIOD)

    def problems(self) -> list[str]:
        """Return what is wrong with the event loop, a sentence each."""
        return [f"the event loop is {self.seconds:.0f} s late"] if self.seconds > LAGGING else []
