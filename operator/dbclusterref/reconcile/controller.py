"""Workers: take what is due from the queue and have it reconciled, one resource never twice at the same time."""

import asyncio
import logging
from collections.abc import Callable, Iterable
from typing import Protocol

from dbclusterref.backoff import BACKOFF_CAP, after_trouble
from dbclusterref.errors import KubernetesError
from dbclusterref.metrics import Metrics
from dbclusterref.reconcile.workqueue import WorkQueue
from dbclusterref.resource.objects import ObjectKey
from dbclusterref.supervisor import Supervisor

AFTER_BUG = 30.0
"""Seconds until a resource whose reconciliation ended in a bug is tried again."""
STUCK_AFTER = 120.0
"""Seconds by which the most overdue work may be late before the process calls itself unhealthy."""
HANGS_AFTER = 300.0
"""Seconds one reconciliation may take at the very most: all of its calls running into their time-outs take less."""


class Reconciles(Protocol):
    """What the workers do."""

    async def reconcile(self, key: ObjectKey) -> float | None: ...  # noqa: D102


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
        self._queue: WorkQueue[ObjectKey] = WorkQueue()
        self._news = asyncio.Event()
        self._turn = asyncio.Lock()
        self._stopping = False
        self._tasks: list[asyncio.Task[None]] = []
        self._began: dict[ObjectKey, float] = {}
        self._troubles: dict[ObjectKey, int] = {}
        self._trouble_is_known = False
        self._unvisited: set[ObjectKey] | None = None

    @property
    def is_busy(self) -> bool:
        """Tells whether resources wait for a worker."""
        return len(self._queue) > 0

    def expect(self, keys: Iterable[ObjectKey]) -> None:
        """Names the resources whose first reconciliations make the first pass."""
        if self._unvisited is None:
            self._unvisited = set(keys)

    @property
    def first_pass_is_done(self) -> bool:
        """Tells whether each of the expected resources was worked on at least once, or is gone."""
        return self._unvisited is not None and not self._unvisited

    def mark(self, key: ObjectKey, *, urgent: bool = False) -> None:
        """Says that a resource wants work now."""
        self._queue.mark(key, urgent=urgent)
        self._news.set()

    def forget(self, key: ObjectKey) -> None:
        """Drops a resource that is gone."""
        self._queue.forget(key)
        self._troubles.pop(key, None)
        (self._unvisited or set()).discard(key)

    def wake(self) -> None:
        """Has the workers look again: whether they may work has changed."""
        self._news.set()

    def start(self) -> None:
        """Starts the workers."""
        self._tasks = [self._supervisor.start(f"worker-{i}", self._work()) for i in range(self._workers)]

    async def stop(self, *, grace: float) -> None:
        """Takes no more work; what is under way has `grace` seconds to end."""
        self._stopping = True
        self._news.set()
        if not self._tasks:
            return
        await asyncio.wait(self._tasks, timeout=grace)
        await self._supervisor.end(*self._tasks)

    def problems(self) -> list[str]:
        """What is wrong with the workers or the queue, a sentence each."""
        now = self._clock()
        hanging = {key: now - began for key, began in self._began.items() if now - began > HANGS_AFTER}
        found = [f"{key} has been worked on for {seconds:.0f} s" for key, seconds in hanging.items()]
        late = self._queue.oldest_overdue(now)
        if self._may_work() and late > STUCK_AFTER:
            found.append(f"the most overdue resource is {late:.0f} s late")
        return found

    def measure(self) -> None:
        """Brings the queue's gauges up to date."""
        self._metrics.queue_length.set(len(self._queue))
        self._metrics.queue_overdue_seconds.set(self._queue.oldest_overdue(self._clock()))

    async def _work(self) -> None:
        while (key := await self._next()) is not None:
            delay: float | None = AFTER_BUG
            self._began[key] = self._clock()
            try:
                with self._metrics.reconcile_seconds.time():
                    delay = await self._reconciler.reconcile(key)
                self._troubles.pop(key, None)
                self._trouble_is_known = False
            except KubernetesError as error:
                delay = self._after_trouble(key, error)
            except Exception as error:  # noqa: BLE001 - the one place: a bug costs one resource a while, never the queue
                self._supervisor.report(str(key), error)
            finally:
                del self._began[key]
                self._queue.done(key)
                (self._unvisited or set()).discard(key)
            if delay is not None:
                self._queue.schedule(key, at=self._clock() + delay)
            # Also without a deadline: the key may have been marked meanwhile, and whoever waits for news saw nothing in that.
            self._news.set()

    async def _next(self) -> ObjectKey | None:
        # One worker at a time waits for news; the others stand in line, so that news wake one and not all.
        async with self._turn:
            while not self._stopping:
                now = self._clock()
                if self._may_work() and (key := self._queue.take(now)) is not None:
                    return key
                self._news.clear()
                deadline = self._queue.next_deadline() if self._may_work() else None
                try:
                    async with asyncio.timeout(max(0.0, deadline - now) if deadline is not None else None):
                        await self._news.wait()
                except TimeoutError:
                    pass
        return None

    def _after_trouble(self, key: ObjectKey, error: KubernetesError) -> float:
        failures = self._troubles[key] = self._troubles.get(key, 0) + 1
        if error.namespace_is_terminating:
            return BACKOFF_CAP
        # An API server that is down is one piece of news, not one for each resource and try.
        level = logging.DEBUG if self._trouble_is_known else logging.WARNING
        self._trouble_is_known = True
        self._logger.log(level, "%s: %s Trying again until it works.", key, error.message)
        return max(after_trouble(failures), error.retry_after or 0.0)
