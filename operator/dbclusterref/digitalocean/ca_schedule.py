"""When each cluster's CA is to be read: soon where nobody knows it, else about daily and spread over the day. Pure."""

import heapq
from dataclasses import dataclass, field

CA_MAX_AGE = 24 * 3600.0
"""A CA changes about never; it is read once a day, in seconds, spread so that no hour reads them all."""
NO_CA_MAX_AGE = 3600.0
"""That a cluster has no CA is believed for less long the first time: a new cluster gets one only after a while."""
AFTER_FAILURE = 300.0


@dataclass(slots=True)
class CaSchedule:
    """The CAs that upstream gave, and the reads to come. Equal CAs (a project's clusters share one) are kept once."""

    _known: dict[str, bytes] = field(default_factory=dict, repr=False)
    _due: list[tuple[float, str]] = field(default_factory=list)
    _planned: set[str] = field(default_factory=set)
    _alike: dict[bytes, bytes] = field(default_factory=dict, repr=False)

    def get(self, uuid: str) -> bytes | None:
        """What upstream last said, b"" for no CA; None where it has not been asked."""
        return self._known.get(uuid)

    def learn(self, uuid: str, pem: bytes, *, now: float, chance: float) -> bool:
        """Takes in what upstream said now; tells whether it is news. `chance` in [0, 1) spreads the next reads."""
        before = self._known.get(uuid)
        if not pem and before:
            # An answer without a CA does not take away one that was given.
            pem, max_age = before, NO_CA_MAX_AGE
        elif not pem:
            max_age = NO_CA_MAX_AGE if before is None else CA_MAX_AGE
        else:
            max_age = CA_MAX_AGE
        self._known[uuid] = self.shared(pem)
        self.plan(uuid, at=now + max_age * (1 - chance / 10))
        return before != pem

    def shared(self, pem: bytes) -> bytes:
        """The one copy of equal CAs."""
        return self._alike.setdefault(pem, pem)

    def plan(self, uuid: str, *, at: float) -> None:
        """Has a CA read at a time, unless a read is planned already."""
        if uuid not in self._planned:
            self._planned.add(uuid)
            heapq.heappush(self._due, (at, uuid))

    def next_at(self) -> float | None:
        """When the next read is due."""
        return self._due[0][0] if self._due else None

    def pop(self) -> str:
        """Takes the next read out."""
        _, uuid = heapq.heappop(self._due)
        self._planned.discard(uuid)
        return uuid

    def forget(self, uuid: str) -> None:
        """Drops what is known of a cluster that nobody wants any more."""
        self._known.pop(uuid, None)
