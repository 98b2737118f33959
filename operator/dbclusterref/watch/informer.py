"""Keeps the watches alive: lists, starts kopf where the listing ended, and starts again where a watch ends or falls silent."""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Sequence
from functools import partial
from http import HTTPStatus
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
from dbclusterref.watch.access import Access
from dbclusterref.watch.heartbeat import LoopLag, WatchSilence
from dbclusterref.watch.kopf_adapter import NoMemories, TasksOfOthers, WatchedChanges, make_registry, make_settings, scope
from dbclusterref.watch.resync import Resync, SecretsUnreadableError
from dbclusterref.watch.stream_filter import OwnWrites, StreamFilter
from dbclusterref.watch.versions import Versions

SILENT_RESTARTS = 2
"""Restarts in a row after which no data came: the fault is in this process then, and it reports itself unhealthy."""
IDENTITY = "dbclusterref"
"""How this operator would call itself to kopf's peers, of which it has none."""
PERIOD = 1.0
RETRY_MOST = 5.0
"""Between two tries to begin, in seconds, growing up to this while the API server fails."""
COMPARE_MOST = 60.0
"""Between two full listings, in seconds, growing up to this while Secrets cannot be listed: all else is listed each time."""
END_PERIOD = 0.25
END_TRIES = 12
"""Between two tries to end kopf, in seconds, and how many there are."""

_NO_CRD = f"The CustomResourceDefinition databaseclusterrefs.{GROUP} is not installed; apply crds/. Waiting for it."


class Informer:
    """The watches on our resources and, where that is possible, on our Secrets."""

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
        own_writes: OwnWrites,
        on_start: Callable[[], None],
    ) -> None:
        self._timing = timing
        self._kubernetes = kubernetes
        self._store = store
        self._controller = controller
        self._metrics = metrics
        self._supervisor = supervisor
        self._logger = logger
        self._clock = clock
        self._own_writes = own_writes
        self._on_start = on_start
        named = tuple(namespaces) or ("",)
        self._access = Access(kubernetes, namespaces=named, logger=logger, clock=clock, timing=timing)
        self._silence = WatchSilence(clock)
        self._lag = LoopLag(clock)
        self._versions = Versions()
        self._resync = Resync(
            kubernetes,
            store=store,
            marks=controller,
            metrics=metrics,
            logger=logger,
            namespaces=named,
            sees_secrets=lambda: self.sees_secrets,
            versions=self._versions,
            on_restore=self._storage_was_restored,
        )
        self._restart = asyncio.Event()
        self._compare_now = asyncio.Event()
        self._has_begun = False
        self._waiting_for = "the first listing"
        self._silent_restarts = 0
        self._to_compare: set[str] = set()
        self._broken: set[str] = set()
        self._refusals: dict[str, int] = {}
        self.is_watching = False

    @property
    def sees_secrets(self) -> bool:
        """Return whether Secrets are listed and watched; else each is read on its own when its resource is refreshed."""
        return self._access.sees_secrets

    async def run(self) -> None:
        """Watch until cancelled; what is known stays, whatever ends a watch, and the watches start again."""
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

    # --- what others are told

    def problems(self) -> list[str]:
        """Return what is wrong with the watches or the event loop, a sentence each."""
        found = []
        if self._silent_restarts >= SILENT_RESTARTS:
            found.append(f"the watches were restarted {self._silent_restarts} times without receiving data")
        return [*found, *self._access.problems(), *self._lag.problems()]

    def not_ready(self) -> list[str]:
        """Return why resources are not watched, a sentence each."""
        return self._access.not_ready() or ([] if self.is_watching else [f"not watching: {self._waiting_for}"])

    def describe(self) -> list[str]:
        """Return what is served with restrictions, a sentence each."""
        return self._access.describe()

    def measure(self) -> None:
        """Set the gauges."""
        self._metrics.watch_age_seconds.set(self._silence.longest())
        self._metrics.loop_lag_seconds.set(self._lag.seconds)
        self._metrics.secrets_watched.set(self.sees_secrets)
        self._metrics.namespaces_refused.set(self._access.refused)
        self._metrics.credentials_rejected.set(self._access.is_rejected)

    # --- what the watches tell (`WatchObserver`)

    def began(self, path: str, *, since: str) -> None:
        """Record that the API server serves a watch: alive, and a moment at which its storage may be another."""
        self._refusals.pop(path, None)
        if path in self._broken:
            self._broken.discard(path)
            self._compare_now.set()
        self._versions.saw(path, since)
        self._to_compare.add(path)
        self.received(path)

    def received(self, path: str) -> None:
        """Record a piece of a watch's data."""
        self._silence.received(path)
        if self._silence.all_received:
            self._silent_restarts = 0

    def broke(self, path: str) -> None:
        """Record a failed connection: after it everything is compared, since the storage may be an older one by then.

        An older one gives versions out a second time: no change may be taken for a write from before.
        """
        self._broken.add(path)
        self._own_writes.forget()

    def refused(self, path: str, *, status: int) -> None:
        """Record a refusal; where a retry will not help, everything is listed again, which also says what is wrong."""
        if status == HTTPStatus.UNAUTHORIZED:
            return
        if not self._refusals:
            self._logger.warning("The Kubernetes API answered %d to a watch (%s). Retrying.", status, path)
        self._refusals[path] = self._refusals.get(path, 0) + 1
        self.broke(path)
        # A 403 passes while an API server starts; it is not believed the first time.
        if status == HTTPStatus.NOT_FOUND or (status == HTTPStatus.FORBIDDEN and self._refusals[path] > 1):
            self._restart.set()

    def listed_at(self, path: str) -> str:
        """Return where a watch begins; one that begins a second time has expired, and everything is listed again."""
        version = self._resync.take_version(path)
        if not version:
            self._restart.set()
        return version

    # --- beginning

    async def _prepare(self) -> None:
        """Wait until the API server serves our resource and lets it be listed, and take in what there is."""
        said = ""
        pause = PERIOD
        while True:
            try:
                if await self._kubernetes.has_resource():
                    await self._access.ask_for_rights()
                    await self._list()
                    break
                self._waiting_for, pause = _NO_CRD, PERIOD
            except KubernetesError as error:
                is_gone = error.status == HTTPStatus.NOT_FOUND
                self._waiting_for = _NO_CRD if is_gone else f"{error.message} Retrying."
                pause = PERIOD if is_gone else min(pause * 2, RETRY_MOST)
            if self._waiting_for != said:
                said = self._waiting_for
                self._logger.warning(said)
            await asyncio.sleep(pause)
        if said:
            self._logger.info("The Kubernetes API serves DatabaseClusterRef; watching again.")
        self._waiting_for = "the watches are starting"
        self._has_begun = True
        self._controller.expect(entry.identity.key for entry in self._store)

    async def _list(self) -> None:
        try:
            refused = await self._resync.run(first=not self._has_begun)
        except SecretsUnreadableError as error:
            if not self._access.note_unreadable_secrets(error):
                raise
            refused = await self._resync.run(first=not self._has_begun)
        self._access.note_refused(refused)

    async def _watch_once(self) -> None:
        self._restart.clear()
        self._compare_now.clear()
        self._refusals.clear()
        self._broken.clear()
        self._to_compare.clear()
        served = self._access.served
        kinds = [references_path, *([secrets_path] if self.sees_secrets else [])]
        watches = [path(namespace) for namespace in served for path in kinds]
        self._silence.expect(*watches)
        connection = self._kubernetes.connection
        changes = WatchedChanges(store=self._store, controller=self._controller)
        stream_filter = StreamFilter(
            watches=watches, observer=self, is_own_write=self._own_writes.is_own, take_large=changes.take_large
        )
        tasks = await kopf.spawn_tasks(
            registry=make_registry(
                changes=changes,
                server=connection.server,
                session=partial(connection.session, stream_filter, response_class=stream_filter.response_class),
                with_secrets=self.sees_secrets,
            ),
            settings=make_settings(self._timing),
            memories=NoMemories(),
            standalone=True,
            # Without one kopf asks for the user's name, which a bare uid does not have, and for the host's in DNS, blocking.
            identity=cast("Any", IDENTITY),
            **scope([name for name in served if name]),
        )
        running = asyncio.create_task(kopf.run_tasks(tasks, ignored=TasksOfOthers()), name="kopf")
        try:
            self._on_start()
            self.is_watching = True
            while not running.done() and not self._restart.is_set():
                await asyncio.wait({running}, timeout=PERIOD)
        finally:
            self.is_watching = False
            self._waiting_for = "the watches are restarting"
            if error := await _end(running):
                self._supervisor.report("The watches ended and are started again", error)

    # --- watching over the watches

    async def _keep_listening(self) -> None:
        while True:
            await asyncio.sleep(PERIOD)
            self._access.note_credentials(rejected=self._kubernetes.connection.is_rejected)
            if not self.is_watching or self._restart.is_set():
                continue
            if self._to_compare:
                await self._look_for_a_restored_storage()
            if self._access.is_due and await self._access.has_changed():
                self._restart.set()
            if self._silence.longest() > self._timing.watch_silence and await self._api_answers():
                self._silent_restarts += 1
                self._logger.warning("A watch is silent while the Kubernetes API answers; restarting the watches.")
                self._restart.set()

    async def _look_for_a_restored_storage(self) -> None:
        """Compare versions where a watch began: a watch from a version that is still to come stays silent, and is alive."""
        try:
            for path in sorted(self._to_compare):
                before = self._versions.highest(path)
                if self._versions.went_back(path, await self._kubernetes.latest_version(path), than=before):
                    self._resync.start_over()
                    break
                self._to_compare.discard(path)
        except KubernetesError:
            return  # tried again in a second

    def _storage_was_restored(self) -> None:
        self._logger.warning(
            "The Kubernetes API's resource versions went backwards: its storage was restored from a backup. "
            "Reading everything again."
        )
        self._own_writes.forget()
        self._to_compare.clear()
        self._has_begun = False
        self._restart.set()

    async def _api_answers(self) -> bool:
        """Return whether the API server answers: if it does not, a silent watch is not this process's fault."""
        try:
            return await self._kubernetes.has_resource()
        except KubernetesError:
            return False

    async def _keep_comparing(self) -> None:
        pause = PERIOD
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._timing.resync):
                    await self._compare_now.wait()
            await asyncio.sleep(pause)  # several watches break and begin together
            self._compare_now.clear()
            before, pause = pause, PERIOD
            if not self.is_watching:
                continue
            try:
                await self._resync.run()
            except KubernetesError as error:
                if isinstance(error, SecretsUnreadableError):
                    pause = min(before * 2, COMPARE_MOST)
                self._logger.debug("No full listing now: %s", error.message)
                self._compare_now.set()


async def _end(running: asyncio.Task[None]) -> BaseException | None:
    """End kopf, which waits endlessly for a watcher that has swallowed its cancellation: it is cancelled until it goes.

    Returns what had ended it, where that was an error.
    """
    running.cancel()
    for _ in range(END_TRIES):
        await asyncio.wait({running}, timeout=END_PERIOD)
        if running.done():
            break
        for task in asyncio.all_tasks().difference(TasksOfOthers(), {running}):
            if task.cancelling():
                task.cancel()
    return running.exception() if running.done() and not running.cancelled() else None
