"""The CA in a reference's answer: read for a first Secret and for a requested refresh, else left to the account's own task."""

import contextlib

from dbclusterref.digitalocean.cache import ClusterCache
from dbclusterref.digitalocean.demand import Freshness, Requested, Routine
from dbclusterref.digitalocean.details import What
from dbclusterref.digitalocean.reader import Reader
from dbclusterref.errors import Cause, RateLimited

FIRST_CA_WAIT = 60.0
"""Seconds that a first Secret may wait for its CA's turn, so that it is written once. Where that is longer, the CA follows."""


class CaReads:
    """The CAs of clusters that references ask for. A CA that is read marks all references to its cluster."""

    def __init__(self, reader: Reader, cache: ClusterCache) -> None:
        self._reader = reader
        self._cache = cache
        self._now = reader.clock.monotonic

    async def read_requested(self, uuid: str, wanted: Freshness) -> Cause | None:
        """Read the CA where a refresh is requested; return why that was not possible: the last CA stays in use then."""
        if isinstance(wanted, Requested) and not wanted.is_fresh_ca(self._reader.ca_schedule.asked_at(uuid)):
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
