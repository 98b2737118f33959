"""A database cluster as DigitalOcean describes it, parsed once from the API's JSON.

Every member of the API's object but five is optional, and each may be absent, `null` or empty; unknown members and unknown
engines are normal. A member of the wrong type is refused by name, never by value: the value may be a password.
"""

import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeVar
from urllib.parse import unquote, urlsplit

from dbclusterref.errors import UpstreamUnavailable

T = TypeVar("T", str, int, bool)

_HALF_CHARACTER = re.compile("[\ud800-\udfff]")


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
    def from_api(cls, value: object, *, path: str) -> "Connection | None":
        """Read a connection object; absent, `null`, `{}` and one without a host are all None: nothing to connect to."""
        if value is None:
            return None
        members = _mapping(value, path=path)
        host = _member(members, "host", str, path=path) or ""
        if not host:
            return None
        uri = _member(members, "uri", str, path=path) or ""
        return cls(
            host=host,
            # Kafka has been seen with port 0: no port at all is the truer reading.
            port=_member(members, "port", int, path=path) or None,
            user=_member(members, "user", str, path=path) or "",
            password=_member(members, "password", str, path=path) or "",
            # Often '' while the URI's path says /defaultdb.
            database=_member(members, "database", str, path=path) or _database_of(uri),
            uri=uri,
        )

    def to_api(self) -> dict[str, object]:
        """Writes it as the API spells it."""
        return _given(
            host=self.host, port=self.port, user=self.user, password=self.password, database=self.database, uri=self.uri
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """A database user; `access_cert` and `access_key` are PEM, on Kafka alone."""

    name: str
    role: str
    password: str = field(repr=False)
    access_cert: str = field(repr=False)
    access_key: str = field(repr=False)

    @classmethod
    def from_api(cls, value: object, *, path: str) -> "User":
        """Read a user object of `users[]` or of `GET …/users/{name}`."""
        members = _mapping(value, path=path)
        text = {
            name: _member(members, name, str, path=path) or ""
            for name in ("name", "role", "password", "access_cert", "access_key")
        }
        return cls(**text)

    def to_api(self) -> dict[str, object]:
        """Writes it as the API spells it."""
        return _given(
            name=self.name,
            role=self.role,
            password=self.password,
            access_cert=self.access_cert,
            access_key=self.access_key,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class MaintenanceWindow:
    """When DigitalOcean may restart nodes: a lower-case weekday and an UTC hour as the API writes it (`21:00`)."""

    day: str
    hour: str
    pending: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoints:
    """The four addresses a cluster, or one of its connection pools, may have."""

    private: Connection | None = None
    standby: Connection | None = None
    public: Connection | None = None
    public_standby: Connection | None = None

    @classmethod
    def from_api(cls, members: Mapping[str, object], *, path: str, standby_private: str) -> "Endpoints":
        """Read the four connection members; `standby_private` is the API's name for the private standby's."""

        def read(name: str) -> Connection | None:
            return Connection.from_api(members.get(name), path=f"{path}.{name}")

        return cls(
            private=read("private_connection"),
            standby=read(standby_private),
            public=read("connection"),
            public_standby=read("standby_connection"),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabaseCluster:
    """What the operator needs to know of a cluster. `engine` and `status` are open sets: new words are no error."""

    uuid: str
    name: str
    engine: str
    version: str
    region: str
    status: str
    nodes: int
    size: str
    created_at: str
    version_end_of_life: str
    maintenance_window: MaintenanceWindow | None
    endpoints: Endpoints
    users: tuple[User, ...] = ()
    db_names: tuple[str, ...] = ()
    """Empty where the API did not say."""

    @classmethod
    def from_api(cls, value: object, *, path: str = "database") -> "DatabaseCluster":
        """Read a cluster object, as `GET /v2/databases/{uuid}` and the listing both give it.

        Raises UpstreamUnavailable, naming the member, where a required member is missing or any has the wrong type.
        """
        members = _mapping(value, path=path)
        users = members.get("users")
        if users is not None and not isinstance(users, list):
            raise _wrong_type(f"{path}.users", "a list")
        return cls(
            # One copy for all who keep it; the rest of a cluster is not kept like this.
            uuid=sys.intern((_member(members, "id", str, path=path) or "").lower()),
            name=_required(members, "name", str, path=path),
            engine=_required(members, "engine", str, path=path),
            version=_member(members, "version", str, path=path) or "",
            region=_required(members, "region", str, path=path),
            status=_member(members, "status", str, path=path) or "",
            nodes=_required(members, "num_nodes", int, path=path),
            size=_required(members, "size", str, path=path),
            created_at=_member(members, "created_at", str, path=path) or "",
            version_end_of_life=_member(members, "version_end_of_life", str, path=path) or "",
            maintenance_window=_maintenance_window(members.get("maintenance_window"), path=f"{path}.maintenance_window"),
            endpoints=Endpoints.from_api(members, path=path, standby_private="standby_private_connection"),
            users=tuple(User.from_api(user, path=f"{path}.users[{i}]") for i, user in enumerate(users or ())),
            db_names=_names(members.get("db_names")),
        )

    def to_api(self) -> dict[str, object]:
        """Writes it as the API spells it: what `from_api` reads as an equal cluster."""
        window, endpoints = self.maintenance_window, self.endpoints
        connections = {
            "private_connection": endpoints.private,
            "standby_private_connection": endpoints.standby,
            "connection": endpoints.public,
            "standby_connection": endpoints.public_standby,
        }
        return _given(
            id=self.uuid,
            name=self.name,
            engine=self.engine,
            version=self.version,
            region=self.region,
            status=self.status,
            num_nodes=self.nodes,
            size=self.size,
            created_at=self.created_at,
            version_end_of_life=self.version_end_of_life,
            maintenance_window={"day": window.day, "hour": window.hour, "pending": window.pending} if window else None,
            users=[user.to_api() for user in self.users] or None,
            db_names=self.db_names or None,
            **{name: connection.to_api() for name, connection in connections.items() if connection},
        )

    def user(self, name: str) -> User | None:
        """Finds a user among those the cluster object itself lists."""
        return next((user for user in self.users if user.name == name), None)


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
    """A PostgreSQL connection pool; its own name is the database to connect to."""

    name: str
    endpoints: Endpoints

    @classmethod
    def from_api(cls, value: object, *, path: str = "pool") -> "Pool":
        """Read a pool object, as `GET …/pools/{name}` gives it."""
        members = _mapping(value, path=path)
        return cls(
            name=_required(members, "name", str, path=path),
            # The pool's schema calls the private standby the same as the cluster's does.
            endpoints=Endpoints.from_api(members, path=path, standby_private="standby_private_connection"),
        )


def _names(value: object) -> tuple[str, ...]:
    # A list in part unreadable names no database for certain.
    if not isinstance(value, list) or not all(isinstance(name, str) and _is_text(name) for name in value):
        return ()
    return tuple(value)


def _given(**members: object) -> dict[str, object]:
    return {name: value for name, value in members.items() if value is not None}


def _maintenance_window(value: object, *, path: str) -> MaintenanceWindow | None:
    if value is None:
        return None
    members = _mapping(value, path=path)
    return MaintenanceWindow(
        day=_member(members, "day", str, path=path) or "",
        hour=_member(members, "hour", str, path=path) or "",
        pending=_member(members, "pending", bool, path=path) or False,
    )


def _database_of(uri: str) -> str:
    try:
        path = urlsplit(uri).path.removeprefix("/")
    except ValueError:
        return ""
    # An unencoded password with a slash cuts the address short: its rest would be taken for the path, and be printed.
    return "" if "@" in path else unquote(path)


def _mapping(value: object, *, path: str) -> Mapping[str, object]:
    if not isinstance(value, Mapping):
        raise _wrong_type(path, "an object")
    return value


def _member(members: Mapping[str, object], name: str, kind: type[T], *, path: str) -> T | None:
    value = members.get(name)
    if value is None:
        return None
    # JSON's true is an int to Python, so the type itself is compared.
    if type(value) is not kind:
        raise _wrong_type(f"{path}.{name}", {str: "a string", int: "a whole number", bool: "true or false"}[kind])
    if not _is_text(str(value)):
        raise _wrong_type(f"{path}.{name}", "text")
    assert isinstance(value, kind)
    return value


def _is_text(value: str) -> bool:
    r"""Tells whether a string has UTF-8: JSON can spell half a character (`"\ud800"`), which no Secret can hold."""
    return value.isascii() or not _HALF_CHARACTER.search(value)


def _required(members: Mapping[str, object], name: str, kind: type[T], *, path: str) -> T:
    value = _member(members, name, kind, path=path)
    if value is None:
        raise UpstreamUnavailable(f"DigitalOcean answered without {path}.{name}, which its API always gives; trying again.")
    return value


def _wrong_type(path: str, expected: str) -> UpstreamUnavailable:
    return UpstreamUnavailable(f"DigitalOcean's answer is not what its API describes: {path} is not {expected}; trying again.")
