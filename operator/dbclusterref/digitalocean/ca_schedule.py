"""When each cluster's CA is to be read: soon where nobody knows it, otherwise about daily and spread over the day. Pure."""

import heapq
import math
from dataclasses import dataclass, field

CA_MAX_AGE = 24 * 3600.0
"""Seconds between two reads of a CA, which changes rarely; they are spread so that no hour reads them all."""
NO_CA_MAX_AGE = 3600.0
"""Seconds for which the first answer that a cluster has no CA is believed: a new cluster gets one only after a while."""
AFTER_FAILURE = 300.0
SLACK = 16
"""How many entries beside those in use are kept."""
RECHECK_EVERY = 4.0
"""Seconds between two reads of CAs that are known from Secrets alone: after a restart they take a fifth of the pace."""


@dataclass(slots=True)
class CaSchedule:
    """The CAs that upstream gave, and the reads to come. Equal CAs (a project's clusters share one) are kept once."""

    _known: dict[str, bytes] = field(default_factory=dict, repr=False)
    _asked_at: dict[str, float] = field(default_factory=dict)
    _due: list[tuple[float, str]] = field(default_factory=list)
    _planned: dict[str, float] = field(default_factory=dict)
    _alike: dict[bytes, bytes] = field(default_factory=dict, repr=False)

    def __len__(self) -> int:
        """Return for how many clusters upstream has answered."""
        return len(self._known)

    def get(self, uuid: str) -> bytes | None:
        """Return what upstream last said, b"" for no CA; None where it has not been asked."""
        return self._known.get(uuid)

    def asked_at(self, uuid: str) -> float:
        """Return when upstream was last asked for a CA and answered; 0 for never."""
        return self._asked_at.get(uuid, 0.0)

    def learn(self, uuid: str, pem: bytes, *, asked_at: float, chance: float) -> bool:
        """Record upstream's answer; return whether the CA has changed. `chance` in [0, 1) spreads the next reads."""
        before = self._known.get(uuid)
        if not pem and before:
            # An answer without a CA does not take away one that was given.
            pem, max_age = before, NO_CA_MAX_AGE
        elif not pem:
            max_age = NO_CA_MAX_AGE if before is None else CA_MAX_AGE
        else:
            max_age = CA_MAX_AGE
        self._known[uuid] = self.shared(pem)
        self._asked_at[uuid] = asked_at
        self._planned.pop(uuid, None)
        self.plan(uuid, at=asked_at + max_age * (1 - chance / 10))
        return before != pem

    def is_overdue(self, uuid: str, *, now: float) -> bool:
        """Return whether a read should have been made by now."""
        return self._planned.get(uuid, math.inf) < now

    def is_planned(self, uuid: str) -> bool:
        """Return whether a read is to come."""
        return uuid in self._planned

    def shared(self, pem: bytes) -> bytes:
        """Return the one copy of equal CAs."""
        if len(self._alike) > 2 * (len(self._known) + len(self._planned)) + SLACK:
            # What is in no use any more: a tenant may put another CA into a Secret each second.
            self._alike = {known: known for known in self._known.values()}
        return self._alike.setdefault(pem, pem)

    def plan(self, uuid: str, *, at: float) -> None:
        """Have a CA read at a time, unless a read is planned for an earlier one."""
        if at < self._planned.get(uuid, math.inf):
            self._planned[uuid] = at
            heapq.heappush(self._due, (at, uuid))
            if len(self._due) > 2 * len(self._planned) + SLACK:
                # Each requested refresh replaces a plan for the next day, which would stay in the heap until then.
                self._due = [(when, one) for one, when in self._planned.items()]
                heapq.heapify(self._due)

    def plan_recheck(self, uuid: str, *, now: float) -> None:
        """Have a CA that only a Secret tells of read soon, behind the others that are planned."""
        if uuid not in self._planned:
            self.plan(uuid, at=now + min(RECHECK_EVERY * len(self._planned), CA_MAX_AGE))

    def next_at(self) -> float | None:
        """Return when the next read is due."""
        self._drop_replaced()
        return self._due[0][0] if self._due else None

    def peek(self) -> str:
        """Return whose read is the next."""
        self._drop_replaced()
        return self._due[0][1]

    def pop(self) -> str:
        """Remove the next read and return whose it is."""
        self._drop_replaced()
        _, uuid = heapq.heappop(self._due)
        del self._planned[uuid]
        return uuid

    def forget(self, uuid: str) -> None:
        """Drop what is known of a cluster that is no longer wanted."""
        self._known.pop(uuid, None)
        self._asked_at.pop(uuid, None)

    def _drop_replaced(self) -> None:
        while self._due and self._planned.get(self._due[0][1]) != self._due[0][0]:
            heapq.heappop(self._due)
