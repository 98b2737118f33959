"""The resources that have no place in their namespace: each is an entry until its status says so, and nothing after that."""

from collections.abc import Callable

from dbclusterref.reconcile.entry import Entry
from dbclusterref.reconcile.namespace_limit import NamespaceLimit
from dbclusterref.resource.objects import ObjectKey, ObjectMeta, is_newer
from dbclusterref.resource.reference import DeletionPolicy
from dbclusterref.resource.status import ConditionType, Status

MOST_TOLD = 2000
"""Resources without a place of which the version is kept in which their status says so."""
MOST_TO_REFUSE = 500
"""Resources of one namespace without a place that wait for their status; the others follow with the next listing."""


class Refusals:
    """Those that wait for their status to say that they have no place within `limit`; `on_refused` is told of each."""

    def __init__(self, limit: NamespaceLimit, *, on_refused: Callable[[ObjectKey], object]) -> None:
        self._limit = limit
        self._on_refused = on_refused
        self._waiting: dict[str, dict[ObjectKey, Entry]] = {}
        self._told: dict[str, str] = {}

    def get(self, key: ObjectKey) -> Entry | None:
        """Return a resource that waits, if there is one."""
        return self._waiting.get(key.namespace, {}).get(key)

    def refuse(
        self, identity: ObjectMeta, *, status: Status, version: str, listed: bool, policy: DeletionPolicy | None
    ) -> None:
        """Count a resource that has no place, and have its status say so where it does not."""
        key, cause = identity.key, self._limit.why(identity.key.namespace)
        waiting = self._waiting.get(key.namespace, {})
        stalled = status.conditions.get(ConditionType.STALLED)
        is_said = stalled is not None and (stalled.reason, stalled.message) == (cause.reason, cause.message)
        is_told = is_said and stalled is not None and stalled.observed_generation == identity.generation
        if listed or (key not in waiting and not is_told):
            self._limit.count_refused(key.namespace, listed=listed)
        if is_told and key in waiting:
            self.stop(waiting[key])  # another process has told it: this one is a standby
        # A listing that began before its status was written shows it without.
        is_told = is_told or not is_newer(version, than=self._told.get(identity.uid, ""))
        if is_told or identity.deleting or (key not in waiting and len(waiting) >= MOST_TO_REFUSE):
            return
        entry = Entry.of(identity, None, cause, status=status, version=version, policy=policy)
        # A spec that has changed leaves the text in the status as it was written.
        entry.status_was_overwritten = identity.uid in self._told and not is_said
        self._waiting.setdefault(key.namespace, {})[key] = entry
        self._on_refused(key)

    def told(self, entry: Entry) -> None:
        """Drop a resource whose status says so."""
        self._told[entry.identity.uid] = entry.resource_version
        if len(self._told) > MOST_TOLD:
            del self._told[next(iter(self._told))]
        self.stop(entry)

    def stop(self, entry: Entry) -> None:
        """Drop a resource whose status is no longer to be written."""
        key = entry.identity.key
        waiting = self._waiting.get(key.namespace, {})
        if waiting.get(key) is entry:
            del waiting[key]
            if not waiting:
                del self._waiting[key.namespace]

    def has_place(self, identity: ObjectMeta) -> None:
        """Drop what is known of a resource that has a place."""
        self._told.pop(identity.uid, None)
        if entry := self.get(identity.key):
            self.stop(entry)

    def forget_versions(self) -> None:
        """Forget in which versions statuses say so."""
        self._told.clear()
