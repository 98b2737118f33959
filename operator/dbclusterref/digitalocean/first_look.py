"""References that ask, with the operator's own token, for a cluster that nothing known grants to their namespace. Pure.

Whether there is such a cluster must not show: how long a reference waits for the listing depends on what it may see alone.
"""

from collections.abc import Container

from dbclusterref.resource.objects import ObjectKey

WALKS = 2
"""So many ends of a walk, counted from when a reference began to wait, hold one whole walk that began after that."""
FORGOTTEN = 120.0
"""Seconds after the end of its wait until a reference that has not come back is forgotten."""


class FirstLooks:
    """The references that wait for a page of the listing that grants their cluster, and since which walk."""

    def __init__(self) -> None:
        self._waiting: dict[str, dict[ObjectKey, int]] = {}
        self._over: dict[tuple[str, ObjectKey], float] = {}
        self._walks = 0

    def __len__(self) -> int:
        """Return for how many clusters references wait."""
        return len(self._waiting)

    def has(self, uuid: str, key: ObjectKey) -> bool:
        """Return whether a reference waits."""
        return key in self._waiting.get(uuid, ())

    def join(self, uuid: str, key: ObjectKey) -> None:
        """Have a reference wait; one that waits already keeps its place."""
        self._over.pop((uuid, key), None)
        self._waiting.setdefault(uuid, {}).setdefault(key, self._walks)

    def leave(self, uuid: str, key: ObjectKey) -> None:
        """End a reference's wait."""
        self._over.pop((uuid, key), None)
        keys = self._waiting.get(uuid, {})
        keys.pop(key, None)
        if not keys:
            self._waiting.pop(uuid, None)

    def is_over(self, uuid: str, key: ObjectKey) -> bool:
        """Return whether the whole listing was read while a reference waited: it grants the cluster no more than before."""
        return (uuid, key) in self._over

    def of(self, uuid: str, *, granted_to: Container[str]) -> tuple[ObjectKey, ...]:
        """Return the references that wait for a cluster and may see it."""
        return tuple(key for key in self._waiting.get(uuid, ()) if key.namespace in granted_to)

    def walk_ended(self, now: float) -> tuple[ObjectKey, ...]:
        """Count the walk; return the references whose wait is over."""
        self._walks += 1
        ended = [
            (uuid, key) for uuid, keys in self._waiting.items() for key, since in keys.items() if self._walks >= since + WALKS
        ]
        for uuid, key in ended:
            self.leave(uuid, key)
        self._over = {one: at for one, at in self._over.items() if now - at < FORGOTTEN} | dict.fromkeys(ended, now)
        return tuple(key for _, key in ended)
