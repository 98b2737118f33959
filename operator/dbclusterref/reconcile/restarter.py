"""Restarts the workloads that `spec.restart` names once their Secret has changed: a few at a time, each once for a revision.

What a workload was last restarted for is kept in the resource's status, so that neither a restart of the operator nor a GitOps
tool that takes our annotation away makes it restart again. `step` may be called at any time: it does what is due, and waits for
nothing.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from math import inf
from typing import Protocol

from dbclusterref.errors import KubernetesError
from dbclusterref.metrics import Metrics
from dbclusterref.reconcile.entry import Entry
from dbclusterref.reconcile.restart_line import RestartLine, may_begin
from dbclusterref.reconcile.store import Store
from dbclusterref.resource.objects import ObjectKey, uid_of
from dbclusterref.resource.reference import Reference
from dbclusterref.resource.restart import (
    Restart,
    RestartState,
    Workload,
    WorkloadKind,
    annotation_of,
    is_rolled_out,
    restart_mark,
    restarted_for,
    why_it_stays,
)
from dbclusterref.timing import Timing

LONGEST_DEBOUNCE = 6.0
"""A Secret that keeps changing delays the restart by no more than so many debounce periods."""
LOOK = 5.0
"""Seconds between two looks at a rollout, or at whether another's has ended."""
FAR_LOOK = 60.0
"""Seconds between two looks of those far behind in the line, of which there may be thousands, and at a rollout that is late."""

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
    """What this process knows of the restarts of one resource, of this UID; monotonic seconds."""

    uid: str
    revision: int = 0
    first_change: float = 0.0
    last_change: float = 0.0
    gives_up_at: dict[Workload, float] = field(default_factory=dict)
    """When a rollout is no longer waited for: each is one of those that are under way."""
    again_at: dict[Workload, float] = field(default_factory=dict)
    """When a restart that was refused is tried again."""
    late_look_at: dict[Workload, float] = field(default_factory=dict)
    """When to look whether a rollout that is no longer waited for has ended after all."""
    unanswered: dict[Workload, int] = field(default_factory=dict)
    """Restarts, by their revision, whose answer was lost: each may be under way."""
    returned: tuple[Restart, ...] = ()
    """What the last step has returned: the status may not say it yet, where its write failed."""

    def keep_only(self, named: Iterable[Workload]) -> None:
        """Forget the workloads that the spec no longer names."""
        kept = set(named)
        for known in (self.gives_up_at, self.again_at, self.late_look_at, self.unanswered):
            for workload in known.keys() - kept:
                del known[workload]
        self.returned = tuple(item for item in self.returned if item.workload in kept)

    def under_way(self, now: float) -> int:
        """Return how many rollouts are waited for."""
        return sum(at > now for at in self.gives_up_at.values())


class Restarter:
    """Restarts workloads. `clock` is monotonic, in seconds; without `enabled` it only says that it is not.

    `store` knows which resources there still are, and of which rollouts an earlier process's statuses tell.
    """

    def __init__(
        self,
        api: WorkloadApi,
        *,
        store: Store,
        enabled: bool,
        metrics: Metrics,
        clock: Callable[[], float],
        timing: Timing | None = None,
    ) -> None:
        self._api = api
        self._store = store
        self._enabled = enabled
        self._metrics = metrics
        self._now = clock
        self._timing = timing or Timing()
        self._progress: dict[ObjectKey, _Progress] = {}
        self._line = RestartLine()

    def forget(self, key: ObjectKey) -> None:
        """Give back what a resource holds: it is gone, suspended, or has nothing to restart."""
        self._progress.pop(key, None)
        self._line.leave(key)

    async def step(self, entry: Entry, reference: Reference, *, revision: int) -> tuple[tuple[Restart, ...], float]:
        """Do what is due for a Secret of this revision; return each workload's status, and in how many seconds to look."""
        key = reference.key
        if not reference.restart or not self._enabled:
            self.forget(key)
            off = RestartState.DISABLED
            return tuple(
                Restart(workload=one, revision=revision, state=off, message=_DISABLED) for one in reference.restart
            ), inf
        known, progress = entry.status.restarts, self._progress.get(key)
        if progress is None or progress.uid != reference.identity.uid:
            self.forget(key)
            progress = self._progress[key] = _Progress(reference.identity.uid)
        progress.keep_only(reference.restart)
        items = _beginning(known, progress.returned, reference.restart, revision=revision)
        items = [await self._look(reference, item, progress) for item in items]
        if not any(item.state is RestartState.ROLLING_OUT or item.revision < revision for item in items):
            late = any(item.state is RestartState.TIMED_OUT for item in items)
            if not late and (not progress.returned or tuple(items) == known):
                self.forget(key)
            progress.returned = tuple(items)
            return tuple(items), FAR_LOOK if late else inf
        wait = await self._restart_next(reference, items, progress, revision=revision)
        said = {RestartState.ROLLING_OUT, RestartState.FORBIDDEN, RestartState.FAILED}
        progress.returned = tuple(
            replace(item, state=RestartState.PENDING, message="")
            if item.revision < revision and item.state not in said
            else item
            for item in items
        )
        return progress.returned, wait

    async def _restart_next(self, reference: Reference, items: list[Restart], progress: _Progress, *, revision: int) -> float:
        """Restart the next workload, in place in `items`, if its turn has come; return in how many seconds to look again."""
        if calm_in := self._debounce(progress, revision=revision):
            return calm_in
        # One at a time: a Secret that breaks an application stops one workload, and is seen before the next.
        if progress.unanswered or any(item.state is RestartState.ROLLING_OUT for item in items):
            return LOOK
        key, now = reference.key, self._now()
        due = {index: progress.again_at.get(item.workload, 0.0) for index, item in enumerate(items) if item.revision < revision}
        # One that was refused keeps no other from its restart.
        ready = [index for index, again_at in due.items() if again_at <= now]
        if not ready:
            self._line.leave(key)
            return min(due.values()) - now
        self._line.wait(key, until=now + FAR_LOOK)
        front = self._line.front(now)
        if key not in front:
            return FAR_LOOK
        if not may_begin(key, front, under_way=self._under_way()):
            self._line.wait(key, until=now + LOOK)
            return LOOK
        self._line.begin(key)
        # The one that is furthest behind: where the Secret keeps changing, all of them have their turn.
        first = min(ready, key=lambda index: items[index].revision)
        items[first] = await self._restart(reference, items[first], progress, revision=revision)
        return LOOK

    def _under_way(self) -> Counter[str]:
        """Return how many rollouts are under way in each namespace, those of an earlier process included."""
        now = self._now()
        for key in [key for key, progress in self._progress.items() if not self._is_served(key, uid=progress.uid)]:
            self.forget(key)
        for entry in self._store:
            reference, key = entry.reference, entry.identity.key
            if entry.summary.restarting and reference and not reference.suspend and key not in self._progress:
                named = [item.workload for item in entry.status.restarts if item.state is RestartState.ROLLING_OUT]
                progress = _Progress(entry.identity.uid, gives_up_at=dict.fromkeys(named, now + self._timing.restart_timeout))
                progress.keep_only(reference.restart)
                self._progress[key] = progress
        found: Counter[str] = Counter()
        for key, progress in self._progress.items():
            found[key.namespace] += progress.under_way(now)
        return found

    def _is_served(self, key: ObjectKey, *, uid: str) -> bool:
        entry = self._store.get(key)
        if entry is None or entry.identity.uid != uid or entry.reference is None:
            return False
        return not entry.reference.suspend

    def _debounce(self, progress: _Progress, *, revision: int) -> float:
        """Return in how many seconds a Secret has been left alone for long enough."""
        now, period = self._now(), self._timing.restart_debounce
        if progress.revision != revision:
            progress.first_change = progress.first_change or now
            progress.revision, progress.last_change = revision, now
        calm_at = min(progress.last_change + period, progress.first_change + LONGEST_DEBOUNCE * period)
        return max(0.0, calm_at - now)

    async def _look(self, reference: Reference, item: Restart, progress: _Progress) -> Restart:
        """Look whether a rollout has begun, where the answer was lost, and has ended; a failed look has seen neither."""
        workload, asked_for = item.workload, progress.unanswered.get(item.workload, 0)
        if item.state is RestartState.TIMED_OUT and not asked_for:
            return await self._look_late(reference, item, progress)
        if item.state is not RestartState.ROLLING_OUT and not asked_for:
            return item
        gives_up_at = progress.gives_up_at.setdefault(workload, self._now() + self._timing.restart_timeout)
        try:
            body = await self._api.get_workload(workload.kind, ObjectKey(reference.key.namespace, workload.name))
        except KubernetesError:
            return item if self._now() < gives_up_at else self._give_up(reference, item, progress)
        if asked_for:
            if body is None or _restarted_for(body, reference) < asked_for:
                return item if self._now() < gives_up_at else self._give_up(reference, item, progress)
            item = self._has_begun(reference, item, progress, revision=asked_for)
            gives_up_at = progress.gives_up_at[workload]
        if ended := _ended(item, body):
            del progress.gives_up_at[workload]
            return ended
        return item if self._now() < gives_up_at else self._give_up(reference, item, progress)

    async def _look_late(self, reference: Reference, item: Restart, progress: _Progress) -> Restart:
        """Look, once in FAR_LOOK seconds, whether a rollout that is no longer waited for has ended after all."""
        workload, now = item.workload, self._now()
        if now < progress.late_look_at.get(workload, 0.0):
            return item
        progress.late_look_at[workload] = now + FAR_LOOK
        try:
            body = await self._api.get_workload(workload.kind, ObjectKey(reference.key.namespace, workload.name))
        except KubernetesError:
            return item
        return _ended(item, body) or item

    def _give_up(self, reference: Reference, item: Restart, progress: _Progress) -> Restart:
        workload = item.workload
        del progress.gives_up_at[workload]
        if progress.unanswered.pop(workload, 0):
            # It has not arrived; the other workloads have their turn before it is tried again.
            progress.again_at[workload] = self._now() + self._timing.after_refusal
            return item
        self._metrics.workload_restarts.labels("timed_out").inc()
        return replace(
            item,
            state=RestartState.TIMED_OUT,
            message=f"{workload} has not finished its rollout; the next workload is restarted. See `kubectl rollout status "
            f"-n {reference.key.namespace} {workload.kind.lower()}/{workload.name}`.",
        )

    async def _restart(self, reference: Reference, item: Restart, progress: _Progress, *, revision: int) -> Restart:
        workload, annotation = item.workload, annotation_of(reference.key.name)
        mark = restart_mark(revision, uid=reference.identity.uid)
        key = ObjectKey(reference.key.namespace, workload.name)
        # Its place is taken before anything is awaited: others are worked on side by side.
        progress.gives_up_at[workload] = self._now() + self._timing.restart_timeout
        sent = False
        try:
            body = await self._api.get_workload(workload.kind, key)
            if body is None:
                del progress.gives_up_at[workload]
                self._metrics.workload_restarts.labels("failed").inc()
                message = (
                    f"There is no {workload}, which spec.restart names; it was not restarted. Correct its name or remove it."
                )
                return replace(item, revision=revision, state=RestartState.NOT_FOUND, message=message)
            if _restarted_for(body, reference) < revision:
                uid, sent = uid_of(body), True
                await self._api.annotate_pods(workload.kind, key, uid=uid, annotation=annotation, value=mark)
                self._metrics.workload_restarts.labels("restarted").inc()
            # Else it was restarted before the status could say so.
        except KubernetesError as error:
            self._metrics.workload_restarts.labels("failed").inc()
            if sent and not _is_refusal(error):
                progress.unanswered[workload] = revision
                progress.gives_up_at[workload] = self._now() + self._timing.after_refusal
            else:
                del progress.gives_up_at[workload]
                progress.again_at[workload] = self._now() + self._timing.after_refusal
            return _refused(item, error)
        return self._has_begun(reference, item, progress, revision=revision)

    def _has_begun(self, reference: Reference, item: Restart, progress: _Progress, *, revision: int) -> Restart:
        workload = item.workload
        if progress.unanswered.pop(workload, 0):
            self._metrics.workload_restarts.labels("restarted").inc()
        progress.gives_up_at[workload] = self._now() + self._timing.restart_timeout
        progress.again_at.pop(workload, None)
        progress.first_change = 0.0
        message = f"Restarting {workload}, because Secret {reference.secret.name} has changed (revision {revision})."
        return replace(item, revision=revision, state=RestartState.ROLLING_OUT, message=message)


def _beginning(
    known: tuple[Restart, ...], returned: tuple[Restart, ...], wanted: tuple[Workload, ...], *, revision: int
) -> list[Restart]:
    """Return what the status knows of each workload, or this process where that is newer.

    One that is new needs no restart for what is now.
    """
    kept = {item.workload: item for item in known if item.state is not RestartState.DISABLED}
    for item in returned:
        if item.workload not in kept or kept[item.workload].revision <= item.revision:
            kept[item.workload] = item
    return [kept.get(one) or Restart(workload=one, revision=revision, state=RestartState.CURRENT) for one in wanted]


def _ended(item: Restart, body: Mapping[str, object] | None) -> Restart | None:
    """Return the state after a rollout; None while it is under way."""
    workload, stays = item.workload, why_it_stays(item.workload.kind, body) if body else ""
    if body and not stays and not is_rolled_out(workload.kind, body):
        return None
    message = f"{workload} has not replaced its pods: {stays}." if stays else ""
    return replace(item, state=RestartState.CURRENT, message=message)


def _restarted_for(body: Mapping[str, object], reference: Reference) -> int:
    return restarted_for(body, annotation_of(reference.key.name), uid=reference.identity.uid)


def _refused(item: Restart, error: KubernetesError) -> Restart:
    if error.is_missing_right:
        message = (
            f"The operator is not allowed to restart {item.workload} (403); it retries automatically. Grant its ServiceAccount "
            "get and patch on it: deploy/components/restart-workloads, or the chart's restartWorkloads."
        )
        return replace(item, state=RestartState.FORBIDDEN, message=message)
    what = f"{item.workload} could not be restarted ({error.status or 'no answer'}); retrying automatically."
    if item.state is RestartState.FAILED and item.message.startswith(what):
        # The API server's own words may differ at each try, which must not be a write and an Event each time.
        return item
    return replace(item, state=RestartState.FAILED, message=f"{what} {error.message[:300]}".strip())


def _is_refusal(error: KubernetesError) -> bool:
    """Return whether a write was certainly not made: what timed out, or was lost, may have been."""
    return 400 <= error.status < 500 and error.status != 408  # noqa: PLR2004
