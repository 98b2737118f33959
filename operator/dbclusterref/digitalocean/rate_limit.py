"""One API token's request budget: how soon the next request may go, judged by what replies say is left. Pure: `now` is given.

Several processes and tools may share a token, so that the replies' headers are believed before any count of our own. Times
are monotonic seconds; only `reset` is Unix time, since the header is.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

TOO_MANY = 429

DEFAULT_LIMIT = 5000
"""Requests an hour that DigitalOcean gives a token; a reply's `ratelimit-limit` corrects it."""
SHARE = 0.9
"""What of the hourly limit is used in the long run: the rest stays for people and other tools."""
BURST = 0.02
"""What of the hourly limit may go at once: 100 of 5,000, so that a burst and a minute of the pace stay within 250."""
RESERVE = 0.05
"""Below this share of the limit left, the pace falls in proportion: whoever shares the token is not starved by us."""
SLOWEST = 0.05
"""The pace never falls below this share of itself: without any request, nobody would learn that the budget is back."""

TINY = 1e-6
"""Less than this of a request is missing by rounding alone."""
QUOTA_PAUSE = 60.0
"""Seconds to stay away after a 429 that does not say for how long."""
LONGEST_PAUSE = 300.0

RATE_LIMITED = (
    "The API token's request quota at DigitalOcean is used up; reading goes on when it allows. Raise "
    "spec.refreshInterval, or use fewer tools with one token."
)
"""What every RateLimited says, whether DigitalOcean answered 429 or the bucket is empty."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RateLimitHeaders:
    """What a reply's headers say of the token's hourly quota; `reset` is Unix time, None where the header was absent."""

    limit: int | None
    remaining: int | None
    reset: int | None
    retry_after: float | None

    @classmethod
    def from_headers(cls, headers: Mapping[str, str]) -> "RateLimitHeaders":
        """Read the four headers; what is no number is as if it were absent."""
        return cls(
            limit=_whole(headers.get("ratelimit-limit")),
            remaining=_whole(headers.get("ratelimit-remaining")),
            reset=_whole(headers.get("ratelimit-reset")),
            retry_after=_whole(headers.get("retry-after")),
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

    def __post_init__(self) -> None:
        self._left = self.burst

    @property
    def burst(self) -> float:
        """How many requests may go at once."""
        return max(1.0, self.limit * BURST)

    @property
    def background(self) -> float:
        """What reads that nobody waits for leave untouched: routine and new resources have it to themselves."""
        return self.burst / 3

    @property
    def pace(self) -> float:
        """Requests a second, in the long run, as things are."""
        return self.limit * SHARE / 3600.0 / self.slowdown

    @property
    def slowdown(self) -> float:
        """By what factor everything is slower because little is left of the hour: 1 for not at all."""
        if self.remaining is None:
            return 1.0
        return 1.0 / min(1.0, max(self.remaining / (self.limit * RESERVE), SLOWEST))

    def seconds_until(self, now: float, *, spare: float = 0.0) -> float:
        """How long until a request may go that leaves `spare` requests of the burst; 0 for now."""
        self._refill(now)
        short = spare + 1 - self._left
        return max(0.0, self.stay_away_until - now, short / self.pace if short > TINY else 0.0)

    def may_spend(self, now: float, *, spare: float = 0.0) -> bool:
        """Tells whether a request may go now that leaves `spare` requests of the burst."""
        return self.seconds_until(now, spare=spare) <= 0

    def spend(self, now: float) -> None:
        """Counts a request. May go below zero: the second read of one refresh is not worth another round."""
        self._refill(now)
        self._left -= 1

    def learn(self, status: int, headers: RateLimitHeaders, *, now: float, unix_time: float) -> None:
        """Takes in what a reply says."""
        if headers.limit:
            if headers.limit > self.limit:
                self._left += (headers.limit - self.limit) * BURST
            self.limit = headers.limit
        if status != TOO_MANY:
            if headers.remaining is not None:
                self.remaining = headers.remaining
            return
        # With `retry-after` it is the minute that is full, and `remaining` says 0 of it; without, the hour, until its oldest
        # request expires.
        pause = headers.retry_after
        if pause is None and headers.reset is not None:
            pause = min(max(headers.reset - unix_time, 1.0), LONGEST_PAUSE)
        self.stay_away_until = now + (pause or QUOTA_PAUSE)

    def _refill(self, now: float) -> None:
        self._left = min(self.burst, self._left + max(0.0, now - self.counted_at) * self.pace)
        self.counted_at = now


def _whole(text: str | None) -> int | None:
    return int(text) if text and text.isascii() and text.isdigit() and len(text) < 16 else None  # noqa: PLR2004
