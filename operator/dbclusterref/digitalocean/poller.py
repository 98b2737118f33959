"""An account's own task: it walks the listing, page by page and evenly, where that is cheaper than single reads.

References whose cluster is on the listing need not ask: they are marked when it changes. Between the pages the task reads the
CAs that are due.
"""

import asyncio
import contextlib
import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from dbclusterref.backoff import after_failure
from dbclusterref.digitalocean.ca_reads import CaReads
from dbclusterref.digitalocean.cache import ClusterCache
from dbclusterref.digitalocean.cursor import Cursor
from dbclusterref.digitalocean.demand import Freshness, Routine
from dbclusterref.digitalocean.first_look import FirstLooks
from dbclusterref.digitalocean.model import DatabaseCluster
from dbclusterref.digitalocean.planner import Plan, plan
from dbclusterref.digitalocean.reader import KEEPS_ENDING, UNEXPECTED, Answer, Reader
from dbclusterref.digitalocean.snapshot import ReadCluster, pack_cluster
from dbclusterref.errors import Cause, RateLimited, TokenInvalid, UpstreamUnavailable
from dbclusterref.resource.objects import ObjectKey

BREAK_EVEN = 4
"""With as many reads needed at once, and as many as the listing has pages, pages are read."""
LISTING_TRIES = 3
WITHOUT_LISTING = 600.0
"""Seconds of single reads after the listing, and it alone, failed LISTING_TRIES times in a row."""
REPLAN = 30.0
PLAN_COST, PLAN_FREE = 0.001, 0.05
"""Seconds between two plans for each cluster wanted, less what is free."""
SOON = 0.001
CHECK_LATE = 15.0
WALK_SHARE = 0.8
"""Share of the pace that pages may take while single reads wait for their turn."""
AFTER_DEATH = 5.0
"""Seconds until the task is started again after an unexpected end."""
ALIVE_AGAIN = 60.0
"""Seconds after its last unexpected end until the task counts as well again, once it reads something."""
KEEPS_DYING = 3
"""So many unexpected ends of the task, none long after the other, are a problem of this process."""

_SLOWED = (
    "The API token's rate limit at DigitalOcean is low, so clusters are read less often than spec.refreshInterval. Raise it, "
    "or use fewer tools with one token."
)
_PAGE_BY_PAGE = (
    "The operator reads this API token's clusters from DigitalOcean page by page, and the pages come slowly, so the answer "
    "about this cluster comes late. No action required."
)


@dataclass(frozen=True, slots=True)
class _Working:
    """The last walk over the listing succeeded, or none has begun."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Failing:
    """Walks fail because of `cause`, so many times in a row; the next one begins at `retry_at`."""

    cause: Cause
    failures: int
    retry_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class _GivenUp:
    """The listing, and it alone, keeps failing: clusters are read individually until then."""

    until: float


class Poller:
    """Walks the listing into `cache`. Its requests share the reader's queue with everybody else's."""

    def __init__(self, reader: Reader, cache: ClusterCache, ca_reads: CaReads) -> None:
        self._reader = reader
        self._cache = cache
        self._ca_reads = ca_reads
        self._now = reader.clock.monotonic
        self._chance = reader.clock.jitter
        self._walk = Cursor()
        self.first_looks = FirstLooks()
        self._listing: _Working | _Failing | _GivenUp = _Working()
        self._plan = Plan(sweep_every=None, covers=0.0, per_second=0.0)
        self._plan_is_old = True
        self._planned_at = 0.0
        self._unlisted: frozenset[str] = frozenset()
        self._late_checked_at = 0.0
        self._next_page_at = 0.0
        self._deaths = 0
        self._last_death = ""
        self._restart_at = 0.0
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    # what the account asks

    @property
    def needs_a_person(self) -> bool:
        """Return whether the listing fails for a reason that a person must fix."""
        return isinstance(self._listing, _Failing) and self._listing.cause.stalled

    def covers(self, uuid: str) -> bool:
        """Return whether walks over the listing keep a cluster fresh."""
        swept = self._plan.swept(self._cache.demand.interval(uuid))
        return swept and uuid in self._cache and uuid not in self._unlisted and self._may_list()

    def will_bring(self, uuid: str, *, at_once: bool = False) -> bool:
        """Return whether a page is the way to a cluster: because walks cover it, or because so many reads are needed.

        `at_once` asks for the latter alone, and for no walk that takes more requests than the reads would.
        """
        if uuid in self._unlisted:
            return False
        return self._pages_are_cheaper() if at_once else self.covers(uuid) or self.many_are_waiting()

    def wait_for(self, uuid: str) -> None:
        """Have the page that brings a cluster read as soon as the budget allows."""
        self._cache.waiting.add(uuid)
        if uuid not in self._cache:
            # A page that is as it was would not bring it.
            self._walk.reread()
        self.keep_going()
        self._wake.set()

    def wait_for_walk(self, uuid: str, key: ObjectKey) -> None:
        """Have a reference, which may not see the cluster as far as is known, wait until the whole listing was read."""
        if not self.first_looks.has(uuid, key):
            self.first_looks.join(uuid, key)
            self._walk.reread()
        self.keep_going()
        self._wake.set()

    def walk_is_over(self, uuid: str, key: ObjectKey) -> bool:
        """Return whether it was, without a page that grants the cluster. Raises the cause for which it cannot be read."""
        if self.first_looks.has(uuid, key) and isinstance(self._listing, _Failing):
            self.first_looks.leave(uuid, key)
            raise self._listing.cause.without_frames()
        return self.first_looks.is_over(uuid, key)

    def page_is_due(self) -> bool:
        """Return whether the task is about to read a page: it goes before whoever waits in the queue."""
        wait = self._seconds_until_page(self._now())
        return wait is not None and wait <= 0

    def why_not_fresh(self, uuid: str) -> Cause | None:
        """Return why a cluster that the walk should have brought is not fresh."""
        if not (self.covers(uuid) or uuid in self._cache.waiting) or not self._may_list():
            return None
        if isinstance(self._listing, _Failing):
            return self._listing.cause
        return RateLimited(_SLOWED, delayed=True) if uuid in self._cache.late and self._is_stretched() else None

    def is_slowed(self, uuid: str) -> bool:
        """Return whether walks bring a cluster, and take longer than planned because the budget does not allow more."""
        return self.covers(uuid) and self._is_stretched()

    def why_it_takes_long(self) -> Cause | None:
        """Return the cause to show for a long wait for a page; None where the rate limit holds the pages back."""
        now = self._now()
        held_back = max(self._next_page_at - now, self._reader.budget.seconds_until(now)) > 0
        return self.why_unreliable() or (None if held_back else UpstreamUnavailable(_PAGE_BY_PAGE, delayed=True))

    async def read_individually(self, uuid: str, *, wanted: Freshness) -> ReadCluster:
        """Read one cluster beside the walk."""
        self._cache.waiting.discard(uuid)
        return self.keep(await self._reader.cluster(uuid, wanted=wanted))

    def keep(self, answer: Answer[DatabaseCluster]) -> ReadCluster:
        """Keep what a read beside the walk has brought; return what is kept, since a page may have brought a newer answer."""
        uuid, packed = answer.value.uuid, pack_cluster(answer.value)
        kept = self._cache.put(uuid, packed, now=answer.asked_at)
        if uuid not in self._unlisted:
            self._walk.reread()
        return ReadCluster(cluster=answer.value, packed=kept) if kept == packed else ReadCluster.from_cache(kept)

    def plan_again(self) -> None:
        """Record that what is wanted has changed."""
        self._plan_is_old = True

    def replan(self, now: float) -> None:
        """Plan, if the plan is old and it is time."""
        age, demand = now - self._planned_at, self._cache.demand
        # A plan for few costs nothing; one for ten thousand takes a while, and is not made for each that comes.
        if not (self._plan_is_old and age >= len(demand) * PLAN_COST - PLAN_FREE) and age < REPLAN:
            return
        self._planned_at, self._plan_is_old = now, False
        self._cache.forget_unwanted(now)
        demand.lapse(now)
        self._reader.details.forget_unused(demand.clusters())
        before, self._plan = self._plan, plan(demand.intervals(), pages=self._walk.pages)
        if before.sweep_every is not None and (self._plan.sweep_every is None or self._plan.covers > before.covers):
            # References that relied on walks have to read from now on.
            self._cache.tell_all()

    def keep_going(self) -> None:
        """Make sure that the task runs while it has anything to do."""
        if self._task and self._task.done():
            error = None if self._task.cancelled() else self._task.exception()
            self._task = None
            if isinstance(error, Exception):
                self._has_died(error)
        if self._task is None and self._now() >= self._restart_at and self._has_work():
            self._task = asyncio.get_running_loop().create_task(self._tend(), name="account")

    def why_unreliable(self) -> Cause | None:
        """Return the cause to show for what only the task would read in time, while it keeps dying."""
        return UpstreamUnavailable(KEEPS_ENDING) if self._deaths >= KEEPS_DYING else None

    def problems(self) -> list[str]:
        """Return a sentence if the task keeps dying."""
        said = f"the background reads of an API token keep ending unexpectedly ({self._last_death})"
        return [said] if self.why_unreliable() else []

    def close(self) -> None:
        """End the task."""
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

    def _has_died(self, error: Exception) -> None:
        self._reader.bugs.append(error)
        self._deaths += 1
        self._last_death = type(error).__name__
        self._restart_at = self._now() + AFTER_DEATH
        # Single reads need no task: they find out what is true.
        self._walk_failed(UpstreamUnavailable(UNEXPECTED), alone=self._deaths >= KEEPS_DYING)

    def _lives(self) -> None:
        if self._now() - self._restart_at > ALIVE_AGAIN:
            self._deaths = 0

    def _has_work(self) -> bool:
        try:
            return self._next_step(self._now()) is not None
        except Exception as error:  # noqa: BLE001 - as if the task had begun and died; the caller has work of its own
            self._has_died(error)
            return False

    def _next_step(self, now: float) -> tuple[float, Callable[[], Awaitable[None]]] | None:
        """Return what the task does next, and in how many seconds; None if there is nothing to do."""
        steps: list[tuple[float, Callable[[], Awaitable[None]]]] = []
        wait = self._seconds_until_page(now)
        if wait is not None:
            steps.append((max(wait, self._reader.budget.seconds_until(now)), self._read_page))
        wait = self._ca_reads.seconds_until_next(now)
        if wait is not None:
            steps.append((wait, self._read_next_ca))
        return min(steps, key=lambda step: step[0], default=None)

    def _seconds_until_page(self, now: float) -> float | None:
        if not self._may_list() or (self._plan.sweep_every is None and not self.many_are_waiting()):
            return None
        due = self._next_page_at if self._waiting() else max(self._walk.due_at, self._next_page_at)
        retry_at = self._listing.retry_at if isinstance(self._listing, _Failing) else 0.0
        return max(due - now, retry_at - now)

    async def _read_page(self) -> None:
        try:
            await self._take_page()
        except Cause as cause:
            self._walk_failed(cause, alone=await self._is_alone(cause))
        except Exception as bug:  # noqa: BLE001 - whatever a page provokes is a cause, and ends no task
            self._reader.bugs.append(bug)
            unexpected = UpstreamUnavailable(UNEXPECTED)
            self._walk_failed(unexpected, alone=await self._is_alone(unexpected))
        else:
            self._lives()

    async def _take_page(self) -> None:
        answer = await self._reader.page(self._walk.after, known=self._walk.known)
        page, now = answer.value, self._now()
        uuids, last = self._walk.take(page)
        if self.needs_a_person or isinstance(self._listing, _GivenUp):
            # A person has fixed what was wrong; any other trouble may be with a page that is still to come.
            self._listing = _Working()
        for cluster in page.clusters or ():
            # Those that nobody wants yet, too: at a start, references come one after the other.
            self._cache.put(cluster.uuid, pack_cluster(cluster), now=answer.asked_at)
            self._cache.mark(self.first_looks.of(cluster.uuid, granted_to=cluster.granted_to or ()))
        if page.clusters is None:
            for uuid in uuids:
                if uuid in self._cache.demand:
                    self._cache.confirm(uuid, now=answer.asked_at)
        if last:
            self._walk_ended()
        self._plan_is_old |= last
        self.replan(now)
        pace = self._reader.budget.pace * WALK_SHARE
        self._next_page_at = now + 1 / pace if len(self._reader.queue) else now
        if self._plan.sweep_every is not None:
            # A short budget stretches the walk, evenly.
            self._walk.space_out(now, every=max(self._plan.sweep_every, self._shortest_walk()))

    def _walk_ended(self) -> None:
        self._listing = _Working()
        before, self._unlisted = self._unlisted, self._walk.missing(self._cache.demand.clusters())
        for uuid in (self._unlisted - before) | (self._unlisted & self._cache.waiting):
            # Missing from a complete list proves nothing yet: a single read says what became of it.
            self._cache.tell(uuid)
        self._cache.waiting.clear()
        self._cache.mark(self.first_looks.walk_ended(self._now()))
        self._walk.start_again()

    async def _is_alone(self, cause: Cause) -> bool:
        """Return whether the listing alone keeps failing: where single reads fail too, they are no way round it."""
        if not isinstance(cause, UpstreamUnavailable):
            return not isinstance(cause, (RateLimited, TokenInvalid))
        uuids = tuple(self._cache.demand.clusters())
        failures = self._listing.failures if isinstance(self._listing, _Failing) else 0
        if failures + 1 < LISTING_TRIES or not uuids:
            return False
        try:
            await self.read_individually(uuids[int(self._chance() * len(uuids))], wanted=Routine(self._now()))
        except Cause as other:
            return not isinstance(other, (UpstreamUnavailable, RateLimited, TokenInvalid))
        return True

    def _walk_failed(self, cause: Cause, *, alone: bool) -> None:
        now = self._now()
        before, was_given_up = self._listing, not self._may_list()
        self._walk.start_again()
        if alone:
            self._listing = _GivenUp(until=now + WITHOUT_LISTING)
            self._cache.waiting.clear()
        else:
            failures = before.failures + 1 if isinstance(before, _Failing) else 1
            delay = after_failure(cause, failures=failures, interval=REPLAN, jitter=self._chance())
            self._listing = _Failing(cause=cause, failures=failures, retry_at=now + delay)
        if not was_given_up and (alone or not isinstance(before, _Failing)):
            self._cache.tell_all()

    async def _read_next_ca(self) -> None:
        if await self._ca_reads.read_next(behind=int(self.page_is_due())):
            self._lives()

    def _tell_late(self, now: float) -> None:
        if now - self._late_checked_at < CHECK_LATE:
            return
        self._late_checked_at = now
        for uuid in filter(self.covers, self._cache.overdue(now)):
            self._cache.late.add(uuid)
            self._cache.tell(uuid)

    def _shortest_walk(self) -> float:
        """Return in how many seconds the budget allows a whole walk."""
        share = WALK_SHARE if len(self._reader.queue) else 1.0
        return self._walk.pages / (self._reader.budget.pace * share)

    def _is_stretched(self) -> bool:
        """Return whether walks take longer than planned because the budget does not allow more."""
        return self._shortest_walk() > (self._plan.sweep_every or math.inf)

    def _may_list(self) -> bool:
        return not isinstance(self._listing, _GivenUp) or self._now() >= self._listing.until

    def _waiting(self) -> int:
        """Return for how many clusters somebody waits that a page may bring."""
        return len(self._cache.waiting - self._unlisted) + len(self.first_looks)

    def _pages_are_cheaper(self) -> bool:
        return self._may_list() and self._waiting() + self._reader.under_way >= max(BREAK_EVEN, self._walk.pages)

    def many_are_waiting(self) -> bool:
        """Return whether pages are the way to whatever is not known, since so many reads are needed."""
        busy = self._plan.sweep_every is not None and self._reader.under_way >= BREAK_EVEN
        return self._pages_are_cheaper() or (busy and self._may_list())
