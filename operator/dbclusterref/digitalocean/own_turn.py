"""A turn of its own for a read that no Secret waits for: after the cluster's answer, in the same line and budget as others."""

from math import inf

from dbclusterref.digitalocean.demand import Freshness, Requested, of_part
from dbclusterref.digitalocean.details import LATE_INTERVALS, What, in_words
from dbclusterref.digitalocean.fair_queue import LOOK_AGAIN, Rank
from dbclusterref.digitalocean.rate_limit import queued
from dbclusterref.digitalocean.reader import Reader
from dbclusterref.errors import Cause

FIRST_AFTER = 900.0
"""Seconds without an answer after which a routine read may come before its cluster's, which may wait twice as long for it."""


class OwnTurn:
    """Whose turn it is among the reads of one kind, and which of them are late."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._details = reader.details
        self._now = reader.clock.monotonic
        self._opened_at = self._now()

    def wanted(self, what: What, wanted: Freshness) -> Freshness:
        """Return how fresh the answer must be."""
        return of_part(wanted, self._details.asked_at(what))

    def may_go_first(self, what: What, *, wanted: Freshness, interval: float) -> bool:
        """Return whether a read may come before that of its cluster: because it is requested, or has waited for long."""
        if isinstance(self.wanted(what, wanted), Requested):
            return True
        return self._now() - self._details.asked_at(what) > max(FIRST_AFTER, LATE_INTERVALS * interval)

    def may_read(self, what: What, *, of: bytes, lane: str, rank: Rank, wanted: Freshness, behind: int) -> bool:
        """Return whether the answer is there, being read, or may be read now; it waits in the queue otherwise.

        `behind` is how many requests go first, and `rank` the place of a read that nobody has requested.
        Raises the cause for which no request would be made, or which is the answer.
        """
        place = _place(what, wanted)
        if self._details.get(what, of=of, wanted=wanted) or self._reader.is_under_way(what, since=wanted.since):
            self._reader.queue.leave(lane, place)
            return True
        self._reader.refuse(wanted)
        rank = Rank.URGENT if isinstance(wanted, Requested) else rank
        return not self._reader.wait_for_turn(lane, place, rank=rank, behind=behind)

    def is_late(
        self, what: What, *, lane: str, wanted: Freshness, interval: float, since_restart: bool, believed_for: float = 0.0
    ) -> bool:
        """Return whether to say that a read waits: a requested one at once, any other after LATE_INTERVALS.

        What was read since the refresh was requested does not hold up its acknowledgement. The intervals count since the last
        answer, which is `believed_for` so many seconds besides. `since_restart` says that there may have been one that is not
        kept: an earlier process had it, or nobody has used it for a long time. They count since the read began to wait then.
        """
        if isinstance(wanted, Requested):
            return isinstance(self.wanted(what, wanted), Requested)
        since = self._details.asked_at(what)
        if since_restart and since == -inf:
            since = max(self._opened_at, self._reader.queue.joined_at(lane, _place(what, wanted)))
        late = self._now() - since > believed_for + LATE_INTERVALS * interval
        if late:
            self._details.mark_late(what, interval=interval)
        return late

    def why_late(self, what: What, *, wanted: Freshness, interval: float) -> Cause | None:
        """Return the cause to show while answers come, and come late: it stays from one to the next, until one is in time."""
        late = not isinstance(wanted, Requested) and self._details.comes_late(what, interval=interval)
        return queued(in_words(what)) if late else None

    def next_look(self, what: What, *, of: bytes, interval: float) -> float:
        """Return in how many seconds a read that waits should be looked at again; infinity where none does."""
        # A read was due at half an interval, and has not come: its place in the queue is kept only for a while.
        return inf if self._details.holds(what, of=of, max_age=interval / 2) else min(LOOK_AGAIN, interval)


def _place(what: What, wanted: Freshness) -> What:
    return (*what, type(wanted).__name__)
