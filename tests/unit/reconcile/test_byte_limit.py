import asyncio

import pytest

from dbclusterref.reconcile.byte_limit import ByteLimit
from tests.support.fake_time import settle


class Work:
    """Holds bytes of a limit until it is told to end; `order` says who began when."""

    def __init__(self, limit: ByteLimit, order: list[str], name: str, size: int) -> None:
        self._end = asyncio.Event()
        self.task = asyncio.create_task(self._hold(limit, order, name, size))

    async def _hold(self, limit: ByteLimit, order: list[str], name: str, size: int) -> None:
        async with limit.holding(size):
            order.append(name)
            await self._end.wait()

    async def end(self) -> None:
        self._end.set()
        await self.task


async def test_work_waits_in_line_until_the_bytes_before_it_are_done() -> None:
    limit, order = ByteLimit(100, free=10), list[str]()
    first, second, third = (Work(limit, order, name, size) for name, size in (("a", 60), ("b", 50), ("c", 30)))
    await settle()
    assert order == ["a"], "c would fit, but b came before it"
    await first.end()
    await settle()
    assert order == ["a", "b", "c"]
    await second.end()
    await third.end()


async def test_what_is_small_never_waits_and_what_is_larger_than_the_limit_goes_alone() -> None:
    limit, order = ByteLimit(100, free=10), list[str]()
    huge, after, small = (Work(limit, order, name, size) for name, size in (("huge", 1000), ("after", 11), ("small", 10)))
    await settle()
    assert order == ["huge", "small"]
    await huge.end()
    await settle()
    assert order == ["huge", "small", "after"]
    await after.end()
    await small.end()


async def test_work_that_fails_or_is_cancelled_gives_its_bytes_back() -> None:
    limit, order = ByteLimit(100, free=10), list[str]()
    with pytest.raises(RuntimeError, match="no"):
        async with limit.holding(100):
            raise RuntimeError("no")
    running, waiting, last = (Work(limit, order, name, 80) for name in ("running", "waiting", "last"))
    await settle()
    waiting.task.cancel()
    await settle()
    running.task.cancel()
    await settle()
    assert order == ["running", "last"]
    await last.end()
    async with asyncio.timeout(1), limit.holding(100):
        pass


async def test_work_that_is_cancelled_in_the_moment_of_its_turn_gives_its_bytes_back() -> None:
    limit, order = ByteLimit(100, free=10), list[str]()
    waiting: Work | None = None
    async with limit.holding(80):
        waiting, last = (Work(limit, order, name, 80) for name in ("waiting", "last"))
        await settle()
    waiting.task.cancel()
    await settle()
    assert order == ["last"]
    await last.end()


async def test_work_that_is_cancelled_just_before_another_gives_back_is_cancelled() -> None:
    limit, order = ByteLimit(100, free=10), list[str]()
    async with limit.holding(80):
        waiting, last = (Work(limit, order, name, 80) for name in ("waiting", "last"))
        await settle()
        waiting.task.cancel()
    await settle()
    assert waiting.task.cancelled()
    assert order == ["last"]
    await last.end()


async def test_of_secrets_of_the_largest_size_one_is_worked_on_at_a_time() -> None:
    limit, order, largest = ByteLimit(), list[str](), 1024 * 1024
    first, second = (Work(limit, order, name, size) for name, size in (("a", largest), ("b", largest)))
    await settle()
    assert order == ["a"]
    await first.end()
    await second.end()
