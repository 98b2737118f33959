"""Signs of life: when each watch was last heard of, and how late the event loop is."""

import asyncio
from collections.abc import Callable

LAG_PERIOD = 1.0
LAGGING = 10.0
"""Seconds by which the event loop may be late before the process calls itself unhealthy."""


class Pulse:
    """What is alive. `clock` is monotonic, in seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._heard: dict[str, float] = {}
        self._unheard: set[str] = set()
        self.lag = 0.0

    def hear(self, path: str) -> None:
        """Takes note of a piece of a watch: an event, or one of the bookmarks that come about once a minute.

        The path may have a prefix of the server's before the watch's own.
        """
        for watch in self._heard:
            if path.endswith(watch):
                self._heard[watch] = self._clock()
                self._unheard.discard(watch)

    def expect(self, *watches: str) -> None:
        """Starts anew: these are the watches there are."""
        now = self._clock()
        self._heard = dict.fromkeys(watches, now)
        self._unheard = set(watches)

    @property
    def all_heard(self) -> bool:
        """Tells whether each watch was heard of since the start."""
        return not self._unheard

    def ages(self) -> dict[str, float]:
        """Seconds since each watch was last heard of."""
        now = self._clock()
        return {watch: now - heard for watch, heard in self._heard.items()}

    def oldest(self) -> float:
        """The age of the watch that has been silent for longest; 0 where there is none."""
        return max(self.ages().values(), default=0.0)

    async def measure_lag(self) -> None:
        """Measures for ever by how much the event loop is late."""
        while True:
            began = self._clock()
            await asyncio.sleep(LAG_PERIOD)
            self.lag = max(0.0, self._clock() - began - LAG_PERIOD)

    def problems(self) -> list[str]:
        """What is wrong with the event loop, a sentence each."""
        return [f"the event loop is {self.lag:.0f} s late"] if self.lag > LAGGING else []
