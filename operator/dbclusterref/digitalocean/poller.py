"""An account's own task: it walks the listing, page by page and evenly, where that is cheaper than reads one by one.

Who wants a swept cluster need not ask: it is told of news. Between the pages the task reads the CAs that are due.
"""

import asyncio
import contextlib
import math
from collections.abc import Awaitable, Callable

from dbclusterref.backoff import after_failure
from dbclusterref.digitalocean.ca_schedule import AFTER_FAILURE
from dbclusterref.digitalocean.cache import ClusterCache
from dbclusterref.digitalocean.cursor import Cursor
from dbclusterref.digitalocean.planner import Plan, plan
from dbclusterref.digitalocean.reader import Reader
from dbclusterref.digitalocean.snapshot import ReadCluster, pack_cluster
from dbclusterref.errors import Cause, RateLimited, TokenInvalid, UpstreamUnavailable

BREAK_EVEN = 4
"""With as many reads wanted at once, and as many as the listing has pages, pages are read."""
LISTING_TRIES = 3
WITHOUT_LISTING = 600.0
"""Seconds for which clusters are read singly after the listing, and it alone, failed LISTING_TRIES times in a row."""
REPLAN = 30.0
PLAN_COST, PLAN_FREE = 0.001, 0.05
"""Seconds between two plans for each cluster wanted, less what is free."""
SOON = 0.001
CHECK_LATE = 15.0

_SLOWED = (
    "The API token's request quota at DigitalOcean runs low, so that reads are fewer than spec.refreshInterval asks for. Raise "
    "it, or use fewer tools with one token."
)


class Poller:
    """Walks the listing for `answers` by `reads`."""

    def __init__(self, reads: Reader, answers: ClusterCache) -> None:
        self._reads = reads
        self._answers = answers
        self._now = reads.clock.monotonic
        self._chance = reads.clock.jitter
        self._walk = Cursor()
        self._plan = Plan(sweep_every=None, covers=0.0, per_second=0.0)
        self._plan_is_old = True
        self._planned_at = 0.0
        self._unlisted: frozenset[str] = frozenset()
        self._late_checked_at = 0.0
        self._trouble: Cause | None = None
        self._failures = 0
        self._walk_again_at = 0.0
        self._without_listing_until = 0.0
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    # what the account asks

    @property
    def needs_a_person(self) -> bool:
        """Tells whether the listing fails for a reason that a person must mend."""
        return self._trouble is not None and self._trouble.stalled

    def covers(self, uuid: str) -> bool:
        """Tells whether walks over the listing keep a cluster fresh."""
        swept = self._plan.swept(self._answers.demand.interval(uuid))
        return swept and uuid in self._answers and uuid not in self._unlisted and self._may_list()

    def will_bring(self, uuid: str) -> bool:
        """Tells whether a page is the way to a cluster, be it only because so many wait for a read."""
        return self.covers(uuid) or self._many_are_waiting()

    def wait_for(self, uuid: str) -> None:
        """Has the page that brings a cluster read as soon as the budget allows."""
        self._answers.waiting.add(uuid)
        if uuid not in self._answers:
            # A page that is as it was would not bring it.
            self._walk.read_afresh()
        self.keep_going()
        self._wake.set()

    def why_not_fresh(self, uuid: str) -> Cause | None:
        """Why a cluster that the walk should have brought is not fresh."""
        if not (self.covers(uuid) or uuid in self._answers.waiting) or not self._may_list():
            return None
        if self._trouble:
            return self._trouble
        return RateLimited(_SLOWED) if uuid in self._answers.late and self._is_stretched() else None

    async def read_singly(self, uuid: str) -> ReadCluster:
        """Read one cluster beside the walk."""
        self._answers.waiting.discard(uuid)
        cluster = await self._reads.cluster(uuid)
        packed = self._answers.put(uuid, pack_cluster(cluster), now=self._now())
        if uuid not in self._unlisted:
            self._walk.read_afresh()
        return ReadCluster(cluster=cluster, packed=packed)

    def plan_anew(self) -> None:
        """Takes note that what is wanted has changed."""
        self._plan_is_old = True

    def replan(self, now: float) -> None:
        """Plans, where the plan is old and it is time."""
        age, demand = now - self._planned_at, self._answers.demand
        # A plan for few costs nothing; one for ten thousand takes a while, and is not made anew for each that comes.
        if not (self._plan_is_old and age >= len(demand) * PLAN_COST - PLAN_FREE) and age < REPLAN:
            return
        self._planned_at, self._plan_is_old = now, False
        self._answers.forget_unwanted(now)
        if demand.lapse(now):
            self._reads.forget_all_but(demand.clusters())
        before, self._plan = self._plan, plan(demand.intervals(), pages=self._walk.pages)
        if before.sweep_every is not None and (self._plan.sweep_every is None or self._plan.covers > before.covers):
            # Who relied on walks looks for itself from now on.
            self._answers.tell_all()

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

    def close(self) -> None:
        """Ends the task."""
        if self._task:
            self._task.cancel()

    # the task

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
            self.replan(self._now())
            self._tell_late(self._now())

    def _next_step(self, now: float) -> tuple[float, Callable[[], Awaitable[None]]] | None:
        """What the task does next, and in how many seconds; None where there is nothing to do."""
        budget = self._reads.budget
        steps: list[tuple[float, Callable[[], Awaitable[None]]]] = []
        if self._may_list() and (self._plan.sweep_every is not None or self._many_are_waiting()):
            due = 0.0 if self._answers.waiting else self._walk.due_at - now
            steps.append((max(due, self._walk_again_at - now, budget.seconds_until(now)), self._read_page))
        at = self._reads.ca_schedule.next_at()
        if at is not None and self._answers.demand:
            steps.append((max(at - now, budget.seconds_until(now, spare=budget.background)), self._read_next_ca))
        return min(steps, key=lambda step: step[0], default=None)

    async def _read_page(self) -> None:
        try:
            page = await self._reads.page(self._walk.after, known=self._walk.known)
            uuids, last = self._walk.take(page)
        except Cause as cause:
            self._walk_failed(cause, alone=await self._is_alone(cause))
            return
        now = self._now()
        if self._trouble and self._trouble.stalled:
            # What a person had to mend is mended; other trouble may be with a page that is still to come.
            self._trouble = None
        for cluster in page.clusters or ():
            # Those that nobody wants yet, too: at a start, references come one after the other.
            self._answers.put(cluster.uuid, pack_cluster(cluster), now=now)
        if page.clusters is None:
            for uuid in uuids:
                if uuid in self._answers.demand:
                    self._answers.confirm(uuid, now=now)
        if last:
            self._walk_ended()
        self._plan_is_old |= last
        self.replan(now)
        if self._plan.sweep_every is not None:
            # A short budget stretches the walk, evenly.
            every = max(self._plan.sweep_every, self._walk.pages / self._reads.budget.pace)
            self._walk.space_out(now, every=every)

    def _walk_ended(self) -> None:
        self._trouble, self._failures = None, 0
        before, self._unlisted = self._unlisted, self._walk.missing(self._answers.demand.clusters())
        for uuid in (self._unlisted - before) | (self._unlisted & self._answers.waiting):
            # Missing from a complete list proves nothing yet: a read of its own says what became of it.
            self._answers.tell(uuid)
        self._answers.waiting.clear()
        self._walk.start_again()

    async def _is_alone(self, cause: Cause) -> bool:
        """Tells whether the listing alone keeps failing: where single reads fail too, they are no way round it."""
        if not isinstance(cause, UpstreamUnavailable):
            return not isinstance(cause, (RateLimited, TokenInvalid))
        uuids = tuple(self._answers.demand.clusters())
        if self._failures + 1 < LISTING_TRIES or not uuids:
            return False
        try:
            await self.read_singly(uuids[int(self._chance() * len(uuids))])
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
            self._answers.waiting.clear()
        if tell:
            self._answers.tell_all()

    async def _read_next_ca(self) -> None:
        uuid = self._reads.ca_schedule.pop()
        if uuid not in self._answers.demand:
            self._reads.ca_schedule.forget(uuid)
            return
        try:
            if await self._reads.ca(uuid):
                self._answers.tell(uuid)
        except Cause:
            self._reads.ca_schedule.plan(uuid, at=self._now() + AFTER_FAILURE)

    def _tell_late(self, now: float) -> None:
        if now - self._late_checked_at < CHECK_LATE:
            return
        self._late_checked_at = now
        for uuid in filter(self.covers, self._answers.overdue(now)):
            self._answers.late.add(uuid)
            self._answers.tell(uuid)

    def _is_stretched(self) -> bool:
        """Tells whether walks take longer than they should because the budget does not allow more."""
        return self._walk.pages / self._reads.budget.pace > (self._plan.sweep_every or math.inf)

    def _may_list(self) -> bool:
        return self._now() >= self._without_listing_until

    def _many_are_waiting(self) -> bool:
        many = len(self._answers.waiting) + self._reads.under_way >= max(BREAK_EVEN, self._walk.pages)
        return self._may_list() and (many or (self._plan.sweep_every is not None and self._reads.under_way >= BREAK_EVEN))
