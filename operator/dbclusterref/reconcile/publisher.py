"""The Secret of one resource, made what was last read upstream: only where it is ours, only where it differs."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Protocol

from dbclusterref.digitalocean.snapshot import Snapshot
from dbclusterref.errors import Cause, InvalidSpec, KubernetesError, SecretConflict, SecretContested, SecretRefused
from dbclusterref.metrics import Metrics
from dbclusterref.reconcile.conditions import Outcome, Published
from dbclusterref.reconcile.entry import Entry, SecretChange
from dbclusterref.reconcile.repair_backoff import RepairBackoff
from dbclusterref.reconcile.store import Store
from dbclusterref.resource.objects import ObjectKey
from dbclusterref.resource.reference import Reference
from dbclusterref.secret.rendering import render_secret
from dbclusterref.secret.state import ABSENT, ADOPT, DesiredSecret, LiveSecret
from dbclusterref.timing import Timing


class SecretApi(Protocol):
    """The calls on Secrets that publishing needs."""

    async def get_secret(self, key: ObjectKey) -> dict[str, object] | None: ...  # noqa: D102
    async def apply_secret(self, manifest: Mapping[str, object], *, force: bool) -> dict[str, object]: ...  # noqa: D102
    async def delete_secret(self, key: ObjectKey, *, uid: str) -> None: ...  # noqa: D102


@dataclass(frozen=True, slots=True)
class Rendition:
    """A snapshot and the Secret it makes."""

    snapshot: Snapshot
    secret: DesiredSecret = field(repr=False)

    @classmethod
    def of(cls, reference: Reference, snapshot: Snapshot) -> "Rendition":
        """Raises the cause where the snapshot makes no complete Secret."""
        return cls(snapshot, render_secret(reference, snapshot))


class Superseded(Exception):
    """What is being worked on is no longer how things are."""


class _NameTaken(Exception):
    """There is a Secret of that name already."""


class Publisher:
    """Writes Secrets. `clock` is monotonic, in seconds; `sees_secrets` tells whether a watch keeps the store up to date.

    `wrote` is told the answer to each write, once the store knows what it says.
    """

    def __init__(
        self,
        api: SecretApi,
        *,
        store: Store,
        metrics: Metrics,
        clock: Callable[[], float],
        sees_secrets: Callable[[], bool] = lambda: True,
        wrote: Callable[[Mapping[str, object]], object] = lambda _: None,
        timing: Timing | None = None,
    ) -> None:
        self._api = api
        self._store = store
        self._metrics = metrics
        self._now = clock
        self._sees_secrets = sees_secrets
        self._wrote = wrote
        self._repair_backoff = RepairBackoff(timing or Timing())

    async def known_ca(self, entry: Entry, reference: Reference) -> bytes:
        """The CA that is at hand if upstream fails to give it; after a restart that is the one in the live Secret."""
        if entry.reads.packed_snapshot:
            return entry.reads.packed_snapshot.ca
        key = reference.secret_key
        live = self._store.secret(key) if self._sees_secrets() else await self._look(key)
        return live.ca if live and live.belongs_to(reference) else b""

    async def publish(
        self, entry: Entry, reference: Reference, *, rendition: Rendition | None = None
    ) -> tuple[Outcome, Published | None]:
        """Makes the Secret what was read just now, or what the last good snapshot says while the last read has failed.

        Raises Superseded where the resource was changed, deleted or made anew meanwhile, and KubernetesError where the API
        server is in trouble.
        """
        self._require_current(entry)
        try:
            if rendition is None:
                snapshot = entry.reads.snapshot
                if snapshot is None:
                    assert entry.reads.cause is not None
                    return entry.reads.cause, None
                rendition = Rendition.of(reference, snapshot)
            published = await self._apply_if_different(entry, reference, rendition)
            self._require_current(entry)
        except (SecretConflict, SecretRefused, InvalidSpec) as cause:
            # Only a person can mend these: they are shown before what passes by itself.
            return cause, None
        except Cause as cause:
            return entry.reads.cause or cause, None
        if not entry.reads.cause and self._repair_backoff.is_on(reference.secret_key, now=self._now()):
            return _contested(reference.secret.name), published
        return entry.reads.cause or published, published

    def seconds_until_repair(self, reference: Reference) -> float | None:
        """When a Secret that another writer fights over wants another look; None where there is no fight."""
        key, now = reference.secret_key, self._now()
        if not self._repair_backoff.is_on(key, now=now):
            return None
        return self._repair_backoff.seconds_to_wait(key, now=now) or self._repair_backoff.seconds_until_over(key, now=now)

    def _require_current(self, entry: Entry) -> None:
        if not self._store.is_current(entry):
            raise Superseded

    async def _apply_if_different(self, entry: Entry, reference: Reference, rendition: Rendition) -> Published:
        key = rendition.secret.key
        live = self._store.secret(key) if self._sees_secrets() else None
        # What is not ours has no label and is in no watch: where there was something, it is looked at first.
        looks = live is None and (not self._sees_secrets() or entry.reason == SecretConflict.reason)
        live = await self._look(key) if looks else live
        try:
            return await self._bring_in_line(entry, reference, rendition, live=live)
        except _NameTaken:
            live = await self._look(key)
            return await self._bring_in_line(entry, reference, rendition, live=live, when_absent={})

    async def _bring_in_line(
        self,
        entry: Entry,
        reference: Reference,
        rendition: Rendition,
        *,
        live: LiveSecret | None,
        when_absent: Mapping[str, str] = ABSENT,
    ) -> Published:
        """Raises _NameTaken where there is a Secret although `live` is None."""
        snapshot, rendered = rendition.snapshot, rendition.secret
        data_digest, metadata_digest = rendered.data_digest, rendered.metadata_digest
        self._require_current(entry)
        if live:
            self._require_no_rival(live, reference)
            _require_ours(live, rendered, reference)
        changed = data_digest != (entry.published.data_digest or (live.data_digest if live else b""))
        status = entry.status
        counted = max(status.secret_revision, live.revision if live else 0)
        revision = max(counted + changed, 1)
        if live is None or (live.data_digest, live.metadata_digest) != (data_digest, metadata_digest):
            self._require_peace(rendered, changed=changed)
            precondition = {"uid": live.uid} if live else when_absent
            await self._apply(rendered, revision=revision, precondition=precondition, force=live is not None)
            now = self._now()
            if not changed:
                self._repair_backoff.repaired(rendered.key, now=now)
            if changed or not self._repair_backoff.is_on(rendered.key, now=now):
                change = _change(rendered.key.name, revision=revision, changed=changed, created=live is None)
                entry.published.unreported += (change,)
        entry.published.data_digest = data_digest
        if status.binding_name not in {"", rendered.key.name}:
            await self._remove_former(entry, reference, former=ObjectKey(rendered.key.namespace, status.binding_name))
        return Published(
            cluster=snapshot.cluster,
            endpoints=snapshot.pool.endpoints if snapshot.pool else snapshot.cluster.endpoints,
            secret_name=rendered.key.name,
            revision=revision,
            changed=changed,
            ca_pending=snapshot.ca_pending,
        )

    def _require_no_rival(self, live: LiveSecret, reference: Reference) -> None:
        """Of two resources that name one Secret the first keeps it, also where it is offered to the second."""
        if reference.identity.uid in live.reference_uids:
            return
        if rival := self._store.rival_of(reference, uids=live.reference_uids):
            raise SecretConflict(
                f"Secret {reference.secret.name} belongs to DatabaseClusterRef {rival.name}, which names it too; "
                "give one of the two another spec.secret.name."
            )

    def _require_peace(self, rendered: DesiredSecret, *, changed: bool) -> None:
        """New content is written at once; a repair waits where another writer undoes each one."""
        now = self._now()
        if not changed and self._repair_backoff.seconds_to_wait(rendered.key, now=now):
            raise _contested(rendered.key.name)

    async def _look(self, key: ObjectKey) -> LiveSecret | None:
        """How the Secret is now, whoever's it is."""
        try:
            body = await self._api.get_secret(key)
        except KubernetesError as error:
            if error.status == HTTPStatus.FORBIDDEN:
                raise SecretRefused(
                    f"The operator may not read Secret {key.name}, and so cannot tell whose it is; give its ServiceAccount the "
                    "verb get on it."
                ) from None
            raise
        return LiveSecret.from_body(body) if body else None

    async def _apply(self, rendered: DesiredSecret, *, revision: int, precondition: Mapping[str, str], force: bool) -> None:
        manifest = rendered.manifest(revision=revision, precondition=precondition)
        try:
            body = await self._api.apply_secret(manifest, force=force)
        except KubernetesError as error:
            if error.status == HTTPStatus.CONFLICT and precondition is ABSENT:
                raise _NameTaken from None
            self._metrics.writes.labels(kind="Secret", result="failed").inc()
            # Whatever was believed of the live one may be what was wrong: 409 if it is gone, 422 for another's `metadata.uid`.
            self._store.forget_secret(rendered.key)
            if error.status in {403, 422} and not error.namespace_is_terminating and "metadata.uid" not in error.message:
                raise SecretRefused(_why_refused(rendered, error)) from None
            raise
        self._metrics.writes.labels(kind="Secret", result="ok").inc()
        self._store.observe_secret(body)
        self._wrote(body)

    async def _remove_former(self, entry: Entry, reference: Reference, *, former: ObjectKey) -> None:
        """Removes the Secret of the former `spec.secret.name`, once the new one stands, and only if it is ours."""
        live = await self._look(former)
        self._require_current(entry)
        if live and reference.identity.uid in live.reference_uids:
            await self._api.delete_secret(former, uid=live.uid)
            self._metrics.writes.labels(kind="Secret", result="ok").inc()
        self._store.forget_secret(former)


def _require_ours(live: LiveSecret, rendered: DesiredSecret, reference: Reference) -> None:
    name = rendered.key.name
    if not live.belongs_to(reference):
        raise SecretConflict(
            f"Secret {name} exists and is not this resource's; it is left alone. Choose another spec.secret.name, delete that "
            f"Secret, or hand it over: kubectl annotate secret {name} {ADOPT}={reference.key.name}"
        )
    if live.type != rendered.type:
        raise SecretConflict(
            f"Secret {name} has type {live.type}, which can never change, and must have {rendered.type}; delete it, and it is "
            "written anew at once."
        )


def _change(name: str, *, revision: int, changed: bool, created: bool) -> SecretChange:
    if changed:
        verb = "Created" if created else "Updated"
        return SecretChange(reason=f"Secret{verb}", text=f"Secret {name} was {verb.lower()} (revision {revision}).")
    text = f"Secret {name} had been {'deleted' if created else 'changed by somebody'} and was restored."
    return SecretChange(reason="SecretRepaired", text=text)


def _contested(name: str) -> SecretContested:
    return SecretContested(
        f"Another writer changes Secret {name} as often as it is restored; it is restored now and then only, until that ends. "
        f"`kubectl get secret {name} --show-managed-fields -o yaml` names the other."
    )


def _why_refused(rendered: DesiredSecret, error: KubernetesError) -> str:
    return f"The Kubernetes API refuses Secret {rendered.key.name} ({error.status}): {error.message[:400]}"
