"""A line before a token's budget: who came first reads first, and everyone stays away until then. Pure.

Without it all who wait would look whenever a request is to be had, a thousand looks for each read, and chance would serve.
"""

from bisect import bisect_left
from dataclasses import dataclass, field

LOOK_AGAIN = 60.0
"""Seconds after which who waits looks again in any case: the budget may have grown, and the line shorter."""
ABSENT = 2 * LOOK_AGAIN
"""Who has not looked for so long has gone without a word: its resource was deleted, or wants another cluster."""


@dataclass(slots=True)
class _Place:
    number: int
    seen_at: float


@dataclass(slots=True)
class FairQueue:
    """Clusters in the order of coming. Times are monotonic seconds."""

    _places: dict[str, _Place] = field(default_factory=dict)
    _numbers: list[int] = field(default_factory=list)
    _drawn: int = 0

    def length(self, now: float) -> int:
        """How many join in line."""
        while self._places:
            uuid, place = next(iter(self._places.items()))
            if now - place.seen_at <= ABSENT:
                break
            self.leave(uuid)
        return len(self._places)

    def position(self, uuid: str, *, now: float) -> int:
        """How many join in front of a cluster: everyone where it is not in line."""
        length, place = self.length(now), self._places.get(uuid)
        return bisect_left(self._numbers, place.number) if place else length

    def join(self, uuid: str, *, now: float) -> None:
        """Puts a cluster at the end of the line, or keeps its place."""
        if place := self._places.get(uuid):
            place.seen_at = now
        else:
            self._places[uuid] = _Place(self._drawn, now)
            self._numbers.append(self._drawn)
            self._drawn += 1

    def leave(self, uuid: str) -> None:
        """Takes a cluster out of the line, if it is in it."""
        if place := self._places.pop(uuid, None):
            del self._numbers[bisect_left(self._numbers, place.number)]
