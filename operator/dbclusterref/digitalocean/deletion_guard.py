"""A circuit breaker for 404s: when many clusters vanish at once, the account, the token or the API is the cause.

Pure: the clock is an argument, in seconds on any one monotonic clock.
"""

from dataclasses import dataclass, field

AT_LEAST = 3
"""Clusters that must have vanished before anything is suspected."""
BELIEVED_AFTER = 3600.0
"""Seconds after which even many are believed to be gone: somebody has closed the account."""
FORGOTTEN_AFTER = 2 * 24 * 3600.0
"""Seconds without a read, after which a cluster is forgotten: twice the longest refresh interval."""
PRUNED_FROM = 1000
"""Clusters that are kept before any is forgotten."""


@dataclass(slots=True)
class _Absence:
    since: float
    seen_at: float


@dataclass(slots=True)
class DeletionGuard:
    """One account's. Only clusters that were once read count; an unknown UUID never counts as vanished."""

    _missing: dict[str, _Absence] = field(default_factory=dict)
    _found_at: dict[str, float] = field(default_factory=dict)
    _prune_at: int = PRUNED_FROM

    @property
    def size(self) -> int:
        """Return how many records are kept."""
        return len(self._missing) + len(self._found_at)

    def found(self, cluster: str, *, now: float) -> None:
        """Record a cluster that answered."""
        self._missing.pop(cluster, None)
        self._found_at[cluster] = now
        self._prune(now)

    def missing(self, cluster: str, *, now: float, was_known: bool) -> None:
        """Record a 404; `was_known` says that the cluster was read before this process began."""
        if was_known or cluster in self._found_at:
            self._missing.setdefault(cluster, _Absence(now, now)).seen_at = now
            self._prune(now)

    def is_open(self, *, now: float) -> bool:
        """Return whether 404s are not to be believed: at least as many vanished as were found since the first did."""
        vanished = [absence.since for absence in self._missing.values() if now - absence.since < BELIEVED_AFTER]
        if len(vanished) < AT_LEAST:
            return False
        first = min(vanished)
        return len(vanished) >= sum(1 for when in self._found_at.values() if when > first)

    def _prune(self, now: float) -> None:
        if self.size < self._prune_at:
            return
        self._found_at = {uuid: when for uuid, when in self._found_at.items() if now - when < FORGOTTEN_AFTER}
        self._missing = {uuid: absence for uuid, absence in self._missing.items() if now - absence.seen_at < FORGOTTEN_AFTER}
        self._prune_at = max(PRUNED_FROM, 2 * self.size)
