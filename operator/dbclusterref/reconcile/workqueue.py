"""The work queue: what is due now, what is due later, what is being worked on. Without clock and without I/O.

It has the semantics of client-go's work queue: a key is in it once however often it is marked; a key marked while it is being
worked on is given out again afterwards, never twice at the same time; and each key has at most one deadline.
"""

import heapq
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Generic, TypeVar

K = TypeVar("K")

SLACK = 100
"""How many replaced deadlines the queue keeps beside as many as there are in force."""


@dataclass(slots=True)
class WorkQueue(Generic[K]):
    """What is due now, what is due later, and what is being worked on. Times are seconds on any one monotonic clock."""

    _ready: OrderedDict[K, None] = field(default_factory=OrderedDict)
    _urgent: OrderedDict[K, None] = field(default_factory=OrderedDict)
    _processing: set[K] = field(default_factory=set)
    _marked_again: dict[K, bool] = field(default_factory=dict)
    _deadlines: dict[K, float] = field(default_factory=dict)
    _heap: list[tuple[float, int, K]] = field(default_factory=list)
    _sequence: int = 0

    def mark(self, key: K, *, urgent: bool = False) -> None:
        """Says that a key wants work now; `urgent` puts it ahead of routine work (new and changed resources)."""
        if key in self._processing:
            self._marked_again[key] = urgent or self._marked_again.get(key, False)
        elif urgent:
            self._ready.pop(key, None)
            self._urgent[key] = None
        elif key not in self._urgent:
            self._ready[key] = None

    def schedule(self, key: K, *, at: float) -> None:
        """Sets the key's one deadline, in place of any earlier one."""
        self._deadlines[key] = at
        self._sequence += 1
        heapq.heappush(self._heap, (at, self._sequence, key))
        if len(self._heap) > 2 * len(self._deadlines) + SLACK:
            # Deadlines that were replaced stay in the heap until their time: those far off would pile up.
            self._heap = [item for item in self._heap if self._deadlines.get(item[2]) == item[0]]
            heapq.heapify(self._heap)

    def take(self, now: float) -> K | None:
        """Gives out the next key that wants work, None if there is none; each key taken must be given back by `done`."""
        self._promote(now)
        for lane in (self._urgent, self._ready):
            if lane:
                key, _ = lane.popitem(last=False)
                self._processing.add(key)
                # The work that begins now sees all there is to see; what it finds sets the next deadline.
                self._deadlines.pop(key, None)
                return key
        return None

    def done(self, key: K) -> None:
        """Gives a key back; it is due at once if it was marked meanwhile."""
        self._processing.discard(key)
        if key in self._marked_again:
            self.mark(key, urgent=self._marked_again.pop(key))

    def forget(self, key: K) -> None:
        """Drops a key and its deadline; work under way is not called off."""
        for lane in (self._ready, self._urgent):
            lane.pop(key, None)
        self._deadlines.pop(key, None)
        self._marked_again.pop(key, None)

    def next_deadline(self) -> float | None:
        """When the earliest deadline is, None if there is none."""
        while self._heap and self._deadlines.get(self._heap[0][2]) != self._heap[0][0]:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def oldest_overdue(self, now: float) -> float:
        """By how many seconds the most overdue deadline has been missed; 0 where none has."""
        deadline = self.next_deadline()
        return max(0.0, now - deadline) if deadline is not None else 0.0

    def __len__(self) -> int:
        """Counts the keys that want work now, those being worked on not among them."""
        return len(self._ready) + len(self._urgent)

    def _promote(self, now: float) -> None:
        while (deadline := self.next_deadline()) is not None and deadline <= now:
            _, _, key = heapq.heappop(self._heap)
            del self._deadlines[key]
            self.mark(key)
