"""Names, identifiers and passwords, each a pure function of the seed and of what it is for.

Nothing is drawn from a shared stream: a cluster's facts do not depend on what was generated before it, so that tens of
thousands of clusters can be made when they are asked for, in any order, and come out the same.
"""

import datetime as dt
import hashlib
import uuid
from dataclasses import dataclass

HOSTILE_CHARACTERS = "@:/?#%&+ \"'é"
"""What breaks a URI that was joined without percent-encoding."""

_ALPHABET = "abcdefghijklmnopqrstuvwxyz0123456789"
_EPOCH = dt.datetime(2024, 1, 1, tzinfo=dt.UTC)
_YEAR = 365 * 24 * 3600
_ADJECTIVES = ("amber", "brisk", "calm", "deep", "eager", "fair", "grand", "hidden", "ivory", "jolly", "keen", "lucid")
_NOUNS = ("orders", "billing", "catalog", "search", "events", "ledger", "profiles", "reports", "sessions", "stock")
REGIONS = ("nyc3", "ams3", "sfo3", "fra1", "sgp1", "blr1", "tor1", "lon1")
SIZES = ("db-s-1vcpu-1gb", "db-s-1vcpu-2gb", "db-s-2vcpu-4gb", "db-s-4vcpu-8gb", "db-s-8vcpu-16gb")


@dataclass(frozen=True, slots=True, kw_only=True)
class PasswordStyle:
    """How generated passwords look: `marker` starts each (a canary to search for), `hostile` adds what URIs encode."""

    marker: str = ""
    hostile: bool = False


def draw(seed: int, *purpose: object) -> bytes:
    """32 bytes that depend on the seed and the purpose alone."""
    return hashlib.blake2b("\0".join(map(str, (seed, *purpose))).encode(), digest_size=32).digest()


def draw_uuid(seed: int, *purpose: object) -> str:
    """A version-4 UUID in lower case."""
    return str(uuid.UUID(bytes=draw(seed, *purpose)[:16], version=4))


def draw_fraction(seed: int, *purpose: object) -> float:
    """A number in [0, 1)."""
    return int.from_bytes(draw(seed, *purpose)[:7]) / 2**56


def draw_password(seed: int, *purpose: object, style: PasswordStyle) -> str:
    """Sixteen letters and digits, as the provider's examples show, decorated by the style."""
    raw = draw(seed, "password", *purpose)
    plain = style.marker + "".join(_ALPHABET[byte % len(_ALPHABET)] for byte in raw[:16])
    return plain + HOSTILE_CHARACTERS if style.hostile else plain


def draw_name(seed: int, number: int) -> str:
    """A cluster name; the number at its end keeps it unique."""
    raw = draw(seed, "name", number)
    return f"{_ADJECTIVES[raw[0] % len(_ADJECTIVES)]}-{_NOUNS[raw[1] % len(_NOUNS)]}-{number}"


def draw_created_at(seed: int, number: int) -> str:
    """A moment of 2024, RFC 3339 in UTC."""
    seconds = int(draw_fraction(seed, "created", number) * _YEAR)
    return (_EPOCH + dt.timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")
