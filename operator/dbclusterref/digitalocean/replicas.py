"""A cluster's read-only replicas: nodes of their own that follow the primary, and so have its users and databases. Pure."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from msgspec import Raw
from msgspec.json import Decoder

from dbclusterref.digitalocean import wire
from dbclusterref.digitalocean.model import MAX_PORT, Connection
from dbclusterref.errors import ReplicasNotListed

WITHOUT_REPLICAS = frozenset({"redis", "valkey", "mongodb", "kafka", "opensearch"})
"""Engines that have no read-only replicas; they are not asked for. An unknown engine is."""
WITH_REPLICAS = frozenset({"pg", "mysql"})
"""Engines that always have a list of them. Of any other one DigitalOcean may answer that there is none."""
MOST_REPLICAS = 32
"""More are left out: an application's list of hosts, and the status that shows it, stay short."""

_ONLINE = frozenset({"", "online"})
_SERVING = _ONLINE | {"resizing", "migrating"}
"""States in which a replica answers. One that is being created has no data yet, and of a new word nothing is known."""
_LIST = Decoder(list[Raw] | None)
_REPLICA = Decoder(wire.ReplicaShape)
_ADDRESS = re.compile(r"(?:\[([0-9A-Fa-f.:]{2,45})\]|([A-Za-z0-9_.-]{1,253}))(?::([0-9]{1,5}))?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Where a node listens. `port` is None where the API gave none."""

    host: str
    port: int | None

    @classmethod
    def of(cls, connection: Connection) -> "Address":
        """Return where a connection leads."""
        return cls(host=connection.host, port=connection.port)

    def __str__(self) -> str:
        """Return `host:port`, with an IPv6 host in brackets."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}" if self.port else host


def not_listed() -> ReplicasNotListed:
    """Say that DigitalOcean answered 404, or 422, in place of the list."""
    return ReplicasNotListed("DigitalOcean's API has no list of read-only replicas for this cluster; retrying.")


def listed(addresses: Iterable[Address]) -> str:
    """Return addresses as one text, as many clients take them."""
    return ",".join(map(str, addresses))


def addresses_in(text: str) -> tuple[Address, ...]:
    """Return the addresses that `listed` has written; whatever else stands there is left out."""
    found = (_ADDRESS.fullmatch(part) for part in text.split(",")[:MOST_REPLICAS])
    addresses = (Address(host=match[1] or match[2], port=int(match[3] or 0) or None) for match in found if match)
    return tuple(address for address in addresses if (address.port or 0) <= MAX_PORT)


@dataclass(frozen=True, slots=True, kw_only=True)
class Replica:
    """One replica that serves, and its private address."""

    name: str
    region: str
    online: bool
    address: Address


@dataclass(frozen=True, slots=True, kw_only=True)
class Replicas:
    """A cluster's replicas that serve and have a private address."""

    serving: tuple[Replica, ...]

    @classmethod
    def from_json(cls, content: bytes | Raw, *, path: str = "replicas") -> "Replicas":
        """Parse the list that `GET …/replicas` gives. A replica that cannot be read makes the whole list unusable.

        It would otherwise be as if that replica had been deleted, and its keys would leave the Secret.
        """
        items = wire.decode(_LIST, content, path=path) or []
        parsed = (_replica(item, path=f"{path}[{number}]") for number, item in enumerate(items))
        return cls(serving=tuple(replica for replica in parsed if replica))

    @classmethod
    def from_api(cls, value: object) -> "Replicas":
        """Parse a list that was read from a file."""
        return cls.from_json(wire.encode(value))

    def addresses(self, *, region: str) -> tuple[Address, ...]:
        """Return the addresses in the order in which applications should use them.

        A private address of another region is reachable only where the networks are peered, and one that is resized or
        migrated may be about to pause. The name makes the order the same every time.
        """
        best_first = sorted(self.serving, key=lambda one: (one.region != region, not one.online, one.name))
        return tuple(one.address for one in best_first[:MOST_REPLICAS])


def _replica(content: Raw, *, path: str) -> Replica | None:
    shape = wire.decode(_REPLICA, content, path=path)
    if not shape.name:
        raise wire.missing(f"{path}.name")
    status = wire.shown(shape.status)
    if status not in _SERVING:
        return None
    private = Connection.from_json(shape.private_connection, path=f"{path}.private_connection")
    if private is None:
        return None
    online = status in _ONLINE
    return Replica(name=shape.name, region=wire.shown(shape.region), online=online, address=Address.of(private))
