"""Which workloads are to follow their Secret by a restart, and how far that has come for each. Pure."""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

import msgspec

from dbclusterref.errors import InvalidSpec
from dbclusterref.resource.objects import GROUP, as_mapping, is_object_name

MOST_WORKLOADS = 16
LONGEST_NAME = 63
"""Of an annotation, behind its prefix."""


class WorkloadKind(StrEnum):
    """What has a pod template that rolls out."""

    DEPLOYMENT = "Deployment"
    STATEFUL_SET = "StatefulSet"
    DAEMON_SET = "DaemonSet"

    @property
    def plural(self) -> str:
        """Return its name in a path of the API, and in a right."""
        return f"{self.lower()}s"


class RestartState(StrEnum):
    """How far the restart of one workload has come."""

    CURRENT = "Current"
    PENDING = "Pending"
    ROLLING_OUT = "RollingOut"
    TIMED_OUT = "TimedOut"
    NOT_FOUND = "NotFound"
    FORBIDDEN = "Forbidden"
    FAILED = "Failed"
    DISABLED = "Disabled"


RESTART_PROBLEMS = frozenset(
    {
        RestartState.TIMED_OUT,
        RestartState.NOT_FOUND,
        RestartState.FORBIDDEN,
        RestartState.FAILED,
        RestartState.DISABLED,
    }
)
"""States that somebody should look at."""


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Workload:
    """A workload in the resource's own namespace."""

    kind: WorkloadKind
    name: str

    def __str__(self) -> str:
        """Write it as a sentence names it."""
        return f"{self.kind} {self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Restart:
    """One workload in the status. It needs no restart for the Secret's `revision`; `message` says what is in the way."""

    workload: Workload
    revision: int
    state: RestartState
    message: str = ""

    def to_body(self) -> dict[str, object]:
        """Write it as the API spells it."""
        return {
            "kind": str(self.workload.kind),
            "name": self.workload.name,
            "revision": self.revision,
            "state": str(self.state),
            **({"message": self.message} if self.message else {}),
        }


class WorkloadFields(msgspec.Struct):
    """An item of `spec.restart` as JSON has it."""

    kind: str | None = None
    name: str | None = None


def read_workloads(items: Iterable[WorkloadFields] | None, *, path: str) -> tuple[Workload, ...]:
    """Read `spec.restart`; what is named twice counts once. Raises InvalidSpec, naming the field and what is allowed."""
    found: dict[Workload, None] = {}
    for index, item in enumerate(items or ()):
        if item.kind not in {str(kind) for kind in WorkloadKind}:
            raise InvalidSpec(f"{path}[{index}].kind has an invalid value; allowed: {', '.join(WorkloadKind)}.")
        if not is_object_name(item.name):
            raise InvalidSpec(f"{path}[{index}].name is not a valid name; write that of a workload in this namespace.")
        found[Workload(kind=WorkloadKind(item.kind), name=item.name)] = None
    if len(found) > MOST_WORKLOADS:
        raise InvalidSpec(f"{path} names {len(found)} workloads; the maximum is {MOST_WORKLOADS}.")
    return tuple(found)


def read_restarts(items: object) -> tuple[Restart, ...]:
    """Read `status.restarts`; an item that cannot be read counts as never written."""
    found = (_restart(item) for item in (items if isinstance(items, list) else ()))
    return tuple(item for item in found if item)


def _restart(item: object) -> Restart | None:
    try:
        fields = msgspec.convert(item, _RestartFields)
        workload = Workload(kind=WorkloadKind(fields.kind), name=fields.name)
        return Restart(workload=workload, revision=fields.revision, state=RestartState(fields.state), message=fields.message)
    except (msgspec.ValidationError, ValueError):
        return None


class _RestartFields(msgspec.Struct):
    kind: str
    name: str
    revision: int
    state: str
    message: str = ""


def annotation_of(reference: str) -> str:
    """Return the pod template's annotation for a resource of this name: two that restart one workload have one each."""
    if len(reference) > LONGEST_NAME:
        digest = hashlib.blake2b(reference.encode(), digest_size=4).hexdigest()
        reference = f"{reference[: LONGEST_NAME - 9].rstrip('-.')}-{digest}"
    return f"restart.{GROUP}/{reference}"


def is_rolled_out(kind: WorkloadKind, body: Mapping[str, object]) -> bool:
    """Return whether all pods of a workload run its present template, as `kubectl rollout status` judges it."""
    spec, status = as_mapping(body.get("spec")), as_mapping(body.get("status"))
    if _number(status, "observedGeneration") < _number(as_mapping(body.get("metadata")), "generation"):
        return False
    if kind is WorkloadKind.DAEMON_SET:
        wanted = _number(status, "desiredNumberScheduled")
        return _number(status, "updatedNumberScheduled") >= wanted and _number(status, "numberAvailable") >= wanted
    wanted, updated = _number(spec, "replicas", default=1), _number(status, "updatedReplicas")
    if kind is WorkloadKind.DEPLOYMENT:
        return updated >= wanted >= _number(status, "replicas") and _number(status, "availableReplicas") >= wanted
    partition = _number(as_mapping(as_mapping(spec.get("updateStrategy")).get("rollingUpdate")), "partition")
    return updated >= wanted - partition and _number(status, "readyReplicas") >= wanted


def why_it_stays(kind: WorkloadKind, body: Mapping[str, object]) -> str:
    """Return why a changed template replaces no pod of a workload; "" where it does."""
    spec = as_mapping(body.get("spec"))
    if kind is WorkloadKind.DEPLOYMENT:
        return "it is paused; its pods follow once it is resumed" if spec.get("paused") else ""
    manual = as_mapping(spec.get("updateStrategy")).get("type") == "OnDelete"
    return "its update strategy is OnDelete; each pod follows when it is deleted" if manual else ""


def restart_mark(revision: int, *, uid: str) -> str:
    """Return the annotation's value: another resource of the same name begins to count at 1, and its revisions are others."""
    return f"{revision}.{uid}"


def restarted_for(body: Mapping[str, object], annotation: str, *, uid: str) -> int:
    """Return the revision of the resource of this UID that a workload's pod template carries already; 0 for none."""
    template = as_mapping(as_mapping(body.get("spec")).get("template"))
    text = as_mapping(as_mapping(template.get("metadata")).get("annotations")).get(annotation)
    number, _, whose = text.partition(".") if isinstance(text, str) else ("", "", "")
    return int(number) if whose == uid and number.isascii() and number.isdigit() and len(number) < LONGEST_NAME else 0


def _number(fields: Mapping[str, object], name: str, *, default: int = 0) -> int:
    value = fields.get(name)
    return value if isinstance(value, int) else default
