"""Which reads are cheapest for what is wanted: single ones, or pages of the listing with up to 200 clusters each. Pure."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

AHEAD = 0.9
"""A sweep's period is this share of the refresh interval: replies and writes need the rest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """With `sweep_every` seconds the whole listing is read; clusters wanted more often than `covers` go individually."""

    sweep_every: float | None
    covers: float
    per_second: float

    def swept(self, interval: float) -> bool:
        """Return whether sweeps alone keep a cluster fresh that is wanted every `interval` seconds."""
        return self.sweep_every is not None and interval >= self.covers


def plan(intervals: Mapping[float, int], *, pages: int) -> Plan:
    """Return the cheapest plan: `intervals` counts clusters by how often each is wanted, a listing takes `pages` requests.

    Every interval is tried as the sweeps' period; clusters wanted more often than that are read individually on top.
    """
    individually = 0.0
    best = None
    for interval in sorted(intervals):
        every = interval * AHEAD
        cost = individually + pages / every
        if best is None or cost < best.per_second:
            best = Plan(sweep_every=every, covers=interval, per_second=cost)
        individually += intervals[interval] / interval
    if best is None or individually <= best.per_second:
        return Plan(sweep_every=None, covers=math.inf, per_second=individually)
    return best
