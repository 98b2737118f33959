"""The CA as a ConfigMap, for trust bundles: `spec.caConfigMap` brought in line.

ConfigMaps are not watched: that would take the right to read all of them. So what this process knows of one is believed until
the next look, which comes with a change of the CA or the spec, with a requested refresh, and as rarely as the full listings.

Nor can they be listed. So that a process which takes over finds each one, a name is written down before there is a ConfigMap of
that name: in the status, or on the ConfigMap of the former name, which the status has until the new one is there. One gap is
left: a process that is killed between the removal of the former one and the status, if the spec has a third name by then.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from math import inf
from typing import Protocol

from dbclusterref.errors import KubernetesError
from dbclusterref.metrics import Metrics
from dbclusterref.reconcile.entry import Entry, KnownConfigMap, SecretChange
from dbclusterref.reconcile.ownership import LOOKS_AGAIN
from dbclusterref.resource.ca_config_map import CaConfigMap, CaConfigMapState
from dbclusterref.resource.objects import ObjectKey, key_of, uid_of
from dbclusterref.resource.reference import Reference
from dbclusterref.secret.ca_config_map import NEXT, DesiredConfigMap, is_of, next_name, render_ca_config_map, was_left_by
from dbclusterref.secret.state import ABSENT
from dbclusterref.timing import Timing

OF_KUBERNETES = "kube-root-ca.crt"
"""By it each pod of a namespace trusts the Kubernetes API; it may be missing for a moment, and is not for the taking."""

AFTER_THE_STATUS = 0.1
"""Seconds from the status that has a name first to the ConfigMap of that name."""

_DISABLED = (
    "spec.caConfigMap has no effect: the operator runs without --ca-config-maps. Add deploy/components/ca-config-maps, or set "
    "the chart's caConfigMaps."
)


class ConfigMapApi(Protocol):
    """The calls on ConfigMaps."""

    async def get_config_map(self, key: ObjectKey) -> dict[str, object] | None: ...  # noqa: D102
    async def apply_config_map(self, manifest: Mapping[str, object]) -> dict[str, object]: ...  # noqa: D102
    async def delete_config_map(self, key: ObjectKey, *, uid: str) -> None: ...  # noqa: D102


class CaPublisher:
    """Writes the ConfigMaps. `clock` is monotonic, in seconds; without `enabled` it only says that it is not."""

    def __init__(
        self,
        api: ConfigMapApi,
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

    async def step(self, entry: Entry, reference: Reference) -> tuple[tuple[CaConfigMap, ...], float]:
        """Do what is due; return the status, empty where the spec names none, and in how many seconds to look again."""
        former, wanted, known = entry.status.ca_config_map, reference.ca_config_map, entry.published.config_map
        if known and known.item.state is CaConfigMapState.CURRENT and (former is None or former.name == wanted):
            former = known.item  # written for a former spec, perhaps, whose status no watch has told of yet
        name = former.name if former else wanted
        if not self._enabled:
            entry.published.config_map = None
            return ((CaConfigMap(name=name, state=CaConfigMapState.DISABLED, message=_DISABLED),), inf) if wanted else ((), inf)
        if not wanted:
            entry.published.config_map = None
            left, again = await self._remove(entry, reference, former) if former else ((), inf)
            # What may not even be read is not mentioned any longer, since nobody asks for it.
            return ((), inf) if any(item.state is CaConfigMapState.FORBIDDEN for item in left) else (left, again)
        packed = entry.reads.packed_snapshot
        if packed is None or not packed.ca:
            if packed and not packed.ca_pending:
                message = "DigitalOcean has no CA for this cluster: there is no ConfigMap to write."
                return (CaConfigMap(name=name, state=CaConfigMapState.NO_CA, message=message),), inf
            # What was written stays, until the CA is known again.
            stands = former is not None and former.state is CaConfigMapState.CURRENT
            return (former if former and stands else CaConfigMap(name=name, state=CaConfigMapState.PENDING),), inf
        item, wait = await self._keep(entry, reference, render_ca_config_map(reference, packed.ca), shown=name)
        if item.state is CaConfigMapState.CURRENT and former and former.name != wanted:
            left, again = await self._remove(entry, reference, former)
            return (left, again) if left else ((item,), wait)
        return (item,), wait

    async def _keep(
        self, entry: Entry, reference: Reference, desired: DesiredConfigMap, *, shown: str
    ) -> tuple[CaConfigMap, float]:
        known, requested, now = entry.published.config_map, entry.identity.refresh_requested_at, self._now()
        digest = desired.digest
        same = known is not None and known.digest == digest
        if known and same and known.requested == requested and now < known.again_at:
            return known.item, known.again_at - now
        try:
            was_current = same and known is not None and known.item.state is CaConfigMapState.CURRENT
            item = await self._bring_in_line(entry, reference, desired, was_current=was_current, shown=shown)
        except KubernetesError as error:
            item = _refused(desired.key.name, error, shown=shown, former=entry.status.ca_config_map)
        if item.state is CaConfigMapState.PENDING:
            return item, AFTER_THE_STATUS
        wait = self._timing.resync if item.state is CaConfigMapState.CURRENT else self._timing.after_refusal
        entry.published.config_map = KnownConfigMap(digest=digest, requested=requested, item=item, again_at=self._now() + wait)
        return item, wait

    async def _bring_in_line(
        self, entry: Entry, reference: Reference, desired: DesiredConfigMap, *, was_current: bool, shown: str
    ) -> CaConfigMap:
        name = desired.key.name
        if name == OF_KUBERNETES:
            message = f"ConfigMap {name} is Kubernetes' own; it was not changed. Set another spec.caConfigMap.name."
            return CaConfigMap(name=shown, state=CaConfigMapState.CONFLICT, message=message)
        live = await self._api.get_config_map(desired.key)
        if live and not is_of(live, reference) and not was_left_by(live, reference):
            message = (
                f"ConfigMap {name} already exists and is not managed by this resource; it was not changed. Set another "
                f"spec.caConfigMap.name, or, if nothing reads that ConfigMap, delete it; its name is used {LOOKS_AGAIN}: "
                f"kubectl delete configmap -n {desired.key.namespace} {name}"
            )
            return CaConfigMap(name=shown, state=CaConfigMapState.CONFLICT, message=message)
        if live and is_of(live, reference):
            await self._remove_next(live, entry, reference)
        elif not await self._is_written_down(desired, entry, reference):
            return CaConfigMap(name=name, state=CaConfigMapState.PENDING)
        if live is None or not desired.is_met_by(live):
            # With the live one's UID, or as a creation that cannot overwrite: what is not ours is never written to.
            await self._write(desired.manifest(precondition={"uid": uid_of(live)} if live else ABSENT))
            verb = "Created" if live is None and not was_current else "Restored" if was_current else "Updated"
            reason = "ConfigMapRepaired" if verb == "Restored" else f"ConfigMap{verb}"
            text = f"{verb} ConfigMap {name} with the cluster's CA{' after a change by another client' * (verb == 'Restored')}."
            entry.published.unreported += (SecretChange(reason=reason, text=text),)
        return CaConfigMap(name=name, state=CaConfigMapState.CURRENT)

    async def _is_written_down(self, desired: DesiredConfigMap, entry: Entry, reference: Reference) -> bool:
        """Return whether the status has the name, or the ConfigMap whose name it has, where the name is written now."""
        said, name = entry.status.ca_config_map, desired.key.name
        if said is None or said.name == name:
            return said is not None
        key = ObjectKey(desired.key.namespace, said.name)
        live = await self._api.get_config_map(key)
        if live is None or not is_of(live, reference):
            return False
        await self._remove_next(live, entry, reference)
        former = replace(desired, key=key, annotations={**desired.annotations, NEXT: name})
        if not former.is_met_by(live):
            await self._write(former.manifest(precondition={"uid": uid_of(live)}))
        return True

    async def _remove_next(self, live: Mapping[str, object], entry: Entry, reference: Reference) -> None:
        """Remove the one that was to take a live one's place, if the spec has another name by now."""
        name = next_name(live)
        if not name or name == reference.ca_config_map:
            return
        written = await self._api.get_config_map(ObjectKey(reference.key.namespace, name))
        if written and is_of(written, reference):
            await self._delete(written, entry)

    async def _write(self, manifest: Mapping[str, object]) -> None:
        try:
            await self._api.apply_config_map(manifest)
        except KubernetesError:
            self._metrics.writes.labels(kind="ConfigMap", result="failed").inc()
            raise
        self._metrics.writes.labels(kind="ConfigMap", result="ok").inc()

    async def _remove(self, entry: Entry, reference: Reference, former: CaConfigMap) -> tuple[tuple[CaConfigMap, ...], float]:
        """Remove the ConfigMap of a former name, if it is ours; return what is left to say where that fails."""
        try:
            live = await self._api.get_config_map(ObjectKey(reference.key.namespace, former.name))
            if live and is_of(live, reference):
                await self._remove_next(live, entry, reference)
                await self._delete(live, entry)
        except KubernetesError as error:
            return (_refused(former.name, error, shown=former.name, former=former),), self._timing.after_refusal
        return (), inf

    async def _delete(self, live: Mapping[str, object], entry: Entry) -> None:
        key = key_of(live)
        await self._api.delete_config_map(key, uid=uid_of(live))
        self._metrics.writes.labels(kind="ConfigMap", result="ok").inc()
        text = f"Removed ConfigMap {key.name}, which spec.caConfigMap no longer names."
        entry.published.unreported += (SecretChange(reason="ConfigMapRemoved", text=text),)


def _refused(name: str, error: KubernetesError, *, shown: str, former: CaConfigMap | None) -> CaConfigMap:
    if error.is_missing_right:
        message = (
            f"The operator is not allowed to keep ConfigMap {name} (403); it retries automatically. Grant its ServiceAccount "
            "get, create, patch and delete on ConfigMaps: deploy/components/ca-config-maps, or the chart's caConfigMaps."
        )
        return CaConfigMap(name=shown, state=CaConfigMapState.FORBIDDEN, message=message)
    what = f"ConfigMap {name} could not be written ({error.status or 'no answer'}); retrying automatically."
    if former and former.state is CaConfigMapState.FAILED and former.message.startswith(what):
        # The API server's own words may differ at each try, which must not be a write and an Event each time.
        return replace(former, name=shown)
    return CaConfigMap(name=shown, state=CaConfigMapState.FAILED, message=f"{what} {error.message[:300]}".strip())
