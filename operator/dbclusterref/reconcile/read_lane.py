"""The lane of the reads: beside the workers and bounded for each token and namespace, so that a slow upstream delays no other.

A read takes a slot at each gate in turn: of its namespace's reads with this token, of its namespace, of its token, of all. The
narrow ones come first: what waits for a token that hangs holds a few slots of its own namespace, and none of another's.
"""

import asyncio
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass, field

OF_ONE_TOKEN_IN_A_NAMESPACE = 12
"""More than `poller.BREAK_EVEN`: that many single reads at once are what makes an account read pages instead."""
OF_ONE_NAMESPACE = 24
OF_ONE_TOKEN = 24
OF_ALL = 192
"""Reads under way at the same time. A connection that hangs costs some 60 KB."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PendingRead:
    """One read. `token` names a token, and is not the token itself; `urgent` where somebody waits for the answer."""

    namespace: str
    token: Hashable
    run: Callable[[], Awaitable[None]] = field(repr=False)
    urgent: bool = False


@dataclass(frozen=True, slots=True)
class _Job:
    read: PendingRead
    ended: Callable[[BaseException | None], object]

    def slots(self) -> tuple[Hashable, ...]:
        """Return which slot it takes at each gate."""
        namespace, token = self.read.namespace, self.read.token
        return ((namespace, token), namespace, token, None)


@dataclass(slots=True)
class _Gate:
    """Slots by key; jobs that found none wait in line for that key."""

    limit: int
    taken: Counter[Hashable] = field(default_factory=Counter)
    waiting: dict[Hashable, deque[_Job]] = field(default_factory=dict)

    def enter(self, job: _Job, key: Hashable) -> bool:
        """Take a slot; where there is none, have the job wait and return False."""
        if self.taken[key] < self.limit:
            self.taken[key] += 1
            return True
        self.waiting.setdefault(key, deque()).append(job)
        return False

    def leave(self, key: Hashable) -> _Job | None:
        """Give a slot back; return the job that has it now, if one waited."""
        if line := self.waiting.get(key):
            job = line.popleft()
            if not line:
                del self.waiting[key]
            return job
        self.taken[key] -= 1
        if not self.taken[key]:
            del self.taken[key]
        return None


class ReadLane:
    """Runs reads. `clock` is monotonic, in seconds."""

    def __init__(self, *, clock: Callable[[], float]) -> None:
        self._now = clock
        self._gates = [_Gate(OF_ONE_TOKEN_IN_A_NAMESPACE), _Gate(OF_ONE_NAMESPACE), _Gate(OF_ONE_TOKEN), _Gate(OF_ALL)]
        self._under_way: dict[asyncio.Task[None], float] = {}
        self._stopped = False

    def start(self, read: PendingRead, *, ended: Callable[[BaseException | None], object]) -> None:
        """Run a read as soon as its bounds allow; `ended` is called with what it raised, unless the lane was stopped."""
        self._pass_gates(_Job(read, ended), first=0)

    def longest(self) -> float:
        """Return for how many seconds the oldest read under way has lasted; 0 where there is none."""
        return self._now() - min(self._under_way.values(), default=self._now())

    async def stop(self) -> None:
        """Cancel every read."""
        self._stopped = True
        for gate in self._gates:
            gate.waiting.clear()
        for task in (tasks := list(self._under_way)):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _pass_gates(self, job: _Job, *, first: int) -> None:
        slots = job.slots()
        for number in range(first, len(self._gates)):
            if not self._gates[number].enter(job, slots[number]):
                return
        task = asyncio.create_task(self._run(job))
        self._under_way[task] = self._now()
        task.add_done_callback(self._under_way.pop)

    async def _run(self, job: _Job) -> None:
        error: BaseException | None = None
        try:
            await job.read.run()
        except (Exception, asyncio.CancelledError) as raised:
            if self._stopped:
                raise
            # A cancellation from elsewhere, too: a resource whose read has no end is never read again.
            error = raised
        finally:
            self._leave(job)
        job.ended(error)

    def _leave(self, job: _Job) -> None:
        for number, slot in reversed(list(enumerate(job.slots()))):
            if following := self._gates[number].leave(slot):
                self._pass_gates(following, first=number + 1)
