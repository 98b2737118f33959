"""Kubernetes Events, posted when there is nothing more urgent: the Secret and the status come first, and say the same."""

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Callable
from typing import Protocol

from dbclusterref.errors import KubernetesError
from dbclusterref.kube.client import Event
from dbclusterref.metrics import Metrics

PERIOD = 0.5
"""Seconds between two Events while resources wait for a worker; else one is posted right after the other."""
MANY = 2000
"""With so many waiting, they are posted right after the other in any case."""
CAPACITY = 5000
"""Events that may wait; beyond, the oldest of the namespace with most of them is dropped, and counted."""


class EventApi(Protocol):
    """The call that posting needs."""

    async def create_event(self, event: Event) -> None: ...  # noqa: D102


class EventRecorder:
    """Accepts Events without waiting, and posts them with the namespaces taking turns: no flood of one costs another its own.

    `is_busy` returns whether more important work is under way.
    """

    def __init__(
        self,
        api: EventApi,
        *,
        is_busy: Callable[[], bool],
        metrics: Metrics,
        logger: logging.Logger,
    ) -> None:
        self._api = api
        self._is_busy = is_busy
        self._metrics = metrics
        self._logger = logger
        self._waiting: dict[str, deque[Event]] = {}
        """By namespace, the next one first; none is empty."""
        self._count = 0
        self._recorded = asyncio.Event()

    def record(self, event: Event) -> None:
        """Queue an Event, to be posted after those recorded before it in its namespace."""
        if self._count >= CAPACITY:
            self._take(max(self._waiting, key=lambda namespace: len(self._waiting[namespace])))
            self._metrics.events_dropped.inc()
        self._waiting.setdefault(event.regarding.namespace, deque()).append(event)
        self._count += 1
        self._recorded.set()

    async def run(self) -> None:
        """Run the posting loop."""
        while True:
            if not self._waiting:
                self._recorded.clear()
                await self._recorded.wait()
            if self._is_busy() and self._count < MANY:
                await asyncio.sleep(PERIOD)
            if self._waiting:  # unless `drain` was quicker
                await self._post()

    async def drain(self, *, seconds: float) -> None:
        """Post what is waiting, for `seconds` at most."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while self._waiting:
                    await self._post()

    async def _post(self) -> None:
        event = self._take(next(iter(self._waiting)))
        try:
            await self._api.create_event(event)
        except KubernetesError as error:
            # An Event is a courtesy: the status says the same.
            self._metrics.events_dropped.inc()
            self._logger.debug("%s: no Event: %s", event.regarding, error.message)

    def _take(self, namespace: str) -> Event:
        events = self._waiting.pop(namespace)
        self._count -= 1
        event = events.popleft()
        if events:
            self._waiting[namespace] = events  # behind the others
        return event
