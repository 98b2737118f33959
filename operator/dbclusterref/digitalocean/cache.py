"""What one account knows of its clusters: the last answers, who wants them, and who waits for newer ones."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from dbclusterref.digitalocean.demand import Demand
from dbclusterref.resource.objects import ObjectKey

LATE = 1.25
"""A swept cluster's answer is late when it is older than this many refresh intervals."""
SPARE = 300.0
"""Seconds that a listed cluster is kept although nobody wants it yet."""


@dataclass(slots=True)
class CachedCluster:
    """A cluster, packed, and when it was last said to be so, in monotonic seconds."""

    packed: bytes = field(repr=False)
    read_at: float


class ClusterCache:
    """The last answer for each cluster. `on_news` is told who should look because there is news of its cluster.

    `waiting` are the clusters whose answer somebody waits for, `late` those whose answer should have come by now.
    """

    def __init__(self, *, on_news: Callable[[ObjectKey], object]) -> None:
        self._on_news = on_news
        self._answers: dict[str, CachedCluster] = {}
        self.demand = Demand()
        self.waiting: set[str] = set()
        self.late: set[str] = set()

    def __contains__(self, uuid: str) -> bool:
        return uuid in self._answers

    def get(self, uuid: str) -> CachedCluster | None:
        """Finds the last answer."""
        return self._answers.get(uuid)

    def read_times(self) -> Iterator[tuple[str, float]]:
        """Return when each cluster was last said to be as it is kept."""
        return ((uuid, kept.read_at) for uuid, kept in self._answers.items())

    def put(self, uuid: str, packed: bytes, *, now: float) -> bytes:
        """Takes an answer in, tells who wants the cluster where it is news or was waited for; returns the one copy of it."""
        kept = self._answers.get(uuid)
        news = uuid in self.waiting or uuid in self.late
        if kept is None or kept.packed != packed:
            news |= kept is not None
            kept = self._answers[uuid] = CachedCluster(packed, now)
        else:
            kept.read_at = now
        self.waiting.discard(uuid)
        self.late.discard(uuid)
        if news:
            self.tell(uuid)
        return kept.packed

    def confirm(self, uuid: str, *, now: float) -> None:
        """Takes in that a cluster is as it was."""
        if kept := self._answers.get(uuid):
            self.put(uuid, kept.packed, now=now)

    def overdue(self, now: float) -> list[str]:
        """Which answers are older than they should be and not counted among the late ones yet."""
        return [
            uuid
            for uuid, kept in self._answers.items()
            if uuid not in self.late and now - kept.read_at > LATE * self.demand.interval(uuid)
        ]

    def forget_unwanted(self, now: float) -> None:
        """Drops answers that nobody has wanted for a while."""
        for uuid in [u for u, kept in self._answers.items() if u not in self.demand and now - kept.read_at > SPARE]:
            del self._answers[uuid]

    def tell(self, uuid: str) -> None:
        """Tells who wants a cluster to look."""
        for key in self.demand.followers(uuid):
            self._on_news(key)

    def tell_all(self) -> None:
        """Tells everyone to look."""
        for uuid in self.demand.clusters():
            self.tell(uuid)
