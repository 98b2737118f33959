"""The resources that wait to restart a workload, in the order of their coming, each namespace in its turn. Without a clock."""

from collections import Counter, OrderedDict, deque
from collections.abc import Iterator

from dbclusterref.resource.objects import ObjectKey

AT_ONCE = 3
"""Rollouts under way across all resources of this process."""
OF_A_NAMESPACE = 2
"""Of those: rollouts that do not end must leave another namespace a place."""
FRONT = 8 * AT_ONCE
"""Those in front look often whether a place is free, the others rarely."""
OVERDUE = 60.0
"""Seconds by which one may be late with its look before it loses its turn: it may have nothing to restart any more."""


class RestartLine:
    """The resources that wait. Each says by when it looks again, in monotonic seconds."""

    def __init__(self) -> None:
        self._namespaces: OrderedDict[str, OrderedDict[ObjectKey, float]] = OrderedDict()

    def wait(self, key: ObjectKey, *, until: float) -> None:
        """Have a resource wait, at the end of its namespace's line unless it has a place there."""
        self._namespaces.setdefault(key.namespace, OrderedDict())[key] = until

    def leave(self, key: ObjectKey) -> None:
        """Drop a resource that no longer waits."""
        waiting = self._namespaces.get(key.namespace)
        if waiting is None or waiting.pop(key, None) is None:
            return
        if not waiting:
            del self._namespaces[key.namespace]

    def begin(self, key: ObjectKey) -> None:
        """Drop a resource whose turn it was: the other namespaces come first now."""
        self.leave(key)
        if key.namespace in self._namespaces:
            self._namespaces.move_to_end(key.namespace)

    def front(self, now: float) -> tuple[ObjectKey, ...]:
        """Return the first in the line; those that are overdue lose their turn."""
        found: list[ObjectKey] = []
        late: list[ObjectKey] = []
        for key, until in self._in_turn():
            (late if until + OVERDUE < now else found).append(key)
            if len(found) == FRONT:
                break
        for key in late:
            self.leave(key)
        return tuple(found)

    def _in_turn(self) -> Iterator[tuple[ObjectKey, float]]:
        lines = deque(iter(waiting.items()) for waiting in self._namespaces.values())
        while lines:
            line = lines.popleft()
            if found := next(line, None):
                yield found
                lines.append(line)


def may_begin(key: ObjectKey, front: tuple[ObjectKey, ...], *, under_way: Counter[str]) -> bool:
    """Return whether it is a resource's turn, with so many rollouts under way in each namespace."""
    taken = under_way.copy()
    for other in front:
        if taken.total() >= AT_ONCE:
            return False
        if taken[other.namespace] >= OF_A_NAMESPACE:
            continue
        if other == key:
            return True
        taken[other.namespace] += 1
    return False
