"""`dbclusterref explain`: why one resource is as it is, what happens next, and what to do."""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime

import click

from dbclusterref.commands.operator_leases import OperatorLeases, OperatorState, read_operator_leases
from dbclusterref.commands.overview import Row, age, no_operator, shown_condition
from dbclusterref.commands.reasons import REASONS
from dbclusterref.commands.reference_access import get_reference
from dbclusterref.errors import KubernetesError
from dbclusterref.kube.client import KubernetesApi
from dbclusterref.resource.ca_config_map import CA_CONFIG_MAP_PROBLEMS
from dbclusterref.resource.objects import ObjectKey, as_mapping, metadata_of
from dbclusterref.resource.restart import RESTART_PROBLEMS, WorkloadKind
from dbclusterref.resource.status import ConditionType, Status

_FIRST_SENTENCE_ENDS = "). "
"""That of Ready=True ends with the cluster in brackets; what follows is noted for the reader."""
START_ONE = "Start the operator: kubectl get pods -A -l app.kubernetes.io/name=dbclusterref"


async def explain(kubernetes: KubernetesApi, key: ObjectKey, *, operator_namespace: str) -> int:
    """Print all that is known of a resource in sentences; return 1 where it needs a look."""
    body = await get_reference(kubernetes, key)
    leases = await read_operator_leases(kubernetes, namespace=operator_namespace, now=datetime.now(tz=UTC))
    now, uid = datetime.now(tz=UTC), str(metadata_of(body).get("uid", ""))
    row, status = Row.of(body, now=now, operator=leases.state_of(uid)), Status.from_body(body)
    dead = no_operator(leases, uid, now=now)
    shown = shown_condition(status)
    lines = [f"{key}: {row.reason}{f' ({shown.type}={shown.status} for {row.since})' if shown else ''}"]
    lines += [f"  {dead} Nothing is read or written, and the conditions are what it wrote last."] if dead else []
    first, notes = _split(status)
    lines += _conditions(status, first_of_ready=first)
    generation = metadata_of(body).get("generation")
    if status.conditions and status.observed_generation != generation:
        lines.append(f"  The status is of generation {status.observed_generation}; the resource is at {generation}.")
    problems = [*_problems(status), *await _missing_workloads(kubernetes, key, body, status)]
    for problem in problems:
        notes = notes.replace(problem, "").strip()
    lines += [f"Notes:     {notes}"] if notes else []
    if reason := REASONS.get(row.reason):
        to_do = reason.to_do(key, secret=status.binding_name or key.name)
        if row.reason == "Synced" and (problems or notes):
            to_do = " ".join(problems) or "Nothing, unless the notes say what you do not want."
        lines += [
            f"Meaning:   {reason.meaning}",
            f"To do:     {START_ONE if dead else to_do}",
            *([f"           Then: {to_do}"] if dead and row.reason != "Pending" and to_do != "Nothing." else []),
            f"Meanwhile: {'Nothing, until an operator runs.' if dead else reason.then}",
        ]
    if status.binding_name:
        changed = f", content last changed {age(now, status.last_change_time)} ago" if status.last_change_time else ""
        lines.append(f"Secret:    {status.binding_name} (revision {status.secret_revision}{changed})")
    lines.append(f"Answer:    {_answer(row)}")
    lines.append(f"Operator:  {_operator(row, leases, dead=dead)}")
    click.echo("\n".join(lines))
    return 0 if row.is_well and not problems else 1


def _split(status: Status) -> tuple[str, str]:
    """Return the first sentence of Ready=True, and the notes after it."""
    ready = status.conditions.get(ConditionType.READY)
    if ready is None or not ready.status:
        return "", ""
    first, ends, notes = ready.message.partition(_FIRST_SENTENCE_ENDS)
    return (first + ends.rstrip(), notes.strip()) if ends else (ready.message, "")


def _conditions(status: Status, *, first_of_ready: str) -> Iterable[str]:
    """Write a line for each; a text that two of them have is written once."""
    said: dict[str, ConditionType] = {}
    for kind, condition in status.conditions.items():
        message = first_of_ready if kind is ConditionType.READY and first_of_ready else condition.message
        same = next((earlier for text, earlier in said.items() if text.startswith(message)), None)
        yield f"  {kind}={condition.status}: {f'as {same} says' if same else message}"
        said.setdefault(message, kind)


def _problems(status: Status) -> Iterable[str]:
    """Return what the operator reports beside the Secret, each once."""
    ca = status.ca_config_map
    return dict.fromkeys(
        [
            *(item.message for item in status.restarts if item.state in RESTART_PROBLEMS),
            *([ca.message] if ca and ca.state in CA_CONFIG_MAP_PROBLEMS else []),
        ]
    )


async def _missing_workloads(
    kubernetes: KubernetesApi, key: ObjectKey, body: Mapping[str, object], status: Status
) -> Iterable[str]:
    """Look for the workloads of spec.restart: the operator does that only when the Secret changes."""
    items = as_mapping(body.get("spec")).get("restart")
    reported = {(str(one.workload.kind), one.workload.name) for one in status.restarts if one.state in RESTART_PROBLEMS}
    missing: dict[str, None] = {}
    for item in map(as_mapping, items if isinstance(items, list) else ()):
        kind, name = str(item.get("kind")), str(item.get("name"))
        if kind not in {str(one) for one in WorkloadKind} or (kind, name) in reported:
            continue
        try:
            if await kubernetes.get_workload(WorkloadKind(kind), ObjectKey(key.namespace, name)) is None:
                missing[f"spec.restart names {kind} {name}, which does not exist in namespace {key.namespace}; correct it."] = (
                    None
                )
        except KubernetesError:
            return missing  # without the right to look nothing is known
    return missing


def _answer(row: Row) -> str:
    if row.answer in {"current", "never"}:
        return row.answer
    return f"{row.answer} old, or newer: lastSyncTime is written once an hour while nothing changes"


def _operator(row: Row, leases: OperatorLeases, *, dead: str) -> str:
    match row.operator:
        case OperatorState.RUNNING:
            return "runs: its Lease is renewed"
        case OperatorState.NOT_RUNNING:
            return dead
        case OperatorState.UNKNOWN:
            return (
                f"not known: no Lease of it can be read in namespace {leases.namespace} (--operator-namespace). "
                "Conditions prove nothing while no operator runs."
            )
