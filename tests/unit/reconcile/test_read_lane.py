import asyncio
from collections.abc import Callable

from dbclusterref.reconcile.read_lane import (
    OF_ALL,
    OF_ONE_NAMESPACE,
    OF_ONE_TOKEN,
    OF_ONE_TOKEN_IN_A_NAMESPACE,
    PendingRead,
    ReadLane,
)
from tests.support.fake_time import in_fake_time, settle


class Bench:
    """Reads that hang until their gate opens."""

    def __init__(self) -> None:
        self.lane = ReadLane(clock=asyncio.get_running_loop().time)
        self.gate = asyncio.Event()
        self.begun: list[tuple[str, str]] = []
        self.ended: list[tuple[str, str]] = []
        self.errors: list[BaseException | None] = []

    def read(self, namespace: str, token: str, *, gate: asyncio.Event | None = None, does: Callable[[], object] = int) -> None:
        async def run() -> None:
            self.begun.append((namespace, token))
            await (gate or self.gate).wait()
            does()

        def ended(error: BaseException | None) -> None:
            self.ended.append((namespace, token))
            self.errors.append(error)

        self.lane.start(PendingRead(namespace=namespace, token=token, run=run), ended=ended)


@in_fake_time
async def test_reads_of_one_token_in_a_namespace_leave_room_for_its_other_tokens() -> None:
    bench = Bench()
    for _ in range(50):
        bench.read("shop", "hangs")
    bench.read("shop", "works")
    await settle()
    assert bench.begun == [("shop", "hangs")] * OF_ONE_TOKEN_IN_A_NAMESPACE + [("shop", "works")]
    await bench.lane.stop()


@in_fake_time
async def test_a_namespace_of_many_hanging_tokens_leaves_room_for_the_others() -> None:
    bench = Bench()
    for number in range(60):
        bench.read("hostile", f"token-{number}")
    bench.read("shop", "mine")
    await settle()
    assert len(bench.begun) == OF_ONE_NAMESPACE + 1
    assert bench.begun[-1] == ("shop", "mine")
    await bench.lane.stop()


@in_fake_time
async def test_a_token_that_hangs_for_many_namespaces_leaves_room_for_the_others() -> None:
    bench = Bench()
    for number in range(60):
        bench.read(f"namespace-{number}", "shared")
    for number in range(60):
        bench.read(f"namespace-{number}", f"own-{number}")
    await settle()
    begun = [token for _, token in bench.begun]
    assert begun.count("shared") == OF_ONE_TOKEN
    assert len(begun) == OF_ONE_TOKEN + 60
    await bench.lane.stop()


@in_fake_time
async def test_there_is_a_bound_for_all() -> None:
    bench = Bench()
    for number in range(2 * OF_ALL):
        bench.read(f"namespace-{number}", f"token-{number}")
    await settle()
    assert len(bench.begun) == OF_ALL
    bench.gate.set()
    await settle()
    assert len(bench.ended) == 2 * OF_ALL
    await bench.lane.stop()


@in_fake_time
async def test_every_read_that_waited_is_made_in_the_order_of_its_coming() -> None:
    bench = Bench()
    for number in range(100):
        bench.read("shop", f"token-{number}")
    bench.gate.set()
    for _ in range(10):
        await settle()
    assert bench.ended == [("shop", f"token-{number}") for number in range(100)]
    assert bench.lane.longest() == 0
    again = asyncio.Event()
    for number in range(OF_ONE_NAMESPACE):
        bench.read("shop", f"token-{number}", gate=again)
    await settle()
    assert len(bench.begun) == 100 + OF_ONE_NAMESPACE, "every slot was given back"
    await bench.lane.stop()


@in_fake_time
async def test_what_a_read_raised_is_handed_on_and_costs_no_slot() -> None:
    bench = Bench()
    bench.gate.set()

    def fails() -> None:
        raise ValueError

    for _ in range(20):
        bench.read("shop", "broken", does=fails)
    bench.read("shop", "broken")
    for _ in range(5):
        await settle()
    assert [type(error) for error in bench.errors] == [ValueError] * 20 + [type(None)]
    await bench.lane.stop()


@in_fake_time
async def test_a_read_that_is_cancelled_from_elsewhere_has_ended_and_one_that_is_stopped_has_not() -> None:
    bench = Bench()
    before = asyncio.all_tasks()
    bench.read("shop", "cancelled")
    await settle()
    (read,) = asyncio.all_tasks() - before
    read.cancel()
    await settle()
    assert [type(error) for error in bench.errors] == [asyncio.CancelledError]
    bench.read("shop", "stopped")
    await settle()
    await bench.lane.stop()
    assert len(bench.errors) == 1


@in_fake_time
async def test_the_age_of_the_oldest_read_is_known_and_stopping_ends_all() -> None:
    bench = Bench()
    bench.read("shop", "hangs")
    await asyncio.sleep(40)
    bench.read("shop", "hangs")
    assert bench.lane.longest() == 40
    for _ in range(20):
        bench.read("shop", "hangs")
    await settle()
    await bench.lane.stop()
    await settle()
    assert bench.lane.longest() == 0
    assert len(bench.begun) == OF_ONE_TOKEN_IN_A_NAMESPACE, "what waited is not begun by the end of another"
