"""The Secret of a cluster whose owner has revoked the grant: removed only on evidence that nothing but a revocation gives.

docs/threat-model.md says what each condition is for.
"""

from collections.abc import Mapping
from typing import Protocol

from dbclusterref.errors import KubernetesError, NotGranted
from dbclusterref.metrics import Metrics
from dbclusterref.reconcile import changes
from dbclusterref.reconcile.entry import Entry, Superseded
from dbclusterref.reconcile.store import Store
from dbclusterref.resource.objects import ObjectKey, annotations_of, data_of, metadata_of, uid_of
from dbclusterref.resource.reference import Reference
from dbclusterref.secret.state import CLUSTER_UUID, LiveSecret, owned_keys


class RemovalApi(Protocol):
    """The calls that a removal needs."""

    async def get_secret(self, key: ObjectKey) -> dict[str, object] | None: ...  # noqa: D102
    async def delete_secret(self, key: ObjectKey, *, uid: str) -> None: ...  # noqa: D102


class Revocations:
    """Removes revoked Secrets where `enabled`."""

    def __init__(self, api: RemovalApi, *, store: Store, metrics: Metrics, enabled: bool) -> None:
        self._api = api
        self._store = store
        self._metrics = metrics
        self._enabled = enabled

    async def carry_out(self, entry: Entry, reference: Reference) -> None:
        """Remove the Secret that the status names, if the last answer revokes it and it is this resource's alone.

        Raises Superseded where the resource was changed meanwhile, and KubernetesError where the API server is in trouble.
        """
        cause = entry.reads.cause
        key = ObjectKey(reference.key.namespace, entry.status.binding_name)
        if not self._enabled or not isinstance(cause, NotGranted) or not cause.revoked or not key.name:
            return
        try:
            body = await self._api.get_secret(key)
            if not self._store.is_current(entry):
                raise Superseded
            if body is None or not _is_made_for(reference, body):
                return
            await self._api.delete_secret(key, uid=uid_of(body))
        except KubernetesError as error:
            if not error.is_refusal:
                raise
            return  # it stays, and the status says so
        self._metrics.writes.labels(kind="Secret", result="ok").inc()
        self._metrics.secret_writes.labels("removed").inc()
        state = entry.published
        state.unreported += (changes.of_revocation(key.name),)
        # What a later grant writes is a new Secret, and no repair of this one.
        state.key, state.data_digest, state.metadata_digest = None, b"", b""
        self._store.forget_secret(key)


def _is_made_for(reference: Reference, body: Mapping[str, object]) -> bool:
    """Return whether a Secret is a resource's alone, by its owner reference, of this cluster, and holds nothing of others."""
    owners = metadata_of(body).get("ownerReferences") or ()
    assert isinstance(owners, list | tuple)
    uid = reference.identity.uid
    return (
        [owner.get("uid") for owner in owners] == [uid]
        and LiveSecret.from_body(body).reference_uids == (uid,)
        and annotations_of(body).get(CLUSTER_UUID) == reference.cluster_uuid
        and data_of(body).keys() <= owned_keys(body)
    )
