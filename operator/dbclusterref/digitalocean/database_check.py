"""Whether the database of `spec.database` exists: asked for beside the cluster, since not every database is on its list.

Nothing in a Secret comes from that answer. So a database that was there is checked in a turn of its own, after the cluster's
answer, and where that turn does not come or the read fails, a rotated password is written nevertheless.
"""

from dbclusterref.digitalocean.demand import Freshness
from dbclusterref.digitalocean.details import MISSING_MAX_AGE, What, in_words
from dbclusterref.digitalocean.fair_queue import Rank
from dbclusterref.digitalocean.own_turn import OwnTurn
from dbclusterref.digitalocean.rate_limit import queued
from dbclusterref.digitalocean.reader import Reader
from dbclusterref.errors import Cause, TokenInvalid
from dbclusterref.resource.reference import Reference


class DatabaseChecks:
    """The checks, for the references whose cluster does not list their database."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._turn = OwnTurn(reader)

    def follows(self, reference: Reference, *, was_served: bool) -> bool:
        """Return whether the Secret is written before the check: the database was there when it was last asked for.

        `was_served` says that it was so for an earlier process.
        """
        what = _what(reference)
        return self._reader.details.was_found(what) or (was_served and what not in self._reader.details)

    async def check(self, reference: Reference, *, of: bytes, wanted: Freshness, was_served: bool, behind: int) -> Cause | None:
        """Check the database of a cluster, `of`; return why that was not possible for one that was there.

        Raises DatabaseNotFound, or the cause for which it is not known whether a database ever was there.
        """
        what, lane = _what(reference), reference.key.namespace
        fresh = self._turn.wanted(what, wanted)
        follows = self.follows(reference, was_served=was_served)
        try:
            # Behind every read that a Secret is made from: a place in front of those would be served by none of them.
            if follows and not self._turn.may_read(what, of=of, lane=lane, rank=Rank.LAST, wanted=fresh, behind=behind):
                interval, believed_for = reference.refresh_interval, MISSING_MAX_AGE
                told = self._turn.is_late(
                    what, lane=lane, wanted=wanted, interval=interval, believed_for=believed_for, since_restart=True
                )
                return queued(in_words(what)) if told else None
            await self._reader.database(reference.cluster_uuid, reference.database, of=of, wanted=fresh)
        except TokenInvalid:
            raise
        except Cause as cause:
            # What it was before the answer no longer counts once that says that it is missing.
            if self.follows(reference, was_served=was_served):
                return cause
            raise
        return None

    def why_late(self, reference: Reference, *, wanted: Freshness) -> Cause | None:
        """Return the cause to show while checks come, and come late."""
        return self._turn.why_late(_what(reference), wanted=wanted, interval=reference.refresh_interval)

    def next_look(self, reference: Reference, *, of: bytes) -> float:
        """Return in how many seconds a check that waits should be looked at again; infinity where none does."""
        return self._turn.next_look(_what(reference), of=of, interval=reference.refresh_interval)


def _what(reference: Reference) -> What:
    return ("database", reference.cluster_uuid, reference.database)
