"""Single flight: who asks for what is being read already gets that read's answer."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar, cast

V = TypeVar("V")


class SingleFlight:
    """The reads under way, by what they read."""

    def __init__(self) -> None:
        self._under_way: dict[tuple[str, ...], asyncio.Future[object]] = {}

    def count(self, kind: str) -> int:
        """How many reads of a kind, the first word of what they read, are under way."""
        return sum(what[0] == kind for what in self._under_way)

    async def do(self, what: tuple[str, ...], read: Callable[[], Awaitable[V]]) -> V:
        """Has `read` done once for all who ask for the same meanwhile; they do its failure, too."""
        under_way = self._under_way.get(what)
        if under_way is not None:
            return cast("V", await asyncio.shield(under_way))
        future: asyncio.Future[object] = asyncio.get_running_loop().create_future()
        self._under_way[what] = future
        try:
            value = await read()
        except BaseException as error:
            # Whoever shares the read shares its end; nobody may be there to see it.
            future.set_exception(error if isinstance(error, Exception) else asyncio.CancelledError())
            future.exception()
            raise
        else:
            future.set_result(value)
            return value
        finally:
            del self._under_way[what]
