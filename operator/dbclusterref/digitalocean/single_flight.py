"""Single flight: callers that ask for what is already being read share that read's answer."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar, cast

V = TypeVar("V")


class SingleFlight:
    """The reads under way, by what they read."""

    def __init__(self) -> None:
        self._under_way: dict[tuple[str, ...], asyncio.Future[object]] = {}

    def count(self, kind: str) -> int:
        """Return how many reads of a kind, the first word of what they read, are under way."""
        return sum(what[0] == kind for what in self._under_way)

    async def do(self, what: tuple[str, ...], read: Callable[[], Awaitable[V]]) -> V:
        """Call `read` once for all callers that ask for the same meanwhile; they share its failure, too.

        A caller that is cancelled does not end the others' wait: one of them reads instead.
        """
        while (under_way := self._under_way.get(what)) is not None:
            await asyncio.wait([under_way])
            if not under_way.cancelled():
                return cast("V", under_way.result())
        future: asyncio.Future[object] = asyncio.get_running_loop().create_future()
        self._under_way[what] = future
        try:
            value = await read()
        except Exception as error:
            future.set_exception(error)
            # Without followers nobody else fetches it, and asyncio would log it.
            future.exception()
            raise
        else:
            future.set_result(value)
            return value
        finally:
            del self._under_way[what]
            # Without effect unless this caller was cancelled.
            future.cancel()
