"""References that ask, with the operator's own token, for a cluster that nothing known grants to their namespace. Pure.

Whether there is such a cluster must not show: how long a reference waits for the listing depends on what it may see alone.
"""

from collections.abc import Container, Iterator

from dbclusterref.resource.objects import ObjectKey

WALKS = 2
"""So many ends of a walk, counted from when a reference began to wait, hold one whole walk that began after that."""


class FirstLooks:
    """The references that wait for a page of the listing that grants their cluster, and since which walk."""

    def __init__(self) -> None:
        self._waiting: dict[str, dict[ObjectKey, int]] = {}
        self._walks = 0

    def __len__(self) -> int:
        """Return for how many clusters references wait."""
        return len(self._waiting)

    def has(self, uuid: str, key: ObjectKey) -> bool:
        """Return whether a reference waits."""
        return key in self._waiting.get(uuid, ())

    def join(self, uuid: str, key: ObjectKey) -> None:
        """Have a reference wait; one that waits already keeps its place."""
        self._waiting.setdefault(uuid, {}).setdefault(key, self._walks)

    def leave(self, uuid: str, key: ObjectKey) -> None:
        """End a reference's wait."""
        keys = self._waiting.get(uuid, {})
        keys.pop(key, None)
        if not keys:
            self._waiting.pop(uuid, None)

    def is_over(self, uuid: str, key: ObjectKey) -> bool:
        """Return whether the whole listing was read while a reference waited: it grants the cluster no more than before."""
        return self.has(uuid, key) and self._walks >= self._waiting[uuid][key] + WALKS

    def of(self, uuid: str, *, granted_to: Container[str]) -> tuple[ObjectKey, ...]:
        """Return the references that wait for a cluster and may see it."""
        return tuple(key for key in self._waiting.get(uuid, ()) if key.namespace in granted_to)

    def walk_ended(self) -> Iterator[ObjectKey]:
        """Count the walk; return the references whose wait is over, and drop those that have not come since theirs was."""
        self._walks += 1
        for uuid, keys in list(self._waiting.items()):
            for key, since in list(keys.items()):
                if self._walks > since + WALKS:
                    self.leave(uuid, key)
                elif self._walks == since + WALKS:
                    yield key
