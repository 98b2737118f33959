"""The reads of CAs: for a first Secret, for a requested refresh, and by the account's own task where they are due."""

import contextlib

from dbclusterref.digitalocean.ca_schedule import AFTER_FAILURE
from dbclusterref.digitalocean.cache import ClusterCache
from dbclusterref.digitalocean.demand import Freshness, Requested, Routine, of_part
from dbclusterref.digitalocean.details import What
from dbclusterref.digitalocean.reader import Reader
from dbclusterref.errors import Cause, RateLimited

FIRST_CA_WAIT = 60.0
"""Seconds that a first Secret may wait for its CA's turn, so that it is written once. Where that is longer, the CA follows."""

CA_WEIGHT = 4
"""While others wait, a CA counts as so many requests: connection details go first."""


class CaReads:
    """The CAs of clusters that references ask for. A CA that is read marks all references to its cluster."""

    def __init__(self, reader: Reader, cache: ClusterCache) -> None:
        self._reader = reader
        self._cache = cache
        self._now = reader.clock.monotonic
        self._next_at = 0.0

    def is_requested(self, uuid: str, wanted: Freshness) -> bool:
        """Return whether a refresh is requested, and the CA was not read since."""
        return isinstance(of_part(wanted, self._reader.ca_schedule.asked_at(uuid)), Requested)

    async def read_requested(self, uuid: str, wanted: Freshness) -> Cause | None:
        """Read the CA where a refresh is requested; return why that was not possible: the last CA stays in use then."""
        if self.is_requested(uuid, wanted):
            try:
                if await self._reader.ca(uuid, wanted=wanted):
                    self._cache.tell(uuid)
            except Cause as cause:
                return cause
        return None

    def follow(self, uuid: str, *, lane: str, place: What) -> bool:
        """Return whether a cluster that a page brought is answered without its CA, which the account's own task then reads."""
        budget, schedule = self._reader.budget, self._reader.ca_schedule
        # Decided before, and true of each refresh until the CA is there: a new password does not wait for it.
        if schedule.is_planned(uuid) or self._now() < budget.stay_away_until:
            return True
        # Where most of a crowd would wait too long, nobody does: the requests are for the pages that keep all of it fresh.
        crowd = len(self._cache.demand) - len(schedule) > budget.burst + budget.pace * FIRST_CA_WAIT
        wait = self._reader.turn_comes_in(lane, place, spare=budget.background if crowd else 0.0)
        return wait > (0.0 if crowd else FIRST_CA_WAIT)

    async def find(self, uuid: str, *, known: bytes, follows: bool) -> tuple[bytes, bool]:
        """Return the CA, and whether upstream has yet to be asked for it."""
        schedule, now = self._reader.ca_schedule, self._now()
        kept = schedule.get(uuid)
        if kept is not None:
            return kept or known, False
        if known:
            schedule.plan_recheck(uuid, now=now)
            return schedule.shared(known), False
        if not follows:
            with contextlib.suppress(RateLimited):
                await self._reader.ca(uuid, wanted=Routine(now))
                return schedule.get(uuid) or b"", False
        schedule.plan(uuid, at=now)
        return b"", True

    # for the account's own task

    def seconds_until_next(self, now: float) -> float | None:
        """Return in how many seconds the next CA is to be read; None where none is due and nobody wants one."""
        at = self._reader.ca_schedule.next_at()
        return None if at is None or not self._cache.demand else max(at - now, self._next_at - now, 0.0)

    async def read_next(self, *, behind: int) -> bool:
        """Read the CA that is due, in its turn; return whether DigitalOcean has answered."""
        schedule, now = self._reader.ca_schedule, self._now()
        uuid = schedule.peek()
        followers = self._cache.demand.followers(uuid)
        if not followers:
            schedule.pop()
            schedule.forget(uuid)
            return False
        alone = not len(self._reader.queue)
        wait = self._reader.wait_for_turn(
            # A lane of its own: one CA at a time waits here, and would be the last of its namespace each time.
            f"{followers[0].namespace} ca",
            ("ca", uuid),
            weight=CA_WEIGHT,
            behind=behind,
            spare=self._reader.budget.background if alone else 0.0,
        )
        if wait:
            self._next_at = now + wait
            return False
        schedule.pop()
        try:
            if await self._reader.ca(uuid, wanted=Routine(now)):
                self._cache.tell(uuid)
        except Cause:
            schedule.plan(uuid, at=self._now() + AFTER_FAILURE)
            return False
        return True
