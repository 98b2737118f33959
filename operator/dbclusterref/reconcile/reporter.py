"""Tells people: the status, Events and log lines; each only where something changed."""

import hashlib
import logging
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Protocol

from dbclusterref.errors import Cause, KubernetesError
from dbclusterref.kube.client import Event
from dbclusterref.metrics import Metrics
from dbclusterref.reconcile.conditions import SYNCED, Outcome, Published, Suspended, next_status
from dbclusterref.reconcile.entry import Entry
from dbclusterref.resource.objects import ObjectKey, ObjectMeta, version_of
from dbclusterref.resource.status import ConditionType, Status

NOTE_LIMIT = 1000
"""An Event's note may have 1,024 characters."""


class StatusApi(Protocol):
    """The call that reporting needs."""

    async def patch_status(self, key: ObjectKey, *, uid: str, status: Mapping[str, object]) -> dict[str, object]: ...  # noqa: D102


class Reporter:
    """Reports outcomes. `record` takes an Event without waiting; `instance` names this process in Events.

    `wrote` is told the answer to each write, once the entry is as it says.
    """

    def __init__(
        self,
        api: StatusApi,
        *,
        record: Callable[[Event], object],
        metrics: Metrics,
        logger: logging.Logger,
        instance: str,
        wrote: Callable[[Mapping[str, object]], object] = lambda _: None,
    ) -> None:
        self._api = api
        self._record = record
        self._metrics = metrics
        self._logger = logger
        self._instance = instance
        self._wrote = wrote

    async def report(
        self,
        entry: Entry,
        outcome: Outcome,
        *,
        refreshed: bool,
        now: datetime,
        published: Published | None = None,
        not_fresh_for: timedelta = timedelta(),
    ) -> None:
        """Writes the status if it differs, then an Event and a log line for what is new. See `next_status`."""
        self._metrics.reconciles.labels(reason=_reason(outcome)).inc()
        old = entry.status
        new = next_status(
            old,
            identity=entry.identity,
            reference=entry.reference,
            outcome=outcome,
            published=published,
            refreshed=refreshed,
            not_fresh_for=not_fresh_for,
            now=now,
        )
        if new != old and not await self._write(entry, new):
            return
        self._tell(entry, old, new, outcome, now=now)

    async def _write(self, entry: Entry, new: Status) -> bool:
        identity, wanted = entry.identity, new.to_body()
        try:
            body = await self._api.patch_status(identity.key, uid=identity.uid, status=wanted)
        except KubernetesError as error:
            self._metrics.writes.labels(kind="Status", result="failed").inc()
            if error.status in {404, 409}:
                # The object is gone, or another has its name: there is nobody to tell.
                return False
            raise
        self._metrics.writes.labels(kind="Status", result="ok").inc()
        # A CRD older than this operator leaves out what it does not know.
        entry.status = new if body.get("status") == wanted else Status.from_body(body)
        if ObjectMeta.from_body(body) == identity:
            entry.resource_version = version_of(body)
            self._wrote(body)
        # Else somebody has changed the resource meanwhile: the watch is still to tell of it, under an older version than this
        # write's, and must not be taken for old news.
        return True

    def _tell(self, entry: Entry, old: Status, new: Status, outcome: Outcome, *, now: datetime) -> None:
        changes, entry.published.unreported = entry.published.unreported, ()
        for change in changes:
            self._announce(entry, change.reason, change.text, warning=change.warning, now=now)
        before, after = _news_in(old), _news_in(new)
        if before == after or (before is None and isinstance(outcome, Published)):
            return
        match outcome:
            case Cause():
                self._announce(entry, outcome.reason, outcome.message, warning=True, now=now)
            case Suspended():
                self._announce(entry, "Suspended", new.conditions[ConditionType.FRESH].message, warning=False, now=now)
            case Published():
                self._announce(entry, SYNCED, new.conditions[ConditionType.READY].message, warning=False, now=now)

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
            note=text[:NOTE_LIMIT],
            time=now.astimezone().isoformat(timespec="microseconds"),
            name=_event_name(key.name, entry.identity.uid, reason, now),
            instance=self._instance,
        )
        self._record(event)


def watch_reasons(entries: Callable[[], Mapping[str, int]], metrics: Metrics) -> None:
    """Brings the gauge of references by reason up to date."""
    metrics.references.clear()
    for reason, count in entries().items():
        metrics.references.labels(reason=reason).set(count)


def _news_in(status: Status) -> tuple[bool, str, bool] | None:
    """What an Event is worth when it changes: fresh or not, why, and whether a person must act."""
    fresh = status.conditions.get(ConditionType.FRESH)
    return (fresh.status, fresh.reason, status.is_true(ConditionType.STALLED)) if fresh else None


def _reason(outcome: Outcome) -> str:
    match outcome:
        case Published():
            return SYNCED
        case Suspended():
            return "Suspended"
        case Cause():
            return outcome.reason


def _event_name(name: str, *parts: object) -> str:
    digest = hashlib.blake2b("/".join(str(part) for part in parts).encode(), digest_size=8).hexdigest()
    return f"{name[:230]}.{digest}"
