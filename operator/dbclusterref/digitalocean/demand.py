"""Which clusters are wanted, by which references, how often, and how fresh an answer must be. Pure.

A reference's interest in a cluster is recorded at each of its reads, and ends when it leaves: `reconcile/named_secrets` sees to
that. It also lapses when there has been no read for a long time. Times are monotonic seconds.
"""

import math
from collections import Counter
from dataclasses import dataclass, field

from dbclusterref.resource.objects import ObjectKey

LOOK = 900.0
"""Seconds after which a reference reads although walks keep its cluster fresh and would mark it after a change."""
LAPSE = 2.5
"""An interest lapses after this many times the longest time between two reads."""


@dataclass(frozen=True, slots=True)
class Routine:
    """An answer that was asked for after `since` is fresh enough.

    Of a cluster that walks keep fresh an older one is, too, if it was asked for after `doubted_at`.
    """

    since: float
    doubted_at: float = -math.inf


@dataclass(frozen=True, slots=True)
class Requested:
    """Somebody requested a refresh: everything the Secret is made from is read again, the CA included.

    An answer that was asked for after `since` is fresh enough, and a part (see `of_part`) after `requested_at` where that is
    another time: while a part of the refresh cannot be read, the cluster is read at least as often as otherwise.
    """

    since: float
    requested_at: float | None = None


Freshness = Routine | Requested


def of_part(wanted: Freshness, asked_at: float) -> Freshness:
    """Return how fresh a part must be that was last asked for then: the CA, and what has a turn of its own.

    Once it was read since the request, it is as fresh as otherwise: parts that come one after the other make a refresh.
    """
    if isinstance(wanted, Routine):
        return wanted
    requested_at = wanted.since if wanted.requested_at is None else wanted.requested_at
    return Requested(requested_at) if asked_at <= requested_at else Routine(wanted.since)


def is_fresh(asked_at: float, wanted: Freshness) -> bool:
    """Return whether an answer that was asked for then is fresh enough."""
    return asked_at > wanted.since


@dataclass(slots=True)
class _Interest:
    """The references that want one cluster, how often and since when each; and the shortest of their intervals."""

    looks: dict[ObjectKey, tuple[float, float]] = field(default_factory=dict)
    interval: float = math.inf

    def count_again(self) -> None:
        self.interval = min((interval for interval, _ in self.looks.values()), default=math.inf)


class Demand:
    """Which clusters are wanted, by whom, how often."""

    def __init__(self) -> None:
        self._by_cluster: dict[str, _Interest] = {}

    def __contains__(self, uuid: str) -> bool:
        return uuid in self._by_cluster

    def __len__(self) -> int:
        return len(self._by_cluster)

    def want(self, uuid: str, key: ObjectKey, *, interval: float, now: float) -> bool:
        """Record a reference's interest; return whether it changes what must be planned."""
        interest = self._by_cluster.get(uuid)
        if interest is None:
            interest = self._by_cluster[uuid] = _Interest()
        before = interest.looks.get(key)
        interest.looks[key] = (interval, now)
        if before and before[0] == interval:
            return False
        # Only where the shortest interval has become longer all must be compared.
        if before and before[0] == interest.interval:
            interest.count_again()
        else:
            interest.interval = min(interest.interval, interval)
        return True

    def leave(self, uuid: str, key: ObjectKey) -> None:
        """Forget a reference's interest: it may not see the cluster, and is told nothing of it."""
        interest = self._by_cluster.get(uuid)
        if interest is None or interest.looks.pop(key, None) is None:
            return
        interest.count_again()
        if not interest.looks:
            del self._by_cluster[uuid]

    def lapse(self, now: float) -> None:
        """Forget the references that have not read for a long time."""
        for uuid, interest in list(self._by_cluster.items()):
            for key, (interval, at) in list(interest.looks.items()):
                if now - at > LAPSE * max(LOOK, interval):
                    del interest.looks[key]
            interest.count_again()
            if not interest.looks:
                del self._by_cluster[uuid]

    def interval(self, uuid: str) -> float:
        """Return how often a cluster is wanted, in seconds; infinite where it is not."""
        interest = self._by_cluster.get(uuid)
        return interest.interval if interest else math.inf

    def intervals(self) -> Counter[float]:
        """Count the clusters by how often they are wanted."""
        return Counter(interest.interval for interest in self._by_cluster.values())

    def followers(self, uuid: str) -> tuple[ObjectKey, ...]:
        """Return the references that want a cluster."""
        interest = self._by_cluster.get(uuid)
        return tuple(interest.looks) if interest else ()

    def clusters(self) -> frozenset[str]:
        """Return the clusters that are wanted."""
        return frozenset(self._by_cluster)
