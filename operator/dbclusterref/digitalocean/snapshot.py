"""All that one refresh learned upstream, and the same kept small while nobody works on it. Pure."""

from dataclasses import dataclass, field

from dbclusterref.compact import Compactor
from dbclusterref.digitalocean.model import Connection, DatabaseCluster, Endpoints, MaintenanceWindow, Pool, User
from dbclusterref.digitalocean.replicas import Address
from dbclusterref.errors import Cause


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """All that one refresh learned: everything a Secret is rendered from. `ca` is the CA's PEM, b"" for none.

    `granted_by` is the tag that let the operator's own token be used, "" where the reference has a token of its own.
    `replicas` are the addresses of the read-only replicas, in the order of their use, where the reference asks for them.
    `password` is the one that `spec.passwordSecretRef` supplies, for an engine whose API shows none.
    `ca_pending` is true while the CA has not been read because the rate limit was low. `packed` holds the cluster as the cache
    keeps it, where it does, so that there is one copy.
    """

    cluster: DatabaseCluster
    packed: bytes = field(default=b"", repr=False, compare=False)
    read_at: float = field(default=0.0, compare=False)
    """When DigitalOcean gave the cluster's answer, in monotonic seconds."""
    ca: bytes = b""
    ca_pending: bool = False
    user: User | None = None
    pool: Pool | None = None
    replicas: tuple[Address, ...] = ()
    password: str = field(default="", repr=False)
    granted_by: str = ""
    unread: Cause | None = field(default=None, compare=False)
    """Why the CA is older than the refresh that was requested, the replicas are not known as they are, or it is not known that
    the database is still there; None otherwise."""
    late: Cause | None = field(default=None, compare=False)
    """Why the replicas, or the check of the database, come late although they come."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadCluster:
    """A cluster in both its forms: parsed for whoever asked, and packed as the cache keeps it."""

    cluster: DatabaseCluster
    packed: bytes = field(repr=False)

    @classmethod
    def from_cache(cls, packed: bytes) -> "ReadCluster":
        """Unpack what the cache holds; a cluster that was just read needs no unpacking."""
        return cls(cluster=unpack_cluster(packed), packed=packed)


def pack_cluster(cluster: DatabaseCluster) -> bytes:
    """Return a cluster's bytes."""
    return _COMPACTOR.pack(cluster)


def packed_cluster(snapshot: Snapshot) -> bytes:
    """Return the bytes of a snapshot's cluster: the copy it shares with those who keep it, or a new one."""
    return snapshot.packed or pack_cluster(snapshot.cluster)


def unpack_cluster(packed: bytes) -> DatabaseCluster:
    """Return the cluster that was packed."""
    return _COMPACTOR.unpack(packed)


@dataclass(frozen=True, slots=True, kw_only=True)
class PackedSnapshot:
    """A snapshot with its cluster as bytes."""

    cluster: bytes = field(repr=False)
    ca: bytes
    ca_pending: bool
    user: User | None
    pool: Pool | None
    replicas: tuple[Address, ...]
    password: str = field(repr=False)
    granted_by: str

    @classmethod
    def of(cls, snapshot: Snapshot) -> "PackedSnapshot":
        """Return the snapshot, packed."""
        return cls(
            cluster=packed_cluster(snapshot),
            ca=snapshot.ca,
            ca_pending=snapshot.ca_pending,
            user=snapshot.user,
            pool=snapshot.pool,
            replicas=snapshot.replicas,
            password=snapshot.password,
            granted_by=snapshot.granted_by,
        )

    def unpacked(self) -> Snapshot:
        """Return the snapshot that was packed."""
        return Snapshot(
            cluster=unpack_cluster(self.cluster),
            packed=self.cluster,
            ca=self.ca,
            ca_pending=self.ca_pending,
            user=self.user,
            pool=self.pool,
            replicas=self.replicas,
            password=self.password,
            granted_by=self.granted_by,
        )


def _typical() -> DatabaseCluster:
    """A cluster with what most have in common."""

    def at(prefix: str) -> Connection:
        host, user, database = f"{prefix}do-user-0.db.ondigitalocean.com", "doadmin", "defaultdb"
        uri = f"postgresql://{user}:@{host}:25060/{database}?sslmode=require"
        return Connection(host=host, port=25060, user=user, password="", database=database, uri=uri)

    return DatabaseCluster(
        uuid="", name="", engine="pg", version="17", region="fra1", status="online", nodes=2, size="db-s-1vcpu-2gb",
        created_at="2026-01-01T00:00:00Z", version_end_of_life="2026-01-01T00:00:00Z",
        maintenance_window=MaintenanceWindow(day="monday", hour="02:00", pending=False),
        endpoints=Endpoints(
            private=at("private-"), standby=at("private-replica-"), public=at(""), public_standby=at("replica-")
        ),
        users=(User(name="doadmin", password="", access_cert="", access_key=""),),
        granted_to=(),
    )  # fmt: skip


_COMPACTOR = Compactor(_typical(), type_=DatabaseCluster)
