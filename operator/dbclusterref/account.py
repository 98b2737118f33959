"""One DigitalOcean account as seen through one API token: plans its reads, shares their answers, keeps the token's budget.

Everyone who asks for the same cluster within an answer's age gets that answer; everyone who asks while a read is under way
gets that read's. Where many clusters are wanted, a task of the account's own walks the listing, page by page and evenly, and
tells those whose cluster changed: nobody has to ask. An account never makes its callers wait for a turn: it says how long
to stay away, so that no token holds up another.
"""

import asyncio
import contextlib
import math
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from dbclusterref.authorities import AFTER_FAILURE
from dbclusterref.cluster import Snapshot
from dbclusterref.errors import Cause, RateLimited, TokenInvalid, UpstreamUnavailable
from dbclusterref.listing import Walk
from dbclusterref.packing import pack_cluster, unpack_cluster
from dbclusterref.planner import LOOK, Demand, Plan, plan
from dbclusterref.reads import KnownCa, Reads, Upstream
from dbclusterref.reference import ObjectKey, Reference
from dbclusterref.schedule import after_failure

BREAK_EVEN = 4
"""With as many reads wanted at once, and as many as the listing has pages, pages are read."""
ANSWERS_SOON = 5.0
"""Seconds after which who waits for a page looks again; the page's arrival calls earlier."""
LATE = 1.25
"""A swept cluster's answer is late when it is older than this many refresh intervals."""
LISTING_TRIES = 3
WITHOUT_LISTING = 600.0
"""Seconds for which clusters are read singly after the listing, and it alone, failed LISTING_TRIES times in a row."""
REPLAN = 30.0
PLAN_COST, PLAN_FREE = 0.001, 0.05
"""Seconds between two plans for each cluster wanted, less what is free."""
SOON = 0.001
CHECK_LATE = 15.0
SPARE = 300.0
"""Seconds that a listed cluster is kept although nobody wants it yet."""

_SLOWED = (
    "The API token's request quota at DigitalOcean runs low, so that reads are fewer than spec.refreshInterval asks for. Raise "
    "it, or use fewer tools with one token."
)


@dataclass(slots=True)
class _Kept:
    packed: bytes = field(repr=False)
    read_at: float


class Account:
    """Reads through one token. `clock` is monotonic, in seconds.

    `observe` is told every reply (for metrics), `on_news` who should look because there is news of its cluster.
    """

    def __init__(
        self,
        token: str,
        *,
        upstream: Upstream,
        clock: Callable[[], float],
        observe: Callable[[int, int | None], None],
        on_news: Callable[[ObjectKey], object] = lambda _: None,
        chance: Callable[[], float] = random.random,
        unix_time: Callable[[], float] = time.time,
    ) -> None:
        self._now = clock
        self._chance = chance
        self._reads = Reads(token, upstream=upstream, clock=clock, observe=observe, chance=chance, unix_time=unix_time)
        self._on_news = on_news
        self._demand = Demand()
        self._walk = Walk()
        self._plan = Plan(sweep_every=None, covers=0.0, per_second=0.0)
        self._plan_is_old = True
        self._planned_at = 0.0
        self._clusters: dict[str, _Kept] = {}
        self._waiting: set[str] = set()
        self._late: set[str] = set()
        self._unlisted: frozenset[str] = frozenset()
        self._late_checked_at = 0.0
        self._trouble: Cause | None = None
        self._failures = 0
        self._walk_again_at = 0.0
        self._without_listing_until = 0.0
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self.used_at = self._now()

    @property
    def slowdown(self) -> float:
        """By what factor reads are fewer than wanted because the token's hour runs low: 1 for not at all."""
        return self._reads.budget.slowdown

    # what the reconciler asks

    def seconds_to_wait(self, reference: Reference, *, max_age: float) -> float:
        """How long to stay away before a read is this account's turn; 0 where it is, or where no request would be needed."""
        now, uuid = self._now(), reference.cluster_uuid
        self._take_note(reference, now)
        self._replan(now)
        if self._fresh_cluster(uuid, max_age=max_age):
            return 0.0
        if now < self._reads.budget.stay_away_until or (max_age and self._why_not_swept(uuid)):
            return 0.0  # the read itself says why, so that the status does too
        if max_age and (self._is_swept(uuid) or self._many_are_waiting()):
            self._waiting.add(uuid)
            if uuid not in self._clusters:
                # A page that is as it was would not bring it.
                self._walk.read_afresh()
            self.keep_going()
            self._wake.set()
            return ANSWERS_SOON
        wait = self._reads.budget.seconds_until(now)
        if wait:
            self._waiting.add(uuid)
        return wait

    async def read(self, reference: Reference, *, max_age: float, known_ca: KnownCa) -> Snapshot:
        """Reads all that the reference's Secret is rendered from; an answer up to `max_age` seconds old will do.

        `known_ca` is asked for the CA that this very reference's Secret had, where upstream has not been asked for it yet.
        Raises the cause where any read fails.
        """
        self._take_note(reference, self._now())
        uuid = reference.cluster_uuid
        packed = self._fresh_cluster(uuid, max_age=max_age)
        if packed is None:
            if max_age and (cause := self._why_not_swept(uuid)):
                self._late.add(uuid)
                raise cause
            packed = await self._read_cluster(uuid)
        cluster = unpack_cluster(packed)
        user = pool = None
        if reference.user:
            # The cluster's own list has every engine's users but their certificates, which only Kafka has.
            user = cluster.user(reference.user) if cluster.engine != "kafka" else None
            user = user or await self._reads.user(uuid, reference.user, of=cluster, forced=not max_age)
        if reference.pool:
            pool = await self._reads.pool(uuid, reference.pool, of=cluster, forced=not max_age)
        ca, pending = await self._reads.find_ca(uuid, known=known_ca)
        self.keep_going()
        return Snapshot(cluster=cluster, packed=packed, ca=ca, ca_pending=pending, user=user, pool=pool)

    def next_look(self, reference: Reference, snapshot: Snapshot) -> float:
        """In how many seconds the reference should look again, news apart; 0 where there is news already."""
        uuid = reference.cluster_uuid
        kept, ca = self._clusters.get(uuid), self._reads.authorities.get(uuid)
        if (kept and kept.packed != (snapshot.packed or pack_cluster(snapshot.cluster))) or (
            ca is not None and snapshot.ca_pending
        ):
            return 0.0
        return max(LOOK, reference.refresh_interval) if self._is_swept(uuid) else reference.refresh_interval

    def _take_note(self, reference: Reference, now: float) -> None:
        self.used_at = now
        self._plan_is_old |= self._demand.want(
            reference.cluster_uuid, reference.key, interval=reference.refresh_interval, now=now
        )

    def _fresh_cluster(self, uuid: str, *, max_age: float) -> bytes | None:
        kept = self._clusters.get(uuid)
        if kept is None or not max_age:
            return None
        age, swept = self._now() - kept.read_at, self._is_swept(uuid)
        if swept and self._trouble and self._trouble.stalled:
            return None  # a person must act, and is told at once
        swept = swept and age < self._demand.interval(uuid) * LATE
        return kept.packed if swept or age < max_age else None

    def _is_swept(self, uuid: str) -> bool:
        """Tells whether walks over the listing keep a cluster fresh."""
        swept = self._plan.swept(self._demand.interval(uuid))
        return swept and uuid in self._clusters and uuid not in self._unlisted and self._may_list()

    def _is_stretched(self) -> bool:
        """Tells whether walks take longer than they should because the budget does not allow more."""
        return self._walk.pages / self._reads.budget.pace > (self._plan.sweep_every or math.inf)

    def _may_list(self) -> bool:
        return self._now() >= self._without_listing_until

    def _many_are_waiting(self) -> bool:
        many = len(self._waiting) + self._reads.under_way >= max(BREAK_EVEN, self._walk.pages)
        return self._may_list() and (many or (self._plan.sweep_every is not None and self._reads.under_way >= BREAK_EVEN))

    def _why_not_swept(self, uuid: str) -> Cause | None:
        """Why a cluster that the walk should have brought is not fresh."""
        if not (self._is_swept(uuid) or uuid in self._waiting) or not self._may_list():
            return None
        if self._trouble:
            return self._trouble
        return RateLimited(_SLOWED) if uuid in self._late and self._is_stretched() else None

    # single reads

    async def _read_cluster(self, uuid: str) -> bytes:
        self._waiting.discard(uuid)
        self._put(uuid, pack_cluster(await self._reads.cluster(uuid)))
        if uuid not in self._unlisted:
            self._walk.read_afresh()
        return self._clusters[uuid].packed

    # the account's own task

    def keep_going(self) -> Exception | None:
        """Sees to it that the account's own task runs while it has anything to do; returns the bug that ended it, if any."""
        bug = None
        if self._task and self._task.done():
            error = None if self._task.cancelled() else self._task.exception()
            bug = error if isinstance(error, Exception) else None
            self._task = None
        if self._task is None and self._next_step(self._now()) is not None:
            self._task = asyncio.get_running_loop().create_task(self._tend(), name="account")
        return bug

    def is_unused(self, *, since: float) -> bool:
        """Tells whether nobody has read through it since then, nor is due to: some look but once a day."""
        self._replan(self._now())
        return self.used_at < since and not self._demand

    def close(self) -> None:
        """Ends the task."""
        if self._task:
            self._task.cancel()

    async def _tend(self) -> None:
        while (step := self._next_step(self._now())) is not None:
            wait, act = step
            if wait <= SOON:
                await act()
                continue
            self._wake.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(wait, REPLAN)):
                    await self._wake.wait()
            self._replan(self._now())
            self._tell_late(self._now())

    def _next_step(self, now: float) -> tuple[float, Callable[[], Awaitable[None]]] | None:
        """What the task does next, and in how many seconds; None where there is nothing to do."""
        budget = self._reads.budget
        steps: list[tuple[float, Callable[[], Awaitable[None]]]] = []
        if self._may_list() and (self._plan.sweep_every is not None or self._many_are_waiting()):
            due = 0.0 if self._waiting else self._walk.due_at - now
            steps.append((max(due, self._walk_again_at - now, budget.seconds_until(now)), self._read_page))
        at = self._reads.authorities.next_at()
        if at is not None and self._demand:
            steps.append((max(at - now, budget.seconds_until(now, spare=budget.background)), self._read_next_ca))
        return min(steps, key=lambda step: step[0], default=None)

    async def _read_page(self) -> None:
        try:
            page = await self._reads.page(self._walk.after, known=self._walk.known)
        except Cause as cause:
            self._walk_failed(cause, alone=await self._is_alone(cause))
            return
        now = self._now()
        uuids, last = self._walk.take(page)
        if self._trouble and self._trouble.stalled:
            # What a person had to mend is mended; other trouble may be with a page that is still to come.
            self._trouble = None
        for cluster in page.clusters or ():
            # Those that nobody wants yet, too: at a start, references come one after the other.
            self._put(cluster.uuid, pack_cluster(cluster))
        if page.clusters is None:
            for uuid in uuids:
                if uuid in self._demand and (kept := self._clusters.get(uuid)):
                    self._put(uuid, kept.packed)
        if last:
            self._walk_ended()
        self._plan_is_old |= last
        self._replan(now)
        if self._plan.sweep_every is not None:
            # A short budget stretches the walk, evenly.
            every = max(self._plan.sweep_every, self._walk.pages / self._reads.budget.pace)
            self._walk.space_out(now, every=every)

    def _walk_ended(self) -> None:
        self._trouble, self._failures = None, 0
        before, self._unlisted = self._unlisted, self._walk.missing(self._demand.clusters())
        for uuid in (self._unlisted - before) | (self._unlisted & self._waiting):
            # Missing from a complete list proves nothing yet: a read of its own says what became of it.
            self._tell(uuid)
        self._waiting.clear()
        self._walk.start_again()

    async def _is_alone(self, cause: Cause) -> bool:
        """Tells whether the listing alone keeps failing: where single reads fail too, they are no way round it."""
        if not isinstance(cause, UpstreamUnavailable):
            return not isinstance(cause, (RateLimited, TokenInvalid))
        uuids = tuple(self._demand.clusters())
        if self._failures + 1 < LISTING_TRIES or not uuids:
            return False
        try:
            await self._read_cluster(uuids[int(self._chance() * len(uuids))])
        except Cause as other:
            return not isinstance(other, (UpstreamUnavailable, RateLimited, TokenInvalid))
        return True

    def _walk_failed(self, cause: Cause, *, alone: bool) -> None:
        now = self._now()
        self._failures += 1
        tell = self._trouble is None
        self._trouble = cause
        self._walk_again_at = now + after_failure(cause, failures=self._failures, interval=REPLAN, jitter=self._chance())
        self._walk.start_again()
        if alone:
            self._without_listing_until, tell = now + WITHOUT_LISTING, True
            self._trouble, self._failures = None, 0
            self._waiting.clear()
        if tell:
            self._tell_all()

    async def _read_next_ca(self) -> None:
        uuid = self._reads.authorities.pop()
        if uuid not in self._demand:
            self._reads.authorities.forget(uuid)
            return
        try:
            if await self._reads.ca(uuid):
                self._tell(uuid)
        except Cause:
            self._reads.authorities.plan(uuid, at=self._now() + AFTER_FAILURE)

    # the picture

    def _put(self, uuid: str, packed: bytes) -> None:
        now = self._now()
        kept = self._clusters.get(uuid)
        news = uuid in self._waiting or uuid in self._late
        if kept is None or kept.packed != packed:
            news |= kept is not None
            self._clusters[uuid] = _Kept(packed, now)
        else:
            kept.read_at = now
        self._waiting.discard(uuid)
        self._late.discard(uuid)
        if news:
            self._tell(uuid)

    def _tell(self, uuid: str) -> None:
        for key in self._demand.followers(uuid):
            self._on_news(key)

    def _tell_all(self) -> None:
        for uuid in self._demand.clusters():
            self._tell(uuid)

    def _tell_late(self, now: float) -> None:
        if now - self._late_checked_at < CHECK_LATE:
            return
        self._late_checked_at = now
        for uuid, kept in self._clusters.items():
            if uuid not in self._late and now - kept.read_at > LATE * self._demand.interval(uuid) and self._is_swept(uuid):
                self._late.add(uuid)
                self._tell(uuid)

    def _replan(self, now: float) -> None:
        age = now - self._planned_at
        # A plan for few costs nothing; one for ten thousand takes a while, and is not made anew for each that comes.
        if not (self._plan_is_old and age >= len(self._demand) * PLAN_COST - PLAN_FREE) and age < REPLAN:
            return
        self._planned_at, self._plan_is_old = now, False
        for uuid in [u for u, kept in self._clusters.items() if u not in self._demand and now - kept.read_at > SPARE]:
            del self._clusters[uuid]
        if self._demand.lapse(now):
            self._reads.forget_all_but(self._demand.clusters())
        before, self._plan = self._plan, plan(self._demand.intervals(), pages=self._walk.pages)
        if before.sweep_every is not None and (self._plan.sweep_every is None or self._plan.covers > before.covers):
            # Who relied on walks looks for itself from now on.
            self._tell_all()


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

    def keep_going(self) -> list[Exception]:
        """Sees to it that every account's own task runs; returns the bugs that ended any."""
        return [bug for account in self._by_token.values() if (bug := account.keep_going())]

    def drop_unused(self, *, since: float) -> None:
        """Forgets accounts that nobody reads through any more: rotated tokens and what was read with them."""
        for token, account in list(self._by_token.items()):
            if account.is_unused(since=since):
                account.close()
                del self._by_token[token]
