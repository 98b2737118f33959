"""What the control surface may say about a cluster and what belongs to it: JSON in, the next state out."""

import dataclasses
import re
from collections.abc import Mapping
from typing import Final

from sandbox.digitalocean.generate import PasswordStyle
from sandbox.digitalocean.jsontypes import Json, JsonMapping, JsonObject
from sandbox.digitalocean.model import CONNECTIONS, Cluster, Pool, Redaction, Replica
from sandbox.digitalocean.parsing import (
    BadRequestError,
    Parser,
    flag,
    maybe,
    members,
    one_of,
    parse_members,
    text,
    texts,
    whole,
)

_UUID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def apply_changes(cluster: Cluster, changes: JsonMapping) -> Cluster:
    """Lay the changes over the cluster.

    `connections` merges member by member into what was laid over before; a connection given as null loses all of it.
    Every other member replaces the former value.
    """
    parsed = parse_members(changes, takes=_CLUSTER)
    if "connections" in changes:
        parsed["connections"] = _merged(cluster.connections, _layers("connections", changes["connections"]))
    return dataclasses.replace(cluster, **parsed)  # type: ignore[arg-type]  # the table parsed every member


def parse_pool(body: JsonMapping) -> Pool:
    """A pool; `name` and `db` are required."""
    parsed = parse_members(body, takes=_POOL, required=("name", "db"))
    return Pool(**parsed)  # type: ignore[arg-type]  # the table parsed every member


def parse_replica(body: JsonMapping, *, cluster: Cluster) -> Replica:
    """A replica; `name` is required, region and size are the cluster's unless they are given."""
    parsed = parse_members(body, takes=_REPLICA, required=("name",))
    parsed = {"region": cluster.region, "size": cluster.size, **parsed}
    return Replica(**parsed)  # type: ignore[arg-type]  # the table parsed every member


def uuid_text(name: str, value: Json) -> str:
    """A lower-case UUID."""
    if not _UUID.fullmatch(text(name, value)):
        raise BadRequestError(f"{name} takes a lower-case UUID")
    return text(name, value)


def password_style(name: str, value: Json) -> PasswordStyle:
    """How generated passwords look."""
    parsed = parse_members(members(name, value), takes={"marker": text, "hostile": flag})
    return PasswordStyle(**parsed)  # type: ignore[arg-type]  # the table parsed every member


def _network(name: str, value: Json) -> str:
    return "" if value == "" else uuid_text(name, value)


def _connection_kind(name: str) -> str:
    if name not in CONNECTIONS:
        raise BadRequestError(f"unknown connection {name!r}; there are: {', '.join(CONNECTIONS)}")
    return name


def _layers(name: str, value: Json) -> dict[str, JsonObject | None]:
    layers = members(name, value)
    return {_connection_kind(kind): maybe(members)(f"{name}.{kind}", layer) for kind, layer in layers.items()}


def _connections(name: str, value: Json) -> Mapping[str, JsonMapping]:
    return _merged({}, _layers(name, value))


def _merged(former: Mapping[str, JsonMapping], layers: Mapping[str, JsonMapping | None]) -> Mapping[str, JsonMapping]:
    merged = dict(former)
    for kind, layer in layers.items():
        if layer is None:
            merged.pop(kind, None)
        else:
            merged[kind] = {**merged.get(kind, {}), **layer}
    return merged


_CLUSTER: Final[Mapping[str, Parser[object]]] = {
    "name": text,
    "engine": text,
    "version": maybe(text),
    "semantic_version": maybe(text),
    "num_nodes": whole,
    "size": text,
    "region": text,
    "status": text,
    "storage_size_mib": whole,
    "created_at": text,
    "tags": texts,
    "project_id": uuid_text,
    "private_network_uuid": _network,
    "team": text,
    "domain": text,
    "port": maybe(whole),
    "user": maybe(text),
    "password": text,
    "password_style": password_style,
    "database": maybe(text),
    "databases": texts,
    "database_in_uri_only": flag,
    "addressed": flag,
    "standby_healthy": flag,
    "redaction": maybe(one_of(Redaction)),
    "ca": maybe(text),
    "connections": _connections,
    "members": members,
    "omit": texts,
}

_POOL: Final[Mapping[str, Parser[object]]] = {
    "name": text,
    "db": text,
    "user": text,
    "mode": text,
    "size": whole,
    "port": whole,
    "connections": _connections,
}

_REPLICA: Final[Mapping[str, Parser[object]]] = {
    "name": text,
    "region": text,
    "size": text,
    "status": text,
    "connections": _connections,
}
