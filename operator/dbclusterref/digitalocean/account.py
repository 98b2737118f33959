"""One DigitalOcean account as seen through one API token: plans its reads, shares their answers, keeps the token's budget.

Everyone who asks for the same cluster within an answer's age gets that answer; everyone who asks while a read is under way
gets that read's. Where many clusters are wanted, the account's own task (`sweep`) walks the listing and tells those whose
cluster changed: nobody has to ask. An account never makes its callers wait for a turn: it says how long to stay away, so
that no token holds up another.
"""

from collections.abc import Callable, Iterator

from dbclusterref.digitalocean.cache import LATE, CachedCluster, ClusterCache
from dbclusterref.digitalocean.deletion_guard import DeletionGuard
from dbclusterref.digitalocean.demand import LOOK
from dbclusterref.digitalocean.fair_queue import LOOK_AGAIN, FairQueue
from dbclusterref.digitalocean.poller import Poller
from dbclusterref.digitalocean.reader import KnownCa, Reader
from dbclusterref.digitalocean.snapshot import ReadCluster, Snapshot, packed_cluster
from dbclusterref.resource.objects import ObjectKey
from dbclusterref.resource.reference import Reference

ANSWERS_SOON = 5.0
"""Seconds after which who waits for a page looks again; the page's arrival calls earlier."""


class Account:
    """Reads through one token. `on_change` receives each reference whose cluster has changed."""

    def __init__(self, reader: Reader, *, on_change: Callable[[ObjectKey], object] = lambda _: None) -> None:
        self._now = reader.clock.monotonic
        self._reads = reader
        self._answers = ClusterCache(on_news=on_change)
        self._first, self._others = FairQueue(), FairQueue()
        self._sweep = Poller(reader, self._answers)
        self.deletion_guard = DeletionGuard()
        self.used_at = self._now()

    @property
    def slowdown(self) -> float:
        """By what factor reads are fewer than wanted because the token's hour runs low: 1 for not at all."""
        return self._reads.budget.slowdown

    def read_times(self) -> Iterator[tuple[str, float]]:
        """Return when DigitalOcean last answered for each cluster, in monotonic seconds."""
        return self._answers.read_times()

    def seconds_to_wait(self, reference: Reference, *, max_age: float) -> float:
        """How long to stay away before a read is this account's turn; 0 where it is, or where no request would be needed."""
        now, uuid = self._now(), reference.cluster_uuid
        self._take_note(reference, now)
        self._sweep.replan(now)
        if self._fresh_cluster(uuid, max_age=max_age):
            self._leave_line(uuid)
            return 0.0
        if now < self._reads.budget.stay_away_until or (max_age and self._sweep.why_not_fresh(uuid)):
            return 0.0  # the read itself says why, so that the status does too
        if max_age and self._sweep.will_bring(uuid):
            self._sweep.wait_for(uuid)
            return ANSWERS_SOON
        return self._seconds_until_turn(uuid, somebody_waits=not max_age or uuid not in self._answers, now=now)

    async def read(self, reference: Reference, *, max_age: float, known_ca: KnownCa) -> Snapshot:
        """Read all that the reference's Secret is rendered from; an answer up to `max_age` seconds old will do.

        `known_ca` is asked for the CA that this very reference's Secret had, where upstream has not been asked for it yet.
        Raises the cause where any read fails.
        """
        self._take_note(reference, self._now())
        uuid = reference.cluster_uuid
        kept = self._fresh_cluster(uuid, max_age=max_age)
        if kept is not None:
            found = ReadCluster.from_cache(kept)
        else:
            if max_age and (cause := self._sweep.why_not_fresh(uuid)):
                self._answers.late.add(uuid)
                raise cause
            self._leave_line(uuid)
            found = await self._sweep.read_singly(uuid)
        cluster, packed = found.cluster, found.packed
        user = pool = None
        if reference.user:
            # The cluster's own list has every engine's users but their certificates, which only Kafka has.
            user = cluster.user(reference.user) if cluster.engine != "kafka" else None
            user = user or await self._reads.user(uuid, reference.user, of=packed, forced=not max_age)
        if reference.pool:
            pool = await self._reads.pool(uuid, reference.pool, of=packed, forced=not max_age)
        ca, pending = await self._reads.find_ca(uuid, known=known_ca)
        self._sweep.keep_going()
        answer = self._answers.get(uuid)
        read_at = answer.read_at if answer else self._now()
        return Snapshot(cluster=cluster, packed=packed, read_at=read_at, ca=ca, ca_pending=pending, user=user, pool=pool)

    def last_answer(self, uuid: str) -> CachedCluster | None:
        """Return a cluster as it was last read, and when; None where it was not, or is no longer wanted."""
        return self._answers.get(uuid)

    def next_look(self, reference: Reference, snapshot: Snapshot) -> float:
        """In how many seconds the reference should look again, news apart; 0 where there is news already."""
        uuid = reference.cluster_uuid
        kept, ca = self._answers.get(uuid), self._reads.ca_schedule.get(uuid)
        if (kept and kept.packed != packed_cluster(snapshot)) or (ca is not None and snapshot.ca_pending):
            return 0.0
        return max(LOOK, reference.refresh_interval) if self._sweep.covers(uuid) else reference.refresh_interval

    def keep_going(self) -> Exception | None:
        """Sees to it that the account's own task runs while it has anything to do; returns the bug that ended it, if any."""
        return self._sweep.keep_going()

    def is_unused(self, *, since: float) -> bool:
        """Tells whether nobody has read through it since then, nor is due to: some look but once a day."""
        self._sweep.replan(self._now())
        return self.used_at < since and not self._answers.demand

    def close(self) -> None:
        """Ends the task."""
        self._sweep.close()

    def _take_note(self, reference: Reference, now: float) -> None:
        self.used_at = now
        if self._answers.demand.want(reference.cluster_uuid, reference.key, interval=reference.refresh_interval, now=now):
            self._sweep.plan_anew()

    def _seconds_until_turn(self, uuid: str, *, somebody_waits: bool, now: float) -> float:
        # New resources, and what a person has asked for, go before what is only to be refreshed.
        line, before = (self._first, 0) if somebody_waits else (self._others, self._first.length(now))
        wait = self._reads.budget.seconds_until(now, spare=before + line.position(uuid, now=now))
        if wait:
            self._answers.waiting.add(uuid)
            line.join(uuid, now=now)
        return min(wait, LOOK_AGAIN)

    def _leave_line(self, uuid: str) -> None:
        self._first.leave(uuid)
        self._others.leave(uuid)

    def _fresh_cluster(self, uuid: str, *, max_age: float) -> bytes | None:
        kept = self._answers.get(uuid)
        if kept is None or not max_age:
            return None
        age, swept = self._now() - kept.read_at, self._sweep.covers(uuid)
        if swept and self._sweep.needs_a_person:
            return None  # a person must act, and is told at once
        swept = swept and age < self._answers.demand.interval(uuid) * LATE
        return kept.packed if swept or age < max_age else None


class Accounts:
    """The accounts in use, one per distinct token; tokens are the only key, and are never shown."""

    def __init__(self, make_account: Callable[[str], Account]) -> None:
        self._make_account = make_account
        self._by_token: dict[str, Account] = {}

    def of(self, token: str) -> Account:
        """Finds the token's account, or opens it."""
        account = self._by_token.get(token)
        if account is None:
            account = self._by_token[token] = self._make_account(token)
        return account

    @property
    def slowdown(self) -> float:
        """The greatest slowdown of any token."""
        return max((account.slowdown for account in self._by_token.values()), default=1.0)

    def read_times(self) -> dict[str, float]:
        """Return when DigitalOcean last answered for each cluster, through whichever token."""
        latest: dict[str, float] = {}
        for account in self._by_token.values():
            for uuid, read_at in account.read_times():
                latest[uuid] = max(read_at, latest.get(uuid, read_at))
        return latest

    def keep_going(self) -> list[Exception]:
        """Sees to it that every account's own task runs; returns the bugs that ended any."""
        return [bug for account in self._by_token.values() if (bug := account.keep_going())]

    def drop_unused(self, *, since: float) -> None:
        """Forgets accounts that nobody reads through any more: rotated tokens and what was read with them."""
        for token, account in list(self._by_token.items()):
            if account.is_unused(since=since):
                account.close()
                del self._by_token[token]
