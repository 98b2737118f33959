"""A database cluster as DigitalOcean describes it: frozen values, parsed once from the API's JSON. Pure.

What a Secret's key is made from is strict: a value that cannot be right raises UpstreamUnavailable, so that it never replaces
a good one. What is only shown is clipped or left out. Unknown members, engines and statuses are normal.
"""

import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import unquote, urlsplit

from msgspec import Raw
from msgspec.json import Decoder

from dbclusterref.digitalocean import wire
from dbclusterref.digitalocean.grants import GrantTag
from dbclusterref.errors import UpstreamUnavailable

EndpointName = Literal["private", "standby", "public", "public_standby"]

_MEMBERS: Mapping[EndpointName, str] = {
    "private": "private_connection",
    "standby": "standby_private_connection",
    "public": "connection",
    "public_standby": "standby_connection",
}
"""The API's name for each endpoint."""

_CLUSTER = Decoder(wire.ClusterShape)
_CONNECTION = Decoder(wire.ConnectionShape | None)
_DATABASE = Decoder(wire.DatabaseShape)
_POOL = Decoder(wire.PoolShape)
_USER = Decoder(wire.UserShape)
_WINDOW = Decoder(wire.WindowShape)
_LIST = Decoder(list[Raw])
_NAMES = Decoder(list[str])
_NUMBER = Decoder(int)
_FLAG = Decoder(bool)
_TEXT = Decoder(str)
_TAGS = Decoder(list[str] | None)

_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_ENGINE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")
_HOST = re.compile(r"[A-Za-z0-9_.:-]{1,253}")
_ENDS_A_LINE_OR_HIDES = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_HIDES = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
MAX_PORT = 65535
_MAX_NODES = 2**63 - 1
"""The largest integer that the API server takes into a status."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Connection:
    """One way to reach a cluster. Empty strings stand for what the API did not say; `port` is None where it gave none."""

    host: str
    port: int | None
    user: str
    password: str = field(repr=False)
    database: str
    uri: str = field(repr=False)

    @classmethod
    def from_json(cls, content: bytes | Raw, *, path: str) -> "Connection | None":
        """Parse a connection object; absent, `null`, `{}` and one without a host are all None: nothing to connect to."""
        shape = wire.decode(_CONNECTION, content, path=path)
        if shape is None or not shape.host:
            return None
        if not _HOST.fullmatch(shape.host):
            raise wire.unexpected(f"{path}.host", "a host name or an IP address")
        if shape.port is not None and not 0 <= shape.port <= MAX_PORT:
            raise wire.unexpected(f"{path}.port", "a port number")
        uri = _line(shape.uri, path=f"{path}.uri")
        return cls(
            host=shape.host,
            # Kafka has been seen with port 0, which says that there is none.
            port=shape.port or None,
            user=_line(shape.user, path=f"{path}.user"),
            password=_line(shape.password, path=f"{path}.password"),
            # Often '' while the URI's path says /defaultdb.
            database=_line(shape.database, path=f"{path}.database") or _database_of(uri),
            uri=uri,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """A database user; `access_cert` and `access_key` are PEM, on Kafka alone."""

    name: str
    password: str = field(repr=False)
    access_cert: str = field(repr=False)
    access_key: str = field(repr=False)

    @classmethod
    def from_json(cls, content: bytes | Raw, *, path: str = "user") -> "User":
        """Parse a user object of `users[]` or of `GET …/users/{name}`."""
        shape = wire.decode(_USER, content, path=path)
        return cls(
            name=_required_name(shape.name, path=path),
            password=_line(shape.password, path=f"{path}.password"),
            access_cert=_lines(shape.access_cert, path=f"{path}.access_cert"),
            access_key=_lines(shape.access_key, path=f"{path}.access_key"),
        )

    @classmethod
    def from_api(cls, value: object, *, path: str = "user") -> "User":
        """Parse a user object that was read from a file."""
        return cls.from_json(wire.encode(value), path=path)


@dataclass(frozen=True, slots=True, kw_only=True)
class MaintenanceWindow:
    """When DigitalOcean may restart nodes: a lower-case weekday and a UTC hour as the API writes it (`21:00`)."""

    day: str
    hour: str
    pending: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoints:
    """The four addresses that a cluster, or one of its connection pools, may have.

    `faults` says for an endpoint that cannot be read why: it matters only to a Secret that is made from this endpoint.
    """

    private: Connection | None = None
    standby: Connection | None = None
    public: Connection | None = None
    public_standby: Connection | None = None
    faults: Mapping[EndpointName, str] = field(default_factory=dict)

    @classmethod
    def from_shape(cls, shape: wire.ClusterShape | wire.PoolShape, *, path: str) -> "Endpoints":
        """Parse the four connections, each on its own."""
        found: dict[EndpointName, Connection | None] = {}
        faults: dict[EndpointName, str] = {}
        for name, member in _MEMBERS.items():
            try:
                found[name] = Connection.from_json(getattr(shape, member), path=f"{path}.{member}")
            except UpstreamUnavailable as cause:
                faults[name] = cause.message
        return cls(**found, faults=faults)

    def get(self, name: EndpointName) -> Connection | None:
        """Return an endpoint. Raises UpstreamUnavailable where DigitalOcean's answer for it cannot be read."""
        if name in self.faults:
            raise UpstreamUnavailable(self.faults[name])
        connection: Connection | None = getattr(self, name)
        return connection


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabaseCluster:
    """What the operator needs to know of a cluster. `engine` and `status` are open sets: new words are no error.

    `users` leaves out users that cannot be read; `db_names` is empty where the API did not say. `granted_to` holds the
    namespaces that tags name, and is None where the API did not show the tags: the token may not see them. `revoked_for` holds
    those whose Secret a tag asks to remove.
    """

    uuid: str
    name: str
    engine: str
    version: str
    region: str
    status: str
    nodes: int | None
    size: str
    created_at: str
    version_end_of_life: str
    maintenance_window: MaintenanceWindow | None
    endpoints: Endpoints
    users: tuple[User, ...] = ()
    db_names: tuple[str, ...] = ()
    granted_to: tuple[str, ...] | None = None
    revoked_for: tuple[str, ...] = ()

    @classmethod
    def from_json(
        cls,
        content: bytes | Raw,
        *,
        path: str = "database",
        grant_tag: GrantTag = GrantTag(),  # noqa: B008 - it is frozen
    ) -> "DatabaseCluster":
        """Parse a cluster object, as `GET /v2/databases/{uuid}` and the listing both give it.

        Raises UpstreamUnavailable, naming the member, where it has no UUID or engine.
        """
        shape = wire.decode(_CLUSTER, content, path=path)
        if not shape.id:
            raise wire.missing(f"{path}.id")
        if not shape.engine:
            raise wire.missing(f"{path}.engine")
        uuid = shape.id.lower()
        if not _UUID.fullmatch(uuid):
            raise wire.unexpected(f"{path}.id", "a UUID")
        if not _ENGINE.fullmatch(shape.engine):
            raise wire.unexpected(f"{path}.engine", "the name of an engine")
        return cls(
            # Everybody who keeps the UUID keeps this one copy.
            uuid=sys.intern(uuid),
            name=wire.shown(shape.name),
            engine=shape.engine,
            version=wire.shown(shape.version),
            region=wire.shown(shape.region),
            status=wire.shown(shape.status),
            nodes=_nodes(shape.num_nodes),
            size=wire.shown(shape.size),
            created_at=wire.shown(shape.created_at),
            version_end_of_life=wire.shown(shape.version_end_of_life),
            maintenance_window=_maintenance_window(shape.maintenance_window),
            endpoints=Endpoints.from_shape(shape, path=path),
            users=tuple(_readable_users(shape.users)),
            db_names=_names(shape.db_names),
            granted_to=_named_in(shape.tags, grant_tag=grant_tag),
            revoked_for=_named_in(shape.tags, grant_tag=grant_tag, revoked=True) or (),
        )

    @classmethod
    def from_api(cls, value: object) -> "DatabaseCluster":
        """Parse a cluster object that was read from a file."""
        return cls.from_json(wire.encode(value))

    def user(self, name: str) -> User | None:
        """Return the user of that name, if the cluster object lists it."""
        return next((user for user in self.users if user.name == name), None)

    def is_granted_to(self, namespace: str) -> bool:
        """Return whether a tag grants the cluster to a namespace."""
        return namespace in (self.granted_to or ())

    def is_revoked_for(self, namespace: str) -> bool:
        """Return whether a tag asks for the removal of what a namespace was given, and none grants the cluster to it."""
        return namespace in self.revoked_for and not self.is_granted_to(namespace)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterPage:
    """One page of the listing. `clusters` is None where the page is, byte for byte, the one the caller knows already.

    `next` is what to ask for the page after it, None on the last; `total` counts the clusters on all pages, if it was said;
    `length` counts those on this page, those that cannot be read among them.
    """

    clusters: tuple[DatabaseCluster, ...] | None = field(repr=False)
    length: int
    next: str | None
    total: int | None
    digest: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """A PostgreSQL connection pool; its own name is the database to connect to, and leads to `database`."""

    name: str
    database: str = ""
    endpoints: Endpoints

    @classmethod
    def from_json(cls, content: bytes | Raw, *, path: str = "pool") -> "Pool":
        """Parse a pool object, as `GET …/pools/{name}` gives it."""
        shape = wire.decode(_POOL, content, path=path)
        return cls(
            name=_required_name(shape.name, path=path),
            database=_clean(wire.attempt(_TEXT, shape.db) or ""),
            endpoints=Endpoints.from_shape(shape, path=path),
        )

    @classmethod
    def from_api(cls, value: object) -> "Pool":
        """Parse a pool object that was read from a file."""
        return cls.from_json(wire.encode(value))


@dataclass(frozen=True, slots=True, kw_only=True)
class Database:
    """A database within a cluster."""

    name: str

    @classmethod
    def from_json(cls, content: bytes | Raw, *, path: str = "db") -> "Database":
        """Parse a database object, as `GET …/dbs/{name}` gives it."""
        shape = wire.decode(_DATABASE, content, path=path)
        return cls(name=_required_name(shape.name, path=path))


def _readable_users(content: Raw) -> Iterator[User]:
    # The API is asked for a user that is missing here: that read says what is wrong with it.
    for item in wire.attempt(_LIST, content) or ():
        try:
            yield User.from_json(item)
        except UpstreamUnavailable:
            continue


def _names(content: Raw) -> tuple[str, ...]:
    names = wire.attempt(_NAMES, content) or ()
    # A list that is wrong in part names no database for certain.
    return tuple(names) if all(name.isprintable() for name in names) else ()


def _named_in(content: Raw, *, grant_tag: GrantTag, revoked: bool = False) -> tuple[str, ...] | None:
    # The member is missing where the token may not see tags. `null` is how a list that holds nothing may be written.
    if content is wire.ABSENT:
        return None
    try:
        return grant_tag.namespaces(_TAGS.decode(content) or (), revoked=revoked)
    except wire.UNREADABLE:
        return None


def _maintenance_window(content: Raw) -> MaintenanceWindow | None:
    shape = wire.attempt(_WINDOW, content)
    if shape is None:
        return None
    day, hour = wire.shown(shape.day), wire.shown(shape.hour)
    return MaintenanceWindow(day=day, hour=hour, pending=wire.attempt(_FLAG, shape.pending) or False)


def _nodes(content: Raw) -> int | None:
    nodes = wire.attempt(_NUMBER, content)
    return nodes if nodes is not None and 0 <= nodes <= _MAX_NODES else None


def _required_name(text: str | None, *, path: str) -> str:
    if not text:
        raise wire.missing(f"{path}.name")
    return _line(text, path=f"{path}.name")


def _line(text: str | None, *, path: str) -> str:
    """Refuse what would begin a new line in a configuration file: the rest of the text would become settings."""
    if text and not text.isprintable() and _ENDS_A_LINE_OR_HIDES.search(text):
        raise wire.unexpected(path, "text without control characters")
    return text or ""


def _lines(text: str | None, *, path: str) -> str:
    if text and _HIDES.search(text):
        raise wire.unexpected(path, "text without control characters")
    return text or ""


def _database_of(uri: str) -> str:
    try:
        path = urlsplit(uri).path.removeprefix("/")
    except ValueError:
        return ""
    # An unencoded password with a slash cuts the address short: its rest would be taken for the path, and be printed.
    return "" if "@" in path else _clean(unquote(path))


def _clean(text: str) -> str:
    """Return text that not every Secret needs; empty where it could begin a new line."""
    return "" if _ENDS_A_LINE_OR_HIDES.search(text) else text
