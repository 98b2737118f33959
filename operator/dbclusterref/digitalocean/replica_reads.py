"""The reads of read-only replicas: in the same line and budget as all others, and hardly at their cluster's expense.

A reference's Secret is first of all the primary's. So the replicas have a turn of their own, after the cluster's answer, and
where that does not come or the read fails, those that are known serve on. Only a list that nobody has read for a quarter of an
hour goes before its cluster, once.
"""

from math import inf

from dbclusterref.digitalocean.demand import Freshness
from dbclusterref.digitalocean.details import What, in_words
from dbclusterref.digitalocean.fair_queue import Rank
from dbclusterref.digitalocean.own_turn import OwnTurn
from dbclusterref.digitalocean.rate_limit import queued
from dbclusterref.digitalocean.reader import Reader
from dbclusterref.digitalocean.replicas import WITH_REPLICAS, WITHOUT_REPLICAS, Address
from dbclusterref.errors import Cause, ReplicasNotListed, TokenInvalid
from dbclusterref.resource.reference import Reference


class ReplicaReads:
    """The addresses of replicas, for the references that ask for them."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._turn = OwnTurn(reader)

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
        what, lane = _what(reference), reference.key.namespace
        fresh = self._turn.wanted(what, wanted)
        rank = Rank.ROUTINE if what in self._reader.details else Rank.URGENT
        try:
            if not self._turn.may_read(what, of=b"", lane=lane, rank=rank, wanted=fresh, behind=behind):
                interval, restarted = reference.refresh_interval, bool(known)
                told = self._turn.is_late(what, lane=lane, wanted=wanted, interval=interval, since_restart=restarted)
                return known, queued(in_words(what)) if told else None
            always_listed = engine in WITH_REPLICAS
            replicas = await self._reader.replicas(reference.cluster_uuid, always_listed=always_listed, wanted=fresh)
        except TokenInvalid:
            raise
        except ReplicasNotListed as cause:
            # An engine that this operator does not know may have no replicas. Those it had do not end with a 404.
            return known, cause if known or engine in WITH_REPLICAS else None
        except Cause as cause:
            return known, cause
        return replicas.addresses(region=region), None

    async def read_before_cluster(
        self, reference: Reference, *, engine: str, region: str, wanted: Freshness, behind: int
    ) -> None:
        """Read the list in its turn while a cluster that was read before waits for its own; raises the cause if it fails."""
        if self._turn.may_go_first(_what(reference), wanted=wanted, interval=reference.refresh_interval):
            await self.read(reference, engine=engine, region=region, wanted=wanted, known=(), behind=behind)

    def why_late(self, reference: Reference, *, engine: str, wanted: Freshness) -> Cause | None:
        """Return the cause to show while the list comes, and comes late."""
        if not _are_asked_for(reference, engine):
            return None
        return self._turn.why_late(_what(reference), wanted=wanted, interval=reference.refresh_interval)

    def next_look(self, reference: Reference, *, engine: str) -> float:
        """Return in how many seconds the list should be looked at again; infinity where it is not asked for."""
        if not _are_asked_for(reference, engine):
            return inf
        interval = reference.refresh_interval
        return min(interval, self._turn.next_look(_what(reference), of=b"", interval=interval))


def _are_asked_for(reference: Reference, engine: str) -> bool:
    return reference.wants_replicas and engine not in WITHOUT_REPLICAS


def _what(reference: Reference) -> What:
    return ("replicas", reference.cluster_uuid)
