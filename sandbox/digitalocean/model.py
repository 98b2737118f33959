"""A managed cluster as the simulator keeps it. Changes are in `verbs`, what a reply shows of it is in `render`."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from sandbox.digitalocean.engines import Engine, engine_named
from sandbox.digitalocean.generate import PasswordStyle
from sandbox.digitalocean.jsontypes import JsonMapping

DEFAULT_TEAM: Final = "default"
CONNECTIONS: Final = ("connection", "private_connection", "standby_connection", "standby_private_connection")


class Redaction(StrEnum):
    """How a password looks to a token that may not view credentials. All three have been seen."""

    EMPTY = "empty"
    NULL = "null"
    ABSENT = "absent"


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """A database user besides the default one."""

    name: str
    password: str = field(repr=False)
    rotations: int = 0
    members: JsonMapping = field(default_factory=dict)
    """Laid over the rendered user, verbatim."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """A PgBouncer pool of a PostgreSQL cluster; its name is the database that clients ask for."""

    name: str
    db: str
    user: str = ""
    """Empty: the inbound user; the connections then carry the default user's credentials."""
    mode: str = "transaction"
    size: int = 10
    port: int = 25061
    connections: Mapping[str, JsonMapping] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Replica:
    """A read-only replica, a node of its own (not the standby)."""

    name: str
    region: str
    size: str
    status: str = "online"
    connections: Mapping[str, JsonMapping] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """One cluster. None in an optional member means *the engine's own*, so that a conversion carries it along."""

    id: str
    number: int
    """Which cluster of its world this is, counted from 0; with the seed it decides every generated fact."""
    name: str
    engine: str
    region: str
    size: str
    created_at: str
    domain: str
    """The public host; `private-`, `replica-` and `private-replica-` go before it."""
    private_network_uuid: str
    """Empty: no private network, so no private connections."""
    project_id: str
    password: str = field(repr=False)
    password_style: PasswordStyle = field(default_factory=PasswordStyle)
    rotations: int = 0
    team: str = DEFAULT_TEAM
    version: str | None = None
    semantic_version: str | None = None
    num_nodes: int = 1
    status: str = "online"
    storage_size_mib: int = 61440
    tags: tuple[str, ...] = ()
    port: int | None = None
    user: str | None = None
    database: str | None = None
    database_in_uri_only: bool = False
    """The member `database` is then `''` while the URI's path names it."""
    addressed: bool = True
    """False: the connections are there, but blank, as while a cluster is being created."""
    standby_healthy: bool = True
    redaction: Redaction | None = None
    """Redacts for every token, whatever its scopes."""
    ca: str | None = field(default=None, repr=False)
    """PEM of the cluster's own authority; None: the team's."""
    users: tuple[User, ...] = ()
    databases: tuple[str, ...] = ()
    pools: tuple[Pool, ...] = ()
    replicas: tuple[Replica, ...] = ()
    connections: Mapping[str, JsonMapping] = field(default_factory=dict)
    """Members laid over a connection; its URI follows them unless it is overridden itself."""
    members: JsonMapping = field(default_factory=dict)
    """Top-level members laid over the reply, verbatim."""
    omit: tuple[str, ...] = ()
    """Top-level members left out of the reply."""

    @property
    def facts(self) -> Engine:
        """What its engine decides."""
        return engine_named(self.engine)

    @property
    def default_user(self) -> str:
        """The primary user's name."""
        return self.facts.user if self.user is None else self.user

    @property
    def default_database(self) -> str:
        """The default database's name; empty where the engine has none."""
        return self.facts.database if self.database is None else self.database

    @property
    def default_port(self) -> int | None:
        """The port of its connections; None where the engine has none."""
        return self.facts.port if self.port is None else self.port

    @property
    def has_standby(self) -> bool:
        """Whether a standby node answers."""
        return self.num_nodes > 1 and self.standby_healthy

    @property
    def all_databases(self) -> tuple[str, ...]:
        """The default database and the others; none where the engine has none."""
        if not self.facts.has_databases:
            return ()
        return tuple(dict.fromkeys((self.default_database, *self.databases)))

    def unredacted(self) -> "Cluster":
        """The cluster as it is."""
        return self if self.redaction is None else dataclasses.replace(self, redaction=None)

    def host(self, kind: str) -> str:
        """The host a connection names, overrides included."""
        override = self.connections.get(kind, {}).get("host")
        return override if isinstance(override, str) else host_prefix(kind) + self.domain


def host_prefix(kind: str) -> str:
    """What goes before the public host in a connection of this kind."""
    return ("private-" if "private" in kind else "") + ("replica-" if kind.startswith("standby") else "")
