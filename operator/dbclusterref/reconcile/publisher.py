"""The Secret of one resource, made what was last read upstream: only where it is ours, only where it differs."""

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import Protocol

from dbclusterref.digitalocean.snapshot import PackedSnapshot, Snapshot
from dbclusterref.errors import Cause, InvalidSpec, KubernetesError, RateLimited, SecretConflict, SecretContested, SecretRefused
from dbclusterref.metrics import Metrics
from dbclusterref.reconcile import changes
from dbclusterref.reconcile.byte_limit import ByteLimit
from dbclusterref.reconcile.conditions import Holds, Outcome, Published
from dbclusterref.reconcile.entry import Entry, Overtaken, Superseded
from dbclusterref.reconcile.former_secrets import FormerSecrets
from dbclusterref.reconcile.ownership import LOOKS_AGAIN, is_edited, is_of_this_spec, require_ours
from dbclusterref.reconcile.repair_backoff import RepairBackoff
from dbclusterref.reconcile.retention import Retention
from dbclusterref.reconcile.revocation import Revocations
from dbclusterref.reconcile.store import Store
from dbclusterref.resource.objects import ObjectKey, is_labelled
from dbclusterref.resource.reference import Reference
from dbclusterref.resource.rights import how_to_grant_get, why_refused
from dbclusterref.resource.spec_digest import spec_digest
from dbclusterref.resource.status import ConditionType
from dbclusterref.secret.rendering import Rendition, placeholders, render_secret, size_of
from dbclusterref.secret.state import ABSENT, DesiredSecret, LiveSecret
from dbclusterref.timing import Timing


class SecretApi(Protocol):
    """The calls on Secrets that publishing needs."""

    async def get_secret(self, key: ObjectKey) -> dict[str, object] | None: ...  # noqa: D102
    async def apply_secret(self, manifest: Mapping[str, object], *, force: bool) -> dict[str, object]: ...  # noqa: D102
    async def delete_secret(self, key: ObjectKey, *, uid: str) -> None: ...  # noqa: D102
    async def get_reference(self, key: ObjectKey) -> dict[str, object] | None: ...  # noqa: D102


@dataclass(frozen=True, slots=True, kw_only=True)
class Publication:
    """What publishing came to; `published` is what is in the Secret although the last read failed."""

    outcome: Outcome
    published: Published | None = None
    holds: Holds = Holds.THIS_SPEC

    @property
    def in_the_secret(self) -> Published | None:
        """Return what is in the Secret, whether the last read failed or not."""
        return self.outcome if isinstance(self.outcome, Published) else self.published


class _NameTaken(Exception):
    """There is a Secret of that name already."""


class Publisher:
    """Writes Secrets. `clock` is monotonic, in seconds; `sees_secrets` returns whether a watch keeps the store up to date.

    `wrote` is called with the answer to each write, once the store knows what it says. With `delete_revoked` a Secret is
    removed whose cluster's owner asks for it.
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
        delete_revoked: bool = False,
    ) -> None:
        self._api = api
        self._store = store
        self._metrics = metrics
        self._now = clock
        self._sees_secrets = sees_secrets
        self._wrote = wrote
        self._repair_backoff = RepairBackoff(timing or Timing())
        self._large = ByteLimit()
        self._retention = Retention(api, store=store, metrics=metrics, sees_secrets=sees_secrets, wrote=wrote)
        self._former = FormerSecrets(api, store=store, metrics=metrics, look=self._look)
        self._revocations = Revocations(api, store=store, metrics=metrics, enabled=delete_revoked)

    async def known_ca(self, entry: Entry, reference: Reference) -> bytes:
        """Return the CA that is at hand if upstream fails to give it; after a restart that is the one in the live Secret."""
        if entry.reads.packed_snapshot:
            return entry.reads.packed_snapshot.ca
        live = await self._live(reference.secret_key)
        return live.ca if live and live.belongs_to(reference) else b""

    async def publish(self, entry: Entry, reference: Reference, *, rendition: Rendition | None = None) -> Publication:
        """Make the Secret what was read just now, or what the last good answer says while the last read has failed.

        Raises Superseded where the resource was changed, deleted or recreated meanwhile, and KubernetesError where the API
        server is in trouble.
        """
        self._require_current(entry)
        reads, packed = entry.reads, entry.reads.packed_snapshot  # a read that ends during the write brings another
        try:
            if packed is None:
                assert reads.cause is not None
                await self._revocations.carry_out(entry, reference)
                return Publication(outcome=reads.cause, holds=await self.keep(entry))
            apply = (
                self._apply_if_different(entry, rendition) if rendition else self._render_and_apply(entry, reference, packed)
            )
            published = await apply
            self._store.record_published(entry, reference, packed)
            await self._former.remove(entry, reference)
            self._require_current(entry)
            if self._sees_secrets():
                await self._retention.settle(entry)
        except (SecretConflict, SecretRefused, SecretContested) as cause:
            # Only a person can end these: they are shown before what passes without one.
            if not isinstance(cause, SecretContested):
                await self._retention.settle(entry)
            return Publication(outcome=cause)
        except Cause as cause:
            outcome = cause if isinstance(cause, InvalidSpec) else reads.cause or cause
            return Publication(outcome=outcome, holds=await self.keep(entry))
        if self._repair_backoff.is_contested(reference.secret_key, now=self._now()):
            return Publication(outcome=_contested(reference.secret_key), published=published)
        return Publication(outcome=reads.cause or published, published=published)

    async def keep(self, entry: Entry) -> Holds:
        """Restore the Secret from the spec and the answer that it was last made from, while there is nothing newer."""
        if entry.published.made_from:
            reference, packed = entry.published.made_from
            if policy := entry.deletion_policy:
                # What becomes of the Secret when the resource goes is the newest spec's to say.
                reference = replace(reference, secret=replace(reference.secret, deletion_policy=policy))
            # The newer spec's own cause is shown; what became of the Secret is looked at.
            with contextlib.suppress(Cause, Overtaken):
                await self._render_and_apply(entry, reference, packed)
        return await self.inspect(entry)

    async def inspect(self, entry: Entry) -> Holds:
        """Return what is known of the Secret, whose content is not written; its owner is what the spec says."""
        await self._retention.settle(entry)
        reference, state = entry.reference, entry.published
        key = reference.secret_key if reference else ObjectKey(entry.identity.key.namespace, entry.status.binding_name)
        try:
            live = await self._live(key) if key.name else None
        except SecretRefused:
            return Holds.UNREADABLE
        finally:
            self._require_current(entry)
        if live is None:
            return Holds.RENAMED if await self._has_former(entry) else Holds.MISSING
        if not (live.belongs_to(reference) if reference else entry.identity.uid in live.reference_uids):
            return Holds.FOREIGN
        if live.data_digest != state.data_digest if state.data_digest else is_edited(live, entry):
            return Holds.CHANGED
        if not live.spec_digest:
            # Written by a version that kept no digest: the status is all that is left to go by.
            return Holds.THIS_SPEC if entry.status.is_true(ConditionType.READY) else Holds.FORMER_SPEC
        return Holds.THIS_SPEC if reference and live.spec_digest == spec_digest(reference) else Holds.FORMER_SPEC

    async def is_in_place(self, entry: Entry, reference: Reference) -> bool:
        """Return whether the Secret of this very spec is there, or made again when it is not."""
        if entry.reads.packed_snapshot:
            return True
        try:
            return is_of_this_spec(await self._live(reference.secret_key), entry, reference)
        except SecretRefused:
            return False

    def is_settled(self, entry: Entry, reference: Reference) -> bool:
        """Return whether nothing can be written before the next answer: the Secret is as it was made, from this very spec."""
        state = entry.published
        if state.made_from is None:
            return entry.reads.packed_snapshot is None
        live = self._store.secret(state.made_from[0].secret_key)
        made = (state.data_digest, state.metadata_digest)
        as_made = live is not None and (live.data_digest, live.metadata_digest) == made
        packed = entry.reads.packed_snapshot
        return as_made and (packed is None or (state.made_from[0] is reference and state.made_from[1] is packed))

    def seconds_until_repair(self, reference: Reference) -> float | None:
        """Return when a contested Secret is to be looked at again; None where nobody contests it."""
        key, now = reference.secret_key, self._now()
        if not self._repair_backoff.is_contested(key, now=now):
            return None
        return self._repair_backoff.seconds_to_wait(key, now=now) or self._repair_backoff.seconds_until_over(key, now=now)

    def _require_current(self, entry: Entry) -> None:
        if not self._store.is_current(entry):
            raise Superseded

    async def _live(self, key: ObjectKey) -> LiveSecret | None:
        return self._store.secret(key) if self._sees_secrets() else await self._look(key)

    async def _has_former(self, entry: Entry) -> bool:
        if not entry.reference or not entry.bound:
            return False
        try:
            live = await self._live(entry.bound)
        except SecretRefused:
            return True  # as far as anyone knows: its name is lost once the status does not have it
        finally:
            self._require_current(entry)
        return live is not None and entry.identity.uid in live.reference_uids

    async def _render_and_apply(self, entry: Entry, reference: Reference, packed: PackedSnapshot) -> Published:
        snapshot = packed.unpacked()
        values = placeholders(reference, snapshot)
        async with self._large.holding(size_of(reference, snapshot, values)):
            return await self._apply_if_different(entry, Rendition.of(reference, snapshot, values))

    async def _apply_if_different(self, entry: Entry, rendition: Rendition) -> Published:
        key = rendition.secret.key
        live = await self._live(key)
        if live is None and self._sees_secrets() and entry.reason == SecretConflict.reason:
            # What is not ours has no label and is in no watch: where there was something, it is looked at first.
            live = await self._look(key)
        try:
            return await self._bring_in_line(entry, rendition, live=live)
        except _NameTaken:
            live = await self._look(key)
            return await self._bring_in_line(entry, rendition, live=live, when_absent={})

    async def _bring_in_line(
        self,
        entry: Entry,
        rendition: Rendition,
        *,
        live: LiveSecret | None,
        when_absent: Mapping[str, str] = ABSENT,
    ) -> Published:
        """Raise _NameTaken where there is a Secret although `live` is None."""
        reference, snapshot, rendered = rendition.reference, rendition.snapshot, rendition.secret
        state, digests = entry.published, (rendered.data_digest, rendered.metadata_digest)
        self._require_current(entry)
        if live:
            self._require_no_rival(live, reference)
            require_ours(live, reference, required=rendered.type)
            _require_ca(live, snapshot)
        known = state.data_digest or (live.data_digest if live else b"")
        there = live is not None and live.data_digest == digests[0]
        changed = not there and known != digests[0] and not (known and known == _digest_without_ca(rendition))
        by_another = (there or changed) and live is not None and live.data_digest != known
        revision = max(_revision_before(entry, live, by_another=by_another) + changed, 1)
        if live is None or (live.data_digest, live.metadata_digest, live.revision) != (*digests, revision):
            # This process wrote exactly this, and it is not so any more: somebody else has changed or deleted it.
            repair = (state.data_digest, state.metadata_digest) == digests and state.key == rendered.key
            differs = live is not None and (live.data_digest, live.metadata_digest) != digests
            if repair and live and differs and live.revision > max(state.revision, state.overtaken_by):
                state.overtaken_by = live.revision  # once: after the read that follows, this process's answer is the newer one
                raise Overtaken
            if repair and live and self._repair_backoff.seconds_to_wait(rendered.key, now=self._now()):
                # New content is written at once, and so is a deleted Secret; a change that is undone each time waits.
                raise _contested(rendered.key)
            before = await self._data_before(entry, live, rendered) if live else None
            body = await self._apply(
                rendered,
                revision=revision,
                precondition={"uid": live.uid} if live else when_absent,
                force=live is not None,
            )
            self._metrics.secret_writes.labels(changes.cause_of_write(entry, live, name=rendered.key.name, repair=repair)).inc()
            if repair:
                self._repair_backoff.repaired(rendered.key, now=self._now())
            if not repair or not self._repair_backoff.is_contested(rendered.key, now=self._now()):
                change = changes.of_write(rendition, live=live, before=before, after=body, repair=repair, revision=revision)
                state.unreported += (change,)
        state.data_digest, state.metadata_digest = digests
        state.key, state.revision = rendered.key, revision
        return Published(
            cluster=snapshot.cluster,
            endpoints=snapshot.pool.endpoints if snapshot.pool else snapshot.cluster.endpoints,
            replicas=snapshot.replicas,
            secret_name=rendered.key.name,
            revision=revision,
            ca_pending=snapshot.ca_pending,
            notes=rendered.notes,
        )

    async def _data_before(self, entry: Entry, live: LiveSecret, rendered: DesiredSecret) -> changes.Before | None:
        """Return what the Secret held before a write, so that an Event can name the keys; None where only metadata differs."""
        if live.data_digest == rendered.data_digest:
            return None
        if entry.published.made_from and live.data_digest == entry.published.data_digest:
            reference, packed = entry.published.made_from
            with contextlib.suppress(Cause):
                return changes.Before(data=render_secret(reference, packed.unpacked()).data)
        try:
            body = await self._api.get_secret(rendered.key)
        except KubernetesError:  # the write itself matters, and says what is wrong
            body = None
        self._require_current(entry)
        return changes.Before.of(body) if body else None

    def _require_no_rival(self, live: LiveSecret, reference: Reference) -> None:
        """Of two resources that name one Secret the first keeps it, also where it is offered to the second."""
        if reference.identity.uid in live.reference_uids:
            return
        if rival := self._store.rival_of(reference, uids=live.reference_uids):
            holder = self._store.get(rival)
            if holder and holder.reference and holder.reference.secret_key != reference.secret_key:
                raise SecretConflict(
                    f"Secret {reference.secret.name} is still that of DatabaseClusterRef {rival.name}, whose spec.secret.name "
                    f"is {holder.reference.secret.name} now. Once that is written, it is removed and made for this resource "
                    f"{LOOKS_AGAIN}. If {rival.name} waits for this resource in turn, set a third spec.secret.name here first."
                )
            raise SecretConflict(
                f"Secret {reference.secret.name} belongs to DatabaseClusterRef {rival.name}, which names it too. Set another "
                f"spec.secret.name on this resource: on {rival.name} it would remove the Secret that applications read."
            )

    async def _look(self, key: ObjectKey) -> LiveSecret | None:
        """Return the Secret as it is now, whoever's it is."""
        try:
            body = await self._api.get_secret(key)
        except KubernetesError as error:
            if error.status == HTTPStatus.FORBIDDEN:
                raise SecretRefused(
                    f"The operator is not allowed to read Secret {key.name} and cannot determine its owner. "
                    f"{how_to_grant_get(key, denied=error)}"
                ) from None
            raise
        if body and self._sees_secrets() and is_labelled(body):
            # The watch tells of its changes: of a Secret that has this name only now, it has told already.
            self._store.observe_secret(body)
        return LiveSecret.from_body(body) if body else None

    async def _apply(
        self, rendered: DesiredSecret, *, revision: int, precondition: Mapping[str, str], force: bool
    ) -> Mapping[str, object]:
        manifest = rendered.manifest(revision=revision, precondition=precondition)
        try:
            body = await self._api.apply_secret(manifest, force=force)
        except KubernetesError as error:
            if error.status == HTTPStatus.CONFLICT and precondition is ABSENT:
                raise _NameTaken from None
            self._metrics.writes.labels(kind="Secret", result="failed").inc()
            # Whatever was believed of the live one may be what was wrong: 409 if it is gone, 422 for another's `metadata.uid`.
            self._store.forget_secret(rendered.key)
            if error.is_refusal and "metadata.uid" not in error.message:
                raise SecretRefused(why_refused(rendered.key, size=rendered.size, error=error)) from None
            raise
        self._metrics.writes.labels(kind="Secret", result="ok").inc()
        self._store.observe_secret(body)
        self._wrote(body)
        return body


def _revision_before(entry: Entry, live: LiveSecret | None, *, by_another: bool) -> int:
    """Return the revision published last: whoever may edit only the Secret must not be able to restart workloads by it."""
    known = max(entry.published.revision, entry.status.secret_revision)
    if live and (by_another or not entry.published.revision):
        # Another process may have written the Secret and not yet the status: it is one ahead.
        return max(known, min(live.revision, known + 1) if known else live.revision)
    return known


def _require_ca(live: LiveSecret, snapshot: Snapshot) -> None:
    """After a restart the CA may be unknown for a while: the Secret must not lose the keys that hold it."""
    if snapshot.ca_pending and live.has_ca:
        raise RateLimited("The Secret stays as it is until its CA certificate can be read: the API token's rate limit is low.")


def _digest_without_ca(rendition: Rendition) -> bytes | None:
    """Return the digest that the data had before its CA followed: that is not a change for which a pod must restart.

    None where there is no Secret without the CA: files alone may be asked for.
    """
    snapshot = replace(rendition.snapshot, ca=b"", ca_pending=True)
    try:
        return render_secret(rendition.reference, snapshot).data_digest
    except Cause:
        return None


def _contested(key: ObjectKey) -> SecretContested:
    return SecretContested(
        f"Another client keeps changing Secret {key.name}; changes are undone at most once a minute until it stops. The field "
        f"managers name the client: kubectl get secret -n {key.namespace} {key.name} --show-managed-fields -o yaml"
    )
