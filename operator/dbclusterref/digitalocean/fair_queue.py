"""A fair queue in front of a token's rate limit: namespaces take turns. Pure.

Each namespace has a lane. A lane's turn is a number that grows with each request it makes (start-time fair queueing), so that
a lane with a thousand places gets no more than a lane with one. Times are monotonic seconds.
"""

import math
from bisect import bisect_left
from collections.abc import Hashable
from dataclasses import dataclass, field
from enum import IntEnum

LOOK_AGAIN = 60.0
"""Seconds after which a caller in the queue looks again in any case: the limit may have grown, and the queue shrunk."""
ABSENT = 2 * LOOK_AGAIN
"""A place whose caller has not looked for this long is given up: its resource was deleted, or its spec has changed."""
PRUNE_EVERY = 15.0


class Rank(IntEnum):
    """In which order the places of one lane are served."""

    URGENT = 0
    ROUTINE = 1
    LAST = 2


@dataclass(slots=True)
class _Line:
    """Places in the order of their arrival: number, when each was last seen, and when it came."""

    places: dict[Hashable, list[float]] = field(default_factory=dict)
    numbers: list[float] = field(default_factory=list)

    def index(self, what: Hashable) -> int:
        place = self.places.get(what)
        return bisect_left(self.numbers, place[0]) if place else len(self.numbers)

    def join(self, what: Hashable, *, number: float, now: float) -> None:
        if place := self.places.get(what):
            place[1] = now
        else:
            self.places[what] = [number, now, now]
            self.numbers.append(number)

    def leave(self, what: Hashable) -> None:
        if place := self.places.pop(what, None):
            del self.numbers[bisect_left(self.numbers, place[0])]

    def prune(self, now: float) -> None:
        for what in [what for what, (_, seen_at, _) in self.places.items() if now - seen_at > ABSENT]:
            self.leave(what)


@dataclass(slots=True)
class _Lane:
    """One namespace's places: those somebody waits for come before routine ones, and those nothing waits for after them."""

    turn: float
    urgent: _Line = field(default_factory=_Line)
    routine: _Line = field(default_factory=_Line)
    last: _Line = field(default_factory=_Line)

    def __len__(self) -> int:
        # Every read in the queue asks for it, of each lane.
        return len(self.urgent.numbers) + len(self.routine.numbers) + len(self.last.numbers)

    @property
    def lines(self) -> tuple[_Line, _Line, _Line]:
        """The lines by their rank."""
        return self.urgent, self.routine, self.last

    def index(self, what: Hashable, *, rank: Rank) -> int:
        return sum(len(line.numbers) for line in self.lines[:rank]) + self.lines[rank].index(what)


class FairQueue:
    """Places by lane, and whose turn it is. A place is named by what is to be read."""

    def __init__(self) -> None:
        self._lanes: dict[str, _Lane] = {}
        self._turn = 0.0
        self._next_turns: dict[str, float] = {}
        self._drawn = 0.0
        self._pruned_at = -math.inf

    def __len__(self) -> int:
        """Return how many places there are in all lanes."""
        return sum(map(len, self._lanes.values()))

    def position(self, lane: str, what: Hashable, *, rank: Rank, now: float) -> int:
        """Return how many places are served before this one, or before a new one where it is not in the queue."""
        self._prune(now)
        own = self._lanes.get(lane) or _Lane(self._turn_of(lane))
        position = index = own.index(what, rank=rank)
        earlier = True
        for name, other in self._lanes.items():
            if name == lane:
                earlier = False
                continue
            ahead = own.turn + index - other.turn
            # Of lanes whose turn is the same, the one that has waited longer goes first.
            served = math.floor(ahead) + 1 if earlier else math.ceil(ahead)
            position += min(max(served, 0), len(other))
        return position

    def join(self, lane: str, what: Hashable, *, rank: Rank, now: float) -> None:
        """Add a place at the end of its lane, or keep it."""
        entry = self._lanes.get(lane)
        if entry is None:
            entry = self._lanes[lane] = _Lane(self._turn_of(lane))
        chosen = entry.lines[rank]
        for line in entry.lines:
            if line is not chosen:
                line.leave(what)
        chosen.join(what, number=self._drawn, now=now)
        self._drawn += 1

    def leave(self, lane: str, what: Hashable) -> None:
        """Remove a place, if there is one."""
        if entry := self._lanes.get(lane):
            for line in entry.lines:
                line.leave(what)
            self._close_if_empty(lane)

    def joined_at(self, lane: str, what: Hashable) -> float:
        """Return since when a place is in the queue; minus infinity where it is not."""
        lines = entry.lines if (entry := self._lanes.get(lane)) else ()
        return next((line.places[what][2] for line in lines if what in line.places), -math.inf)

    def serve(self, lane: str, what: Hashable, *, requests: int) -> None:
        """Record that a lane makes so many requests for a place; whoever waits for the same elsewhere gets their answer."""
        turn = self._turn_of(lane)
        for name in list(self._lanes):
            self.leave(name, what)
        after = turn + requests
        others = any(name != lane for name in self._lanes)
        # What a lane uses while nobody else waits is not held against it.
        self._turn = max(self._turn, turn) if others else max(self._turn, after)
        self._next_turns = {name: turn for name, turn in self._next_turns.items() if turn > self._turn}
        self._next_turns[lane] = after
        if entry := self._lanes.get(lane):
            entry.turn = after

    def _turn_of(self, lane: str) -> float:
        entry = self._lanes.get(lane)
        return entry.turn if entry else max(self._turn, self._next_turns.get(lane, 0.0))

    def _close_if_empty(self, lane: str) -> None:
        entry = self._lanes[lane]
        if not len(entry):
            self._next_turns[lane] = entry.turn
            del self._lanes[lane]

    def _prune(self, now: float) -> None:
        if now - self._pruned_at < PRUNE_EVERY:
            return
        self._pruned_at = now
        for name, lane in list(self._lanes.items()):
            for line in lane.lines:
                line.prune(now)
            self._close_if_empty(name)
