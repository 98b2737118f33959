"""The shapes of DigitalOcean's replies, decoded by msgspec. Pure.

Members that are only shown, and those that not every Secret needs, stay undecoded (`Raw`) until somebody reads them: a wrong
one costs what it stands for and nothing else. A message names the member's path and what was expected, never the value: the
value may be a password.
"""

import json
import re
from typing import TypeVar

from msgspec import DecodeError, Raw, Struct, ValidationError
from msgspec.json import Decoder

from dbclusterref.errors import UpstreamUnavailable

V = TypeVar("V")

ABSENT = Raw(b"null")
"""Absent, `null` and empty mean the same everywhere."""
MAX_VALUES = 250_000
"""In one reply. A page of 200 clusters has some 12,000; a body of commas would be a hundred times its size once decoded."""


class ClusterShape(Struct, kw_only=True):
    """A cluster object."""

    id: str | None = None
    engine: str | None = None
    name: Raw = ABSENT
    version: Raw = ABSENT
    region: Raw = ABSENT
    status: Raw = ABSENT
    num_nodes: Raw = ABSENT
    size: Raw = ABSENT
    created_at: Raw = ABSENT
    version_end_of_life: Raw = ABSENT
    maintenance_window: Raw = ABSENT
    users: Raw = ABSENT
    db_names: Raw = ABSENT
    tags: Raw = ABSENT
    private_connection: Raw = ABSENT
    standby_private_connection: Raw = ABSENT
    connection: Raw = ABSENT
    standby_connection: Raw = ABSENT


class PoolShape(Struct, kw_only=True):
    """A connection pool object."""

    name: str | None = None
    db: Raw = ABSENT
    private_connection: Raw = ABSENT
    standby_private_connection: Raw = ABSENT
    connection: Raw = ABSENT
    standby_connection: Raw = ABSENT


class ConnectionShape(Struct, kw_only=True):
    """A connection object."""

    host: str | None = None
    port: int | None = None
    user: str | None = None
    password: str | None = None
    database: str | None = None
    uri: str | None = None


class DatabaseShape(Struct, kw_only=True):
    """A database object."""

    name: str | None = None


class ReplicaShape(Struct, kw_only=True):
    """A read-only replica object."""

    name: str | None = None
    region: Raw = ABSENT
    status: Raw = ABSENT
    private_connection: Raw = ABSENT


class UserShape(Struct, kw_only=True):
    """A user object."""

    name: str | None = None
    password: str | None = None
    access_cert: str | None = None
    access_key: str | None = None


class WindowShape(Struct, kw_only=True):
    """A maintenance window."""

    day: Raw = ABSENT
    hour: Raw = ABSENT
    pending: Raw = ABSENT


class CaShape(Struct, kw_only=True):
    """A certificate authority: base64 of its PEM."""

    certificate: str | None = None


class PagesShape(Struct, kw_only=True):
    """Where the next page is."""

    next: str | None = None


class LinksShape(Struct, kw_only=True):
    """The links of a listing."""

    pages: PagesShape | None = None


class MetaShape(Struct, kw_only=True):
    """What a listing says of itself."""

    total: Raw = ABSENT


class ErrorShape(Struct, kw_only=True):
    """The API's own error object."""

    id: str
    message: str


class ReplyShape(Struct, kw_only=True):
    """Any reply's outermost object; which member it has depends on the request."""

    database: Raw = ABSENT
    databases: list[Raw] | None = None
    ca: CaShape | None = None
    user: Raw = ABSENT
    pool: Raw = ABSENT
    db: Raw = ABSENT
    replicas: Raw = ABSENT
    links: LinksShape | None = None
    meta: Raw = ABSENT


UNREADABLE = (DecodeError, UnicodeDecodeError, RecursionError)
"""What msgspec raises: for bad JSON or a wrong type, for bytes that are not UTF-8, for depth."""
_REPLY = Decoder(ReplyShape)
_TEXT = Decoder(str | None)
_ESCAPE = re.compile(
    rb"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|\\u(?P<half>[dD][89a-fA-F][0-9a-fA-F]{2})|\\.", re.DOTALL
)
_CERTIFICATE = re.compile(rb"-----BEGIN CERTIFICATE-----\s+[A-Za-z0-9+/][A-Za-z0-9+/=\s]*-----END CERTIFICATE-----")
_HIDDEN = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_EXPECTED = {"str": "a string", "int": "an integer", "bool": "true or false", "object": "an object", "array": "a list"}


def read_reply(content: bytes) -> ReplyShape:
    """Decode a reply's outermost object. Raises UpstreamUnavailable where it does not have the shape of one."""
    if content.count(b",") > MAX_VALUES:
        raise invalid("it has too many values")
    try:
        return _REPLY.decode(content)
    except UNREADABLE:
        return decode(_REPLY, _without_half_characters(content), path="")


def encode(value: object) -> bytes:
    """Write what was read from a file as a reply would have it."""
    return _without_half_characters(json.dumps(value).encode())


def decode(decoder: Decoder[V], content: bytes | Raw, *, path: str) -> V:
    """Decode one value. Raises UpstreamUnavailable that names the member's path and the expected type."""
    try:
        return decoder.decode(content)
    except ValidationError as error:
        raise _mismatch(str(error), path=path) from None
    except UNREADABLE:
        raise invalid(f"{path or 'the body'} is not valid JSON") from None


def shown(content: Raw, *, at_most: int = 256) -> str:
    """Decode text that is only shown: clipped, without control characters, and empty where it is not text at all."""
    try:
        text = _TEXT.decode(content) or ""
    except UNREADABLE:
        return ""
    text = text if len(text) <= at_most else f"{text[: at_most - 1]}…"
    return text if text.isprintable() else "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


def attempt(decoder: Decoder[V], content: Raw) -> V | None:
    """Decode a value that is only shown; None where it has another shape."""
    try:
        return decoder.decode(content)
    except UNREADABLE:
        return None


def holds_certificates(pem: bytes) -> bool:
    """Return whether text holds certificates, each whole: clients refuse a file with half of one."""
    if not pem.isascii() or _HIDDEN.search(pem):
        return False
    return 0 < pem.count(b"-----BEGIN") == len(_CERTIFICATE.findall(pem))


def unexpected(path: str, expected: str) -> UpstreamUnavailable:
    """Say which member is not what it should be."""
    return UpstreamUnavailable(
        f"DigitalOcean returned an unexpected response: {path} is not {expected}; retrying.", answered=True
    )


def missing(path: str) -> UpstreamUnavailable:
    """Say which member is not there."""
    return UpstreamUnavailable(
        f"DigitalOcean returned an unexpected response: required field {path} is missing; retrying.", answered=True
    )


def invalid(why: str) -> UpstreamUnavailable:
    """Say why a reply cannot be read at all."""
    return UpstreamUnavailable(f"DigitalOcean returned an invalid response ({why}); retrying.", answered=True)


def _without_half_characters(content: bytes) -> bytes:
    # msgspec refuses a whole body for one of them (`"\ud800"`). A control character is refused as surely, but where it stands.
    return _ESCAPE.sub(lambda match: rb"\u0000" if match["half"] else match[0], content)


def _mismatch(error: str, *, path: str) -> UpstreamUnavailable:
    # "Expected `int | null`, got `str` - at `$.private_connection.port`"
    what, _, where = error.partition(" - at `$")
    kinds = re.findall("`([^`]*)`", what) or [""]
    expected = _EXPECTED.get(kinds[0].split(" | ")[0], "a valid value")
    return unexpected(f"{path}{where.rstrip('`')}".removeprefix(".") or "the body", expected)
