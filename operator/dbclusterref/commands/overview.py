"""`dbclusterref status`: all resources at a glance, as a table for people and as JSON for programs."""

import asyncio
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

import click

from dbclusterref.commands.operator_leases import OperatorLeases, OperatorState, read_operator_leases
from dbclusterref.commands.reference_access import list_references
from dbclusterref.kube.client import KubernetesApi
from dbclusterref.resource.objects import key_of, metadata_of
from dbclusterref.resource.status import Condition, ConditionType, Status, format_time

WATCH_PERIOD = 2.0
PENDING = "Pending"
COLUMNS = ("namespace", "name", "ready", "fresh", "reason", "since", "answer", "engine", "cluster", "secret")

Output = Literal["table", "json"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One resource at a glance. `since` and `answer` are ages; `operator` says whether an operator keeps it up to date."""

    namespace: str
    name: str
    ready: str
    fresh: str
    reason: str
    since: str
    answer: str
    engine: str
    cluster: str
    secret: str
    operator: OperatorState = OperatorState.UNKNOWN

    @classmethod
    def of(cls, body: Mapping[str, object], *, now: datetime, operator: OperatorState = OperatorState.UNKNOWN) -> "Row":
        """Read an object; what the operator has not written yet is shown as Pending."""
        key, status = key_of(body), Status.from_body(body)
        ready, fresh = status.conditions.get(ConditionType.READY), status.conditions.get(ConditionType.FRESH)
        shown = shown_condition(status)
        # A condition proves nothing: what was written last is current only while an operator runs.
        current = fresh is not None and fresh.status and operator is OperatorState.RUNNING
        return cls(
            namespace=key.namespace,
            name=key.name,
            ready=str(ready.status) if ready else "",
            fresh=str(fresh.status) if fresh else "",
            reason=shown.reason if shown else PENDING,
            since=age(now, shown.last_transition_time) if shown else "",
            answer="current" if current else age(now, status.last_sync_time) if status.last_sync_time else "never",
            engine=str(status.cluster.get("engine", "")),
            cluster=str(status.cluster.get("name", "")),
            secret=status.binding_name,
            operator=operator,
        )

    @property
    def is_well(self) -> bool:
        """Return whether there is nothing to look at."""
        return self.ready == self.fresh == "True" and self.operator is not OperatorState.NOT_RUNNING


def shown_condition(status: Status) -> Condition | None:
    """Return the condition whose reason is shown: why it is not fresh says more than that it is still ready."""
    fresh = status.conditions.get(ConditionType.FRESH)
    return fresh if fresh and not fresh.status else status.conditions.get(ConditionType.READY)


def age(now: datetime, then: datetime) -> str:
    """Write an age as kubectl does: 5s, 12m, 3h, 9d."""
    seconds = max(0, int((now - then).total_seconds()))
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= 2 * size:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"


def no_operator(leases: OperatorLeases, uid: str, *, now: datetime) -> str:
    """Say since when no operator has served a resource of that UID; "" where one does, or where that is not known."""
    last = leases.last_of(uid)
    if last is None or last.is_alive:
        return ""
    return f"No operator has renewed its Lease {last.key} for {age(now, last.renewed_at)}."


async def show_status(
    kubernetes: KubernetesApi,
    *,
    namespace: str,
    operator_namespace: str,
    output: Output,
    watch: bool,
    colored: bool,
    on_terminal: bool,
) -> int:
    """Print all resources of a namespace, or of all where it is empty; return 1 where any needs a look."""
    shown: Sequence[Row] = ()
    while True:
        leases = await read_operator_leases(kubernetes, namespace=operator_namespace, now=datetime.now(tz=UTC))
        bodies = [body async for body in list_references(kubernetes, namespace)]
        bodies.sort(key=key_of)
        now = datetime.now(tz=UTC)
        uids = [str(metadata_of(body).get("uid", "")) for body in bodies]
        rows = [Row.of(body, now=now, operator=leases.state_of(uid)) for body, uid in zip(bodies, uids, strict=True)]
        silent = dict.fromkeys(filter(None, (no_operator(leases, uid, now=now) for uid in uids)))
        warnings = [f"{line} What is shown is what it wrote last." for line in silent]
        if output == "json":
            items = [for_programs(body, operator=row.operator) for body, row in zip(bodies, rows, strict=True)]
            click.echo(json.dumps(items, indent=None if watch else 2))
        elif not watch or on_terminal:
            if watch:
                click.clear()
            nothing = f"No DatabaseClusterRefs in namespace {namespace}; -A looks in all." if namespace else _NOWHERE
            click.echo("\n".join([*(table(rows, colored=colored) if rows else [nothing]), *warnings]))
        elif new := [row for row in rows if row not in shown]:
            click.echo("\n".join([*table(new, colored=colored), *warnings]))
        shown = rows
        if not watch:
            return 0 if all(row.is_well for row in rows) else 1
        await asyncio.sleep(WATCH_PERIOD)


_NOWHERE = "No DatabaseClusterRefs in any namespace."


def table(rows: Iterable[Row], *, colored: bool) -> list[str]:
    """Lay rows out in columns; the color says what needs a look."""
    rows = list(rows)
    cells = [[name.upper() for name in COLUMNS], *([str(getattr(row, name)) or "-" for name in COLUMNS] for row in rows)]
    widths = [max(len(line[i]) for line in cells) for i in range(len(COLUMNS))]
    lines = ["   ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in cells]
    if not colored:
        return lines
    styles = [{"bold": True}, *({} if row.is_well else {"fg": "yellow" if row.ready == "True" else "red"} for row in rows)]
    return [click.style(line, **style) if style else line for line, style in zip(lines, styles, strict=True)]  # type: ignore[arg-type]


def for_programs(body: Mapping[str, object], *, operator: OperatorState) -> dict[str, object]:
    """Return a resource as `--output json` shows it: times as RFC 3339 has them, null for what is not there."""
    key, status = key_of(body), Status.from_body(body)
    shown, telling = shown_condition(status), status.telling
    values = {kind: str(one.status) for kind, one in status.conditions.items()}
    return {
        "namespace": key.namespace,
        "name": key.name,
        **{kind.lower(): values.get(kind) for kind in ConditionType},
        "reason": shown.reason if shown else PENDING,
        "message": telling.message if telling else "",
        "since": format_time(shown.last_transition_time) if shown else None,
        "lastSyncTime": format_time(status.last_sync_time) if status.last_sync_time else None,
        "lastChangeTime": format_time(status.last_change_time) if status.last_change_time else None,
        "generation": metadata_of(body).get("generation"),
        "observedGeneration": status.observed_generation if status.conditions else None,
        "engine": status.cluster.get("engine"),
        "cluster": status.cluster.get("name"),
        "secret": status.binding_name or None,
        "secretRevision": status.secret_revision or None,
        "operator": str(operator),
    }
