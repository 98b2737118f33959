"""What happens to a cluster: pure functions from one state to the next."""

import dataclasses
from collections.abc import Iterable
from typing import Final, Protocol, TypeVar

from sandbox.digitalocean.generate import draw_password
from sandbox.digitalocean.jsontypes import JsonMapping, JsonObject
from sandbox.digitalocean.model import Cluster, Pool, Replica, User

_STANDBY_OF: Final = {"connection": "standby_connection", "private_connection": "standby_private_connection"}


class UnknownItemError(LookupError):
    """A cluster, user, pool, database, replica or fault that is not there."""


class DuplicateItemError(ValueError):
    """A cluster, user, pool, database or replica whose name is taken."""


class _Named(Protocol):
    @property
    def name(self) -> str: ...


NamedT = TypeVar("NamedT", bound=_Named)


def find(items: Iterable[NamedT], name: str) -> NamedT:
    """The item of that name; `UnknownItemError` without one."""
    for item in items:
        if item.name == name:
            return item
    raise UnknownItemError(name)


def rotate_password(cluster: Cluster, *, seed: int, user: str | None = None, password: str | None = None) -> Cluster:
    """Give the default user (or the named one) a new password: the one given, else the next of the seed.

    A password that was laid over a connection goes, and a URI with it: the rotation is the later word.
    """
    if user is None or user == cluster.default_user:
        number = cluster.rotations + 1
        return dataclasses.replace(
            cluster,
            password=_next_password(cluster, seed=seed, user="", number=number) if password is None else password,
            rotations=number,
            connections={kind: _without(over, "password", "uri") for kind, over in cluster.connections.items()},
        )
    old = find(cluster.users, user)
    number = old.rotations + 1
    new = dataclasses.replace(
        old,
        password=_next_password(cluster, seed=seed, user=user, number=number) if password is None else password,
        rotations=number,
    )
    return dataclasses.replace(cluster, users=tuple(new if one is old else one for one in cluster.users))


def fail_over(cluster: Cluster, *, swap_hosts: bool = False) -> Cluster:
    """Promote the standby.

    At the provider host names name roles: after a failover the primary's name leads to the promoted node, and the
    standby's connections are gone until a new standby is healthy. With `swap_hosts` the addresses themselves change
    places, as they do where real servers stand behind the overrides.
    """
    failed = dataclasses.replace(cluster, standby_healthy=False)
    if not swap_hosts:
        return failed
    connections = dict(cluster.connections)
    for primary, standby in _STANDBY_OF.items():
        connections[primary] = _readdressed(cluster, primary, address_of=standby)
        connections[standby] = _readdressed(cluster, standby, address_of=primary)
    return dataclasses.replace(failed, connections=connections)


def restore_standby(cluster: Cluster) -> Cluster:
    """A new standby is healthy: its connections are back."""
    return dataclasses.replace(cluster, standby_healthy=True)


def add_user(
    cluster: Cluster, *, seed: int, name: str, password: str | None = None, members: JsonMapping | None = None
) -> Cluster:
    """Add a normal user; `members` are laid over it in replies."""
    if name == cluster.default_user:
        raise DuplicateItemError(name)
    user = User(
        name=name,
        password=_next_password(cluster, seed=seed, user=name, number=0) if password is None else password,
        members={} if members is None else members,
    )
    return dataclasses.replace(cluster, users=_with(cluster.users, user))


def remove_user(cluster: Cluster, *, name: str) -> Cluster:
    """Remove a normal user."""
    return dataclasses.replace(cluster, users=_without_item(cluster.users, name))


def add_pool(cluster: Cluster, pool: Pool) -> Cluster:
    """Add a connection pool; its user must exist."""
    if pool.user not in {"", cluster.default_user}:
        find(cluster.users, pool.user)
    return dataclasses.replace(cluster, pools=_with(cluster.pools, pool))


def remove_pool(cluster: Cluster, *, name: str) -> Cluster:
    """Remove a connection pool."""
    return dataclasses.replace(cluster, pools=_without_item(cluster.pools, name))


def add_replica(cluster: Cluster, replica: Replica) -> Cluster:
    """Add a read-only replica."""
    return dataclasses.replace(cluster, replicas=_with(cluster.replicas, replica))


def remove_replica(cluster: Cluster, *, name: str) -> Cluster:
    """Remove a read-only replica."""
    return dataclasses.replace(cluster, replicas=_without_item(cluster.replicas, name))


def add_database(cluster: Cluster, *, name: str) -> Cluster:
    """Add a database."""
    if name in cluster.all_databases:
        raise DuplicateItemError(name)
    return dataclasses.replace(cluster, databases=(*cluster.databases, name))


def remove_database(cluster: Cluster, *, name: str) -> Cluster:
    """Remove a database; the default one stays."""
    if name not in cluster.databases:
        raise UnknownItemError(name)
    return dataclasses.replace(cluster, databases=tuple(one for one in cluster.databases if one != name))


def _next_password(cluster: Cluster, *, seed: int, user: str, number: int) -> str:
    return draw_password(seed, cluster.number, user, number, style=cluster.password_style)


def _readdressed(cluster: Cluster, kind: str, *, address_of: str) -> JsonObject:
    """The overrides of one connection with the address of another; a URI laid over goes along with its address."""
    override = _without(cluster.connections.get(kind, {}), "uri", "port")
    override["host"] = cluster.host(address_of)
    other = cluster.connections.get(address_of, {})
    override.update({member: other[member] for member in ("port", "uri") if member in other})
    return override


def _without(members: JsonMapping, *names: str) -> JsonObject:
    return {name: value for name, value in members.items() if name not in names}


def _with(items: tuple[NamedT, ...], item: NamedT) -> tuple[NamedT, ...]:
    if any(one.name == item.name for one in items):
        raise DuplicateItemError(item.name)
    return (*items, item)


def _without_item(items: tuple[NamedT, ...], name: str) -> tuple[NamedT, ...]:
    gone = find(items, name)
    return tuple(one for one in items if one is not gone)
