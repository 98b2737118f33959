"""What people see: the status, Events and log lines; each only where something changed."""

import hashlib
import logging
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Protocol

from dbclusterref.errors import Cause, KubernetesError
from dbclusterref.kube.client import Event
from dbclusterref.metrics import Metrics
from dbclusterref.reconcile.conditions import SUSPENDED, SYNCED, Outcome, Published, Result, Suspended, next_status
from dbclusterref.reconcile.entry import Entry
from dbclusterref.reconcile.repair_backoff import RepairBackoff
from dbclusterref.resource.ca_config_map import CA_CONFIG_MAP_PROBLEMS
from dbclusterref.resource.objects import ObjectKey, ObjectMeta, is_newer, version_of
from dbclusterref.resource.restart import RESTART_PROBLEMS, RestartState
from dbclusterref.resource.status import ConditionType, Status
from dbclusterref.timing import Timing

NOTE_LIMIT = 1000
"""Bytes of an Event's note, which may have 1,024."""


class StatusApi(Protocol):
    """The call that reporting needs."""

    async def patch_status(self, key: ObjectKey, *, uid: str, status: Mapping[str, object]) -> dict[str, object]: ...  # noqa: D102


class Reporter:
    """Reports results. `record` takes an Event without waiting; `instance` names this process in Events.

    `clock` is monotonic, in seconds. `wrote` is called with the answer to each write, once the entry is as it says.
    """

    def __init__(
        self,
        api: StatusApi,
        *,
        record: Callable[[Event], object],
        metrics: Metrics,
        logger: logging.Logger,
        instance: str,
        clock: Callable[[], float],
        timing: Timing | None = None,
        wrote: Callable[[Mapping[str, object]], object] = lambda _: None,
    ) -> None:
        self._api = api
        self._record = record
        self._metrics = metrics
        self._logger = logger
        self._instance = instance
        self._clock = clock
        self._overwritten = RepairBackoff(timing or Timing())
        self._wrote = wrote

    async def report(self, entry: Entry, result: Result, *, now: datetime) -> float:
        """Write the status if it differs, then an Event and a log line for what changed. See `next_status`.

        Return in how many seconds to report again: not 0 where another client keeps overwriting the status.
        """
        self._metrics.reconciles.labels(reason=_reason(result.outcome)).inc()
        key, old = entry.identity.key, entry.status
        new = next_status(old, result, identity=entry.identity, reference=entry.reference, now=now)
        was_overwritten = entry.status_was_overwritten
        if new == old:
            entry.status_was_overwritten = False
        elif was_overwritten and (wait := self._overwritten.seconds_to_wait(key, now=self._clock())):
            return wait
        elif not await self._write(entry, new):
            return 0.0
        elif was_overwritten:
            self._overwritten.repaired(key, now=self._clock())
        self._announce_changes(entry, old, new, result.outcome, now=now)
        return 0.0

    async def _write(self, entry: Entry, new: Status) -> bool:
        identity, known, wanted = entry.identity, entry.resource_version, new.to_body()
        try:
            body = await self._api.patch_status(identity.key, uid=identity.uid, status=wanted)
        except KubernetesError as error:
            self._metrics.writes.labels(kind="Status", result="failed").inc()
            if error.status in {404, 409}:
                # The object is gone, or another has its name: nobody is left to read it.
                entry.published.unreported = ()
                return False
            raise
        self._metrics.writes.labels(kind="Status", result="ok").inc()
        if entry.resource_version != known and is_newer(entry.resource_version, than=version_of(body)):
            return True  # somebody has overwritten it since, and the watch was quicker than this answer
        entry.status_was_overwritten = False
        # A CRD older than this operator leaves out what it does not know.
        entry.status = new if body.get("status") == wanted else Status.from_body(body)
        if ObjectMeta.from_body(body) == identity:
            entry.resource_version = version_of(body)
            self._wrote(body)
        # Else somebody has changed the resource meanwhile: the watch will still deliver that change, under an older version
        # than this write's, and it must not be ignored as old.
        return True

    def _announce_changes(self, entry: Entry, old: Status, new: Status, outcome: Outcome, *, now: datetime) -> None:
        changes, entry.published.unreported = entry.published.unreported, ()
        for change in changes:
            self._announce(entry, change.reason, change.text, warning=change.warning, now=now)
        self._announce_restarts(entry, old, new, now=now)
        bundle = new.ca_config_map
        if bundle and bundle.state in CA_CONFIG_MAP_PROBLEMS and bundle != old.ca_config_map:
            self._announce(entry, f"ConfigMap{bundle.state}", bundle.message, warning=True, now=now)
        before, after = _announced(old), _announced(new)
        if before == after or (before is None and isinstance(outcome, Published)):
            return
        ready, telling = new.conditions[ConditionType.READY], new.telling
        assert telling
        match outcome:
            case Cause():
                self._announce(entry, outcome.reason, telling.message, warning=True, now=now)
            case Suspended():
                self._announce(entry, SUSPENDED, telling.message, warning=not ready.status, now=now)
            case Published():
                self._announce(entry, SYNCED, ready.message, warning=False, now=now)

    def _announce_restarts(self, entry: Entry, old: Status, new: Status, *, now: datetime) -> None:
        before, said = {item.workload: item for item in old.restarts}, set[str]()
        for item in new.restarts:
            same = item.workload in before and before[item.workload].message == item.message
            if same or item.message in said:
                continue
            said.add(item.message)
            if item.state is RestartState.ROLLING_OUT:
                self._announce(entry, "WorkloadRestarted", item.message, warning=False, now=now)
            elif item.state in RESTART_PROBLEMS:
                self._announce(entry, f"Restart{item.state}", item.message, warning=True, now=now)

    def _announce(self, entry: Entry, reason: str, text: str, *, warning: bool, now: datetime) -> None:
        key = entry.identity.key
        self._logger.log(
            logging.WARNING if warning else logging.INFO,
            "%s: %s: %s", key, reason, text,
            extra={"fields": {"namespace": key.namespace, "name": key.name, "reason": reason}},
        )  # fmt: skip
        event = Event(
            regarding=key,
            regarding_uid=entry.identity.uid,
            warning=warning,
            reason=reason,
            action="Reconcile",
            note=_note(text),
            time=now.astimezone().isoformat(timespec="microseconds"),
            name=_event_name(key.name, entry.identity.uid, reason, text, now),
            instance=self._instance,
        )
        self._record(event)


def _announced(status: Status) -> tuple[object, ...] | None:
    """Return what is worth an Event when it changes: fresh or not, ready or not, why, and what a person is asked to do."""
    fresh, stalled = status.conditions.get(ConditionType.FRESH), status.conditions.get(ConditionType.STALLED)
    if fresh is None:
        return None
    asked = stalled.message if stalled and stalled.status else ""
    return (fresh.status, fresh.reason, status.is_true(ConditionType.READY), asked)


def _reason(outcome: Outcome) -> str:
    match outcome:
        case Published():
            return SYNCED
        case Suspended():
            return SUSPENDED
        case Cause():
            return outcome.reason


def _note(text: str) -> str:
    content = text.encode(errors="replace")
    if len(content) <= NOTE_LIMIT:
        return text
    return content[: NOTE_LIMIT - len("…".encode())].decode(errors="ignore") + "…"


def _event_name(name: str, *parts: object) -> str:
    digest = hashlib.blake2b("/".join(str(part) for part in parts).encode(errors="replace"), digest_size=8).hexdigest()
    return f"{name[:230].rstrip('.-')}.{digest}"
