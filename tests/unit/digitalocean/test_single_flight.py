import asyncio

import pytest

from dbclusterref.digitalocean.single_flight import SingleFlight
from tests.support.fake_time import settle

WHAT = ("cluster", "a")


class Reads:
    """A read that ends when it is told to, and counts its calls."""

    def __init__(self) -> None:
        self.calls = 0
        self.gate = asyncio.Event()
        self.error: Exception | None = None

    async def __call__(self) -> int:
        self.calls += 1
        number = self.calls
        await self.gate.wait()
        if self.error:
            raise self.error
        return number


async def test_callers_meanwhile_share_one_read_and_later_ones_do_not() -> None:
    flight, read = SingleFlight(), Reads()
    many = [asyncio.create_task(flight.do(WHAT, read)) for _ in range(5)]
    await settle()
    assert (flight.count("cluster"), flight.count("ca")) == (1, 0)
    read.gate.set()
    assert await asyncio.gather(*many) == [1] * 5
    assert flight.count("cluster") == 0
    assert await flight.do(WHAT, read) == 2


async def test_what_is_different_is_read_separately() -> None:
    flight, read = SingleFlight(), Reads()
    read.gate.set()
    assert list(await asyncio.gather(flight.do(WHAT, read), flight.do(("cluster", "b"), read))) == [1, 2]


async def test_a_failure_is_shared_and_not_kept() -> None:
    flight, read = SingleFlight(), Reads()
    read.error = KeyError("x")
    many = [asyncio.create_task(flight.do(WHAT, read)) for _ in range(3)]
    await settle()
    read.gate.set()
    assert [type(error) for error in await asyncio.gather(*many, return_exceptions=True)] == [KeyError] * 3
    read.error = None
    assert await flight.do(WHAT, read) == 2


async def test_when_the_reading_caller_is_cancelled_one_of_the_others_reads() -> None:
    flight, read = SingleFlight(), Reads()
    first, *others = [asyncio.create_task(flight.do(WHAT, read)) for _ in range(3)]
    await settle()
    first.cancel()
    await settle()
    assert read.calls == 2
    read.gate.set()
    assert await asyncio.gather(*others) == [2, 2]
    with pytest.raises(asyncio.CancelledError):
        await first


async def test_a_sharing_caller_that_is_cancelled_ends_alone() -> None:
    flight, read = SingleFlight(), Reads()
    first, second, third = [asyncio.create_task(flight.do(WHAT, read)) for _ in range(3)]
    await settle()
    second.cancel()
    await settle()
    assert second.cancelled()
    read.gate.set()
    assert (await first, await third, read.calls) == (1, 1, 1)
