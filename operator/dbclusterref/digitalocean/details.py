"""What a reference needs beside its cluster object (a user, a pool, a database): what to ask for, and what is kept."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from math import inf

from dbclusterref.digitalocean.demand import Freshness, Requested, Routine, is_fresh
from dbclusterref.digitalocean.model import Database, DatabaseCluster, Pool, User
from dbclusterref.digitalocean.replicas import Replicas
from dbclusterref.errors import (
    Cause,
    DatabaseNotFound,
    PoolNotFound,
    ReplicasNotListed,
    UserNotFound,
    WaitingForCluster,
)
from dbclusterref.resource.reference import Reference

MISSING_MAX_AGE = 300.0
"""Seconds for which a pool or user is believed to be missing, unless its cluster changes or a refresh is requested.

A database is also believed to be there as long: nothing in the Secret comes from that read. So is what an engine without
replicas answers in place of their list.
"""
UNLISTED_MAX_AGE = 3600.0
"""The same for a user that its cluster's own list lacks: a new user would change the list."""
LATE_INTERVALS, IN_TIME_INTERVALS = 3, 2
"""A read with a turn of its own may take so many refresh intervals before it is late, and is in time again within fewer."""
DETAIL_KEPT = 3600.0
"""Seconds after its last use until a detail is dropped from memory."""
MISSING_KEPT = 2 * MISSING_MAX_AGE
"""The same for one that is missing: who names it looks more often, and a spec can name another one each second."""

DATABASES_MUST_EXIST = frozenset({"pg", "advanced_pg", "mysql", "advanced_mysql"})
"""Engines where a connection to a missing database fails. MongoDB makes one at its first use, and Redis's are numbers."""

What = tuple[str, ...]
"""What is read: its kind, the cluster's UUID, and the name of a detail."""
Detail = User | Pool | Database | Replicas
Missing = UserNotFound | PoolNotFound | DatabaseNotFound | WaitingForCluster | ReplicasNotListed


def listed_user(cluster: DatabaseCluster, name: str) -> User | None:
    """Return a user as the cluster lists it. For Kafka the list lacks the certificates: each user is read separately."""
    return cluster.user(name) if cluster.engine != "kafka" else None


def details_of(reference: Reference, cluster: DatabaseCluster) -> Iterator[What]:
    """Name what has to be asked for because the cluster object does not say it."""
    uuid = reference.cluster_uuid
    if has_no_address_yet(cluster):
        return
    if reference.user and listed_user(cluster, reference.user) is None:
        yield ("user", uuid, reference.user)
    if reference.pool:
        yield ("pool", uuid, reference.pool)
    # Nothing says that `db_names` is complete: a database that it lacks may have been created by SQL.
    if reference.database and cluster.engine in DATABASES_MUST_EXIST and reference.database not in cluster.db_names:
        yield ("database", uuid, reference.database)


def has_no_address_yet(cluster: DatabaseCluster) -> bool:
    """Return whether the cluster is being created, or the like: its users, pools and databases may be made after it."""
    endpoints = cluster.endpoints
    return cluster.status not in {"", "online"} and endpoints.private is None and "private" not in endpoints.faults


def in_words(what: What) -> str:
    """Return how a message names what is read."""
    kind, name = what[0], what[-1]
    match kind:
        case "ca":
            return "the CA"
        case "cluster":
            return "the cluster"
        case "pool":
            return f"connection pool {name}"
        case "replicas":
            return "the read-only replicas"
    return f"{kind} {name}"


def named_in(reference: Reference) -> Iterator[What]:
    """Name what may have to be asked for, while the cluster has not been read."""
    named = (("user", reference.user), ("pool", reference.pool), ("database", reference.database))
    return ((kind, reference.cluster_uuid, name) for kind, name in named if name)


@dataclass(slots=True)
class _Kept:
    """A detail, or the cause for which there is none; read while the cluster, packed, was `cluster`."""

    value: Detail | Missing = field(repr=False)
    asked_at: float
    cluster: bytes = field(repr=False)
    believed_for: float
    used_at: float
    late_for: float = 0.0
    """For references with this refresh interval, or a shorter one, it comes late."""

    def late_for_after(self, asked_at: float) -> float:
        """Return what `late_for` is with an answer that was asked for then: it ends where that came in time."""
        if asked_at <= self.asked_at:
            return self.late_for
        age = asked_at - self.asked_at - (self.believed_for if self.is_believed else 0.0)
        return min(self.late_for, age / IN_TIME_INTERVALS)

    @property
    def lasts(self) -> float:
        """Return for how many seconds after its last use it is kept."""
        return MISSING_KEPT if isinstance(self.value, Cause) else DETAIL_KEPT

    @property
    def is_believed(self) -> bool:
        """Return whether it holds for `believed_for`, however fresh an answer is wanted."""
        return isinstance(self.value, Database | Cause)


class KeptDetails:
    """The details that were read, each for as long as its cluster is as it was."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._kept: dict[What, _Kept] = {}

    def __contains__(self, what: What) -> bool:
        """Return whether it was asked for before, whatever the answer was."""
        return what in self._kept

    def get(self, what: What, *, of: bytes, wanted: Freshness) -> Detail | None:
        """Return a detail that was read while the cluster was as it is now, if it is fresh.

        `of` is b"" for replicas: the cluster says nothing of them, and its new password does not wait for their read. Raises
        the cause where the detail is known to be missing.
        """
        kept, now = self._kept.get(what), self._now()
        if kept is None or kept.cluster != of:
            return None
        kept.used_at = now
        if kept.is_believed and not isinstance(wanted, Requested):
            wanted = Routine(now - kept.believed_for)
        return _found(kept.value) if is_fresh(kept.asked_at, wanted) else None

    def was_found(self, what: What) -> bool:
        """Return whether it was there when it was last asked for, whatever its cluster was like."""
        kept = self._kept.get(what)
        if kept is None or isinstance(kept.value, Cause):
            return False
        kept.used_at = self._now()
        return True

    def holds(self, what: What, *, of: bytes, max_age: float) -> bool:
        """Return whether it was asked for while the cluster was as it is now, and not so many seconds ago as to ask again."""
        kept = self._kept.get(what)
        if kept is None or kept.cluster != of:
            return False
        return self._now() - kept.asked_at < (kept.believed_for if kept.is_believed else max_age)

    def asked_at(self, what: What) -> float:
        """Return when the answer that is kept was asked for, in monotonic seconds; minus infinity for never."""
        kept = self._kept.get(what)
        return kept.asked_at if kept else -inf

    def comes_late(self, what: What, *, interval: float) -> bool:
        """Return whether the answers about it come late for references with that refresh interval."""
        kept = self._kept.get(what)
        return kept is not None and interval <= kept.late_for

    def mark_late(self, what: What, *, interval: float) -> None:
        """Record that the answer is late for references with that refresh interval."""
        if kept := self._kept.get(what):
            kept.late_for = max(kept.late_for, interval)

    def keep(
        self, what: What, value: Detail | Missing, *, asked_at: float, of: bytes, listed: bool, requested: bool = False
    ) -> Detail:
        """Keep an answer and return it; raises the cause where there is none. `listed`: the cluster would list it.

        One that was `requested` is never late.
        """
        believed_for, former = UNLISTED_MAX_AGE if listed else MISSING_MAX_AGE, self._kept.get(what)
        late_for = 0.0 if requested or former is None else former.late_for_after(asked_at)
        self._kept[what] = _Kept(value, asked_at, of, believed_for, self._now(), late_for)
        return _found(value)

    def forget_unused(self, uuids: frozenset[str]) -> None:
        """Drop the details of clusters other than these, and those that nobody asks for any more."""
        now = self._now()
        self._kept = {what: kept for what, kept in self._kept.items() if what[1] in uuids and now - kept.used_at <= kept.lasts}


def _found(value: Detail | Missing) -> Detail:
    if isinstance(value, Cause):
        raise value.without_frames()
    return value
