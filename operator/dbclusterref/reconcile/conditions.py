"""The status reducer: from the old status and one result to the next status. Pure; `now` is an argument.

`Ready=True` for a generation says: the Secret of that generation exists, and holds what upstream last said for that spec. A
condition's `lastTransitionTime` moves only when its `status` does, and a message stays the same for as long as its cause does,
so that repeating a result changes nothing and costs no write.

Each condition says its own thing. A cause is said in full where it is looked for: in Ready where that is not True, else in
Fresh; and in Stalled or Reconciling while one of them is True, since theirs is the message that kstatus shows.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from enum import Enum

from dbclusterref.digitalocean.model import DatabaseCluster, Endpoints
from dbclusterref.digitalocean.replicas import Address, listed
from dbclusterref.errors import Cause, InvalidSpec, NotGranted, SecretConflict, SecretContested, SecretRefused
from dbclusterref.resource.ca_config_map import CA_CONFIG_MAP_PROBLEMS, CaConfigMap
from dbclusterref.resource.objects import ObjectMeta
from dbclusterref.resource.reference import Endpoint, Reference
from dbclusterref.resource.restart import RESTART_PROBLEMS, Restart
from dbclusterref.resource.status import REPLICAS, Condition, ConditionType, Status

SYNCED = "Synced"
SUSPENDED = "Suspended"

HEARTBEAT = timedelta(hours=1)
"""How often `lastSyncTime` is written where nothing else changes: each write costs etcd, and Argo CD a refresh."""

STALE_INTERVALS = 3
STALE_AT_LEAST = timedelta(minutes=5)

_READY_SAYS_WHY = "The Secret is not confirmed to match DigitalOcean's last answer; the condition Ready says why."

NOT_RETAINED = "deletionPolicy Retain is not in force"
"""How the sentence begins that warns before a deletion."""

LONGEST_MESSAGE = 4000
LONGEST_FACT = 256
"""Characters. What is only shown is clipped: a status that the API server refuses would tell nothing at all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """The Secret is in place and holds what upstream says. `ca_pending` means that the CA certificate is still to come."""

    cluster: DatabaseCluster
    endpoints: Endpoints
    replicas: tuple[Address, ...] = ()
    secret_name: str
    revision: int
    ca_pending: bool = False
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Suspended:
    """`spec.suspend` is true: nothing was read, and nothing written but what `deletionPolicy` asks for."""


Outcome = Published | Suspended | Cause


class Holds(Enum):
    """What is known of the Secret. The value completes the sentence that starts with its name; empty where all is well."""

    THIS_SPEC = ""
    FORMER_SPEC = "still holds what an earlier version of the spec asked for"
    CHANGED = "was changed by another client"
    MISSING = "does not exist"
    RENAMED = "does not exist yet; the one of the former name stays"
    UNREADABLE = "cannot be read; grant the operator the verb get on it"
    FOREIGN = "is not managed by this resource"


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What one reconciliation came to.

    `published` is what is in the Secret although the last read failed. `cluster` is the cluster as it was last read, whatever
    came of it, and `answered_at` when. `refreshed` means that upstream has answered: it acknowledges a refresh that the
    annotation requested. `not_fresh_for` is how long nothing has been published, by a clock that does not jump as the time
    of day may. `restarts` are the workloads of `spec.restart`, None where nobody looked at them, and
    so is `ca_config_map`, which is empty where `spec.caConfigMap` names none. `not_retained` says that the Secret would go with
    the resource although the spec retains it. `late` says that answers come, although later than they should.
    """

    outcome: Outcome
    published: Published | None = None
    holds: Holds = Holds.THIS_SPEC
    cluster: DatabaseCluster | None = None
    answered_at: datetime | None = None
    refreshed: bool = False
    not_fresh_for: timedelta = timedelta()
    restarts: tuple[Restart, ...] | None = None
    ca_config_map: tuple[CaConfigMap, ...] | None = None
    not_retained: str = ""
    late: bool = False


def next_status(old: Status, result: Result, *, identity: ObjectMeta, reference: Reference | None, now: datetime) -> Status:
    """Compute the status after a result; equal to `old` where nothing is worth a write.

    `reference` is None where the spec cannot be read.
    """
    now = now.astimezone(UTC).replace(microsecond=0)
    new = replace(old, observed_generation=identity.generation)
    if result.refreshed and identity.refresh_requested_at:
        new = replace(new, last_handled_refresh_at=identity.refresh_requested_at)
    published = result.outcome if isinstance(result.outcome, Published) else result.published
    if published:
        new = _with_facts(new, published, reference=reference, now=now)
    if result.cluster:
        new = replace(new, cluster=_cluster_facts(result.cluster))
    if isinstance(result.outcome, NotGranted):
        # The namespace may not know them, or no longer; where there is a Secret, it says what it holds.
        kept = "" if result.holds is Holds.MISSING else new.binding_name
        new = replace(new, cluster={}, endpoints={}, binding_name=kept)
    if result.restarts is not None:
        new = replace(new, restarts=result.restarts)
    if result.ca_config_map is not None:
        new = replace(new, ca_config_map=next(iter(result.ca_config_map), None))
    shown = dict(_shown(new, result, identity=identity, reference=reference))
    shown[ConditionType.READY] = _with_warning(shown[ConditionType.READY], result.not_retained)
    conditions = {
        kind: _condition(old, kind=kind, shown=shown[kind], generation=identity.generation, now=now) for kind in ConditionType
    }
    new = replace(new, conditions=conditions)
    heartbeat = (result.late or isinstance(result.outcome, Published)) and _heartbeat_is_due(old, now=now)
    if result.answered_at and (new != old or heartbeat):
        new = replace(new, last_sync_time=result.answered_at.astimezone(UTC).replace(microsecond=0))
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


def _shown(old: Status, result: Result, *, identity: ObjectMeta, reference: Reference | None) -> Mapping[ConditionType, _Shown]:
    secret = reference.secret.name if reference else old.binding_name or identity.key.name
    match result.outcome:
        case Published():
            return _shown_published(result.outcome, result, reference=reference)
        case Suspended():
            return _shown_suspended(result.holds, secret=secret)
        case Cause():
            return _shown_cause(old, result.outcome, result, secret=secret, reference=reference)


def _shown_published(outcome: Published, result: Result, *, reference: Reference | None) -> Mapping[ConditionType, _Shown]:
    cluster = outcome.cluster
    standby = outcome.endpoints.standby and reference and Endpoint.STANDBY in reference.secret.endpoints
    parts = ["primary", *(["standby"] if standby else []), *(["read-only replicas"] if outcome.replicas else [])]
    kinds = f"the private {' and '.join(filter(None, (', '.join(parts[:-1]), parts[-1])))}"
    version = f" {cluster.version}" if cluster.version else ""
    message = f"Secret {outcome.secret_name} holds {kinds} of {cluster.name} ({cluster.engine}{version}, {cluster.region})."
    if outcome.ca_pending:
        message += " ca.crt will be added later: the API token's rate limit is low."
    # Those that are disabled all say the same.
    blocked = dict.fromkeys(item.message for item in result.restarts or () if item.state in RESTART_PROBLEMS)
    problem = [item.message for item in result.ca_config_map or () if item.state in CA_CONFIG_MAP_PROBLEMS]
    message = " ".join((message, *outcome.notes, *blocked, *problem))
    return {
        ConditionType.READY: _Shown.true(SYNCED, message),
        ConditionType.FRESH: _Shown.true(SYNCED, "The Secret matches what DigitalOcean last answered."),
        ConditionType.STALLED: _Shown.false(SYNCED, "No action required."),
        ConditionType.RECONCILING: _Shown.false(SYNCED, "Up to date."),
    }


def _shown_suspended(holds: Holds, *, secret: str) -> Mapping[ConditionType, _Shown]:
    good = holds is Holds.THIS_SPEC
    kept = "is left as it is" if good else holds.value
    message = f"Reconciliation is suspended. Secret {secret} {kept}. Set spec.suspend to false to resume."
    left_alone = f"Secret {secret} is left as it is; the condition Fresh says why."
    return {
        ConditionType.READY: _Shown(good, SUSPENDED, left_alone if good else message),
        ConditionType.FRESH: _Shown.false(SUSPENDED, message if good else _READY_SAYS_WHY),
        # Without a good Secret nothing that waits for this resource can go on before somebody resumes it.
        ConditionType.STALLED: _Shown(not good, SUSPENDED, "No action required." if good else message),
        ConditionType.RECONCILING: _Shown.false(SUSPENDED, "Reconciliation is suspended."),
    }


def _shown_cause(
    old: Status, cause: Cause, result: Result, *, secret: str, reference: Reference | None
) -> Mapping[ConditionType, _Shown]:
    holds, reason, message = result.holds, cause.reason, cause.message
    if holds is not Holds.THIS_SPEC and old.binding_name and not cause.stalled:
        message = f"{message} Secret {secret} {holds.value}."
    stale = result.not_fresh_for > _stale_after(reference)
    if cause.stalled or holds is not Holds.THIS_SPEC:
        ready = _Shown.false(reason, message)
    elif stale:
        ready = _Shown.false(reason, f"{message} Secret {secret} has not been confirmed for too long to be called ready.")
    elif result.late and result.published:
        ready = _shown_published(result.published, result, reference=reference)[ConditionType.READY]
    else:
        ready = _still_ready(old, secret=secret)
    if not cause.stalled and holds is not Holds.THIS_SPEC:
        reconciling = _Shown.true(reason, message)
    else:
        waits = "Waiting for a change of the spec." if isinstance(cause, InvalidSpec) else "Retrying automatically."
        reconciling = _Shown.false(reason, waits)
    return {
        ConditionType.READY: ready,
        ConditionType.FRESH: _Shown.false(
            reason, cause.message if ready.status else _not_confirmed(old, cause, holds, secret=secret)
        ),
        ConditionType.STALLED: _Shown(cause.stalled, reason, cause.message if cause.stalled else "No action required."),
        ConditionType.RECONCILING: reconciling,
    }


def _not_confirmed(old: Status, cause: Cause, holds: Holds, *, secret: str) -> str:
    """Say what became of the Secret where a person must act, as far as the cause is not about the Secret itself."""
    of_the_secret = isinstance(cause, SecretConflict | SecretContested | SecretRefused)
    if of_the_secret or not cause.stalled or not old.binding_name or holds is Holds.MISSING:
        return _READY_SAYS_WHY
    return f"Secret {secret} {holds.value or 'stays as it was last written'} (the condition Ready says why)."


def _still_ready(old: Status, *, secret: str) -> _Shown:
    """A transient cause leaves the Secret of this spec Ready: what is in it still works, as far as anyone knows."""
    ready = old.conditions.get(ConditionType.READY)
    if ready is None or not ready.status or ready.reason != SYNCED:
        return _Shown.true(SYNCED, f"Secret {secret} holds what DigitalOcean last answered.")
    return _Shown.true(ready.reason, ready.message)


def _with_warning(ready: _Shown, not_retained: str) -> _Shown:
    """Ready's message may be the former one, with a warning that no longer holds."""
    message = ready.message.partition(f" {NOT_RETAINED}")[0]
    return replace(ready, message=f"{message} {not_retained}" if not_retained else message)


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
        message=_clipped(shown.message, LONGEST_MESSAGE),
        observed_generation=generation,
        last_transition_time=before.last_transition_time if before and same else now,
    )


def _with_facts(status: Status, outcome: Published, *, reference: Reference | None, now: datetime) -> Status:
    return replace(
        status,
        binding_name=outcome.secret_name,
        cluster=_cluster_facts(outcome.cluster),
        endpoints=_addresses(outcome, wanted=reference.secret.endpoints if reference else frozenset()),
        secret_revision=outcome.revision,
        # Where the status could not be written after the Secret, only the revision still tells.
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
        "maintenanceWindow": {
            "day": _clipped(window.day, LONGEST_FACT),
            "hour": _clipped(window.hour, LONGEST_FACT),
            "pending": window.pending,
        }
        if window
        else None,
        "versionEndOfLife": cluster.version_end_of_life,
    }
    shown = {name: _clipped(value, LONGEST_FACT) if isinstance(value, str) else value for name, value in facts.items()}
    return {name: value for name, value in shown.items() if value not in (None, "")}


def _clipped(text: str, longest: int) -> str:
    return text if len(text) <= longest else text[: longest - 1] + "…"


def _addresses(outcome: Published, *, wanted: frozenset[Endpoint]) -> Mapping[str, str]:
    endpoints = outcome.endpoints
    found = {
        "private": endpoints.private,
        "standby": endpoints.standby if Endpoint.STANDBY in wanted else None,
        "public": endpoints.public if Endpoint.PUBLIC in wanted else None,
        "publicStandby": endpoints.public_standby if Endpoint.PUBLIC_STANDBY in wanted else None,
    }
    shown = {
        name: str(Address(host=_clipped(connection.host, LONGEST_FACT), port=connection.port))
        for name, connection in found.items()
        if connection
    }
    return {**shown, REPLICAS: listed(outcome.replicas)} if outcome.replicas else shown


def _heartbeat_is_due(old: Status, *, now: datetime) -> bool:
    # A clock that jumped back must not silence the heartbeat for as long as it jumped.
    return old.last_sync_time is None or not timedelta(0) <= now - old.last_sync_time < HEARTBEAT
