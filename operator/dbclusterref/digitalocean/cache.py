"""What one account knows of its clusters: the last answers, who uses them, and which are awaited or late. Pure."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from dbclusterref.digitalocean.demand import Demand
from dbclusterref.resource.objects import ObjectKey

LATE = 1.25
"""A cluster that the listing brings is late when its answer is older than this many refresh intervals."""
SPARE = 300.0
"""Seconds that a listed cluster is kept although no reference names it yet."""


@dataclass(slots=True)
class CachedCluster:
    """A cluster, packed, and when DigitalOcean last answered it, in monotonic seconds."""

    packed: bytes = field(repr=False)
    read_at: float


class ClusterCache:
    """The last answer for each cluster. `on_change` receives each reference whose cluster changed, or has its answer now.

    `waiting` holds the clusters whose answer a caller waits for, `late` those whose answer should have come by now.
    """

    def __init__(self, *, on_change: Callable[[ObjectKey], object]) -> None:
        self._on_change = on_change
        self._answers: dict[str, CachedCluster] = {}
        self.demand = Demand()
        self.waiting: set[str] = set()
        self.late: set[str] = set()

    def __contains__(self, uuid: str) -> bool:
        return uuid in self._answers

    def get(self, uuid: str) -> CachedCluster | None:
        """Return the last answer."""
        return self._answers.get(uuid)

    def read_times(self) -> Iterator[tuple[str, float]]:
        """Return when each cluster was last said to be as it is kept."""
        return ((uuid, kept.read_at) for uuid, kept in self._answers.items())

    def put(self, uuid: str, packed: bytes, *, now: float) -> bytes:
        """Keep an answer, unless a newer one is kept, and return the one copy of what is kept.

        A change, or an answer that was awaited, marks the references.
        """
        kept = self._answers.get(uuid)
        if kept and now < kept.read_at:
            return kept.packed
        changed = uuid in self.waiting or uuid in self.late
        if kept is None or kept.packed != packed:
            changed |= kept is not None
            kept = self._answers[uuid] = CachedCluster(packed, now)
        else:
            kept.read_at = now
        self.waiting.discard(uuid)
        self.late.discard(uuid)
        if changed:
            self.tell(uuid)
        return kept.packed

    def confirm(self, uuid: str, *, now: float) -> None:
        """Record that a cluster is as it was."""
        if kept := self._answers.get(uuid):
            self.put(uuid, kept.packed, now=now)

    def overdue(self, now: float) -> list[str]:
        """Return the clusters whose answer is older than it should be, without those that are known to be late."""
        return [
            uuid
            for uuid, kept in self._answers.items()
            if uuid not in self.late and now - kept.read_at > LATE * self.demand.interval(uuid)
        ]

    def leave(self, uuid: str, key: ObjectKey) -> None:
        """Forget a reference's interest in a cluster; one that nobody wants any more is not awaited."""
        self.demand.leave(uuid, key)
        if uuid not in self.demand:
            self.waiting.discard(uuid)
            self.late.discard(uuid)

    def forget_unwanted(self, now: float) -> None:
        """Drop answers that no reference has used for a while."""
        for uuid in [u for u, kept in self._answers.items() if u not in self.demand and now - kept.read_at > SPARE]:
            del self._answers[uuid]

    def tell(self, uuid: str) -> None:
        """Mark the references to a cluster."""
        self.mark(self.demand.followers(uuid))

    def mark(self, keys: Iterable[ObjectKey]) -> None:
        """Mark single references."""
        for key in keys:
            self._on_change(key)

    def tell_all(self) -> None:
        """Mark all references."""
        for uuid in self.demand.clusters():
            self.tell(uuid)
