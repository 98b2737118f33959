"""Keeps the watches alive: starts kopf, listens whether it hears anything, and starts it anew where it has gone deaf."""

import asyncio
import logging
from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import Any, cast

import kopf

from dbclusterref.errors import KubernetesError
from dbclusterref.kube.client import KubernetesApi, references_path, secrets_path
from dbclusterref.metrics import Metrics
from dbclusterref.reconcile.controller import Controller
from dbclusterref.reconcile.store import Store
from dbclusterref.resource.objects import GROUP
from dbclusterref.supervisor import Supervisor
from dbclusterref.timing import Timing
from dbclusterref.watch.heartbeat import LoopLag, WatchSilence
from dbclusterref.watch.kopf_adapter import NoMemories, make_registry, make_settings, scope
from dbclusterref.watch.resync import Resync
from dbclusterref.watch.stream_filter import StreamFilter

DEAF_AFTER = 2
"""Restarts in a row after which nothing was heard: then it is this process that is ill, and it calls itself unhealthy."""
IDENTITY = "dbclusterref"
"""How this operator would call itself to kopf's peers, of which it has none."""
PERIOD = 1.0
RIGHTS_PERIOD = 60.0
END_PERIOD = 0.25
END_TRIES = 12
"""Between two tries to end kopf, in seconds, and how many there are."""


class Informer:
    """The watches on our resources and, where that is allowed, on our Secrets."""

    def __init__(
        self,
        *,
        namespaces: Sequence[str],
        timing: Timing,
        kubernetes: KubernetesApi,
        store: Store,
        controller: Controller,
        metrics: Metrics,
        supervisor: Supervisor,
        logger: logging.Logger,
        clock: Callable[[], float],
        is_own_write: Callable[[bytes], bool],
        on_start: Callable[[], None],
    ) -> None:
        self._scope = tuple(namespaces)
        self._timing = timing
        self._kubernetes = kubernetes
        self._store = store
        self._controller = controller
        self._metrics = metrics
        self._supervisor = supervisor
        self._logger = logger
        self._clock = clock
        self._is_own_write = is_own_write
        self._on_start = on_start
        self._namespaces: Sequence[str] = self._scope or ("",)
        self._silence = WatchSilence(clock)
        self._lag = LoopLag(clock)
        self._resync = Resync(
            kubernetes,
            store=store,
            marks=controller,
            metrics=metrics,
            logger=logger,
            namespaces=self._scope,
            sees_secrets=lambda: self.sees_secrets,
        )
        self._restart = asyncio.Event()
        self._began = False
        self._deaf = 0
        self._rights_checked_at = clock()
        self.sees_secrets = True
        self.is_watching = False

    async def run(self) -> None:
        """Watches until it is cancelled; whatever ends a watch, what is known stays, and it is begun anew."""
        keepers = [
            self._supervisor.start("listening", self._keep_listening()),
            self._supervisor.start("comparing", self._keep_comparing()),
            self._supervisor.start("lag", self._lag.measure()),
        ]
        try:
            while True:
                await self._prepare()
                await self._watch_once()
                self._metrics.watch_restarts.inc()
                await asyncio.sleep(PERIOD)
        finally:
            await self._supervisor.end(*keepers)

    def problems(self) -> list[str]:
        """What is wrong with the watches or the event loop, a sentence each."""
        deaf = [f"the watches were started anew {self._deaf} times and hear nothing"] if self._deaf >= DEAF_AFTER else []
        return [*deaf, *self._lag.problems()]

    def measure(self) -> None:
        """Brings the gauges up to date."""
        self._metrics.watch_age_seconds.set(self._silence.longest())
        self._metrics.loop_lag_seconds.set(self._lag.seconds)
        self._metrics.secrets_watched.set(self.sees_secrets)

    async def _prepare(self) -> None:
        """Waits until the API server serves our resource and lets it be listed, and takes in what there is."""
        said = ""
        while True:
            try:
                if await self._kubernetes.has_resource():
                    await self._ask_for_rights()
                    await self._resync.run(first=not self._began)
                    break
                why = f"The CustomResourceDefinition databaseclusterrefs.{GROUP} is not installed; apply crds/. Waiting for it."
            except KubernetesError as error:
                why = f"{error.message} Waiting for it."
            if why != said:
                self._logger.warning(why)
                said = why
            await asyncio.sleep(PERIOD)
        if said:
            self._logger.info("The Kubernetes API serves DatabaseClusterRef; going on.")
        self._began = True
        self._controller.expect(entry.identity.key for entry in self._store)

    async def _ask_for_rights(self) -> None:
        self._rights_checked_at = self._clock()
        try:
            may = [
                await self._kubernetes.may(verb, group="", resource="secrets", namespace=namespace)
                for namespace in self._namespaces
                for verb in ("list", "watch")
            ]
        except KubernetesError as error:
            if error.status in range(400, 500):
                return  # whoever may not even ask is told by the watch itself
            raise
        if all(may) == self.sees_secrets:
            return
        self.sees_secrets = all(may)
        if self.sees_secrets:
            self._logger.info("Secrets may be watched now; they are repaired at once.")
        else:
            self._logger.warning(
                "Secrets may not be listed and watched; they are looked at, and repaired, at each refresh instead."
            )

    async def _watch_once(self) -> None:
        self._restart.clear()
        paths = [references_path, *([secrets_path] if self.sees_secrets else [])]
        self._silence.expect(*(path(namespace) for namespace in self._namespaces for path in paths))
        existing = asyncio.all_tasks()
        stream_filter = StreamFilter(hear=self._hear, is_known=self._store.is_known, is_own_write=self._is_own_write)
        tasks = await kopf.spawn_tasks(
            registry=make_registry(
                store=self._store,
                controller=self._controller,
                server=self._kubernetes.server,
                session=partial(self._kubernetes.session, stream_filter),
                with_secrets=self.sees_secrets,
            ),
            settings=make_settings(self._timing),
            memories=NoMemories(),
            standalone=True,
            # Without one kopf asks for the user's name, which a bare uid does not have, and for the host's in DNS, blocking.
            identity=cast("Any", IDENTITY),
            **scope(self._scope),
        )
        running = asyncio.create_task(kopf.run_tasks(tasks, ignored=existing), name="kopf")
        try:
            self._on_start()
            self.is_watching = True
            while not running.done() and not self._restart.is_set():
                await asyncio.wait({running}, timeout=PERIOD)
        finally:
            self.is_watching = False
            if error := await _end(running, apart_from=existing):
                self._supervisor.report("The watches ended and are started again", error)

    def _hear(self, path: str) -> None:
        self._silence.received(path)
        if self._silence.all_received:
            self._deaf = 0

    async def _keep_listening(self) -> None:
        while True:
            await asyncio.sleep(PERIOD)
            if not self.is_watching or self._restart.is_set():
                continue
            if self._clock() - self._rights_checked_at > RIGHTS_PERIOD:
                await self._look_whether_rights_changed()
            if self._silence.longest() > self._timing.watch_silence and await self._api_answers():
                self._deaf += 1
                self._logger.warning("A watch is silent while the Kubernetes API answers; starting the watches anew.")
                self._restart.set()

    async def _look_whether_rights_changed(self) -> None:
        before = self.sees_secrets
        try:
            await self._ask_for_rights()
        except KubernetesError:
            return
        if self.sees_secrets != before:
            self._restart.set()

    async def _api_answers(self) -> bool:
        """Tells a deaf watch from an API server that is away: only the first is this process's to mend."""
        try:
            return await self._kubernetes.has_resource()
        except KubernetesError:
            return False

    async def _keep_comparing(self) -> None:
        while True:
            await asyncio.sleep(self._timing.resync)
            if not self.is_watching:
                continue
            try:
                await self._resync.run()
            except KubernetesError as error:
                self._logger.debug("No full listing now: %s", error.message)


async def _end(running: asyncio.Task[None], *, apart_from: Collection[asyncio.Task[object]]) -> BaseException | None:
    """Ends kopf, which waits for ever for a watcher that has swallowed its cancellation: it is cancelled until it goes.

    Returns what had ended it, where that was an error.
    """
    running.cancel()
    for _ in range(END_TRIES):
        await asyncio.wait({running}, timeout=END_PERIOD)
        if running.done():
            break
        for task in asyncio.all_tasks().difference(apart_from, {running}):
            if task.cancelling():
                task.cancel()
    return running.exception() if running.done() and not running.cancelled() else None
