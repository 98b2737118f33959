"""`deletionPolicy` where the Secret is not rewritten: its owner alone changes, since a deletion may come at any time.

A suspended resource, a spec that cannot be read, a cluster that is no longer granted: in each the Secret stays as it is. The
spec still says whether it outlives the resource.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Protocol

from dbclusterref.errors import KubernetesError
from dbclusterref.metrics import Metrics
from dbclusterref.reconcile import changes
from dbclusterref.reconcile.conditions import NOT_RETAINED
from dbclusterref.reconcile.entry import Entry, Superseded
from dbclusterref.reconcile.store import Store
from dbclusterref.resource.objects import ObjectKey, ObjectMeta, annotations_of, data_of, metadata_of
from dbclusterref.resource.reference import DeletionPolicy, Reference
from dbclusterref.resource.spec_digest import spec_digest
from dbclusterref.secret.rendering import owner_for
from dbclusterref.secret.state import DELETION_POLICY, SPEC_DIGEST, LiveSecret, owned_fields

_OTHER = {DeletionPolicy.RETAIN: DeletionPolicy.DELETE, DeletionPolicy.DELETE: DeletionPolicy.RETAIN}


class OwnershipApi(Protocol):
    """The calls that a change of the owner needs."""

    async def get_secret(self, key: ObjectKey) -> dict[str, object] | None: ...  # noqa: D102
    async def apply_secret(self, manifest: Mapping[str, object], *, force: bool) -> dict[str, object]: ...  # noqa: D102


class Retention:
    """Releases a resource's Secrets, or takes back what it released. `wrote` is called with the answer to each write."""

    def __init__(
        self,
        api: OwnershipApi,
        *,
        store: Store,
        metrics: Metrics,
        sees_secrets: Callable[[], bool],
        wrote: Callable[[Mapping[str, object]], object],
    ) -> None:
        self._api = api
        self._store = store
        self._metrics = metrics
        self._sees_secrets = sees_secrets
        self._wrote = wrote

    async def settle(self, entry: Entry) -> None:
        """Make the owner of the resource's Secrets what the spec says; record for the status where Retain is not in force.

        Raises Superseded where the resource was changed meanwhile, and KubernetesError where the API server is in trouble.
        """
        problem, policy = "", entry.deletion_policy
        namespace = entry.identity.key.namespace
        named = entry.reference.secret.name if entry.reference else ""
        names = (named, entry.status.binding_name, *entry.published.former_names)
        for name in dict.fromkeys(filter(None, names)) if policy else ():
            assert policy is not None
            key = ObjectKey(namespace, name)
            try:
                held = await self._settle(entry, key, policy=policy)
            except KubernetesError as error:
                if not error.is_refusal:
                    raise
                held = policy is DeletionPolicy.RETAIN
            problem = problem or (_not_retained(key) if held else "")
        entry.published.not_retained = problem

    async def _settle(self, entry: Entry, key: ObjectKey, *, policy: DeletionPolicy) -> bool:
        """Return whether the resource owns a Secret that is to outlive it."""
        uid, retain = entry.identity.uid, policy is DeletionPolicy.RETAIN
        live = self._store.secret(key) if self._sees_secrets() else None
        if live is None and self._sees_secrets() and entry.reference and key in entry.secret_keys:
            return False  # the watch knows each Secret that has this name and our label
        if live and (uid not in live.reference_uids or (uid in live.owner_uids) != retain):
            return False
        body = await self._api.get_secret(key)
        if not self._store.is_current(entry):
            raise Superseded
        if body is None:
            return False
        live = LiveSecret.from_body(body)
        owned = uid in live.owner_uids
        released = annotations_of(body).get(DELETION_POLICY) == DeletionPolicy.RETAIN
        # What somebody else released stays released: only what Retain has released before is taken back.
        if uid not in live.reference_uids or owned != retain or (not retain and not released):
            return False
        manifest = _with_policy(body, policy, identity=entry.identity, reference=entry.reference)
        answer = await self._apply(manifest)
        after = LiveSecret.from_body(answer)
        self._store.observe_secret(answer)
        self._wrote(answer)
        if entry.published.key == key:
            entry.published.metadata_digest = after.metadata_digest  # ours, and no change that asks for a repair
        still_owned = uid in after.owner_uids
        if still_owned != owned:
            self._metrics.secret_writes.labels("changed").inc()
            entry.published.unreported += (changes.of_owner(key.name, released=retain),)
        return retain and still_owned

    async def _apply(self, manifest: Mapping[str, object]) -> Mapping[str, object]:
        try:
            body = await self._api.apply_secret(manifest, force=True)
        except KubernetesError:
            self._metrics.writes.labels(kind="Secret", result="failed").inc()
            raise
        self._metrics.writes.labels(kind="Secret", result="ok").inc()
        return body


def _with_policy(
    body: Mapping[str, object], policy: DeletionPolicy, *, identity: ObjectMeta, reference: Reference | None
) -> dict[str, object]:
    """Return what this operator says of a Secret, as it stands there, with another owner.

    A server-side apply that left its own keys out would remove them. The version makes it fail where one has changed since.
    """
    metadata, data = metadata_of(body), data_of(body)
    labels = metadata.get("labels") or {}
    assert isinstance(labels, Mapping)
    ours = owned_fields(body)
    annotations = {name: value for name, value in annotations_of(body).items() if name in ours["f:annotations"]}
    annotations.pop(DELETION_POLICY, None)
    if reference:
        other = replace(reference, secret=replace(reference.secret, deletion_policy=_OTHER[policy]))
        if annotations.get(SPEC_DIGEST) == spec_digest(other):
            annotations[SPEC_DIGEST] = spec_digest(reference)
    changed: dict[str, object] = {
        "name": metadata["name"],
        "namespace": metadata["namespace"],
        "resourceVersion": metadata["resourceVersion"],
        "labels": {name: value for name, value in labels.items() if name in ours["f:labels"]},
        "annotations": annotations,
    }
    if policy is DeletionPolicy.RETAIN:
        annotations[DELETION_POLICY] = policy.value
    else:
        changed["ownerReferences"] = [dict(owner_for(identity))]
    kept = {name: value for name, value in data.items() if name in ours["f:data"]}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": changed, "type": body.get("type", "Opaque"), "data": kept}


def _not_retained(key: ObjectKey) -> str:
    return (
        f"{NOT_RETAINED}: Secret {key.name} is still owned by this resource and would be deleted with it. The operator could "
        f"not release it. Before you delete this resource: kubectl patch secret -n {key.namespace} {key.name} --type=json "
        '-p \'[{"op":"remove","path":"/metadata/ownerReferences"}]\''
    )
