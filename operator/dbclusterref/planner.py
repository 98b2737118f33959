"""Which reads are cheapest for what is wanted: one by one, or pages of the listing that serve up to 200 clusters each. Pure.

A reference's interest in a cluster is taken note of whenever it looks, and lapses when it has not looked for long: nobody has
to say that a reference is gone.
"""

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from dbclusterref.resource.objects import ObjectKey

PER_PAGE = 200
LOOK = 900.0
"""Seconds after which a reference looks again of itself although a sweep keeps its cluster fresh and would tell it of news."""
LAPSE = 2.5
"""An interest lapses after this many times the longest time between two looks."""
AHEAD = 0.9
"""A sweep's period is this share of the refresh interval: replies and writes need the rest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How to read. With `sweep_every` seconds the whole listing is read; clusters wanted oftener than `covers` go singly."""

    sweep_every: float | None
    covers: float
    per_second: float

    def swept(self, interval: float) -> bool:
        """Tells whether sweeps alone keep a cluster fresh that is wanted every `interval` seconds."""
        return self.sweep_every is not None and interval >= self.covers


def plan(intervals: Mapping[float, int], *, pages: int) -> Plan:
    """Finds the cheapest: `intervals` counts clusters by how often each is wanted, a listing takes `pages` requests.

    Every interval is tried as the sweeps' period; clusters wanted oftener than that are read singly on top.
    """
    singly = 0.0
    best = None
    for interval in sorted(intervals):
        every = interval * AHEAD
        cost = singly + pages / every
        if best is None or cost < best.per_second:
            best = Plan(sweep_every=every, covers=interval, per_second=cost)
        singly += intervals[interval] / interval
    if best is None or singly <= best.per_second:
        return Plan(sweep_every=None, covers=math.inf, per_second=singly)
    return best


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
