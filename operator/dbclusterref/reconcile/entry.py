"""What is known of one resource: the object itself, what reads of its cluster have learned, and what was published for it."""

from dataclasses import dataclass, field
from math import inf

from dbclusterref.digitalocean.replicas import Address, addresses_in
from dbclusterref.digitalocean.snapshot import PackedSnapshot, Snapshot
from dbclusterref.errors import (
    AccessDenied,
    Blocked,
    Cause,
    ClusterNotFound,
    Forbidden,
    InvalidSpec,
    NotGranted,
    PasswordSecretForbidden,
    SecretConflict,
    SecretContested,
    SecretRefused,
    TokenSecretForbidden,
    TokenSecretMissing,
    TooLarge,
    UnconfirmedNotFound,
    UpstreamUnavailable,
)
from dbclusterref.reconcile.conditions import SYNCED
from dbclusterref.resource.ca_config_map import CaConfigMap
from dbclusterref.resource.objects import ObjectKey, ObjectMeta
from dbclusterref.resource.reference import DeletionPolicy, Reference
from dbclusterref.resource.spec_digest import same_reads
from dbclusterref.resource.status import REPLICAS, ConditionType, Status, Summary, pack_status, unpack_status

_NO_TOKEN = 0
"""In place of a token's hash, where there was none at the last look: any token takes its place."""
_OF_THIS_SIDE = (
    AccessDenied,
    InvalidSpec,
    PasswordSecretForbidden,
    SecretConflict,
    SecretContested,
    SecretRefused,
    TokenSecretForbidden,
    TokenSecretMissing,
    TooLarge,
)
"""Causes that are found out here, at each try; every other one that waits for a person was an answer of DigitalOcean's."""
_BY_ANSWER = {kind.reason: kind for kind in Blocked.__subclasses__() if kind not in _OF_THIS_SIDE}
STILL_SAID_FOR = 60
"""Seconds for which a resource whose read waits says that DigitalOcean did not answer the last. Then it says that it waits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretChange:
    """What one write did to a Secret, as an Event says it."""

    reason: str
    text: str
    warning: bool = False


class Superseded(Exception):
    """The resource changed during its reconciliation."""


class Overtaken(Exception):
    """Another process of this operator has written the Secret since this one did, and its answer may be newer."""


@dataclass(slots=True, kw_only=True)
class ReadState:
    """What reading the cluster for one spec has learned, and when the next read is due. Times are monotonic seconds."""

    packed_snapshot: PackedSnapshot | None = field(default=None, repr=False)
    cause: Cause | None = None
    """Why the last read made no complete Secret, or why answers come late."""
    late: Cause | None = None
    """Why the cluster's answers come late, until one comes in time: whatever is said meanwhile."""
    failures: int = 0
    failed_at: float | None = None
    not_found_since: float | None = None
    doubted_at: float = -inf
    """An answer from before this may be older than what another process has published, or from before a suspension."""
    waiting_since: float | None = None
    due_at: float = 0.0
    not_before: float = 0.0
    """When it is this resource's turn to read at the earliest."""
    ask_again_at: float = 0.0
    """When to ask DigitalOcean again about a token that it has refused."""
    under_way: bool = False
    packed_cluster: bytes = field(default=b"", repr=False)
    """The cluster as it was last read, whatever came of it."""
    answered_request: str = ""
    """The request for a refresh that a read has answered."""
    answered_at: float | None = None
    """When DigitalOcean gave the answer that is in use."""
    request: tuple[str, float] | None = None
    """The last refresh that was requested: the annotation's value, and when this process first acted on it."""
    token: int | None = None
    """A hash of the token that was last used."""

    @property
    def snapshot(self) -> Snapshot | None:
        """The last one that made a complete Secret; unpacked for each caller."""
        return self.packed_snapshot.unpacked() if self.packed_snapshot else None

    def seconds_until_due(self, now: float, *, requested: bool) -> float:
        """Return in how many seconds to read; 0 for now. A requested read waits for nothing but its turn."""
        return max(0.0, self.not_before - now, 0.0 if requested else self.due_at - now)

    def due_now(self) -> None:
        """Have the next reconciliation read."""
        self.due_at = self.not_before = 0.0

    def found_token(self, token: str) -> None:
        """Record that there is a token: what its absence, or another token, has caused is no longer so."""
        before, self.token = self.token, hash(token)
        replaced = before not in {None, self.token}
        had_none = isinstance(self.cause, TokenSecretMissing | TokenSecretForbidden | AccessDenied)
        if had_none or (replaced and self.waits_for_a_person):
            self.cause = None

    def lost_token(self) -> None:
        """Record that there is no token: whatever was last used is used no longer."""
        self.token = _NO_TOKEN

    def believe(self, status: Status, *, generation: int) -> None:
        """Take over from a status what DigitalOcean has answered to an earlier process, or to another one."""
        believed = _believed(status, generation=generation)
        knows_nothing = self.cause is None and self.packed_snapshot is None
        doubts = isinstance(self.cause, UnconfirmedNotFound) and isinstance(believed, ClusterNotFound)
        if knows_nothing or doubts:
            self.cause = believed

    @property
    def is_doubted(self) -> bool:
        """Return whether to read before anything is said by the answer in use; after a failed read there is no other."""
        tried_at = max(self.answered_at or -inf, self.failed_at or -inf)
        return tried_at < self.doubted_at

    @property
    def waits_for_a_person(self) -> bool:
        """Return whether the last read failed for a reason that waiting does not end."""
        return self.cause is not None and self.cause.stalled

    def continues(self, former: "ReadState") -> None:
        """Take over from a former spec that asked for the same reads what they have learned; the new one is read at once."""
        if not isinstance(former.cause, InvalidSpec):
            self.cause, self.late = former.cause, former.late
            self.failed_at, self.not_found_since = former.failed_at, former.not_found_since
        self.token, self.packed_cluster, self.doubted_at = former.token, former.packed_cluster, former.doubted_at

    def requested(self, value: str, *, now: float) -> float:
        """Record that a refresh is requested; return when this process first acted on it."""
        if self.request is None or self.request[0] != value:
            self.request, self.due_at = (value, now), 0.0
        return self.request[1]

    def waits(self, seconds: float, *, now: float) -> float:
        """Record that it is not this resource's turn for so long; return for how many seconds it has waited."""
        self.not_before = now + seconds
        if self.waiting_since is None:
            self.waiting_since = now
        return now - self.waiting_since

    def explain_wait(self, cause: Cause, *, waited: float) -> None:
        """Record why this resource waits for its turn. What an answer said stands meanwhile; that none came, for a while."""
        said_for_long = isinstance(self.cause, UpstreamUnavailable) and waited >= STILL_SAID_FOR
        # That the cluster comes late goes before a part that does.
        if self.cause is None or said_for_long or (self.cause.delayed and cause.delayed):
            if cause.delayed:
                cause = self.late = self.late or cause
            self.cause = cause

    def succeeded(self, snapshot: Snapshot, *, due_at: float, late: Cause | None = None) -> None:
        """Record a read that made a complete Secret; `late` is why its cluster came late."""
        self.packed_snapshot = PackedSnapshot.of(snapshot)
        self.packed_cluster, self.answered_at = self.packed_snapshot.cluster, snapshot.read_at
        self.failed_at = self.not_found_since = self.waiting_since = None
        self.late, self.cause = late, late or snapshot.late
        self.failures = 0
        self.due_at = due_at

    def partly_succeeded(self, snapshot: Snapshot, cause: Cause, *, due_at: float, late: Cause | None = None) -> None:
        """Record a read that made a complete Secret, although a part of it is older than what was asked for.

        That part is asked for again in any case. The others are as fresh as after any read, and cost nothing more.
        """
        failures = self.failures
        # Only a part failed the last time, too: as after any failure, nothing transient replaces what waits for a person.
        stays = self.cause if failures and self.failed_at is None and self.waits_for_a_person else None
        self.succeeded(snapshot, due_at=due_at, late=late)
        shown = self.cause if self.cause and cause.delayed else cause.without_frames()
        self.cause = stays if stays and not cause.stalled else shown
        self.failures = failures + 1

    def failed(self, cause: Cause, *, now: float, due_at: float) -> None:
        """Record a read that did not; the last good snapshot stays.

        A transient failure does not replace a cause that waits for a person: nothing has disproved it.
        """
        if cause.stalled or not self.waits_for_a_person:
            self.cause = cause.without_frames()
        self.late = None if self.waits_for_a_person else cause.without_frames() if cause.delayed else self.late
        self.failures += 1
        self.failed_at = now
        self.waiting_since = None
        self.due_at = due_at

    def lost_access(self) -> None:
        """Forget what was read of a cluster that is not granted, or no longer."""
        self.packed_snapshot = self.answered_at = None
        self.packed_cluster = b""

    def saw(self, packed: bytes, *, read_at: float) -> None:
        """Record what the account last read of the cluster, although no complete Secret came of it."""
        self.packed_cluster = packed
        if self.packed_snapshot and self.packed_snapshot.cluster == packed:
            self.answered_at = read_at


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownConfigMap:
    """What came of the last look for this very ConfigMap; `again_at` in monotonic seconds."""

    digest: bytes
    requested: str
    item: CaConfigMap
    again_at: float


@dataclass(slots=True, kw_only=True)
class PublishState:
    """What this process has published for one object, through all of its specs."""

    key: ObjectKey | None = None
    data_digest: bytes = b""
    metadata_digest: bytes = b""
    revision: int = 0
    overtaken_by: int = 0
    """The revision of another process's Secret after which the cluster was read again."""
    made_from: tuple[Reference, PackedSnapshot] | None = field(default=None, repr=False)
    """The spec and the answer that the Secret was last made from: what it is restored from while a newer spec has no answer."""
    former_names: tuple[str, ...] = ()
    """Names that the Secret had before, where the status may not say so: what is left there is removed."""
    not_retained: str = ""
    """Why the Secret would go with its resource although the spec retains it."""
    not_fresh_since: float | None = None
    """When anything but a published Secret was first reported, in monotonic seconds."""
    unreported: tuple[SecretChange, ...] = ()
    """Writes that no Event has told of yet: they wait for the status, whose write may fail."""
    config_map: KnownConfigMap | None = None


def _believed(status: Status, *, generation: int) -> Cause | None:
    stalled = status.conditions.get(ConditionType.STALLED)
    if stalled is None or not stalled.status or stalled.observed_generation != generation:
        return None
    kind = _BY_ANSWER.get(stalled.reason)
    return kind(stalled.message) if kind else None


@dataclass(slots=True, kw_only=True)
class Entry:
    """One resource as it is now. `reference` is None where its spec cannot be read, and `invalid` says why.

    A changed spec makes a new entry; `published` moves on to it for as long as the object is the same.
    """

    identity: ObjectMeta
    reference: Reference | None
    invalid: InvalidSpec | TooLarge | None
    packed_status: bytes
    summary: Summary
    resource_version: str
    reads: ReadState = field(default_factory=ReadState)
    published: PublishState = field(default_factory=PublishState)
    status_was_overwritten: bool = False
    """Somebody else has written the status since this process did."""
    readable_policy: DeletionPolicy | None = None
    """Without a spec that can be read: what its deletionPolicy says, where that alone can."""
    bound: ObjectKey | None = None
    """The Secret that the status names, where the spec names another one or cannot be read."""

    @classmethod
    def of(
        cls,
        identity: ObjectMeta,
        reference: Reference | None,
        invalid: InvalidSpec | TooLarge | None,
        *,
        status: Status,
        version: str,
        policy: DeletionPolicy | None,
    ) -> "Entry":
        """Make the entry of a resource as it was read; `policy` where the rest of its spec cannot be."""
        return cls(
            identity=identity,
            reference=reference,
            invalid=invalid,
            packed_status=pack_status(status),
            summary=status.summary,
            resource_version=version,
            readable_policy=policy,
        )

    def __post_init__(self) -> None:
        """Begin with what an earlier process has learned for this very spec."""
        status = self.status
        self.reads.believe(status, generation=self.identity.generation)
        if status.binding_name not in {"", self.reference and self.reference.secret.name}:
            self.bound = ObjectKey(self.identity.key.namespace, status.binding_name)

    @property
    def status(self) -> Status:
        """The status as it was last seen or written; unpacked for each caller."""
        return unpack_status(self.packed_status)

    @status.setter
    def status(self, status: Status) -> None:
        self.packed_status = pack_status(status)
        self.summary = status.summary

    @property
    def reason(self) -> str:
        """Return why it is as it is; "" before the first report."""
        return self.summary.reason

    @property
    def deletion_policy(self) -> DeletionPolicy | None:
        """Return what the spec says becomes of the Secret with the resource; None where it cannot be read."""
        return self.reference.secret.deletion_policy if self.reference else self.readable_policy

    @property
    def secret_keys(self) -> frozenset[ObjectKey]:
        """Return the names of the Secrets that this resource answers for: the one it asks for, and those it has."""
        made_from = self.published.made_from
        keys = (self.reference and self.reference.secret_key, self.bound, made_from and made_from[0].secret_key)
        return frozenset(key for key in keys if key)

    def succeed(self, former: "Entry") -> None:
        """Take over what still holds of the same object's former spec."""
        self.published = former.published
        if former.reference and self.reference and same_reads(former.reference, self.reference):
            self.reads.continues(former.reads)
        known = [(former.reference, former.reads.packed_snapshot), self.published.made_from or (None, None)]
        for reference, snapshot in known:
            if snapshot and reference and self.reference and same_reads(reference, self.reference):
                self.reads.packed_snapshot = snapshot
                self.reads.answered_at = former.reads.answered_at
                return

    @property
    def was_granted(self) -> bool:
        """Return whether a read of this very spec has succeeded, as far as this process or the status knows."""
        cause = self.reads.cause
        if isinstance(cause, NotGranted):
            return False
        # Of a cluster that is not granted nobody is told these.
        return isinstance(cause, ClusterNotFound | Forbidden | UnconfirmedNotFound) or self._made_a_secret

    @property
    def was_served(self) -> bool:
        """Return whether a Secret was made for this very spec, and nothing found since then waits for a person."""
        return self._made_a_secret and not self.reads.waits_for_a_person

    @property
    def _made_a_secret(self) -> bool:
        if self.reads.packed_snapshot:
            return True
        ready = self.status.conditions.get(ConditionType.READY)
        of_this_spec = ready is not None and ready.observed_generation == self.identity.generation
        return of_this_spec and ready is not None and ready.status and ready.reason == SYNCED

    @property
    def known_replicas(self) -> tuple[Address, ...]:
        """Return the replicas that are in the Secret, as far as this process or, after a restart, the status knows."""
        packed = self.reads.packed_snapshot
        return packed.replicas if packed else addresses_in(self.status.endpoints.get(REPLICAS, ""))

    @property
    def refresh_is_requested(self) -> bool:
        """Return whether the annotation asks for a read that has not been made."""
        requested = self.identity.refresh_requested_at
        return bool(requested) and requested not in {self.reads.answered_request, self.status.last_handled_refresh_at}

    @property
    def refresh_is_new(self) -> bool:
        """Return whether the annotation asks for a read that has not even been tried."""
        tried = self.reads.request[0] if self.reads.request else ""
        return self.refresh_is_requested and tried != self.identity.refresh_requested_at

    @property
    def refresh_is_answered(self) -> bool:
        """Return whether a read was made since the annotation asked for one."""
        requested = self.identity.refresh_requested_at
        return bool(requested) and requested == self.reads.answered_request
