"""The reads of read-only replicas: in the same line and budget as all others, and never at the cluster's own expense.

A reference's Secret is first of all the primary's. So the replicas have a turn of their own, after the cluster's answer, and
where that does not come or the read fails, those that are known serve on: a rotated password never waits for them.
"""

from dbclusterref.digitalocean.demand import Freshness, Requested
from dbclusterref.digitalocean.details import What, in_words
from dbclusterref.digitalocean.fair_queue import LOOK_AGAIN
from dbclusterref.digitalocean.rate_limit import queued
from dbclusterref.digitalocean.reader import Reader
from dbclusterref.digitalocean.replicas import WITH_REPLICAS, WITHOUT_REPLICAS, Address
from dbclusterref.errors import Cause, ReplicasNotListed, TokenInvalid
from dbclusterref.resource.reference import Reference

LATE_INTERVALS = 3
"""Refresh intervals for which a list may wait for its next read before the status says so."""


class ReplicaReads:
    """The addresses of replicas, for the references that ask for them."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._now = reader.clock.monotonic
        self._opened_at = self._now()

    async def read(
        self,
        reference: Reference,
        *,
        engine: str,
        region: str,
        wanted: Freshness,
        known: tuple[Address, ...],
        behind: int,
    ) -> tuple[tuple[Address, ...], Cause | None]:
        """Return the addresses for use in a region; where they cannot be read, those `known` and why.

        `behind` is how many requests go first. Raises TokenInvalid: another token may be at hand.
        """
        if not _are_asked_for(reference, engine):
            return (), None
        try:
            if not self._may_read(reference, wanted, behind=behind):
                told = isinstance(wanted, Requested) or self._is_late(reference, known)
                return known, queued(in_words(_what(reference))) if told else None
            always_listed = engine in WITH_REPLICAS
            replicas = await self._reader.replicas(reference.cluster_uuid, always_listed=always_listed, wanted=wanted)
        except TokenInvalid:
            raise
        except ReplicasNotListed as cause:
            # An engine that this operator does not know may have no replicas. Those it had do not end with a 404.
            return known, cause if known or engine in WITH_REPLICAS else None
        except Cause as cause:
            return known, cause
        return replicas.addresses(region=region), None

    def next_look(self, reference: Reference, *, engine: str) -> float:
        """Return in how many seconds the list should be looked at again; 0 where it is not asked for."""
        if not _are_asked_for(reference, engine):
            return 0.0
        # A read was due at half an interval, and has not come: its place in the queue is kept only for a while.
        kept_for = self._reader.details.may_be_as_old_as(_what(reference), otherwise=reference.refresh_interval / 2)
        waits = self._age(reference) >= kept_for
        return min(LOOK_AGAIN, reference.refresh_interval) if waits else reference.refresh_interval

    def _may_read(self, reference: Reference, wanted: Freshness, *, behind: int) -> bool:
        """Return whether the list is there, being read, or may be read now."""
        what, lane, details = _what(reference), reference.key.namespace, self._reader.details
        place = (*what, type(wanted).__name__)
        if details.get(what, of=b"", wanted=wanted) or self._reader.is_under_way(what, since=wanted.since):
            self._reader.queue.leave(lane, place)
            return True
        self._reader.refuse(wanted)
        urgent = isinstance(wanted, Requested) or what not in details
        return not self._reader.wait_for_turn(lane, place, urgent=urgent, behind=behind)

    def _is_late(self, reference: Reference, known: tuple[Address, ...]) -> bool:
        """Return whether a list has waited for too long: since its last read, or since a restart if replicas are known."""
        asked_at = self._reader.details.asked_at(_what(reference))
        since = max(asked_at, self._opened_at) if known else asked_at
        return self._now() - since > LATE_INTERVALS * reference.refresh_interval

    def _age(self, reference: Reference) -> float:
        return self._now() - self._reader.details.asked_at(_what(reference))


def _are_asked_for(reference: Reference, engine: str) -> bool:
    return reference.wants_replicas and engine not in WITHOUT_REPLICAS


def _what(reference: Reference) -> What:
    return ("replicas", reference.cluster_uuid)
