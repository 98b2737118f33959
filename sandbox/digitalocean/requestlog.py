"""What was asked of the API, in order, with what it answered. The newest entries are kept, the counts are of all."""

import dataclasses
from collections import Counter, deque
from dataclasses import dataclass
from typing import Final

from sandbox.digitalocean.jsontypes import Json, JsonObject

KEPT: Final = 50_000


@dataclass(frozen=True, slots=True, kw_only=True)
class LogEntry:
    """One request."""

    number: int
    at: float
    """By the simulated clock, Unix epoch."""
    method: str
    path: str
    """With its query."""
    kind: str
    """Which route: `list`, `cluster`, `ca`, `users`, …; `unknown` and `wrong_method` for none."""
    cluster: str | None
    token: str | None
    """As it was presented."""
    status: int
    """0: no reply was sent."""
    fault: str | None


class RequestLog:
    """The requests since the start, or since it was cleared."""

    def __init__(self) -> None:
        self._entries: deque[LogEntry] = deque(maxlen=KEPT)
        self._kinds: Counter[str] = Counter()
        self._statuses: Counter[int] = Counter()

    def add(self, entry: LogEntry) -> None:
        """Record a request."""
        self._entries.append(entry)
        self._kinds[entry.kind] += 1
        self._statuses[entry.status] += 1

    def clear(self) -> None:
        """Forget everything."""
        self._entries.clear()
        self._kinds.clear()
        self._statuses.clear()

    def report(self, *, limit: int) -> JsonObject:
        """The counts of all, and the newest entries, oldest first."""
        newest = list(self._entries)[-limit:] if limit else []
        entries: list[Json] = [dataclasses.asdict(entry) for entry in newest]
        return {
            "total": self._kinds.total(),
            "kinds": dict(self._kinds),
            "statuses": {str(status): count for status, count in self._statuses.items()},
            "entries": entries,
        }
