"""The tokens the API accepts: who may see what, and how fast."""

from dataclasses import dataclass, field
from typing import Final

from sandbox.digitalocean.model import DEFAULT_TEAM, Redaction
from sandbox.digitalocean.ratelimit import Limits, RateLimiter
from sandbox.digitalocean.redaction import View

DEFAULT_TOKEN: Final = "sandbox-token"  # noqa: S105  # opens nothing but this simulator
READ: Final = "database:read"
UPDATE: Final = "database:update"
VIEW_CREDENTIALS: Final = "database:view_credentials"
READ_TAGS: Final = "tag:read"
READ_PROJECTS: Final = "project:read"
READ_NETWORKS: Final = "vpc:read"
ALL_SCOPES: Final = frozenset({READ, UPDATE, VIEW_CREDENTIALS, READ_TAGS, READ_PROJECTS, READ_NETWORKS})


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """A bearer token and what it may do."""

    value: str = field(repr=False)
    team: str = DEFAULT_TEAM
    scopes: frozenset[str] = ALL_SCOPES
    redaction: Redaction = Redaction.EMPTY
    redact_user: bool = False
    limits: Limits = field(default_factory=Limits)

    def view(self, *, reveal_all: bool = False) -> View:
        """What the token gets to see of a cluster."""
        return View(
            credentials=VIEW_CREDENTIALS in self.scopes,
            tags=READ_TAGS in self.scopes,
            project=READ_PROJECTS in self.scopes,
            vpc=READ_NETWORKS in self.scopes,
            redaction=self.redaction,
            redact_user=self.redact_user,
            reveal_all=reveal_all,
        )


@dataclass(slots=True, kw_only=True)
class _Entry:
    token: Token
    limiter: RateLimiter


class TokenRegister:
    """The tokens in force, each with what it has used of its limits."""

    def __init__(self) -> None:
        self._entries: dict[str, _Entry] = {}

    def put(self, token: Token) -> None:
        """Register a token, or change one; what it has used of its limits stays used."""
        entry = self._entries.get(token.value)
        if entry is None:
            self._entries[token.value] = _Entry(token=token, limiter=RateLimiter(token.limits))
            return
        entry.token = token
        entry.limiter.limits = token.limits

    def revoke(self, value: str) -> bool:
        """Forget a token; says whether it was there."""
        return self._entries.pop(value, None) is not None

    def find(self, value: str | None) -> tuple[Token, RateLimiter] | None:
        """The token that was presented, if it is in force."""
        entry = self._entries.get(value) if value is not None else None
        return None if entry is None else (entry.token, entry.limiter)
