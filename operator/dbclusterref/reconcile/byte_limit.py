"""Bounds the bytes that are worked on side by side: a Secret costs seven times its size while it is written."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

LARGE_AT_ONCE = 1024 * 1024
"""Bytes of the large Secrets that are rendered, compared and written at the same time."""
SMALL = 32 * 1024
"""Bytes of a Secret that is not large: one for each worker is no trouble."""


class ByteLimit:
    """Lets work begin, in the order in which it came, while all that is under way has at most `limit` bytes.

    What is larger than the limit goes alone. What has no more than `free` bytes neither waits nor counts.
    """

    def __init__(self, limit: int = LARGE_AT_ONCE, *, free: int = SMALL) -> None:
        self._limit = limit
        self._free = free
        self._taken = 0
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    @asynccontextmanager
    async def holding(self, size: int) -> AsyncIterator[None]:
        """Hold `size` bytes of the limit."""
        if size <= self._free:
            yield
            return
        size = min(size, self._limit)
        await self._take(size)
        try:
            yield
        finally:
            self._give_back(size)

    async def _take(self, size: int) -> None:
        if not self._waiting and self._taken + size <= self._limit:
            self._taken += size
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        place = (size, turn)
        self._waiting.append(place)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._give_back(size)
            else:
                # A release after the cancellation may have skipped this place and removed it.
                if place in self._waiting:
                    self._waiting.remove(place)
                self._let_in()
            raise

    def _give_back(self, size: int) -> None:
        self._taken -= size
        self._let_in()

    def _let_in(self) -> None:
        while self._waiting and self._taken + self._waiting[0][0] <= self._limit:
            size, turn = self._waiting.popleft()
            if not turn.done():
                self._taken += size
                turn.set_result(None)
