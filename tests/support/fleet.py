"""Many references on one token in time that is only a number: what the reconciler does to an account, and nothing else."""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import httpx

from dbclusterref.clock import Clock
from dbclusterref.digitalocean.account import Account, Queued
from dbclusterref.digitalocean.client import DigitalOcean
from dbclusterref.digitalocean.demand import Freshness, Requested, Routine
from dbclusterref.digitalocean.reader import Reader
from dbclusterref.digitalocean.snapshot import Snapshot
from dbclusterref.errors import Cause
from dbclusterref.reconcile.workqueue import WorkQueue
from dbclusterref.resource.objects import ObjectKey
from dbclusterref.resource.reference import Reference
from sandbox.digitalocean.simulator import Simulator
from tests.support.builders import TOKEN, a_reference
from tests.support.fake_digitalocean import FakeUpstream
from tests.support.replies import arriving


def in_memory(simulator: Simulator) -> DigitalOcean:
    """The edge in front of a real simulator, without sockets."""

    def answer(request: httpx.Request) -> httpx.Response:
        delivery = simulator.handle(
            request.method,
            request.url.path,
            query=dict(request.url.params),
            path_qs=request.url.raw_path.decode(),
            token=request.headers["authorization"].removeprefix("Bearer "),
            base_url="http://digitalocean.test",
        )
        return arriving(delivery.reply.status, delivery.reply.body, headers=dict(delivery.reply.headers))

    client = httpx.AsyncClient(transport=httpx.MockTransport(answer))
    return DigitalOcean(client, base_url="http://digitalocean.test")


@dataclass
class Fleet:
    """References. `snapshots` is what each has read last, `read_at` when, `causes` why the last read failed.

    `without_ca` are those whose first answer lacked its CA: their Secret is written twice.
    `requested_at` says when a person asked for a refresh that has not been read yet.
    """

    account: Account
    clock: Callable[[], float]
    references: Mapping[ObjectKey, Reference]
    queue: WorkQueue[ObjectKey]
    snapshots: dict[ObjectKey, Snapshot] = field(default_factory=dict)
    causes: dict[ObjectKey, Cause] = field(default_factory=dict)
    read_at: dict[ObjectKey, float] = field(default_factory=dict)
    requested_at: dict[ObjectKey, float] = field(default_factory=dict)
    without_ca: set[ObjectKey] = field(default_factory=set)
    looks: int = 0

    async def run(self, seconds: float, *, step: float = 1.0) -> None:
        """Look whenever a look is due, for so long; `step` is how long a change may wait until it is looked for."""
        end = self.clock() + seconds
        while (now := self.clock()) < end:
            if (key := self.queue.take(now)) is not None:
                wait = await self.look(self.references[key])
                self.queue.done(key)
                self.queue.schedule(key, at=now + wait)
                if self.looks % 16 == 0:
                    await asyncio.sleep(0)
            else:
                # A change may come at any time.
                deadline = self.queue.next_deadline()
                await asyncio.sleep(max(0.001, min(step, end - now, step if deadline is None else deadline - now)))

    def request_refresh(self, key: ObjectKey) -> None:
        """Ask for a refresh as the annotation does."""
        self.requested_at[key] = self.clock()
        self.queue.mark(key)

    async def look(self, reference: Reference) -> float:
        self.looks += 1
        key = reference.key
        wanted: Freshness = Routine(self.clock() - reference.refresh_interval / 2)
        if key in self.requested_at:
            wanted = Requested(self.requested_at[key])

        async def known_ca() -> bytes:
            return self.snapshots[key].ca if key in self.snapshots else b""

        try:
            snapshot = await self.account.read(reference, wanted=wanted, known_ca=known_ca)
        except Cause as cause:
            self.causes[key] = cause
            return 30.0
        if isinstance(snapshot, Queued):
            return snapshot.seconds
        self.causes.pop(key, None)
        if snapshot.ca_pending and key not in self.snapshots:
            self.without_ca.add(key)
        self.snapshots[key] = snapshot
        self.read_at[key] = self.clock()
        self.requested_at.pop(key, None)
        return max(0.1, self.account.next_look(reference, snapshot))


def fleet(
    upstream: DigitalOcean | FakeUpstream, uuids: list[str], *, clock: Callable[[], float], interval: str = "1m"
) -> Fleet:
    """One reference for each cluster."""
    return fleet_of(
        upstream, [numbered_reference(number, uuid, interval=interval) for number, uuid in enumerate(uuids)], clock=clock
    )


def numbered_reference(number: int, uuid: str, *, namespace: str = "shop", interval: str = "1m", **spec: Any) -> Reference:
    key = ObjectKey(namespace, f"db-{number}")
    return a_reference(key=key, uid=f"uid-{namespace}-{number}", clusterUUID=uuid, refreshInterval=interval, **spec)


def fleet_of(upstream: DigitalOcean | FakeUpstream, wanted: Iterable[Reference], *, clock: Callable[[], float]) -> Fleet:
    """Any references that share one token."""
    references = {reference.key: reference for reference in wanted}
    queue = WorkQueue[ObjectKey]()
    for key in references:
        queue.mark(key)
    # The simulator's time of day is the same clock.
    time_and_chance = Clock(monotonic=clock, now=lambda: datetime.fromtimestamp(clock(), UTC), jitter=lambda: 0.5)
    reader = Reader(TOKEN, upstream=upstream, clock=time_and_chance)
    account = Account(reader, on_change=queue.mark)
    return Fleet(account=account, clock=clock, references=references, queue=queue)
