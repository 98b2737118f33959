"""Workers: take what is due from the queue and have it reconciled, one resource never twice at the same time.

No worker waits for DigitalOcean: a read that a reconciliation asks for runs in the lane of the reads, and its end marks the
resource again.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable
from functools import partial
from typing import Protocol

from dbclusterref.backoff import BACKOFF_CAP, after_trouble
from dbclusterref.errors import KubernetesError
from dbclusterref.metrics import Metrics
from dbclusterref.reconcile.read_lane import PendingRead, ReadLane
from dbclusterref.reconcile.reconciler import NextStep
from dbclusterref.reconcile.workqueue import WorkQueue
from dbclusterref.resource.objects import ObjectKey
from dbclusterref.supervisor import Supervisor

AFTER_BUG = 30.0
"""Seconds until a resource whose reconciliation ended in a bug is tried again."""
STUCK_AFTER = 120.0
"""Seconds by which the most overdue work may be late before the process calls itself unhealthy."""
HANGS_AFTER = 300.0
"""Seconds one reconciliation or one read may take at most: all of its calls running into their time-outs take less."""


class Reconciles(Protocol):
    """What the workers do."""

    async def reconcile(self, key: ObjectKey) -> NextStep: ...  # noqa: D102


class Controller:
    """Runs `workers` reconciliations side by side while `may_work` allows it. `clock` is monotonic, in seconds."""

    def __init__(
        self,
        reconciler: Reconciles,
        *,
        workers: int,
        clock: Callable[[], float],
        may_work: Callable[[], bool],
        metrics: Metrics,
        supervisor: Supervisor,
        logger: logging.Logger,
    ) -> None:
        self._reconciler = reconciler
        self._workers = workers
        self._clock = clock
        self._may_work = may_work
        self._metrics = metrics
        self._supervisor = supervisor
        self._logger = logger
        self._queue: WorkQueue[ObjectKey] = WorkQueue(group=lambda key: key.namespace)
        self._lane = ReadLane(clock=clock)
        self._reading: set[ObjectKey] = set()
        self._changed = asyncio.Event()
        self._turn = asyncio.Lock()
        self._stopping = False
        self._tasks: list[asyncio.Task[None]] = []
        self._began: dict[ObjectKey, float] = {}
        self._api_failures: dict[ObjectKey, int] = {}
        self._api_failure_is_logged = False
        self._unvisited: set[ObjectKey] | None = None
        self._visited_early: set[ObjectKey] = set()

    @property
    def is_busy(self) -> bool:
        """Return whether resources wait for a worker."""
        return len(self._queue) > 0

    def expect(self, keys: Iterable[ObjectKey]) -> None:
        """Name the resources whose first reconciliations make the first pass."""
        if self._unvisited is None:
            # The workers begin with the listing's first page; what they did before its last one counts as well.
            self._unvisited = set(keys) - self._visited_early
            self._visited_early.clear()

    @property
    def first_pass_is_done(self) -> bool:
        """Return whether each of the expected resources was brought in line at least once, as far as it can be, or is gone."""
        return self._unvisited is not None and not self._unvisited

    def mark(self, key: ObjectKey, *, urgent: bool = False) -> None:
        """Have a resource reconciled now."""
        self._queue.mark(key, urgent=urgent)
        self._changed.set()

    def forget(self, key: ObjectKey) -> None:
        """Drop a resource that is gone."""
        self._queue.forget(key)
        self._api_failures.pop(key, None)
        (self._unvisited or set()).discard(key)

    def wake(self) -> None:
        """Have the workers look again: whether they may work has changed."""
        self._changed.set()

    def start(self) -> None:
        """Start the workers."""
        self._tasks = [self._supervisor.start(f"worker-{i}", self._work()) for i in range(self._workers)]

    async def stop(self, *, grace: float) -> None:
        """Take no more work; writes under way have `grace` seconds to end, reads end at once."""
        self._stopping = True
        await self._lane.stop()
        self._changed.set()
        if not self._tasks:
            return
        await asyncio.wait(self._tasks, timeout=grace)
        await self._supervisor.end(*self._tasks)

    def problems(self) -> list[str]:
        """Return what is wrong with the workers, the reads or the queue, a sentence each."""
        now = self._clock()
        hanging = {key: now - began for key, began in self._began.items() if now - began > HANGS_AFTER}
        found = [f"{key} has been worked on for {seconds:.0f} s" for key, seconds in hanging.items()]
        if (seconds := self._lane.longest()) > HANGS_AFTER:
            found.append(f"a read has been under way for {seconds:.0f} s")
        late = self._queue.oldest_overdue(now)
        if self._may_work() and late > STUCK_AFTER:
            found.append(f"the most overdue resource is {late:.0f} s late")
        return found

    def measure(self) -> None:
        """Bring the queue's gauges up to date."""
        self._metrics.queue_length.set(len(self._queue))
        self._metrics.queue_overdue_seconds.set(self._queue.oldest_overdue(self._clock()))

    async def _work(self) -> None:
        while (key := await self._next()) is not None:
            step = NextStep()
            self._began[key] = self._clock()
            try:
                with self._metrics.reconcile_seconds.time():
                    step = await self._reconciler.reconcile(key)
                if step.read is None:  # a read may meet the same trouble: it looks up the token there
                    self._api_failures.pop(key, None)
                    self._api_failure_is_logged = False
            except Exception as error:  # noqa: BLE001 - the one place: a bug costs one resource a while, never the queue
                step = NextStep(after=self._after(key, error))
            finally:
                del self._began[key]
                self._queue.done(key)
            if step.read:
                self._read(key, step.read)
            if step.after is not None:
                self._queue.schedule(key, at=self._clock() + step.after)
            if key not in self._reading:
                self._visit(key)
            # Also without a deadline: the key may have been marked meanwhile, and the worker that waits did not see that.
            self._changed.set()

    def _visit(self, key: ObjectKey) -> None:
        if self._unvisited is None:
            self._visited_early.add(key)
        else:
            self._unvisited.discard(key)

    def _read(self, key: ObjectKey, read: PendingRead) -> None:
        self._reading.add(key)
        self._lane.start(read, ended=partial(self._has_read, key, urgent=read.urgent))

    def _has_read(self, key: ObjectKey, error: BaseException | None, *, urgent: bool) -> None:
        self._reading.discard(key)
        if error is None:
            self.mark(key, urgent=urgent)
        else:
            self._queue.schedule(key, at=self._clock() + self._after(key, error))
            self._visit(key)  # each further try begins with a read, too: a Secret that cannot be decrypted is enough
            self._changed.set()

    def _after(self, key: ObjectKey, error: BaseException) -> float:
        """Return in how many seconds to try again; what is no trouble of the API server's is a bug."""
        if isinstance(error, KubernetesError):
            return self._after_api_failure(key, error)
        self._supervisor.report(str(key), error)
        return AFTER_BUG

    async def _next(self) -> ObjectKey | None:
        # One worker at a time waits for a change; the others stand in line, so that a change wakes one and not all.
        async with self._turn:
            while not self._stopping:
                now = self._clock()
                if self._may_work() and (key := self._queue.take(now)) is not None:
                    return key
                self._changed.clear()
                deadline = self._queue.next_deadline() if self._may_work() else None
                try:
                    async with asyncio.timeout(max(0.0, deadline - now) if deadline is not None else None):
                        await self._changed.wait()
                except TimeoutError:
                    pass
        return None

    def _after_api_failure(self, key: ObjectKey, error: KubernetesError) -> float:
        failures = self._api_failures[key] = self._api_failures.get(key, 0) + 1
        if error.namespace_is_terminating:
            return BACKOFF_CAP
        # An API server that is down is logged once, not for each resource and try.
        level = logging.DEBUG if self._api_failure_is_logged else logging.WARNING
        self._api_failure_is_logged = True
        self._logger.log(level, "%s: %s Retrying.", key, error.message)
        return max(after_trouble(failures), error.retry_after or 0.0)
