"""The work queue: what is due now, what is due later, what is being worked on. Without clock and without I/O.

It has the semantics of client-go's work queue: a key is in it once however often it is marked; a key marked while it is being
worked on is given out again afterwards, never twice at the same time; and each key has at most one deadline.
"""

import heapq
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

K = TypeVar("K")

SLACK = 100
"""How many replaced deadlines the queue keeps beside as many as there are in force."""
ROUTINE_EVERY = 8
"""So often routine work goes before urgent work: whoever causes urgent work without end delays the others' and ends nothing."""


@dataclass(slots=True)
class _Lane(Generic[K]):
    """Keys in the order of their coming, one from each group in turn."""

    group: Callable[[K], Hashable]
    groups: OrderedDict[Hashable, OrderedDict[K, None]] = field(default_factory=OrderedDict)
    length: int = 0

    def __contains__(self, key: K) -> bool:
        return key in self.groups.get(self.group(key), ())

    def add(self, key: K) -> None:
        keys = self.groups.setdefault(self.group(key), OrderedDict())
        self.length += key not in keys
        keys[key] = None

    def discard(self, key: K) -> None:
        group = self.group(key)
        keys = self.groups.get(group)
        if keys is not None and key in keys:
            del keys[key]
            self.length -= 1
            if not keys:
                del self.groups[group]

    def take(self) -> K:
        group, keys = next(iter(self.groups.items()))
        key, _ = keys.popitem(last=False)
        self.length -= 1
        if keys:
            self.groups.move_to_end(group)
        else:
            del self.groups[group]
        return key


class WorkQueue(Generic[K]):
    """What is due now, what is due later, and what is being worked on. Times are seconds on any one monotonic clock.

    `group` returns whose a key is: each group's keys are taken in turn with the others', however many it has.
    """

    def __init__(self, *, group: Callable[[K], Hashable] = lambda _: None) -> None:
        self._ready: _Lane[K] = _Lane(group)
        self._urgent: _Lane[K] = _Lane(group)
        self._urgent_in_a_row = 0
        self._processing: set[K] = set()
        self._marked_again: dict[K, bool] = {}
        self._deadlines: dict[K, float] = {}
        self._heap: list[tuple[float, int, K]] = []
        self._sequence = 0

    def mark(self, key: K, *, urgent: bool = False) -> None:
        """Have a key given out now; `urgent` puts it ahead of routine work (new and changed resources, repairs)."""
        if key in self._processing:
            self._marked_again[key] = urgent or self._marked_again.get(key, False)
        elif urgent:
            self._ready.discard(key)
            self._urgent.add(key)
        elif key not in self._urgent:
            self._ready.add(key)

    def schedule(self, key: K, *, at: float) -> None:
        """Set the key's one deadline, in place of any earlier one."""
        self._deadlines[key] = at
        self._sequence += 1
        heapq.heappush(self._heap, (at, self._sequence, key))
        if len(self._heap) > 2 * len(self._deadlines) + SLACK:
            # Deadlines that were replaced stay in the heap until their time: those far off would pile up.
            self._heap = [item for item in self._heap if self._deadlines.get(item[2]) == item[0]]
            heapq.heapify(self._heap)

    def take(self, now: float) -> K | None:
        """Give out the next key, None if there is none; each key taken must be given back by `done`."""
        self._promote(now)
        if not len(self):
            return None
        routine = not self._urgent.length or (self._ready.length and self._urgent_in_a_row >= ROUTINE_EVERY - 1)
        self._urgent_in_a_row = 0 if routine else self._urgent_in_a_row + 1
        key = (self._ready if routine else self._urgent).take()
        self._processing.add(key)
        # The work that begins now sees all there is to see; what it finds sets the next deadline.
        self._deadlines.pop(key, None)
        return key

    def done(self, key: K) -> None:
        """Give a key back; it is due at once if it was marked meanwhile."""
        self._processing.discard(key)
        if key in self._marked_again:
            self.mark(key, urgent=self._marked_again.pop(key))

    def forget(self, key: K) -> None:
        """Drop a key and its deadline; work under way is not called off."""
        for lane in (self._ready, self._urgent):
            lane.discard(key)
        self._deadlines.pop(key, None)
        self._marked_again.pop(key, None)

    def next_deadline(self) -> float | None:
        """Return when the earliest deadline is, None if there is none."""
        while self._heap and self._deadlines.get(self._heap[0][2]) != self._heap[0][0]:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def oldest_overdue(self, now: float) -> float:
        """Return by how many seconds the most overdue deadline has been missed; 0 where none has."""
        deadline = self.next_deadline()
        return max(0.0, now - deadline) if deadline is not None else 0.0

    def __len__(self) -> int:
        """Count the keys that are due now, without those being worked on."""
        return self._ready.length + self._urgent.length

    def _promote(self, now: float) -> None:
        while (deadline := self.next_deadline()) is not None and deadline <= now:
            _, _, key = heapq.heappop(self._heap)
            del self._deadlines[key]
            self.mark(key)
