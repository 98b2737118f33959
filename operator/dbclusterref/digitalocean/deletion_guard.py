"""A circuit breaker for 404s: when many clusters vanish at once, the account, the token or the API is the cause.

Pure: the clock is an argument, in seconds on any one monotonic clock.
"""

from dataclasses import dataclass, field

AT_LEAST = 3
"""Clusters that must have vanished before anything is suspected."""
BELIEVED_AFTER = 3600.0
"""Seconds after which even many are believed to be gone: somebody has closed the account."""


@dataclass(slots=True)
class DeletionGuard:
    """One account's. Only clusters that were once read count; an unknown UUID never counts as vanished."""

    _missing_since: dict[str, float] = field(default_factory=dict)
    _found_at: dict[str, float] = field(default_factory=dict)

    def found(self, cluster: str, *, now: float) -> None:
        """Record a cluster that answered."""
        self._missing_since.pop(cluster, None)
        self._found_at[cluster] = now

    def missing(self, cluster: str, *, now: float, was_known: bool) -> None:
        """Record a 404; `was_known` says that the cluster was read before this process began."""
        if was_known or cluster in self._found_at:
            self._missing_since.setdefault(cluster, now)

    def is_open(self, *, now: float) -> bool:
        """Return whether 404s are not to be believed: at least as many vanished as were found since the first did."""
        vanished = {uuid: since for uuid, since in self._missing_since.items() if now - since < BELIEVED_AFTER}
        if len(vanished) < AT_LEAST:
            return False
        first = min(vanished.values())
        return len(vanished) >= sum(1 for when in self._found_at.values() if when > first)
