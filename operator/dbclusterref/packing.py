"""What is kept of a resource while nobody works on it: a few hundred bytes instead of as many objects. Pure.

Ten thousand clusters and statuses are 45 MiB as Python objects, and 6 packed; to unpack one takes some fifty microseconds.
Equal values have equal bytes, so that they can be compared as they are.
"""

import json
import zlib
from dataclasses import dataclass, field
from datetime import UTC, datetime

from dbclusterref.cluster import Connection, DatabaseCluster, Endpoints, MaintenanceWindow, Pool, Snapshot, User
from dbclusterref.outcome import Published, next_status
from dbclusterref.resource.objects import ObjectKey, ObjectMeta
from dbclusterref.resource.reference import Reference, SecretSpec
from dbclusterref.resource.status import Status, format_time


def pack_cluster(cluster: DatabaseCluster) -> bytes:
    """Packs a cluster."""
    return _pack(cluster.to_api())


def packed_cluster(snapshot: Snapshot) -> bytes:
    """A snapshot's cluster, packed: the copy it shares with those who keep it, or a new one."""
    return snapshot.packed or pack_cluster(snapshot.cluster)


def unpack_cluster(packed: bytes) -> DatabaseCluster:
    """Gives back what was packed."""
    return DatabaseCluster.from_api(_unpack(packed))


def pack_status(status: Status) -> bytes:
    """Packs a status; all of the new resources' are one, and no work."""
    return _NEW_PACKED if status == _NEW else _pack(status.to_body())


def unpack_status(packed: bytes) -> Status:
    """Gives back what was packed."""
    return _NEW if packed == _NEW_PACKED else Status.from_body({"status": _unpack(packed)})


@dataclass(frozen=True, slots=True, kw_only=True)
class PackedSnapshot:
    """A snapshot, its cluster packed."""

    cluster: bytes = field(repr=False)
    ca: bytes
    ca_pending: bool
    user: User | None
    pool: Pool | None

    @classmethod
    def of(cls, snapshot: Snapshot) -> "PackedSnapshot":
        """Packs a snapshot."""
        return cls(
            cluster=packed_cluster(snapshot),
            ca=snapshot.ca,
            ca_pending=snapshot.ca_pending,
            user=snapshot.user,
            pool=snapshot.pool,
        )

    def unpacked(self) -> Snapshot:
        """Gives back what was packed."""
        return Snapshot(
            cluster=unpack_cluster(self.cluster),
            packed=self.cluster,
            ca=self.ca,
            ca_pending=self.ca_pending,
            user=self.user,
            pool=self.pool,
        )


def _text(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _typical() -> bytes:
    """What clusters and statuses have in common, so that each need not hold it: any would do, a typical one does most."""

    def at(prefix: str) -> Connection:
        host, user, database = f"{prefix}do-user-0.db.ondigitalocean.com", "doadmin", "defaultdb"
        uri = f"postgresql://{user}:@{host}:25060/{database}?sslmode=require"
        return Connection(host=host, port=25060, user=user, password="", database=database, uri=uri)

    now = datetime(2026, 1, 1, tzinfo=UTC)
    cluster = DatabaseCluster(
        uuid="", name="", engine="pg", version="17", region="fra1", status="online", nodes=2, size="db-s-1vcpu-2gb",
        created_at=format_time(now), version_end_of_life=format_time(now),
        maintenance_window=MaintenanceWindow(day="monday", hour="02:00", pending=False),
        endpoints=Endpoints(
            private=at("private-"), standby=at("private-replica-"), public=at(""), public_standby=at("replica-")
        ),
        users=(User(name="doadmin", role="primary", password="", access_cert="", access_key=""),),
    )  # fmt: skip
    identity = ObjectMeta(key=ObjectKey("", ""), uid="", generation=1, refresh_requested_at="")
    reference = Reference(identity=identity, cluster_uuid="", secret=SecretSpec(name=""))
    outcome = Published(cluster=cluster, endpoints=cluster.endpoints, secret_name="", revision=1, changed=True)
    status = next_status(Status(), identity=identity, reference=reference, outcome=outcome, refreshed=True, now=now)
    return _text(status.to_body()) + _text(cluster.to_api())


_TYPICAL = _typical()
_WINDOW = -13
"""Eight KiB, without a header: room for what is typical and one cluster; zlib would take a quarter of a megabyte each time."""
_MEMORY = 5


def _pack(value: object) -> bytes:
    squeeze = zlib.compressobj(wbits=_WINDOW, memLevel=_MEMORY, zdict=_TYPICAL)
    return squeeze.compress(_text(value)) + squeeze.flush()


def _unpack(packed: bytes) -> object:
    expand = zlib.decompressobj(wbits=_WINDOW, zdict=_TYPICAL)
    value: object = json.loads(expand.decompress(packed) + expand.flush())
    return value


_NEW = Status()
_NEW_PACKED = _pack(_NEW.to_body())
