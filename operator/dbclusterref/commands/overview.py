"""`dbclusterref status`, `refresh`, `suspend`, `resume`, `explain`: the resources as a person wants to see and change them."""

import asyncio
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from typing import Literal

import click

from dbclusterref.commands.reasons import REASONS
from dbclusterref.commands.reference_access import get_reference, list_references, patch_reference
from dbclusterref.errors import RateLimited
from dbclusterref.kube.client import KubernetesApi
from dbclusterref.resource.objects import REFRESH_REQUESTED_AT, ObjectKey, key_of, metadata_of
from dbclusterref.resource.status import ConditionType, Status

WATCH_PERIOD = 2.0
POLL_PERIOD = 0.3
STILL_LIMITED = 10
"""Looks in a row that find the read delayed by the rate limit until nobody waits any longer: a reset may be near."""
PENDING = "Pending"

Output = Literal["table", "json"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One resource at a glance."""

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

    @classmethod
    def of(cls, body: Mapping[str, object], *, now: datetime) -> "Row":
        """Read an object; what the operator has not written yet is shown as Pending."""
        key, status = key_of(body), Status.from_body(body)
        ready, fresh = status.conditions.get(ConditionType.READY), status.conditions.get(ConditionType.FRESH)
        # Why it is not fresh says more than that it is still ready.
        shown = fresh if fresh and not fresh.status else ready
        current = fresh is not None and fresh.status
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
        )

    @property
    def is_well(self) -> bool:
        """Return whether there is nothing to look at."""
        return self.ready == self.fresh == "True"


def age(now: datetime, then: datetime) -> str:
    """Write an age as kubectl does: 5s, 12m, 3h, 9d."""
    seconds = max(0, int((now - then).total_seconds()))
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= 2 * size:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"


async def show_status(
    kubernetes: KubernetesApi, *, namespace: str, output: Output, watch: bool, colored: bool, on_terminal: bool
) -> int:
    """Print all resources of a namespace, or of all where it is empty; return 1 where any is not ready and fresh."""
    shown: Sequence[Row] = ()
    while True:
        now = datetime.now(tz=UTC)
        found = [Row.of(body, now=now) async for body in list_references(kubernetes, namespace)]
        rows = sorted(found, key=lambda row: (row.namespace, row.name))
        if output == "json":
            click.echo(json.dumps([asdict(row) for row in rows], indent=None if watch else 2))
        elif not watch or on_terminal:
            if watch:
                click.clear()
            click.echo("\n".join(table(rows, colored=colored)) if rows else "No DatabaseClusterRefs found.")
        elif new := [row for row in rows if row not in shown]:
            click.echo("\n".join(table(new, colored=colored)))
        shown = rows
        if not watch:
            return 0 if all(row.is_well for row in rows) else 1
        await asyncio.sleep(WATCH_PERIOD)


def table(rows: Iterable[Row], *, colored: bool) -> list[str]:
    """Lay rows out in columns; the color says what needs a look."""
    rows = list(rows)
    names = [field.name for field in fields(Row)]
    cells = [[name.upper() for name in names], *([str(getattr(row, name)) or "-" for name in names] for row in rows)]
    widths = [max(len(line[i]) for line in cells) for i in range(len(names))]
    lines = ["   ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in cells]
    if not colored:
        return lines
    styles = [{"bold": True}, *({} if row.is_well else {"fg": "yellow" if row.ready == "True" else "red"} for row in rows)]
    return [click.style(line, **style) if style else line for line, style in zip(lines, styles, strict=True)]  # type: ignore[arg-type]


async def refresh(kubernetes: KubernetesApi, key: ObjectKey, *, wait: float) -> int:
    """Request a read; with `wait` seconds, wait for its outcome and return 1 where the Secret is not fresh after it."""
    requested = datetime.now(tz=UTC).isoformat(timespec="microseconds")
    await patch_reference(kubernetes, key, {"metadata": {"annotations": {REFRESH_REQUESTED_AT: requested}}})
    if not wait:
        click.echo(f"{key}: refresh requested.")
        return 0
    limited = 0
    try:
        async with asyncio.timeout(wait):
            while True:
                status = Status.from_body(await get_reference(kubernetes, key))
                fresh = status.conditions.get(ConditionType.FRESH)
                if fresh and status.last_handled_refresh_at == requested:
                    click.echo(f"{key}: {fresh.reason}: {_told(status)}")
                    return 0 if fresh.status else 1
                limited = limited + 1 if fresh and fresh.reason == RateLimited.reason else 0
                if fresh and limited > STILL_LIMITED:
                    click.echo(f"{key}: {fresh.reason}: {_told(status)} The refresh stays requested until then.")
                    return 1
                await asyncio.sleep(POLL_PERIOD)
    except TimeoutError:
        click.echo(f"{key}: not read within {wait:.0f} s; see: dbclusterref explain -n {key.namespace} {key.name}")
        return 1


def _told(status: Status) -> str:
    return status.telling.message if status.telling else ""


async def set_suspended(kubernetes: KubernetesApi, key: ObjectKey, *, suspended: bool) -> int:
    """Set spec.suspend. A GitOps tool that owns the field sets it back: change it in its source then."""
    await patch_reference(kubernetes, key, {"spec": {"suspend": suspended}})
    click.echo(f"{key}: {'suspended' if suspended else 'resumed'}.")
    return 0


async def explain(kubernetes: KubernetesApi, key: ObjectKey) -> int:
    """Print why a resource is as it is, what happens next, and what to do; return 1 where it is not ready and fresh."""
    body = await get_reference(kubernetes, key)
    now = datetime.now(tz=UTC)
    row, status = Row.of(body, now=now), Status.from_body(body)
    generation = metadata_of(body).get("generation")
    lines = [f"{key}: {row.reason}{f', for {row.since}' if row.since else ''}"]
    lines += [f"  {kind}={condition.status}: {condition.message}" for kind, condition in status.conditions.items()]
    if status.conditions and status.observed_generation != generation:
        lines.append(f"  The status is of generation {status.observed_generation}; the resource is at {generation}.")
    reason = REASONS.get(row.reason)
    if reason:
        lines += [
            f"Meaning:   {reason.meaning}",
            f"To do:     {reason.to_do(key, secret=status.binding_name or key.name)}",
            f"Meanwhile: {reason.then}",
        ]
    if status.binding_name:
        changed = f", content last changed {age(now, status.last_change_time)} ago" if status.last_change_time else ""
        lines.append(f"Secret:    {status.binding_name} (revision {status.secret_revision}{changed})")
    lines.append(f"Answer:    {row.answer if row.answer in {'current', 'never'} else f'{row.answer} old'}")
    click.echo("\n".join(lines))
    return 0 if row.is_well else 1
