"""What a client can say to the control surface, as types."""

from collections.abc import Mapping
from typing import TypedDict

from sandbox.digitalocean.jsontypes import Json


class ClusterChanges(TypedDict, total=False):
    """What can be said of a cluster. `None` where it is allowed means the engine's own value."""

    name: str
    engine: str
    version: str | None
    semantic_version: str | None
    num_nodes: int
    size: str
    region: str
    status: str
    storage_size_mib: int
    created_at: str
    tags: list[str]
    project_id: str
    private_network_uuid: str
    """Empty: no private network, so no private connections."""
    team: str
    domain: str
    """The public host; the other connections put their prefixes before it."""
    port: int | None
    """Of every connection. 0 on Kafka leaves the URI empty."""
    user: str | None
    """The default user."""
    password: str
    """The default user's."""
    password_style: Mapping[str, str | bool]
    """`marker` starts every generated password, `hostile` adds characters that URIs must encode."""
    database: str | None
    """The default database."""
    databases: list[str]
    """Those besides the default one."""
    database_in_uri_only: bool
    """`database` is then empty while the URI's path names it."""
    addressed: bool
    """False: connections are there, but blank, as while a cluster is being created."""
    standby_healthy: bool
    redaction: str | None
    """`empty`, `null` or `absent`: hides the passwords from every token."""
    ca: str | None
    """PEM; None: the team's authority."""
    connections: Mapping[str, Mapping[str, Json] | None]
    """By kind (`private_connection`, …): members laid over it. The URI follows them unless it is given itself. Merges
    into what was laid over before; a kind given as None loses all of it."""
    members: Mapping[str, Json]
    """Top-level members laid over the reply, verbatim: `{"standby_connection": None, "tags": None}`."""
    omit: list[str]
    """Top-level members left out of the reply."""


class FaultRule(TypedDict, total=False):
    """When a fault acts and what it needs; see `faults.Fault`."""

    path: str
    method: str
    token: str
    cluster: str
    skip: int
    count: int
    probability: float
    seed: int
    status: int
    body: Json
    headers: Mapping[str, str]
    delay: float
    target: str


class TokenRights(TypedDict, total=False):
    """What a token may do; everything, at the provider's rate, unless it is given."""

    team: str
    scopes: list[str]
    redaction: str
    redact_user: bool
    per_hour: int
    per_minute: int
