"""Reads that the rate limit delays: when they are late, until when that is said, and how long a Secret is not fresh. Pure.

A reference is late once its answer is older than LATE refresh intervals, until an answer comes in time again. So reads that
keep coming late are reported once, and not each time.
"""

from datetime import datetime, timedelta

from dbclusterref.digitalocean.cache import LATE
from dbclusterref.errors import Cause
from dbclusterref.reconcile.conditions import Outcome, Published
from dbclusterref.reconcile.entry import Entry, ReadState
from dbclusterref.resource.status import ConditionType


def is_delayed(reads: ReadState) -> bool:
    """Return whether reads, of the cluster or of a part, come late and none fails: the rate limit or slow pages delay them."""
    return reads.cause is not None and reads.cause.delayed


def comes_late(reads: ReadState) -> bool:
    """Return whether the reads of the cluster come late, and none fails; that of a part alone is another matter."""
    return is_delayed(reads) and reads.late is not None


def seconds_until_late(reads: ReadState, *, now: float, interval: float) -> float:
    """Return in how many seconds the answer is older than it may be; after a restart, as if it had come at the first read."""
    since = next((at for at in (reads.answered_at, reads.waiting_since) if at is not None), now)
    return max(0.0, since + LATE * interval - now)


def still_late(reads: ReadState, *, read_at: float, interval: float, slowed: bool) -> Cause | None:
    """Return the cause that an answer of `read_at` does not end, None where it ends it or there is none.

    An answer that has waited, or whose walk is `slowed`, is in time only within the interval itself: around a single limit
    the status would change at every other read.
    """
    # Nobody has asked during a suspension: how old the former answer is says nothing of the rate limit.
    if reads.late is None or reads.answered_at is None or reads.is_doubted:
        return None
    waited = slowed or reads.waiting_since is not None
    in_time = 0 < read_at - reads.answered_at <= interval * (1.0 if waited else LATE)
    return None if in_time else reads.late


def not_fresh_for(entry: Entry, outcome: Outcome, *, now: datetime, monotonic: float) -> timedelta:
    """Return for how long no answer has confirmed the Secret, and record since when."""
    state, reads = entry.published, entry.reads
    if isinstance(outcome, Published):
        state.not_fresh_since = None
        return timedelta()
    if is_delayed(reads) and reads.answered_at is not None:
        # An answer that comes late, or without the part that waits, still confirms the Secret.
        state.not_fresh_since = reads.answered_at
    elif state.not_fresh_since is None:
        # After a restart the status alone knows, by a clock that may have jumped. It does not know when late reads were last
        # answered: what an earlier process called ready was confirmed not long before.
        confirmed = comes_late(reads) and entry.status.is_true(ConditionType.READY)
        known = timedelta() if confirmed else entry.status.not_fresh_for(now)
        state.not_fresh_since = monotonic - known.total_seconds()
    return timedelta(seconds=monotonic - state.not_fresh_since)
