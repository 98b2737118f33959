"""One operator process in memory: a reconciler over an API server and an upstream that outlive it."""

import asyncio
import copy
import logging
from collections.abc import Callable, Mapping
from typing import Any

from dbclusterref.digitalocean.account import Account
from dbclusterref.digitalocean.accounts import Accounts
from dbclusterref.digitalocean.hidden_tags import HiddenTags
from dbclusterref.digitalocean.reader import Reader
from dbclusterref.digitalocean.tokens import OperatorToken, Tokens
from dbclusterref.kube.fence import Fence
from dbclusterref.metrics import Metrics
from dbclusterref.reconcile.ca_publisher import AFTER_THE_STATUS, CaPublisher
from dbclusterref.reconcile.entry import Entry
from dbclusterref.reconcile.followers import Followers
from dbclusterref.reconcile.named_secrets import ObservedSecrets, SecretRounds
from dbclusterref.reconcile.namespace_limit import NamespaceLimit
from dbclusterref.reconcile.passwords import Passwords
from dbclusterref.reconcile.publisher import Publisher
from dbclusterref.reconcile.reconciler import Reconciler
from dbclusterref.reconcile.reporter import Reporter
from dbclusterref.reconcile.restarter import Restarter
from dbclusterref.reconcile.store import Store
from dbclusterref.reconcile.workqueue import WorkQueue
from dbclusterref.resource.objects import FIELD_MANAGER, MANAGED_BY, REFRESH_REQUESTED_AT, ObjectKey, version_of
from dbclusterref.resource.status import ConditionType, Status
from tests.support.builders import KEY, TOKEN, UUID, Body, a_cluster, reference_body, secret_body
from tests.support.fake_digitalocean import FakeUpstream
from tests.support.fake_kubernetes import FakeKubernetes
from tests.support.fake_time import FakeClock, a_clock, settle

TOKEN_SECRET = ObjectKey("shop", "do-token")
RENAMED = ObjectKey("shop", "renamed")


class Bench:
    """One operator process over an API server and an upstream that outlive it.

    The watch delivers at the loop's next turn: after the answer to the write it tells of, as it does nearly always; and so
    nothing is heard of our own writes, which are `wrote`.
    """

    def __init__(
        self,
        kubernetes: FakeKubernetes,
        upstream: FakeUpstream,
        clock: FakeClock,
        *,
        restarts: bool = True,
        ca_config_maps: bool = True,
        limit: NamespaceLimit | None = None,
        delete_revoked: bool = False,
        own: OperatorToken | None = None,
    ) -> None:
        self.kubernetes, self.upstream, self.clock = kubernetes, upstream, clock
        self.marked: set[ObjectKey] = set()
        self.store = Store(limit=limit, on_refused=self.marked.add)
        self.wrote: list[Mapping[str, object]] = []
        self.leading = True
        self.metrics = metrics = Metrics()
        hidden_tags = HiddenTags(logging.getLogger("test"))
        self.accounts = Accounts(
            lambda token: Account(
                Reader(token, upstream=upstream, clock=a_clock(clock)), on_change=self.look, on_own_answer=hidden_tags.saw
            )
        )
        self.named_secrets = ObservedSecrets(kubernetes, clock=clock)
        self.tokens = Tokens(self.named_secrets, own=own or OperatorToken(value=TOKEN), allowed=("shop", "team"), clock=clock)
        self.rounds = SecretRounds(
            self.named_secrets,
            store=self.store,
            tokens=self.tokens,
            accounts=self.accounts,
            look=self.look,
            clock=clock,
            logger=logging.getLogger("test"),
        )
        fence = Fence(kubernetes, seconds_left=lambda: float("inf") if self.leading else 0.0)
        reporter = Reporter(
            fence,
            record=kubernetes.events.append,
            metrics=metrics,
            logger=logging.getLogger("test"),
            instance="test",
            clock=clock,
            wrote=self.wrote.append,
        )
        self.reconciler = Reconciler(
            store=self.store,
            passwords=Passwords(self.named_secrets),
            tokens=self.tokens,
            accounts=self.accounts,
            publisher=Publisher(
                fence,
                store=self.store,
                metrics=metrics,
                clock=clock,
                wrote=self.wrote.append,
                delete_revoked=delete_revoked,
            ),
            followers=Followers(
                restarter=Restarter(fence, store=self.store, enabled=restarts, metrics=metrics, clock=clock),
                ca_publisher=CaPublisher(fence, enabled=ca_config_maps, metrics=metrics, clock=clock),
            ),
            reporter=reporter,
            metrics=metrics,
            clock=a_clock(clock),
        )
        for body in kubernetes.references.values():
            self.see("Reference", body, gone=False)
        for body in kubernetes.secrets.values():
            if (body["metadata"].get("labels") or {}).get(MANAGED_BY) == FIELD_MANAGER:
                self.see("Secret", body, gone=False)
        kubernetes.watchers[:] = [self.soon]

    def soon(self, kind: str, body: Body, gone: bool) -> None:  # noqa: FBT001 - as the fake calls it
        def deliver() -> None:
            if gone or version_of(body) not in map(version_of, self.wrote):
                self.see(kind, body, gone=gone)

        asyncio.get_running_loop().call_soon(deliver)

    def see(self, kind: str, body: Body, *, gone: bool) -> None:
        if kind == "Secret":
            self.marked |= self.store.observe_secret(body, gone=gone)
        elif key := self.store.observe_reference(body, gone=gone):
            self.marked.add(key)

    def look(self, key: ObjectKey) -> None:
        self.entry(key).reads.due_now()
        self.marked.add(key)

    async def work(self, queue: WorkQueue[ObjectKey], *, seconds: float, step: float = 0.5) -> int:
        """Does what a worker does, in fake time, every `step` seconds; returns how many looks that took."""
        looks, end = 0, self.clock() + seconds
        while self.clock() < end:
            while self.marked:
                queue.mark(self.marked.pop())
            if (key := queue.take(self.clock())) is None:
                await asyncio.sleep(step)
                continue
            looks += 1
            wait = await self.bring_in_line(key)
            queue.done(key)
            assert wait is not None
            queue.schedule(key, at=self.clock() + wait)
        return looks

    async def reconcile(self, key: ObjectKey = KEY) -> float | None:
        await settle()
        self.marked.discard(key)
        try:
            return await self.bring_in_line(key)
        finally:
            await settle()

    async def bring_in_line(self, key: ObjectKey) -> float | None:
        """Does what a worker and the lane of the reads do one after the other; returns in how many seconds to look again."""
        step = await self.reconciler.reconcile(key)
        while step.read:
            await step.read.run()
            step = await self.reconciler.reconcile(key)
        if step.after == AFTER_THE_STATUS:
            step = await self.reconciler.reconcile(key)
        return step.after

    async def refresh(self, key: ObjectKey = KEY, *, after: float = 60.0) -> float | None:
        self.clock.advance(after)
        return await self.reconcile(key)

    def restarted(self, *, restarts: bool = True, ca_config_maps: bool = True) -> "Bench":
        return Bench(self.kubernetes, self.upstream, self.clock, restarts=restarts, ca_config_maps=ca_config_maps)

    def rotate(self, password: str, **members: Any) -> None:
        self.upstream.clusters[UUID] = a_cluster(password=password, **members)

    def forget_writes(self) -> None:
        self.kubernetes.writes.clear()
        self.upstream.requests.clear()
        self.kubernetes.events.clear()

    def entry(self, key: ObjectKey = KEY) -> Entry:
        entry = self.store.get(key)
        assert entry is not None
        return entry

    def status(self, key: ObjectKey = KEY) -> Status:
        return Status.from_body(self.kubernetes.references[key])

    def says(self, kind: ConditionType, key: ObjectKey = KEY) -> tuple[bool, str]:
        condition = self.status(key).conditions[kind]
        return condition.status, condition.reason

    @property
    def ready(self) -> tuple[bool, str]:
        return self.says(ConditionType.READY)

    @property
    def fresh(self) -> tuple[bool, str]:
        return self.says(ConditionType.FRESH)

    def fresh_of(self, key: ObjectKey) -> tuple[bool, str] | None:
        return self.says(ConditionType.FRESH, key) if "status" in self.kubernetes.references[key] else None

    @property
    def account(self) -> Account:
        return self.accounts.of(TOKEN)

    @property
    def password(self) -> str:
        return self.kubernetes.data()["password"]

    @property
    def event_reasons(self) -> list[str]:
        return [event.reason for event in self.kubernetes.events]


def a_bench() -> Bench:
    """One reference, its token, and the cluster that it names."""
    kubernetes = FakeKubernetes()
    kubernetes.put_secret(secret_body({"token": TOKEN}, key=TOKEN_SECRET))
    kubernetes.put_reference(reference_body())
    return Bench(kubernetes, FakeUpstream(clusters={UUID: a_cluster()}), FakeClock())


def changed(body: Body, **spec: object) -> Body:
    metadata = {**body["metadata"], "generation": body["metadata"]["generation"] + 1}
    return {**body, "metadata": metadata, "spec": {**body["spec"], **spec}}


def change_spec(bench: Bench, **spec: object) -> None:
    bench.kubernetes.put_reference(changed(bench.kubernetes.references[KEY], **spec))


def request_refresh(bench: Bench, value: str = "now") -> None:
    """Annotate the reference as `kubectl annotate` would."""
    body = copy.deepcopy(bench.kubernetes.references[KEY])
    body["metadata"]["annotations"] = {REFRESH_REQUESTED_AT: value}
    bench.kubernetes.put_reference(body)


def set_value(name: str, value: str) -> Callable[[Body], None]:
    def change(body: Body) -> None:
        body["data"][name] = value

    return change
