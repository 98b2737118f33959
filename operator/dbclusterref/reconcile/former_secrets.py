"""The Secrets that a resource had under former names: removed once the new one stands, and only where they are its own."""

from collections.abc import Awaitable, Callable
from typing import Protocol

from dbclusterref.errors import KubernetesError, SecretRefused
from dbclusterref.metrics import Metrics
from dbclusterref.reconcile import changes
from dbclusterref.reconcile.entry import Entry, Superseded
from dbclusterref.reconcile.store import Store
from dbclusterref.resource.objects import ObjectKey, ObjectMeta
from dbclusterref.resource.reference import Reference
from dbclusterref.resource.rights import why_not_removed
from dbclusterref.secret.state import LiveSecret


class RemovalApi(Protocol):
    """The calls that a removal needs."""

    async def delete_secret(self, key: ObjectKey, *, uid: str) -> None: ...  # noqa: D102
    async def get_reference(self, key: ObjectKey) -> dict[str, object] | None: ...  # noqa: D102


class FormerSecrets:
    """Removes them. `look` reads a Secret as it is now, whoever's it is."""

    def __init__(
        self, api: RemovalApi, *, store: Store, metrics: Metrics, look: Callable[[ObjectKey], Awaitable[LiveSecret | None]]
    ) -> None:
        self._api = api
        self._store = store
        self._metrics = metrics
        self._look = look

    async def remove(self, entry: Entry, reference: Reference) -> None:
        """Remove what this operator wrote for the resource under a former `spec.secret.name`; what others wrote stays.

        Raises Superseded where the resource was changed meanwhile, SecretRefused where a read or a removal is refused, and
        KubernetesError where the API server is in trouble.
        """
        state = entry.published
        for name in state.former_names:
            former = ObjectKey(reference.key.namespace, name)
            live = await self._look(former)
            # Where it was offered to another resource, a person wants it to stay.
            ours = live is not None and live.made_for == reference.identity.uid and live.adopt in {"", reference.key.name}
            if ours and not await self._is_newest(entry):
                return
            if not self._store.is_current(entry):
                raise Superseded
            if live and ours:
                await self._delete(former, live, successor=reference.secret.name)
                self._metrics.writes.labels(kind="Secret", result="ok").inc()
                state.unreported += (changes.of_removal(name, successor=reference.secret.name),)
                self._metrics.secret_writes.labels("removed").inc()
            self._store.forget_secret(former)
            state.former_names = tuple(one for one in state.former_names if one != name)

    async def _delete(self, former: ObjectKey, live: LiveSecret, *, successor: str) -> None:
        try:
            await self._api.delete_secret(former, uid=live.uid)
        except KubernetesError as error:
            if not error.is_refusal:
                raise
            raise SecretRefused(why_not_removed(former, successor=successor, error=error)) from None

    async def _is_newest(self, entry: Entry) -> bool:
        """Return whether no newer spec is there: a watch of Secrets may tell of its name before that of the resources does."""
        body = await self._api.get_reference(entry.identity.key)
        if body is None:
            return False
        now = ObjectMeta.from_body(body)
        return (now.uid, now.generation) == (entry.identity.uid, entry.identity.generation)
