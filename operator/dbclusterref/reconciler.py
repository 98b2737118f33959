"""START HERE. One resource brought in line: observe upstream, publish the Secret, report the status.

`reconcile` may be called at any time, for any reason, any number of times: it looks at how things are, does what is missing,
and says when to look again. It reads upstream only when a read is due, so repairing a Secret needs nobody but the API server.
"""

import base64
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from http import HTTPStatus
from typing import Protocol
from weakref import WeakKeyDictionary

from dbclusterref.account import Account, Accounts
from dbclusterref.breaker import Breaker
from dbclusterref.cluster import Snapshot
from dbclusterref.errors import (
    Cause,
    ClusterNotFound,
    InvalidSpec,
    KubernetesError,
    SecretConflict,
    SecretContested,
    SecretRefused,
    TokenInvalid,
    TokenSecretMissing,
    UnconfirmedNotFound,
    UpstreamUnavailable,
)
from dbclusterref.fights import Fights
from dbclusterref.metrics import Metrics
from dbclusterref.reference import ObjectKey, Reference
from dbclusterref.reporter import Reporter
from dbclusterref.schedule import after_failure, after_success
from dbclusterref.secret import ADOPT, LiveSecret, RenderedSecret, render_secret
from dbclusterref.status import Outcome, Published, Suspended
from dbclusterref.store import Entry, Store
from dbclusterref.timing import Timing
from dbclusterref.tokens import Tokens

CONFIRM_NOT_FOUND_AFTER = Timing().confirm_not_found
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


class _Overtaken(Exception):
    """What is being worked on is no longer how things are."""


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
        sees_secrets: Callable[[], bool] = lambda: True,
        timing: Timing | None = None,
    ) -> None:
        self._store = store
        self._tokens = tokens
        self._accounts = accounts
        self._secrets = secrets
        self._reporter = reporter
        self._metrics = metrics
        self._clocks = clocks
        self._may_write = may_write
        self._sees_secrets = sees_secrets
        self._timing = timing or Timing()
        self._fights = Fights(self._timing)
        self._breakers: WeakKeyDictionary[Account, Breaker] = WeakKeyDictionary()

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
        try:
            outcome, published = await self._publish(entry, entry.reference)
            self._require_current(entry)
        except _Overtaken:
            # The resource was changed, deleted or made anew meanwhile, which marked it again: nothing is done in the old name.
            return None
        await self._report(entry, outcome, refreshed=read_is_due, published=published)
        return self._seconds_until_next_look(entry, entry.reference)

    def _seconds_until_next_look(self, entry: Entry, reference: Reference) -> float:
        now = self._clocks.monotonic()
        wait = max(0.0, entry.read_due_at - now)
        if not self._fights.is_on(reference.secret_key, now=now):
            return wait
        again = self._fights.seconds_to_wait(reference.secret_key, now=now)
        return min(wait, again or self._fights.seconds_until_over(reference.secret_key, now=now))

    def _require_current(self, entry: Entry) -> None:
        if not self._store.is_current(entry):
            raise _Overtaken

    async def _observe(self, entry: Entry, reference: Reference) -> float:
        """Reads upstream into the entry; returns how many seconds to wait where it is not this resource's turn, else 0."""
        interval = reference.refresh_interval
        # Half an interval: references to one cluster share reads, at the price of an answer up to that much older.
        max_age = 0.0 if entry.refresh_is_requested else interval / 2
        if entry.failed_at is not None:
            # An answer from before the failure does not disprove it.
            max_age = min(max_age, self._clocks.monotonic() - entry.failed_at)
        breaker: Breaker | None = None
        try:
            doubtful = entry.refresh_is_requested or isinstance(entry.cause, TokenInvalid | TokenSecretMissing)
            token = await self._tokens.find(reference, fresh=doubtful)
            account = self._accounts.of(token)
            breaker = self._breakers.setdefault(account, Breaker())
            if wait := account.seconds_to_wait(reference, max_age=max_age):
                return wait
            snapshot = await self._read(entry, reference, token=token, max_age=max_age)
            render_secret(reference, snapshot)
        except Cause as cause:
            entry.cause = self._confirmed(entry, reference, cause, breaker=breaker)
            entry.failures += 1
            entry.failed_at = self._clocks.monotonic()
            delay = after_failure(entry.cause, failures=entry.failures, interval=interval, jitter=self._clocks.jitter())
        else:
            breaker.found(reference.cluster_uuid, now=self._clocks.monotonic())
            entry.snapshot = snapshot
            entry.cause = entry.not_found_since = entry.failed_at = None
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

    def _confirmed(self, entry: Entry, reference: Reference, cause: Cause, *, breaker: Breaker | None) -> Cause:
        if not isinstance(cause, UnconfirmedNotFound) or breaker is None:
            entry.not_found_since = None
            return cause
        now = self._clocks.monotonic()
        was_known = entry.snapshot is not None or bool(entry.status.binding_name)
        breaker.missing(reference.cluster_uuid, now=now, was_known=was_known)
        if entry.not_found_since is None:
            entry.not_found_since = now
        if now - entry.not_found_since < self._timing.confirm_not_found:
            return UnconfirmedNotFound(cause.message, retry_after=self._timing.confirm_not_found)
        if was_known and breaker.is_open(now=now):
            self._metrics.suspicions.inc()
            return UpstreamUnavailable(
                "DigitalOcean says of many clusters at once that they do not exist; that is taken for trouble there or with "
                "the API token, and not believed for an hour. The Secret stays."
            )
        return ClusterNotFound(
            f"DigitalOcean shows this token no cluster {reference.cluster_uuid}: it was deleted, or is another team's. "
            "Correct spec.clusterUUID (delete the resource and create it anew) or use that team's token. Nothing is deleted."
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
            self._require_current(entry)
            published = await self._apply_if_different(entry, reference, entry.snapshot)
        except (SecretConflict, SecretRefused, InvalidSpec) as cause:
            # Only a person can mend these: they are shown before what passes by itself.
            entry.read_due_at = self._clocks.monotonic() + after_failure(
                cause, failures=6, interval=reference.refresh_interval, jitter=self._clocks.jitter()
            )
            return cause, None
        except Cause as cause:
            return entry.cause or cause, None
        if not entry.cause and self._fights.is_on(reference.secret_key, now=self._clocks.monotonic()):
            return _contested(reference.secret.name), published
        return entry.cause or published, published

    async def _apply_if_different(self, entry: Entry, reference: Reference, snapshot: Snapshot) -> Published:
        rendered = render_secret(reference, snapshot)
        live = (self._store.secret(rendered.key) if self._sees_secrets() else None) or await self._look(rendered.key)
        self._require_current(entry)
        if live:
            self._require_no_rival(live, reference)
            _require_ours(live, rendered, reference)
        changed = rendered.content != (entry.published_content or (live.content if live else b""))
        counted = max(entry.status.secret_revision, live.revision if live else 0)
        revision = max(counted + changed, 1)
        if live is None or (live.content, live.shape) != (rendered.content, rendered.shape):
            self._require_peace(rendered, changed=changed)
            await self._apply(rendered, live=live, revision=revision)
            now = self._clocks.monotonic()
            if not changed:
                self._fights.repaired(rendered.key, now=now)
            if changed or not self._fights.is_on(rendered.key, now=now):
                self._reporter.secret_written(
                    entry, rendered.key.name, revision=revision, changed=changed, created=live is None
                )
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

    def _require_no_rival(self, live: LiveSecret, reference: Reference) -> None:
        """Of two resources that name one Secret the first keeps it, also where it is offered to the second."""
        if reference.identity.uid in live.reference_uids:
            return
        if rival := self._store.rival_of(reference, uids=live.reference_uids):
            raise SecretConflict(
                f"Secret {reference.secret.name} belongs to DatabaseClusterRef {rival.name}, which names it too; "
                "give one of the two another spec.secret.name."
            )

    def _require_peace(self, rendered: RenderedSecret, *, changed: bool) -> None:
        """New content is written at once; a repair waits where another writer undoes each one."""
        now = self._clocks.monotonic()
        if not changed and self._fights.seconds_to_wait(rendered.key, now=now):
            raise _contested(rendered.key.name)

    async def _look(self, key: ObjectKey) -> LiveSecret | None:
        """Looks before the first write: a Secret that is not ours has no label and is in no watch."""
        try:
            body = await self._secrets.get_secret(key)
        except KubernetesError as error:
            if error.status == HTTPStatus.FORBIDDEN:
                raise SecretRefused(
                    f"The operator may not read Secret {key.name}, and so cannot tell whose it is; give its ServiceAccount the "
                    "verb get on it."
                ) from None
            raise
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
        self._require_current(entry)
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


def _contested(name: str) -> SecretContested:
    return SecretContested(
        f"Another writer changes Secret {name} as often as it is restored; it is restored now and then only, until that ends. "
        f"`kubectl get secret {name} --show-managed-fields -o yaml` names the other."
    )


def _why_refused(rendered: RenderedSecret, error: KubernetesError) -> str:
    return f"The Kubernetes API refuses Secret {rendered.key.name} ({error.status}): {error.message[:400]}"


def seconds_since_boot() -> float:
    """A monotonic clock that goes on while the machine is suspended, where there is one: a Lease runs out meanwhile."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()


def system_clocks(jitter: Callable[[], float]) -> Clocks:
    """The real clocks."""
    return Clocks(monotonic=seconds_since_boot, now=lambda: datetime.now().astimezone(), jitter=jitter)
