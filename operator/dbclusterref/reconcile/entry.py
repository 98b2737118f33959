"""What is known of one resource: the object itself, what reads of its cluster have learned, and what was published for it."""

from dataclasses import dataclass, field

from dbclusterref.digitalocean.snapshot import PackedSnapshot, Snapshot
from dbclusterref.errors import Cause, InvalidSpec
from dbclusterref.resource.objects import ObjectMeta
from dbclusterref.resource.reference import Reference
from dbclusterref.resource.status import Status, pack_status, unpack_status


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretChange:
    """What one write did to a Secret, as an Event says it."""

    reason: str
    text: str
    warning: bool = False


@dataclass(slots=True, kw_only=True)
class ReadState:
    """What reading the cluster for one spec has learned, and when the next read is due. Times are monotonic seconds."""

    packed_snapshot: PackedSnapshot | None = field(default=None, repr=False)
    cause: Cause | None = None
    """Why the last read made no complete Secret."""
    failures: int = 0
    failed_at: float | None = None
    not_found_since: float | None = None
    waiting_since: float | None = None
    due_at: float = 0.0

    @property
    def snapshot(self) -> Snapshot | None:
        """The last one that made a complete Secret; unpacked for each caller."""
        return self.packed_snapshot.unpacked() if self.packed_snapshot else None

    def is_due(self, now: float) -> bool:
        """Return whether it is time to read."""
        return now >= self.due_at

    def due_now(self) -> None:
        """Have the next reconciliation read."""
        self.due_at = 0.0

    def waits(self, *, now: float) -> float:
        """Record that a read is not this resource's turn yet; return for how many seconds it has waited."""
        if self.waiting_since is None:
            self.waiting_since = now
        return now - self.waiting_since

    def succeeded(self, snapshot: Snapshot, *, due_at: float) -> None:
        """Record a read that made a complete Secret."""
        self.packed_snapshot = PackedSnapshot.of(snapshot)
        self.cause = self.failed_at = self.not_found_since = self.waiting_since = None
        self.failures = 0
        self.due_at = due_at

    def failed(self, cause: Cause, *, now: float, due_at: float) -> None:
        """Record a read that did not; the last good snapshot stays."""
        self.cause = cause
        self.failures += 1
        self.failed_at = now
        self.waiting_since = None
        self.due_at = due_at


@dataclass(slots=True, kw_only=True)
class PublishState:
    """What this process has published for one object, through all of its specs."""

    data_digest: bytes = b""
    not_fresh_since: float | None = None
    """When anything but a published Secret was first reported, in monotonic seconds."""
    unreported: tuple[SecretChange, ...] = ()
    """Writes that no Event has told of yet: they wait for the status, whose write may fail."""


@dataclass(slots=True, kw_only=True)
class Entry:
    """One resource as it is now. `reference` is None where its spec cannot be read, and `invalid` says why.

    A changed spec makes a new entry; `published` moves on to it for as long as the object is the same.
    """

    identity: ObjectMeta
    reference: Reference | None
    invalid: InvalidSpec | None
    packed_status: bytes
    reason: str
    resource_version: str
    reads: ReadState = field(default_factory=ReadState)
    published: PublishState = field(default_factory=PublishState)

    @property
    def status(self) -> Status:
        """The status as it was last seen or written; unpacked for each caller."""
        return unpack_status(self.packed_status)

    @status.setter
    def status(self, status: Status) -> None:
        self.packed_status = pack_status(status)
        self.reason = status.reason

    @property
    def refresh_is_requested(self) -> bool:
        """Return whether the annotation asks for a read that has not been acknowledged."""
        requested = self.identity.refresh_requested_at
        return bool(requested) and requested != self.status.last_handled_refresh_at
