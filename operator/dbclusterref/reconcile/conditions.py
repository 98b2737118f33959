"""The status reducer: from the old status and one outcome to the next status. Pure; `now` is an argument.

A condition's `lastTransitionTime` moves only when its `status` does, and a message stays the same for as long as its cause
does, so that repeating an outcome changes nothing and costs no write.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from dbclusterref.digitalocean.model import Connection, DatabaseCluster, Endpoints
from dbclusterref.errors import Cause
from dbclusterref.resource.objects import ObjectMeta
from dbclusterref.resource.reference import Endpoint, Reference
from dbclusterref.resource.status import Condition, ConditionType, Status

SYNCED = "Synced"
SUSPENDED = "Suspended"

HEARTBEAT = timedelta(hours=1)
"""How often `lastSyncTime` is written where nothing else changes: each write costs etcd, and Argo CD a refresh."""

STALE_INTERVALS = 3
STALE_AT_LEAST = timedelta(minutes=5)


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """The Secret is in place and holds what upstream says. `changed` tells whether a pod would notice a difference.

    `ca_pending` tells that the CA certificate is still to come.
    """

    cluster: DatabaseCluster
    endpoints: Endpoints
    secret_name: str
    revision: int
    changed: bool
    ca_pending: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Suspended:
    """`spec.suspend` is true: nothing was read and nothing written."""


Outcome = Published | Suspended | Cause


def next_status(
    old: Status,
    *,
    identity: ObjectMeta,
    reference: Reference | None,
    outcome: Outcome,
    published: Published | None = None,
    refreshed: bool,
    not_fresh_for: timedelta = timedelta(),
    now: datetime,
) -> Status:
    """Computes the status after an outcome; equal to `old` where nothing is worth a write.

    `reference` is None where the spec cannot be read. `published` is what is in the Secret although the last read failed.
    `refreshed` tells that upstream was asked: it acknowledges a refresh that the annotation requested, whatever the answer was.
    `not_fresh_for` is how long nothing has been published, by a clock that does not jump as `now` may.
    """
    now = now.astimezone(UTC).replace(microsecond=0)
    new = replace(old, observed_generation=identity.generation)
    if refreshed and identity.refresh_requested_at:
        new = replace(new, last_handled_refresh_at=identity.refresh_requested_at)
    published = outcome if isinstance(outcome, Published) else published
    if published:
        new = _with_facts(new, published, reference=reference, now=now)
    shown = _shown(new, outcome, reference=reference, not_fresh_for=not_fresh_for)
    conditions = {
        kind: _condition(old, kind=kind, shown=shown[kind], generation=identity.generation, now=now) for kind in ConditionType
    }
    new = replace(new, conditions=conditions)
    if isinstance(outcome, Published) and (new != old or _heartbeat_is_due(old, now=now)):
        new = replace(new, last_sync_time=now)
    return new


@dataclass(frozen=True, slots=True)
class _Shown:
    status: bool
    reason: str
    message: str

    @classmethod
    def true(cls, reason: str, message: str) -> "_Shown":
        return cls(status=True, reason=reason, message=message)

    @classmethod
    def false(cls, reason: str, message: str) -> "_Shown":
        return cls(status=False, reason=reason, message=message)


def _shown(
    old: Status, outcome: Outcome, *, reference: Reference | None, not_fresh_for: timedelta
) -> Mapping[ConditionType, _Shown]:
    match outcome:
        case Published():
            return _shown_published(outcome, reference=reference)
        case Suspended():
            return _shown_suspended(old)
        case Cause():
            return _shown_cause(old, outcome, reference=reference, not_fresh_for=not_fresh_for)


def _shown_published(outcome: Published, *, reference: Reference | None) -> Mapping[ConditionType, _Shown]:
    cluster = outcome.cluster
    standby = outcome.endpoints.standby and reference and Endpoint.STANDBY in reference.secret.endpoints
    kinds = "the private primary and standby" if standby else "the private primary"
    version = f" {cluster.version}" if cluster.version else ""
    message = f"Secret {outcome.secret_name} holds {kinds} of {cluster.name} ({cluster.engine}{version}, {cluster.region})."
    if outcome.ca_pending:
        message += " Its ca.crt follows: the API token's request budget is short."
    return {
        ConditionType.READY: _Shown.true(SYNCED, message),
        ConditionType.FRESH: _Shown.true(SYNCED, "The Secret matches what DigitalOcean last answered."),
        ConditionType.STALLED: _Shown.false(SYNCED, "Nothing needs a person."),
        ConditionType.RECONCILING: _Shown.false(SYNCED, "Nothing is left to do."),
    }


def _shown_suspended(old: Status) -> Mapping[ConditionType, _Shown]:
    kept = f"Secret {old.binding_name} stays as it is." if old.binding_name else "No Secret has been written yet."
    message = f"Suspended by spec.suspend. {kept} Set spec.suspend to false to go on."
    return {
        ConditionType.READY: _Shown(status=old.is_true(ConditionType.READY), reason=SUSPENDED, message=message),
        ConditionType.FRESH: _Shown.false(SUSPENDED, message),
        ConditionType.STALLED: _Shown.false(SUSPENDED, "Nothing needs a person."),
        ConditionType.RECONCILING: _Shown.false(SUSPENDED, "Nothing is done while suspended."),
    }


def _shown_cause(
    old: Status, cause: Cause, *, reference: Reference | None, not_fresh_for: timedelta
) -> Mapping[ConditionType, _Shown]:
    failing = _Shown.false(cause.reason, cause.message)
    has_secret = bool(old.binding_name)
    ready = failing
    if has_secret and not cause.stalled and not_fresh_for <= _stale_after(reference):
        ready = _still_ready(old)
    if not cause.stalled and not has_secret:
        reconciling = _Shown.true(cause.reason, cause.message)
    else:
        reconciling = _Shown.false(cause.reason, "Tried again by itself.")
    return {
        ConditionType.READY: ready,
        ConditionType.FRESH: failing,
        ConditionType.STALLED: _Shown(
            cause.stalled, cause.reason, cause.message if cause.stalled else "Nothing needs a person."
        ),
        ConditionType.RECONCILING: reconciling,
    }


def _still_ready(old: Status) -> _Shown:
    """A transient cause leaves Ready as it was: what is in the Secret still works, as far as anyone knows."""
    ready = old.conditions.get(ConditionType.READY)
    if ready is None or not ready.status or ready.reason != SYNCED:
        # It was a person's to mend, or suspended, and now is only a matter of waiting: the Secret is the last good one.
        return _Shown.true(SYNCED, f"Secret {old.binding_name} holds what DigitalOcean last answered.")
    return _Shown.true(ready.reason, ready.message)


def _stale_after(reference: Reference | None) -> timedelta:
    interval = timedelta(seconds=reference.refresh_interval if reference else 0)
    return max(STALE_INTERVALS * interval, STALE_AT_LEAST)


def _condition(old: Status, *, kind: ConditionType, shown: _Shown, generation: int, now: datetime) -> Condition:
    before = old.conditions.get(kind)
    same = before is not None and before.status == shown.status
    return Condition(
        type=kind,
        status=shown.status,
        reason=shown.reason,
        message=shown.message,
        observed_generation=generation,
        last_transition_time=before.last_transition_time if before and same else now,
    )


def _with_facts(status: Status, outcome: Published, *, reference: Reference | None, now: datetime) -> Status:
    return replace(
        status,
        binding_name=outcome.secret_name,
        cluster=_cluster_facts(outcome.cluster),
        endpoints=_addresses(outcome.endpoints, wanted=reference.secret.endpoints if reference else frozenset()),
        secret_revision=outcome.revision,
        # Not `outcome.changed`: where the status could not be written after the Secret, only the revision still tells.
        last_change_time=now
        if outcome.revision != status.secret_revision or status.last_change_time is None
        else status.last_change_time,
    )


def _cluster_facts(cluster: DatabaseCluster) -> Mapping[str, object]:
    window = cluster.maintenance_window
    facts: dict[str, object] = {
        "name": cluster.name,
        "engine": cluster.engine,
        "version": cluster.version,
        "region": cluster.region,
        "status": cluster.status,
        "nodes": cluster.nodes,
        "size": cluster.size,
        "createdAt": cluster.created_at,
        "maintenanceWindow": {"day": window.day, "hour": window.hour, "pending": window.pending} if window else None,
        "versionEndOfLife": cluster.version_end_of_life,
    }
    return {name: value for name, value in facts.items() if value not in (None, "")}


def _addresses(endpoints: Endpoints, *, wanted: frozenset[Endpoint]) -> Mapping[str, str]:
    found = {
        "private": endpoints.private,
        "standby": endpoints.standby if Endpoint.STANDBY in wanted else None,
        "public": endpoints.public if Endpoint.PUBLIC in wanted else None,
        "publicStandby": endpoints.public_standby if Endpoint.PUBLIC_STANDBY in wanted else None,
    }
    return {name: _address(connection) for name, connection in found.items() if connection}


def _address(connection: Connection) -> str:
    host = f"[{connection.host}]" if ":" in connection.host else connection.host
    return f"{host}:{connection.port}" if connection.port else host


def _heartbeat_is_due(old: Status, *, now: datetime) -> bool:
    # A clock that jumped back must not silence the heartbeat for as long as it jumped.
    return old.last_sync_time is None or not timedelta(0) <= now - old.last_sync_time < HEARTBEAT
