"""Which clusters are wanted, by which references, how often. Pure.

A reference's interest in a cluster is recorded at each of its reads, and lapses when there has been none for long: nothing has
to say that a reference is gone.
"""

import math
from collections import Counter
from dataclasses import dataclass, field

from dbclusterref.resource.objects import ObjectKey

LOOK = 900.0
"""Seconds after which a reference looks again of itself although a sweep keeps its cluster fresh and would tell it of news."""
LAPSE = 2.5
"""An interest lapses after this many times the longest time between two looks."""


@dataclass(slots=True)
class _Interest:
    """Who wants one cluster: by reference, how often and when it last said so; and how often it is wanted by the hastiest."""

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
        """Takes note of a look; tells whether it changes what must be planned."""
        interest = self._by_cluster.get(uuid)
        if interest is None:
            interest = self._by_cluster[uuid] = _Interest()
        before = interest.looks.get(key)
        interest.looks[key] = (interval, now)
        if before and before[0] == interval:
            return False
        # Only where the hastiest has become slower all must be asked.
        if before and before[0] == interest.interval:
            interest.count_again()
        else:
            interest.interval = min(interest.interval, interval)
        return True

    def lapse(self, now: float) -> bool:
        """Forgets who has not looked for long; tells whether there was anyone."""
        lapsed = False
        for uuid, interest in list(self._by_cluster.items()):
            for key, (interval, at) in list(interest.looks.items()):
                if now - at > LAPSE * max(LOOK, interval):
                    del interest.looks[key]
                    lapsed = True
            interest.count_again()
            if not interest.looks:
                del self._by_cluster[uuid]
        return lapsed

    def interval(self, uuid: str) -> float:
        """How often a cluster is wanted, in seconds; infinite where it is not."""
        interest = self._by_cluster.get(uuid)
        return interest.interval if interest else math.inf

    def intervals(self) -> Counter[float]:
        """Counts the clusters by how often they are wanted."""
        return Counter(interest.interval for interest in self._by_cluster.values())

    def followers(self, uuid: str) -> tuple[ObjectKey, ...]:
        """Who wants a cluster."""
        interest = self._by_cluster.get(uuid)
        return tuple(interest.looks) if interest else ()

    def clusters(self) -> frozenset[str]:
        """Which clusters are wanted."""
        return frozenset(self._by_cluster)
