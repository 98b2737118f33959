"""The operator put together and run: everything is wired here, and nothing anywhere else."""

import asyncio
import ctypes
import gc
import os
import random
import signal
import socket
from asyncio import sslproto
from collections.abc import Callable, Mapping
from contextlib import suppress
from importlib.metadata import version

import httpx

from dbclusterref.clock import Clock, seconds_since_boot, system_clock
from dbclusterref.commands.http_client import make_client
from dbclusterref.commands.logs import LOGGER
from dbclusterref.commands.measurements import Measurements
from dbclusterref.commands.probes import ProbeServer, serve_probes
from dbclusterref.commands.secure_metrics import Certificate, TokenFile, serve_secure_metrics
from dbclusterref.commands.settings import Settings
from dbclusterref.digitalocean.account import Account
from dbclusterref.digitalocean.accounts import Accounts
from dbclusterref.digitalocean.client import DigitalOcean
from dbclusterref.digitalocean.hidden_tags import HiddenTags
from dbclusterref.digitalocean.reader import Reader
from dbclusterref.digitalocean.tokens import Tokens
from dbclusterref.digitalocean.traffic import Traffic
from dbclusterref.kube.client import KubernetesApi
from dbclusterref.kube.config import load_configuration, own_namespace
from dbclusterref.kube.events import EventRecorder
from dbclusterref.kube.fence import Fence
from dbclusterref.kube.leader_election import LeaderElector
from dbclusterref.metrics import Metrics
from dbclusterref.reconcile.ca_publisher import CaPublisher
from dbclusterref.reconcile.controller import Controller
from dbclusterref.reconcile.followers import Followers
from dbclusterref.reconcile.named_secrets import ObservedSecrets, SecretRounds
from dbclusterref.reconcile.namespace_limit import NamespaceLimit
from dbclusterref.reconcile.passwords import Passwords
from dbclusterref.reconcile.publisher import Publisher
from dbclusterref.reconcile.reconciler import Reconciler
from dbclusterref.reconcile.reporter import Reporter
from dbclusterref.reconcile.restarter import Restarter
from dbclusterref.reconcile.store import Store
from dbclusterref.resource.objects import ObjectKey
from dbclusterref.supervisor import Supervisor
from dbclusterref.watch.informer import Informer
from dbclusterref.watch.stream_filter import OwnWrites

GRACE = 3.0
"""Seconds that writes under way have to end after SIGTERM."""
HOUSEKEEPING = 5.0
TLS_BUFFER = 16 * 1024
M_MMAP_THRESHOLD = -3
"""As in mallopt(3)."""
LARGE_BLOCK = 128 * 1024
"""Bytes from which on memory is given back to the system when it is freed."""
LOST_LEASE = 3
"""Exit status of a leader that lost its Lease: the kubelet restarts it, as a standby."""
REVISION = "DBCLUSTERREF_REVISION"
"""Variable with the git commit of the build; the image sets it."""
TASK_FAILED = 4
"""Exit status after one of the operator's own tasks ended unexpectedly: the log says which and where."""


def user_agent() -> str:
    """Return the User-Agent header for both APIs."""
    return f"dbclusterref/{version('dbclusterref')}"


async def run(settings: Settings, environ: Mapping[str, str]) -> int:
    """Runs until SIGTERM or SIGINT; returns the exit status. Raises SettingsError where it cannot start."""
    _save_memory()
    configuration = await load_configuration(environ)
    metrics = Metrics(revision=environ.get(REVISION) or "unknown")
    traffic = Traffic(metrics, clock=seconds_since_boot)
    kubernetes = KubernetesApi(configuration, user_agent=user_agent(), observe=metrics.count_kubernetes_request)
    client = make_client(user_agent=user_agent(), connections=settings.workers, traffic=traffic)
    try:
        return await _Operator(settings, environ, kubernetes=kubernetes, client=client, metrics=metrics, traffic=traffic).run()
    finally:
        await client.aclose()
        await kubernetes.close()


def _save_memory() -> None:
    # What was imported stays loaded: the garbage collector need not visit it.
    gc.collect()
    gc.freeze()
    # asyncio fills a buffer of 256 KiB for each TLS connection, and there is one for each worker: ARCHITECTURE.md has the gain.
    sslproto.SSLProtocol.max_size = TLS_BUFFER
    # glibc stops mapping large blocks separately after the first one was freed: the heap then keeps what a huge Secret took.
    with suppress(OSError, AttributeError):  # another C library has no mallopt
        ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, LARGE_BLOCK)


class _Operator:
    def __init__(
        self,
        settings: Settings,
        environ: Mapping[str, str],
        *,
        kubernetes: KubernetesApi,
        client: httpx.AsyncClient,
        metrics: Metrics,
        traffic: Traffic,
    ) -> None:
        self._settings = settings
        self._kubernetes = kubernetes
        self._clock: Clock = system_clock(random.random)
        self._metrics = metrics
        self._store = Store(
            shard=settings.shard,
            limit=NamespaceLimit(settings.max_per_namespace),
            on_refused=lambda key: self._controller.mark(key),  # noqa: PLW0108 - it is made below
        )
        self._own_writes = OwnWrites()
        self._stop = asyncio.Event()
        self._exit_status = 0
        self._supervisor = Supervisor(metrics=self._metrics, logger=LOGGER, on_failure=self._fail)
        instance = f"{environ.get('POD_NAME') or socket.gethostname()}_{os.getpid()}"
        self._leader = self._make_leader(environ, instance=instance) if settings.leader_elect else None
        self._accounts = Accounts(self._account_maker(client))
        self._named_secrets = ObservedSecrets(kubernetes, clock=self._clock.monotonic)
        self._tokens = Tokens(
            self._named_secrets,
            own=settings.operator_token(own_namespace(environ)),
            allowed=settings.token_namespaces,
            clock=self._clock.monotonic,
        )
        self._measurements = Measurements(
            metrics,
            store=self._store,
            accounts=self._accounts,
            traffic=traffic,
            clock=self._clock,
            may_write=self._may_write,
            per_reference=settings.metrics_per_reference,
        )
        fence = Fence(kubernetes, seconds_left=self._seconds_left)
        self._events = EventRecorder(
            fence,
            is_busy=lambda: self._controller.is_busy,
            metrics=self._metrics,
            logger=LOGGER,
        )
        self._controller = Controller(
            self._make_reconciler(fence, instance=instance),
            workers=settings.workers,
            clock=self._clock.monotonic,
            may_work=self._may_write,
            metrics=self._metrics,
            supervisor=self._supervisor,
            logger=LOGGER,
        )
        self._informer = Informer(
            namespaces=settings.namespaces,
            timing=settings.timing,
            kubernetes=kubernetes,
            store=self._store,
            controller=self._controller,
            metrics=self._metrics,
            supervisor=self._supervisor,
            logger=LOGGER,
            clock=self._clock.monotonic,
            own_writes=self._own_writes,
            on_start=self._take_signals,  # kopf has put its own in their place
        )

    async def run(self) -> int:
        settings = self._settings
        LOGGER.info(
            "Starting %s: Kubernetes at %s, DigitalOcean at %s, watching %s.",
            user_agent(), self._kubernetes.server, settings.api_url, ", ".join(settings.namespaces) or "all namespaces",
        )  # fmt: skip
        self._take_signals()
        self._metrics.leading.set(self._leader is None)
        servers = await self._serve()
        self._supervisor.start("housekeeping", self._keep_house())
        self._supervisor.start("named-secrets", self._look_at_named_secrets())
        self._supervisor.start("events", self._events.run())
        if self._leader:
            self._supervisor.start("leader", self._lead(self._leader))
        self._controller.start()
        self._supervisor.start("watch", self._informer.run())
        await self._stop.wait()
        self._supervisor.expect_end()
        await self._controller.stop(grace=GRACE)
        await self._events.drain(seconds=GRACE / 3)
        if self._leader:
            await self._leader.release()
        await self._supervisor.end_all()
        for server in servers:
            await server.close()
        LOGGER.info("Stopped.")
        return self._exit_status

    async def _serve(self) -> list[ProbeServer]:
        settings = self._settings
        secure: list[ProbeServer] = []
        if settings.metrics_tls_cert_file:
            token = TokenFile(settings.metrics_token_file) if settings.metrics_token_file else None
            if token:
                token.require_usable()
            secure = [
                await serve_secure_metrics(
                    host=settings.metrics_tls_host,
                    port=settings.metrics_tls_port,
                    certificate=Certificate(settings.metrics_tls_cert_file, settings.metrics_tls_key_file, logger=LOGGER),
                    token=token,
                    metrics=self._render_metrics,
                )
            ]
        probes = await serve_probes(
            host=settings.metrics_host, port=settings.metrics_port, healthy=self._problems, ready=self._not_ready,
            metrics=None if secure else self._render_metrics, describe=self._describe,
        )  # fmt: skip
        return [*secure, probes]

    def _fail(self) -> None:
        self._exit_status = TASK_FAILED
        self._stop.set()

    async def _lead(self, leader: LeaderElector) -> None:
        await leader.run()
        self._supervisor.expect_end()
        self._exit_status = LOST_LEASE
        self._stop.set()

    async def _keep_house(self) -> None:
        while True:
            await asyncio.sleep(HOUSEKEEPING)
            for bug in self._accounts.keep_going():
                self._supervisor.report("Reading from DigitalOcean", bug)
            self._accounts.drop_unused(since=self._clock.monotonic() - 3600.0)

    async def _look_at_named_secrets(self) -> None:
        rounds = SecretRounds(
            self._named_secrets,
            store=self._store,
            tokens=self._tokens,
            accounts=self._accounts,
            look=self._look,
            clock=self._clock.monotonic,
            logger=LOGGER,
        )
        while True:
            await asyncio.sleep(HOUSEKEEPING)
            if self._may_write():
                await rounds.make()

    def _look(self, key: ObjectKey) -> None:
        entry = self._store.get(key)
        if entry:
            entry.reads.due_now()
            self._controller.mark(key, urgent=True)

    def _may_write(self) -> bool:
        return self._leader is None or self._leader.is_leading()

    def _seconds_left(self) -> float:
        return float("inf") if self._leader is None else self._leader.seconds_left()

    def _problems(self) -> list[str]:
        return [
            *self._supervisor.problems(),
            *self._controller.problems(),
            *self._informer.problems(),
            *self._accounts.problems(),
        ]

    def _not_ready(self) -> list[str]:
        if missing := self._informer.not_ready():
            return missing
        if self._may_write() and not self._controller.first_pass_is_done:
            return ["the first pass over all resources is not done yet"]
        return []

    def _describe(self) -> list[str]:
        """Return what the body of /readyz says below the verdict."""
        role = "leading" if self._may_write() else "standby"
        return [role if self._leader else "alone", *self._informer.describe()]

    def _render_metrics(self, accept: str) -> tuple[bytes, str]:
        self._controller.measure()
        self._informer.measure()
        self._measurements.take()
        return self._metrics.render(accept)

    def _take_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)

    def _make_reconciler(self, fence: Fence, *, instance: str) -> Reconciler:
        settings = self._settings
        reporter = Reporter(
            fence,
            record=self._events.record,
            metrics=self._metrics,
            logger=LOGGER,
            instance=instance,
            clock=self._clock.monotonic,
            timing=settings.timing,
            wrote=self._own_writes.expect,
        )
        return Reconciler(
            store=self._store,
            passwords=Passwords(self._named_secrets),
            tokens=self._tokens,
            accounts=self._accounts,
            publisher=Publisher(
                fence,
                store=self._store,
                metrics=self._metrics,
                clock=self._clock.monotonic,
                sees_secrets=lambda: self._informer.sees_secrets,
                wrote=self._own_writes.expect,
                timing=settings.timing,
                delete_revoked=settings.on_revoke == "delete",
            ),
            followers=Followers(
                restarter=Restarter(
                    fence,
                    store=self._store,
                    enabled=settings.restart_workloads,
                    metrics=self._metrics,
                    clock=self._clock.monotonic,
                    timing=settings.timing,
                ),
                ca_publisher=CaPublisher(
                    fence,
                    enabled=settings.ca_config_maps,
                    metrics=self._metrics,
                    clock=self._clock.monotonic,
                    timing=settings.timing,
                ),
            ),
            reporter=reporter,
            metrics=self._metrics,
            clock=self._clock,
            timing=settings.timing,
        )

    def _account_maker(self, client: httpx.AsyncClient) -> Callable[[str], Account]:
        grant_tag = self._settings.grant_tag
        upstream = DigitalOcean(client, base_url=self._settings.api_url, grant_tag=grant_tag)
        hidden_tags = HiddenTags(LOGGER)

        def open_account(token: str) -> Account:
            reader = Reader(token, upstream=upstream, clock=self._clock)
            return Account(reader, on_change=self._look, grant_tag=grant_tag, on_own_answer=hidden_tags.saw)

        return open_account

    def _make_leader(self, environ: Mapping[str, str], *, instance: str) -> LeaderElector:
        # A name is not enough: a StatefulSet's pods keep theirs, and a node that is cut off may still run the one before. But a
        # pod's container starts again only after it ended; the process number keeps out what `kubectl exec` starts beside it.
        pod_uid = environ.get("POD_UID", "")

        def changed(leading: bool) -> None:  # noqa: FBT001 - a state, told to a callback
            self._metrics.leading.set(leading)
            self._controller.wake()

        leader = LeaderElector(
            self._kubernetes,
            key=ObjectKey(self._settings.lease_namespace or own_namespace(environ), self._settings.shard.lease_name),
            identity=f"{instance}_{pod_uid}" if pod_uid else instance,
            identity_is_unique=bool(pod_uid),
            clock=self._clock.monotonic,
            now=self._clock.now,
            logger=LOGGER,
            on_change=changed,
            timing=self._settings.timing,
        )
        self._metrics.count_transitions(lambda: leader.transitions)
        return leader
