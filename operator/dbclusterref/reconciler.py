"""START HERE. One resource brought in line: observe upstream, publish the Secret, report the status.

`reconcile` may be called at any time, for any reason, any number of times: it looks at how things are, does what is missing,
and says when to look again. It reads upstream only when a read is due, so repairing a Secret needs nobody but the API server.
"""

import base64
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from dbclusterref.account import Accounts
from dbclusterref.cluster import Snapshot
from dbclusterref.errors import (
    Cause,
    ClusterNotFound,
    InvalidSpec,
    KubernetesError,
    SecretConflict,
    SecretRefused,
    TokenInvalid,
    TokenSecretMissing,
    UnconfirmedNotFound,
)
from dbclusterref.metrics import Metrics
from dbclusterref.reference import ObjectKey, Reference
from dbclusterref.reporter import Reporter
from dbclusterref.schedule import after_failure, after_success
from dbclusterref.secret import ADOPT, LiveSecret, RenderedSecret, render_secret
from dbclusterref.status import Outcome, Published, Suspended
from dbclusterref.store import Entry, Store
from dbclusterref.tokens import Tokens

CONFIRM_NOT_FOUND_AFTER = 10.0
"""Seconds between the first 404 and the one that is believed."""


class SecretApi(Protocol):
    """The calls on Secrets that publishing needs."""

    async def get_secret(self, key: ObjectKey) -> dict[str, object] | None: ...  # noqa: D102
    async def apply_secret(self, manifest: Mapping[str, object], *, force: bool) -> dict[str, object]: ...  # noqa: D102
    async def delete_secret(self, key: ObjectKey, *, uid: str) -> None: ...  # noqa: D102


@dataclass(frozen=True, slots=True, kw_only=True)
class Clocks:
    """Time and chance: a monotonic clock in seconds, the time of day, and a number in [0, 1)."""

    monotonic: Callable[[], float]
    now: Callable[[], datetime]
    jitter: Callable[[], float]


class Reconciler:
    """Brings one resource in line at a time; different resources may be worked on side by side, one never twice at once."""

    def __init__(
        self,
        *,
        store: Store,
        tokens: Tokens,
        accounts: Accounts,
        secrets: SecretApi,
        reporter: Reporter,
        metrics: Metrics,
        clocks: Clocks,
        may_write: Callable[[], bool],
    ) -> None:
        self._store = store
        self._tokens = tokens
        self._accounts = accounts
        self._secrets = secrets
        self._reporter = reporter
        self._metrics = metrics
        self._clocks = clocks
        self._may_write = may_write

    async def reconcile(self, key: ObjectKey) -> float | None:
        """Does what is due; returns in how many seconds to look again, None for not before the resource changes.

        Raises KubernetesError where the API server is in trouble: nothing is lost, the caller tries again.
        """
        entry = self._store.get(key)
        if entry is None or entry.identity.deleting:
            # The garbage collector removes the Secret; writing it back now would race with that.
            return None
        if entry.reference is None:
            assert entry.invalid is not None
            await self._report(entry, entry.invalid, refreshed=False)
            return None
        if entry.reference.suspend:
            await self._report(entry, Suspended(), refreshed=False)
            return None
        read_is_due = entry.refresh_is_requested or self._clocks.monotonic() >= entry.read_due_at
        if read_is_due and (wait := await self._observe(entry, entry.reference)):
            return wait
        if self._store.get(key) is not entry:
            # Changed, deleted or made anew while upstream was asked: a change marks the key again, and then it is due.
            return None
        outcome, published = await self._publish(entry, entry.reference)
        await self._report(entry, outcome, refreshed=read_is_due, published=published)
        return max(0.0, entry.read_due_at - self._clocks.monotonic())

    async def _observe(self, entry: Entry, reference: Reference) -> float:
        """Reads upstream into the entry; returns how many seconds to wait where it is not this resource's turn, else 0."""
        interval = reference.refresh_interval
        # Half an interval: references to one cluster share reads, and none is ever more than an interval behind.
        max_age = 0.0 if entry.refresh_is_requested else interval / 2
        try:
            doubtful = entry.refresh_is_requested or isinstance(entry.cause, TokenInvalid | TokenSecretMissing)
            token = await self._tokens.find(reference, fresh=doubtful)
            account = self._accounts.of(token)
            if wait := account.seconds_to_wait(reference, max_age=max_age):
                return wait
            snapshot = await self._read(entry, reference, token=token, max_age=max_age)
            render_secret(reference, snapshot)
        except Cause as cause:
            entry.cause = self._confirmed(entry, reference, cause)
            entry.failures += 1
            delay = after_failure(entry.cause, failures=entry.failures, interval=interval, jitter=self._clocks.jitter())
        else:
            entry.snapshot = snapshot
            entry.cause = entry.not_found_since = None
            entry.failures = 0
            delay = after_success(account.next_look(reference, snapshot), jitter=self._clocks.jitter())
        entry.read_due_at = self._clocks.monotonic() + delay
        return 0.0

    async def _read(self, entry: Entry, reference: Reference, *, token: str, max_age: float) -> Snapshot:
        """Reads with the token; where it is refused, with the one that has taken its place since it was looked up."""

        async def read_with(token: str) -> Snapshot:
            account = self._accounts.of(token)
            return await account.read(reference, max_age=max_age, known_ca=lambda: self._known_ca(entry, reference))

        try:
            return await read_with(token)
        except TokenInvalid:
            newer = await self._tokens.find(reference, fresh=True)
            if newer == token:
                raise
            return await read_with(newer)

    def _confirmed(self, entry: Entry, reference: Reference, cause: Cause) -> Cause:
        if not isinstance(cause, UnconfirmedNotFound):
            entry.not_found_since = None
            return cause
        now = self._clocks.monotonic()
        if entry.not_found_since is None:
            entry.not_found_since = now
        if now - entry.not_found_since < CONFIRM_NOT_FOUND_AFTER:
            return UnconfirmedNotFound(cause.message, retry_after=CONFIRM_NOT_FOUND_AFTER)
        return ClusterNotFound(
            f"DigitalOcean shows this token no cluster {reference.cluster_uuid}: it was deleted, or is another team's. "
            "Correct spec.clusterUUID (delete the resource and create it anew) or use that team's token. The Secret stays."
        )

    async def _known_ca(self, entry: Entry, reference: Reference) -> bytes:
        """The CA that is at hand if upstream fails to give it; after a restart that is the one in the live Secret."""
        if entry.snapshot:
            return entry.snapshot.ca
        body = await self._secrets.get_secret(reference.secret_key)
        if not body or not LiveSecret.from_body(body).belongs_to(reference):
            return b""
        data = body.get("data")
        return base64.b64decode(str(data.get("ca.crt", ""))) if isinstance(data, Mapping) else b""

    async def _publish(self, entry: Entry, reference: Reference) -> tuple[Outcome, Published | None]:
        """Makes the Secret what the last good snapshot says, while the last read may have failed."""
        if entry.snapshot is None:
            assert entry.cause is not None
            return entry.cause, None
        try:
            published = await self._apply_if_different(entry, reference, entry.snapshot)
        except (SecretConflict, SecretRefused, InvalidSpec) as cause:
            # Only a person can mend these: they are shown before what passes by itself.
            entry.read_due_at = self._clocks.monotonic() + after_failure(
                cause, failures=6, interval=reference.refresh_interval, jitter=self._clocks.jitter()
            )
            return cause, None
        except Cause as cause:
            return entry.cause or cause, None
        return entry.cause or published, published

    async def _apply_if_different(self, entry: Entry, reference: Reference, snapshot: Snapshot) -> Published:
        rendered = render_secret(reference, snapshot)
        live = self._store.secret(rendered.key) or await self._look(rendered.key)
        if live:
            _require_ours(live, rendered, reference)
        changed = rendered.content != (entry.published_content or (live.content if live else b""))
        counted = max(entry.status.secret_revision, live.revision if live else 0)
        revision = max(counted + changed, 1)
        if live is None or (live.content, live.shape) != (rendered.content, rendered.shape):
            await self._apply(rendered, live=live, revision=revision)
            self._reporter.secret_written(entry, rendered.key.name, revision=revision, changed=changed, created=live is None)
        entry.published_content = rendered.content
        await self._remove_former(entry, reference)
        return Published(
            cluster=snapshot.cluster,
            endpoints=snapshot.pool.endpoints if snapshot.pool else snapshot.cluster.endpoints,
            secret_name=rendered.key.name,
            revision=revision,
            changed=changed,
            ca_pending=snapshot.ca_pending,
        )

    async def _look(self, key: ObjectKey) -> LiveSecret | None:
        """Looks before the first write: a Secret that is not ours has no label and is in no watch."""
        body = await self._secrets.get_secret(key)
        return LiveSecret.from_body(body) if body else None

    async def _apply(self, rendered: RenderedSecret, *, live: LiveSecret | None, revision: int) -> None:
        manifest = rendered.manifest(revision=revision, uid=live.uid if live else None)
        self._require_leadership()
        try:
            body = await self._secrets.apply_secret(manifest, force=live is not None)
        except KubernetesError as error:
            self._metrics.writes.labels(kind="Secret", result="failed").inc()
            # Whatever was believed of the live one may be what was wrong: 409 if it is gone, 422 for another's `metadata.uid`.
            self._store.forget_secret(rendered.key)
            if error.status in {403, 422} and not error.namespace_is_terminating and "metadata.uid" not in error.message:
                raise SecretRefused(_why_refused(rendered, error)) from None
            raise
        self._metrics.writes.labels(kind="Secret", result="ok").inc()
        self._store.observe_secret(body)

    async def _remove_former(self, entry: Entry, reference: Reference) -> None:
        """Removes the Secret of the former `spec.secret.name`, once the new one stands, and only if it is ours."""
        former = ObjectKey(reference.key.namespace, entry.status.binding_name)
        if not former.name or former == reference.secret_key:
            return
        live = await self._look(former)
        if live and reference.identity.uid in live.reference_uids:
            self._require_leadership()
            await self._secrets.delete_secret(former, uid=live.uid)
            self._metrics.writes.labels(kind="Secret", result="ok").inc()
        self._store.forget_secret(former)

    async def _report(self, entry: Entry, outcome: Outcome, *, refreshed: bool, published: Published | None = None) -> None:
        self._require_leadership()
        await self._reporter.report(entry, outcome, refreshed=refreshed, published=published, now=self._clocks.now())

    def _require_leadership(self) -> None:
        if not self._may_write():
            raise KubernetesError("This process is not the leader (any more) and does not write.", status=0)


def _require_ours(live: LiveSecret, rendered: RenderedSecret, reference: Reference) -> None:
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


def _why_refused(rendered: RenderedSecret, error: KubernetesError) -> str:
    return f"The Kubernetes API refuses Secret {rendered.key.name} ({error.status}): {error.message[:400]}"


def system_clocks(jitter: Callable[[], float]) -> Clocks:
    """The real clocks."""
    return Clocks(monotonic=time.monotonic, now=lambda: datetime.now().astimezone(), jitter=jitter)
