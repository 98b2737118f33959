"""Long-lived tasks: one that ends unexpectedly is logged once, counted, and ends the process. Never silently lost."""

import asyncio
import logging
import traceback
from collections.abc import Callable, Coroutine
from typing import Any

from dbclusterref.metrics import Metrics


class Supervisor:
    """Starts the tasks that must run as long as the process does.

    `on_failure` is called when one of them ends although nobody ended it, whether by an exception, by a cancellation from
    elsewhere, or by returning.
    """

    def __init__(self, *, metrics: Metrics, logger: logging.Logger, on_failure: Callable[[], None] = lambda: None) -> None:
        self._metrics = metrics
        self._logger = logger
        self._on_failure = on_failure
        self._running: set[asyncio.Task[None]] = set()
        self._failed: list[str] = []
        self._ending = False

    def start(self, name: str, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Start a task; it is supervised until `end` or `end_all`."""
        task = asyncio.create_task(work, name=name)
        self._running.add(task)
        task.add_done_callback(self._has_ended)
        return task

    def expect_end(self) -> None:
        """From now on the process is stopping: tasks may return."""
        self._ending = True

    async def end(self, *tasks: asyncio.Task[None]) -> None:
        """Cancel tasks on purpose and wait until they are gone."""
        self._running.difference_update(tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def end_all(self) -> None:
        """Cancel every task on purpose and wait until all are gone."""
        await self.end(*self._running)

    def problems(self) -> list[str]:
        """Return a sentence for each task that ended unexpectedly."""
        return [f"task {name} has ended" for name in self._failed]

    def report(self, what: str, error: BaseException) -> None:
        """Count and log a bug: where it happened, but never its message, which may hold a password."""
        self._metrics.bugs.inc()
        self._logger.error("%s: unexpected %s; please report it:\n%s", what, type(error).__name__, where(error))

    def _has_ended(self, task: asyncio.Task[None]) -> None:
        if task not in self._running:
            # Ended on purpose. Its exception is still fetched, or asyncio would log it with its message.
            _ = task.cancelled() or task.exception()
            return
        self._running.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self.report(f"Task {task.get_name()}", error)
        if self._ending:
            return
        if error is None:
            how = "was cancelled" if task.cancelled() else "returned"
            self._metrics.bugs.inc()
            self._logger.error("Task %s %s although the operator is not stopping; please report it.", task.get_name(), how)
        self._failed.append(task.get_name())
        self._on_failure()


def where(error: BaseException) -> str:
    """Return the traceback of an exception and of those that led to it: files, lines and types, no messages and no values."""
    parts: list[str] = []
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        parts.append("".join(traceback.format_tb(current.__traceback__)) + type(current).__name__)
        current = current.__cause__ or (None if current.__suppress_context__ else current.__context__)
    return "\n\nThe above came after:\n".join(parts)
