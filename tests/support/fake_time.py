"""Time that is only a number: clocks that stand still until moved, and an event loop where sleeping costs nothing."""

import asyncio
import functools
import selectors
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime, timedelta
from typing import Any, ParamSpec

from dbclusterref.clock import Clock

P = ParamSpec("P")

START = 1_000_000.0
"""A machine that has been up for eleven days, longer than any interval: `now + since` does not pass for `now - since`."""


class FakeClock:
    """A monotonic clock in seconds, and the time of day, which may jump besides; both stand still until they are moved."""

    def __init__(self) -> None:
        self.seconds = START
        self.jumped = timedelta()

    def __call__(self) -> float:
        return self.seconds

    def now(self) -> datetime:
        return datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=self() - START) + self.jumped

    def advance(self, seconds: float) -> None:
        self.seconds += seconds


def a_clock(clock: FakeClock, *, chance: float = 0.0) -> Clock:
    """The same clock as the operator's parts take it, with a chance that is always the same."""
    return Clock(monotonic=clock, now=clock.now, jitter=lambda: chance)


class LoopClock(FakeClock):
    """The clock of `in_fake_time`: it moves as the loop sleeps."""

    def __call__(self) -> float:
        return asyncio.get_running_loop().time()


class _JumpingSelector(selectors.DefaultSelector):
    elapsed = START
    each_turn: Callable[[], object] = staticmethod(lambda: None)

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        self.each_turn()
        ready = super().select(0)
        if not ready:
            assert timeout is not None, "everything waits and no timer is set"
            self.elapsed += timeout
        return ready


class FakeTimeLoop(asyncio.SelectorEventLoop):
    """An event loop whose time jumps to the next timer instead of passing."""

    def __init__(self) -> None:
        self._jumping = _JumpingSelector()
        super().__init__(self._jumping)

    def time(self) -> float:
        return self._jumping.elapsed

    def at_each_turn(self, look: Callable[[], object]) -> None:
        """Calls it at each of the loop's turns: whatever happens, happens between two of them. It must not raise."""
        self._jumping.each_turn = look

    def pass_at_once(self, seconds: float) -> None:
        """Time passes while nothing runs: a machine that was suspended, a process that was frozen."""
        self._jumping.elapsed += seconds


def in_fake_time(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """Runs an asynchronous test where sleeping costs nothing and `loop.time()` is the clock of everything."""

    @functools.wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        with asyncio.Runner(loop_factory=FakeTimeLoop) as runner:
            runner.run(test(*args, **kwargs))

    return run


async def settle() -> None:
    """Lets everything run that can run without time passing."""
    for _ in range(20):
        await asyncio.sleep(0)
