"""A resource's status and its conditions: read from an object, written as the API spells them. Pure.

Conditions follow kstatus and the Kubernetes API conventions; `reconcile.conditions` says what they become.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from functools import lru_cache
from typing import NamedTuple

from dbclusterref.compact import Compactor
from dbclusterref.resource.ca_config_map import CaConfigMap, read_ca_config_map
from dbclusterref.resource.objects import as_mapping, is_object_name
from dbclusterref.resource.restart import Restart, RestartState, read_restarts


class ConditionType(StrEnum):
    """The four conditions, in the order they are shown."""

    READY = "Ready"
    FRESH = "Fresh"
    STALLED = "Stalled"
    RECONCILING = "Reconciling"


_KINDS = {str(kind): kind for kind in ConditionType}


REPLICAS = "replicas"
"""Under `endpoints`: what is read again from a status that an earlier process wrote."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """One condition; `status` is a plain bool, since this operator never answers Unknown. Times are UTC, whole seconds."""

    type: ConditionType
    status: bool
    reason: str
    message: str
    observed_generation: int
    last_transition_time: datetime

    def to_body(self) -> dict[str, object]:
        """Writes it as the API spells it."""
        return {
            "type": str(self.type),
            "status": str(self.status),
            "reason": self.reason,
            "message": self.message,
            "observedGeneration": self.observed_generation,
            "lastTransitionTime": format_time(self.last_transition_time),
        }


class Summary(NamedTuple):
    """What is counted of a status. Few differ, and equal ones are one object: thousands of references share it."""

    ready: bool = False
    fresh: bool = False
    stalled: bool = False
    reason: str = ""
    """Fresh's reason, which says why; Ready's stays Synced for a while when reads begin to fail."""
    was_synced: bool = False
    version_end_of_life: str = ""
    restarting: bool = False
    """A workload of `spec.restart` rolls out."""


@lru_cache(maxsize=1024)
def _shared(summary: Summary) -> Summary:
    return summary


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """A resource's whole status. `cluster` and `endpoints` are kept as the API spells them: they are only shown."""

    observed_generation: int = -1
    conditions: Mapping[ConditionType, Condition] = field(default_factory=dict)
    binding_name: str = ""
    cluster: Mapping[str, object] = field(default_factory=dict)
    endpoints: Mapping[str, str] = field(default_factory=dict)
    secret_revision: int = 0
    last_change_time: datetime | None = None
    last_sync_time: datetime | None = None
    last_handled_refresh_at: str = ""
    restarts: tuple[Restart, ...] = ()
    ca_config_map: CaConfigMap | None = None

    @classmethod
    def from_body(cls, body: Mapping[str, object]) -> "Status":
        """Read an object's status; what cannot be read counts as never written, and is written again."""
        status = body.get("status")
        if not isinstance(status, Mapping):
            return cls()
        return cls(
            observed_generation=_whole(status.get("observedGeneration"), default=-1),
            conditions=_read_conditions(status.get("conditions")),
            binding_name=_name(as_mapping(status.get("binding")).get("name")),
            cluster=as_mapping(status.get("cluster")),
            endpoints={name: _text(value) for name, value in as_mapping(status.get("endpoints")).items()},
            secret_revision=_whole(status.get("secretRevision"), default=0),
            last_change_time=parse_time(status.get("lastChangeTime")),
            last_sync_time=parse_time(status.get("lastSyncTime")),
            last_handled_refresh_at=_text(status.get("lastHandledRefreshAt")),
            restarts=read_restarts(status.get("restarts")),
            ca_config_map=read_ca_config_map(status.get("caConfigMap")),
        )

    def to_body(self) -> dict[str, object]:
        """Writes the whole status, empty members left out."""
        body: dict[str, object] = {
            "observedGeneration": self.observed_generation,
            "conditions": [self.conditions[kind].to_body() for kind in ConditionType if kind in self.conditions],
            "binding": {"name": self.binding_name} if self.binding_name else None,
            "cluster": dict(self.cluster),
            "endpoints": dict(self.endpoints),
            "secretRevision": self.secret_revision,
            "lastChangeTime": format_time(self.last_change_time) if self.last_change_time else None,
            "lastSyncTime": format_time(self.last_sync_time) if self.last_sync_time else None,
            "lastHandledRefreshAt": self.last_handled_refresh_at,
            "restarts": [item.to_body() for item in self.restarts],
            "caConfigMap": self.ca_config_map.to_body() if self.ca_config_map else None,
        }
        return {name: value for name, value in body.items() if value not in (None, "", {}, [])}

    def is_true(self, kind: ConditionType) -> bool:
        """Return whether a condition is True."""
        return kind in self.conditions and self.conditions[kind].status

    @property
    def telling(self) -> Condition | None:
        """Return the condition that says in full how things are: Ready where that is not True, else Fresh."""
        ready, fresh = self.conditions.get(ConditionType.READY), self.conditions.get(ConditionType.FRESH)
        return fresh if ready is None or ready.status else ready

    def not_fresh_for(self, now: datetime) -> timedelta:
        """How long Fresh has not been True, by the time of day: nothing where it is, or where the clock has jumped back."""
        fresh = self.conditions.get(ConditionType.FRESH)
        return max(now - fresh.last_transition_time, timedelta()) if fresh and not fresh.status else timedelta()

    @property
    def summary(self) -> Summary:
        """Return what is counted of it."""
        fresh = self.conditions.get(ConditionType.FRESH)
        return _shared(
            Summary(
                ready=self.is_true(ConditionType.READY),
                fresh=self.is_true(ConditionType.FRESH),
                stalled=self.is_true(ConditionType.STALLED),
                reason=fresh.reason if fresh else "",
                was_synced=self.last_sync_time is not None,
                version_end_of_life=_text(self.cluster.get("versionEndOfLife")),
                restarting=any(item.state is RestartState.ROLLING_OUT for item in self.restarts),
            )
        )

    @property
    def reason(self) -> str:
        """Ready's reason, which `kubectl get` shows; "" before the first report."""
        ready = self.conditions.get(ConditionType.READY)
        return ready.reason if ready else ""


def _read_conditions(value: object) -> Mapping[ConditionType, Condition]:
    conditions: dict[ConditionType, Condition] = {}
    if not isinstance(value, list):
        return conditions
    for item in map(as_mapping, value):
        when = parse_time(item.get("lastTransitionTime"))
        kind = _KINDS.get(_text(item.get("type")))
        if kind and when:
            conditions[kind] = Condition(
                type=kind,
                status=item.get("status") == "True",
                reason=_text(item.get("reason")),
                message=_text(item.get("message")),
                observed_generation=_whole(item.get("observedGeneration"), default=0),
                last_transition_time=when,
            )
    return conditions


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _name(value: object) -> str:
    return value if is_object_name(value) else ""


def _whole(value: object, *, default: int) -> int:
    return value if isinstance(value, int) else default


def format_time(time: datetime) -> str:
    """Writes a time as Kubernetes' `metav1.Time` does: RFC 3339, UTC, whole seconds."""
    return _formatted_time(time.astimezone(UTC))


@lru_cache(maxsize=1024)
def _formatted_time(time: datetime) -> str:
    """Kept, as what was parsed is: a status has many times, and often one."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ")


def parse_time(text: object) -> datetime | None:
    """Read an RFC 3339 time; None for anything else."""
    return _parsed_time(text) if isinstance(text, str) else None


@lru_cache(maxsize=1024)
def _parsed_time(text: str) -> datetime | None:
    """Kept, since what was written together bears the same time: one object serves all."""
    try:
        time = datetime.fromisoformat(text)
        return (time if time.tzinfo else time.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def pack_status(status: Status) -> bytes:
    """Return a status's bytes; those of a new resource's empty status are one constant."""
    return _NEW_PACKED if status == _NEW else _COMPACTOR.pack(status.to_body())


def unpack_status(packed: bytes) -> Status:
    """Return the status that was packed."""
    return _NEW if packed == _NEW_PACKED else Status.from_body({"status": _COMPACTOR.unpack(packed)})


_TYPICAL: dict[str, object] = {
    "observedGeneration": 1,
    "conditions": [
        {
            "type": "Ready",
            "status": "True",
            "reason": "Synced",
            "message": "Secret  holds the private primary and standby of  (pg 17, fra1). Clients are not told to verify the "
            "server's certificate: set spec.secret.mountPath, or spec.secret.tls to Encrypt.",
            "observedGeneration": 1,
            "lastTransitionTime": "2026-01-01T00:00:00Z",
        },
        {
            "type": "Fresh",
            "status": "True",
            "reason": "Synced",
            "message": "The Secret matches what DigitalOcean last answered.",
            "observedGeneration": 1,
            "lastTransitionTime": "2026-01-01T00:00:00Z",
        },
        {
            "type": "Stalled",
            "status": "False",
            "reason": "Synced",
            "message": "No action required.",
            "observedGeneration": 1,
            "lastTransitionTime": "2026-01-01T00:00:00Z",
        },
        {
            "type": "Reconciling",
            "status": "False",
            "reason": "Synced",
            "message": "Up to date.",
            "observedGeneration": 1,
            "lastTransitionTime": "2026-01-01T00:00:00Z",
        },
    ],
    "cluster": {
        "engine": "pg",
        "version": "17",
        "region": "fra1",
        "status": "online",
        "nodes": 2,
        "size": "db-s-1vcpu-2gb",
        "createdAt": "2026-01-01T00:00:00Z",
        "maintenanceWindow": {"day": "monday", "hour": "02:00", "pending": False},
        "versionEndOfLife": "2026-01-01T00:00:00Z",
    },
    "endpoints": {
        "private": "private-do-user-0.db.ondigitalocean.com:25060",
        "standby": "private-replica-do-user-0.db.ondigitalocean.com:25060",
    },
    "secretRevision": 1,
    "lastChangeTime": "2026-01-01T00:00:00Z",
    "lastSyncTime": "2026-01-01T00:00:00Z",
}
_COMPACTOR = Compactor(_TYPICAL, type_=dict[str, object])
_NEW = Status()
_NEW_PACKED = _COMPACTOR.pack(_NEW.to_body())
