"""Restarts the workloads that `spec.restart` names once their Secret has changed: a few at a time, each once for a revision.

What a workload was last restarted for is kept in the resource's status, so that neither a restart of the operator nor a GitOps
tool that takes our annotation away makes it restart again. `step` may be called at any time: it does what is due, and waits for
nothing.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from math import inf
from typing import Protocol

from dbclusterref.errors import KubernetesError
from dbclusterref.metrics import Metrics
from dbclusterref.reconcile.entry import Entry
from dbclusterref.resource.objects import ObjectKey
from dbclusterref.resource.reference import Reference
from dbclusterref.resource.restart import (
    Restart,
    RestartState,
    Workload,
    WorkloadKind,
    annotation_of,
    is_rolled_out,
    restarted_for,
    why_it_stays,
)
from dbclusterref.timing import Timing

AT_ONCE = 3
"""Rollouts under way across all resources of this process."""
LONGEST_DEBOUNCE = 6.0
"""A Secret that keeps changing delays the restart by no more than so many debounce periods."""
LOOK = 5.0
"""Seconds between two looks at a rollout, or at whether another's has ended."""
AFTER_REFUSAL = 30.0

_DISABLED = (
    "spec.restart has no effect: the operator runs without --restart-workloads. Add deploy/components/restart-workloads, or "
    "set the chart's restartWorkloads."
)


class WorkloadApi(Protocol):
    """The calls on workloads."""

    async def get_workload(self, kind: WorkloadKind, key: ObjectKey) -> dict[str, object] | None: ...  # noqa: D102
    async def annotate_pods(  # noqa: D102
        self, kind: WorkloadKind, key: ObjectKey, *, uid: str, annotation: str, value: str
    ) -> dict[str, object]: ...


@dataclass(slots=True)
class _Progress:
    """What this process knows of one resource's restarts; monotonic seconds."""

    revision: int = 0
    first_change: float = 0.0
    last_change: float = 0.0
    gives_up_at: dict[Workload, float] = field(default_factory=dict)
    """When a rollout is no longer waited for: each is one of those that are under way."""
    again_at: dict[Workload, float] = field(default_factory=dict)
    """When a restart that was refused is tried again."""


class Restarter:
    """Restarts workloads. `clock` is monotonic, in seconds; without `enabled` it only says that it is not."""

    def __init__(
        self,
        api: WorkloadApi,
        *,
        enabled: bool,
        metrics: Metrics,
        clock: Callable[[], float],
        timing: Timing | None = None,
    ) -> None:
        self._api = api
        self._enabled = enabled
        self._metrics = metrics
        self._now = clock
        self._timing = timing or Timing()
        self._progress: dict[ObjectKey, _Progress] = {}

    async def step(self, entry: Entry, reference: Reference, *, revision: int) -> tuple[tuple[Restart, ...], float]:
        """Do what is due for a Secret of this revision; return each workload's status, and in how many seconds to look."""
        if not reference.restart or not self._enabled:
            self._progress.pop(reference.key, None)
            off = RestartState.DISABLED
            return tuple(
                Restart(workload=one, revision=revision, state=off, message=_DISABLED) for one in reference.restart
            ), inf
        items = _beginning(entry.status.restarts, reference.restart, revision=revision)
        progress = self._progress.setdefault(reference.key, _Progress())
        items = [await self._look(reference, item, progress) for item in items]
        if not any(item.state is RestartState.ROLLING_OUT or item.revision < revision for item in items):
            del self._progress[reference.key]
            return tuple(items), inf
        wait = await self._restart_next(reference, items, progress, revision=revision)
        said = {RestartState.ROLLING_OUT, RestartState.FORBIDDEN, RestartState.FAILED}
        return tuple(
            replace(item, state=RestartState.PENDING, message="")
            if item.revision < revision and item.state not in said
            else item
            for item in items
        ), wait

    async def _restart_next(self, reference: Reference, items: list[Restart], progress: _Progress, *, revision: int) -> float:
        """Restart the next workload, in place in `items`, if its turn has come; return in how many seconds to look again."""
        if calm_in := self._debounce(progress, revision=revision):
            return calm_in
        # One at a time: a Secret that breaks an application stops one workload, and is seen before the next.
        if any(item.state is RestartState.ROLLING_OUT for item in items) or self._under_way() >= AT_ONCE:
            return LOOK
        now = self._now()
        due = {index: progress.again_at.get(item.workload, 0.0) for index, item in enumerate(items) if item.revision < revision}
        # One that was refused keeps no other from its restart.
        ready = [index for index, again_at in due.items() if again_at <= now]
        if not ready:
            return min(due.values()) - now
        # The one that is furthest behind: where the Secret keeps changing, all of them have their turn.
        first = min(ready, key=lambda index: items[index].revision)
        items[first] = await self._restart(reference, items[first], progress, revision=revision)
        return LOOK

    def _under_way(self) -> int:
        now = self._now()
        return sum(at > now for progress in self._progress.values() for at in progress.gives_up_at.values())

    def _debounce(self, progress: _Progress, *, revision: int) -> float:
        """Return in how many seconds a Secret has been left alone for long enough."""
        now, period = self._now(), self._timing.restart_debounce
        if progress.revision != revision:
            progress.first_change = progress.first_change or now
            progress.revision, progress.last_change = revision, now
        calm_at = min(progress.last_change + period, progress.first_change + LONGEST_DEBOUNCE * period)
        return max(0.0, calm_at - now)

    async def _look(self, reference: Reference, item: Restart, progress: _Progress) -> Restart:
        """Look whether a rollout has ended; a look that fails has not seen its end."""
        workload = item.workload
        if item.state is not RestartState.ROLLING_OUT:
            return item
        gives_up_at = progress.gives_up_at.setdefault(workload, self._now() + self._timing.restart_timeout)
        try:
            body = await self._api.get_workload(workload.kind, ObjectKey(reference.key.namespace, workload.name))
        except KubernetesError:
            body = {}
        if body is None or (stays := why_it_stays(workload.kind, body)) or is_rolled_out(workload.kind, body):
            del progress.gives_up_at[workload]
            message = f"{workload} has not replaced its pods: {stays}." if body and stays else ""
            return replace(item, state=RestartState.CURRENT, message=message)
        if self._now() < gives_up_at:
            return item
        del progress.gives_up_at[workload]
        self._metrics.workload_restarts.labels("timed_out").inc()
        return replace(
            item,
            state=RestartState.TIMED_OUT,
            message=f"{workload} has not finished its rollout; the next workload is restarted. See `kubectl rollout status "
            f"-n {reference.key.namespace} {workload.kind.lower()}/{workload.name}`.",
        )

    async def _restart(self, reference: Reference, item: Restart, progress: _Progress, *, revision: int) -> Restart:
        workload, annotation = item.workload, annotation_of(reference.key.name)
        key = ObjectKey(reference.key.namespace, workload.name)
        # Its place is taken before anything is awaited: others are worked on side by side.
        progress.gives_up_at[workload] = self._now() + self._timing.restart_timeout
        try:
            body = await self._api.get_workload(workload.kind, key)
            if body is None:
                del progress.gives_up_at[workload]
                self._metrics.workload_restarts.labels("failed").inc()
                message = (
                    f"There is no {workload}, which spec.restart names; it was not restarted. Correct its name or remove it."
                )
                return replace(item, revision=revision, state=RestartState.NOT_FOUND, message=message)
            if restarted_for(body, annotation) < revision:
                uid = str(_metadata(body)["uid"])
                await self._api.annotate_pods(workload.kind, key, uid=uid, annotation=annotation, value=str(revision))
                self._metrics.workload_restarts.labels("restarted").inc()
            # Else it was restarted before the status could say so.
        except KubernetesError as error:
            del progress.gives_up_at[workload]
            progress.again_at[workload] = self._now() + AFTER_REFUSAL
            self._metrics.workload_restarts.labels("failed").inc()
            return _refused(item, error)
        progress.again_at.pop(workload, None)
        progress.first_change = 0.0
        message = f"Restarting {workload}, because Secret {reference.secret.name} has changed (revision {revision})."
        return replace(item, revision=revision, state=RestartState.ROLLING_OUT, message=message)


def _beginning(known: tuple[Restart, ...], wanted: tuple[Workload, ...], *, revision: int) -> list[Restart]:
    """Return what the status knows of each workload; one that is new there needs no restart for what is now."""
    kept = {item.workload: item for item in known if item.state is not RestartState.DISABLED}
    return [kept.get(one) or Restart(workload=one, revision=revision, state=RestartState.CURRENT) for one in wanted]


def _refused(item: Restart, error: KubernetesError) -> Restart:
    if error.status == 403:  # noqa: PLR2004
        message = (
            f"The operator is not allowed to restart {item.workload} (403); it retries automatically. Grant its ServiceAccount "
            "get and patch on it: deploy/components/restart-workloads, or the chart's restartWorkloads."
        )
        return replace(item, state=RestartState.FORBIDDEN, message=message)
    message = f"{item.workload} could not be restarted ({error.status}); retrying automatically. {error.message[:300]}"
    return replace(item, state=RestartState.FAILED, message=message.strip())


def _metadata(body: Mapping[str, object]) -> Mapping[str, object]:
    metadata = body["metadata"]
    assert isinstance(metadata, Mapping)
    return metadata
