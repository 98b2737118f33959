"""One API token's rate limit: a token bucket that follows the headers of the replies. Pure: `now` is an argument.

Several processes and tools may share a token, so the headers take precedence over our own count. Times are monotonic seconds;
only `reset` is Unix time, because the header is.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from dbclusterref.errors import RateLimited

TOO_MANY = 429

DEFAULT_LIMIT = 5000
"""Requests an hour that DigitalOcean gives a token; a reply's `ratelimit-limit` corrects it."""
SHARE = 0.9
"""Share of the hourly limit that is used in the long run; the rest stays for people and other tools."""
BURST = 0.03
"""Share of the hourly limit that may go at once: 150 of 5,000, so that a burst and a minute of the pace are 225 of the 250."""
RESERVE = 0.05
"""Below this share of the limit left, the pace falls in proportion, so that other users of the token are not starved."""
SLOWEST = 0.05
"""The pace never falls below this share of itself: without any request, nobody would learn that the limit was reset."""

TINY = 1e-6
"""A shortfall below this is a rounding error."""
QUOTA_PAUSE = 60.0
"""Seconds without requests after a 429 that does not say for how long."""
LONGEST_PAUSE = 300.0
"""No reply can ask for a longer pause."""

RATE_LIMITED = (
    "The API token's rate limit at DigitalOcean is exhausted; reads resume when it resets. Raise spec.refreshInterval, or use "
    "fewer tools with one token."
)
"""The message of every 429, whether DigitalOcean has just answered it or its pause lasts."""


def queued(what: str) -> RateLimited:
    """Say that a read waits for its turn, and for long."""
    return RateLimited(
        f"The read of {what} is queued: more reads are waiting than the API token's rate limit allows at once. Raise "
        "spec.refreshInterval, or use fewer tools with one token.",
        delayed=True,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class RateLimitHeaders:
    """What a reply's headers say of the token's hourly limit; `reset` is Unix time, None where the header was absent."""

    limit: int | None
    remaining: int | None
    reset: int | None
    retry_after: float | None

    @classmethod
    def from_headers(cls, headers: Mapping[str, str]) -> "RateLimitHeaders":
        """Read the four headers. A value that is not a number counts as absent; `retry_after` is at most LONGEST_PAUSE."""
        return cls(
            limit=_whole(headers.get("ratelimit-limit")),
            remaining=_whole(headers.get("ratelimit-remaining")),
            reset=_whole(headers.get("ratelimit-reset")),
            retry_after=_pause(_whole(headers.get("retry-after"))),
        )


ObserveReply = Callable[[int, RateLimitHeaders], None]
"""Receives each reply's HTTP status and headers, those of failed requests too; status 0 where no reply came."""


@dataclass(slots=True, kw_only=True)
class TokenBucket:
    """A token bucket whose size and pace follow the replies' headers."""

    counted_at: float
    limit: int = DEFAULT_LIMIT
    remaining: int | None = None
    stay_away_until: float = 0.0
    _left: float = field(default=-1.0)
    _reserved: int = 0

    def __post_init__(self) -> None:
        self._left = self.burst

    @property
    def burst(self) -> float:
        """How many requests may go at once."""
        return max(1.0, self.limit * BURST)

    @property
    def background(self) -> float:
        """Burst reserved for foreground reads: background reads leave it untouched."""
        return self.burst / 3

    @property
    def pace(self) -> float:
        """Requests a second in the long run, at the present slowdown; at least one in LONGEST_PAUSE.

        A gateway may count by the second, and say that ten are the limit: only another answer shows that it is not so.
        """
        return max(self.limit * SHARE / 3600.0 / self.slowdown, 1 / LONGEST_PAUSE)

    @property
    def slowdown(self) -> float:
        """Factor by which reads are slowed by a low hourly limit; 1 for not at all."""
        if self.remaining is None:
            return 1.0
        return 1.0 / min(1.0, max(self.remaining / (self.limit * RESERVE), SLOWEST))

    def seconds_until(self, now: float, *, spare: float = 0.0) -> float:
        """Return how long to wait for a request that leaves `spare` requests of the burst; 0 for now."""
        self._refill(now)
        short = spare + 1 + self._reserved - self._left
        return max(0.0, self.stay_away_until - now, short / self.pace if short > TINY else 0.0)

    @contextmanager
    def reserve(self, requests: int) -> Iterator[None]:
        """Keep so many requests from others while the reads of one refresh, which go together, are under way."""
        self._reserved += requests
        try:
            yield
        finally:
            self._reserved -= requests

    def spend(self, now: float) -> None:
        """Count a request. The bucket may go below zero: the reads of one refresh go together."""
        self._refill(now)
        self._left -= 1

    def learn(self, status: int, headers: RateLimitHeaders, *, now: float, unix_time: float) -> None:
        """Record a reply. A 429 starts a pause; a good answer that leaves requests ends it."""
        if headers.limit:
            if headers.limit > self.limit:
                self._left += (headers.limit - self.limit) * BURST
            self.limit = headers.limit
        if status != TOO_MANY:
            if headers.remaining is not None:
                self.remaining = headers.remaining
            if status in range(200, 300) and headers.remaining != 0:
                self.stay_away_until = min(self.stay_away_until, now)
            return
        # With `retry-after` it is the minute that is full, and `remaining` says 0 of it; without, the hour, until its oldest
        # request expires.
        until_reset = None if headers.reset is None else headers.reset - unix_time
        self.stay_away_until = now + (headers.retry_after or _pause(until_reset) or QUOTA_PAUSE)

    def _refill(self, now: float) -> None:
        self._left = min(self.burst, self._left + max(0.0, now - self.counted_at) * self.pace)
        self.counted_at = now


def _pause(seconds: float | None) -> float | None:
    """Bound a pause that a reply asks for: some ask for years, or give a Unix time."""
    return None if seconds is None else min(max(float(seconds), 1.0), LONGEST_PAUSE)


def _whole(text: str | None) -> int | None:
    return int(text) if text and text.isascii() and text.isdigit() and len(text) < 16 else None  # noqa: PLR2004
