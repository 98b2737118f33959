"""START HERE. One resource brought in line: observe upstream, publish the Secret, report the status.

`reconcile` may be called at any time, for any reason, any number of times: it looks at how things are, does what is missing,
and says when to look again. It reads upstream only when a read is due, so repairing a Secret needs nobody but the API server.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from dbclusterref.backoff import after_failure, after_success
from dbclusterref.clock import Clock
from dbclusterref.digitalocean.account import Accounts
from dbclusterref.digitalocean.deletion_guard import DeletionGuard
from dbclusterref.digitalocean.snapshot import Snapshot
from dbclusterref.digitalocean.tokens import Tokens
from dbclusterref.errors import (
    Cause,
    ClusterNotFound,
    RateLimited,
    SecretConflict,
    SecretRefused,
    TokenInvalid,
    TokenSecretMissing,
    UnconfirmedNotFound,
    UpstreamUnavailable,
)
from dbclusterref.metrics import Metrics
from dbclusterref.reconcile.conditions import Outcome, Published, Suspended
from dbclusterref.reconcile.entry import Entry, ReadState
from dbclusterref.reconcile.publisher import Publisher, Rendition, Superseded
from dbclusterref.reconcile.reporter import Reporter
from dbclusterref.reconcile.store import Store
from dbclusterref.resource.objects import ObjectKey
from dbclusterref.resource.reference import Reference
from dbclusterref.timing import Timing

CONFIRM_NOT_FOUND_AFTER = Timing().confirm_not_found
"""Seconds between the first 404 and the one that is believed."""
SAID_AFTER = 10.0
"""Seconds for which a read may wait for its turn before the status says so, at once where it is known to wait longer."""
LOCAL_FAILURES = 6
"""A refused or foreign Secret is looked at as rarely from the start as what has failed so often: half a minute."""

_WAITING = (
    "The read waits for its turn: the API token's request quota at DigitalOcean is short. Raise spec.refreshInterval, or use "
    "fewer tools with one token."
)


@dataclass(frozen=True, slots=True)
class Waiting:
    """It is not this resource's turn to read for so many seconds."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Read:
    """What was read makes this Secret."""

    rendition: Rendition


@dataclass(frozen=True, slots=True)
class Failed:
    """What was read makes no complete Secret."""

    cause: Cause


Observation = Waiting | Read | Failed


class Reconciler:
    """Brings one resource in line at a time; different resources may be worked on side by side, one never twice at once."""

    def __init__(
        self,
        *,
        store: Store,
        tokens: Tokens,
        accounts: Accounts,
        publisher: Publisher,
        reporter: Reporter,
        metrics: Metrics,
        clock: Clock,
        timing: Timing | None = None,
    ) -> None:
        self._store = store
        self._tokens = tokens
        self._accounts = accounts
        self._publisher = publisher
        self._reporter = reporter
        self._metrics = metrics
        self._clock = clock
        self._timing = timing or Timing()

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
        return await self._bring_in_line(entry, entry.reference)

    async def _bring_in_line(self, entry: Entry, reference: Reference) -> float | None:
        read_is_due = entry.refresh_is_requested or entry.reads.is_due(self._clock.monotonic())
        observation = await self._observe(entry, reference) if read_is_due else None
        if isinstance(observation, Waiting) and entry.reads.packed_snapshot is None and entry.reads.cause is None:
            return observation.seconds
        rendition = observation.rendition if isinstance(observation, Read) else None
        try:
            outcome, published = await self._publisher.publish(entry, reference, rendition=rendition)
        except Superseded:
            # The resource was changed, deleted or made anew meanwhile, which marked it again: nothing is done in the old name.
            return None
        await self._report(entry, outcome, refreshed=isinstance(observation, Read | Failed), published=published)
        if isinstance(observation, Waiting):
            return observation.seconds
        return self._seconds_until_next_look(entry, reference, outcome)

    def _seconds_until_next_look(self, entry: Entry, reference: Reference, outcome: Outcome) -> float:
        wait = max(0.0, entry.reads.due_at - self._clock.monotonic())
        if isinstance(outcome, SecretConflict | SecretRefused):
            jitter, interval = self._clock.jitter(), reference.refresh_interval
            return min(wait, after_failure(outcome, failures=LOCAL_FAILURES, interval=interval, jitter=jitter))
        repair = self._publisher.seconds_until_repair(reference)
        return wait if repair is None else min(wait, repair)

    async def _observe(self, entry: Entry, reference: Reference) -> Observation:
        """Read upstream, and record in the entry what that taught."""
        reads, interval = entry.reads, reference.refresh_interval
        # Half an interval: references to one cluster share reads, at the price of an answer up to that much older.
        max_age = 0.0 if entry.refresh_is_requested else interval / 2
        if reads.failed_at is not None:
            # An answer from before the failure does not disprove it.
            max_age = min(max_age, self._clock.monotonic() - reads.failed_at)
        guard: DeletionGuard | None = None
        try:
            doubtful = entry.refresh_is_requested or isinstance(reads.cause, TokenInvalid | TokenSecretMissing)
            token = await self._tokens.find(reference, fresh=doubtful)
            account = self._accounts.of(token)
            guard = account.deletion_guard
            if wait := account.seconds_to_wait(reference, max_age=max_age):
                self._note_waiting(reads, wait)
                return Waiting(wait)
            snapshot = await self._read(entry, reference, token=token, max_age=max_age)
            rendition = Rendition.of(reference, snapshot)
        except Cause as raised:
            cause = self._confirmed(entry, reference, raised, guard=guard)
            delay = after_failure(cause, failures=reads.failures + 1, interval=interval, jitter=self._clock.jitter())
            now = self._clock.monotonic()
            reads.failed(cause, now=now, due_at=now + delay)
            return Failed(cause)
        guard.found(reference.cluster_uuid, now=self._clock.monotonic())
        delay = after_success(account.next_look(reference, snapshot), jitter=self._clock.jitter())
        reads.succeeded(snapshot, due_at=self._clock.monotonic() + delay)
        return Read(rendition)

    def _note_waiting(self, reads: ReadState, wait: float) -> None:
        waited = reads.waits(now=self._clock.monotonic())
        if max(wait, waited) >= SAID_AFTER:
            reads.cause = reads.cause or RateLimited(_WAITING)

    async def _read(self, entry: Entry, reference: Reference, *, token: str, max_age: float) -> Snapshot:
        """Read with the token; where it is refused, with the one that has taken its place since it was looked up."""

        async def read_with(token: str) -> Snapshot:
            account = self._accounts.of(token)
            return await account.read(reference, max_age=max_age, known_ca=lambda: self._publisher.known_ca(entry, reference))

        try:
            return await read_with(token)
        except TokenInvalid:
            newer = await self._tokens.find(reference, fresh=True)
            if newer == token:
                raise
            return await read_with(newer)

    def _confirmed(self, entry: Entry, reference: Reference, cause: Cause, *, guard: DeletionGuard | None) -> Cause:
        if not isinstance(cause, UnconfirmedNotFound) or guard is None:
            entry.reads.not_found_since = None
            return cause
        reads = entry.reads
        now = self._clock.monotonic()
        was_known = reads.packed_snapshot is not None or bool(entry.status.binding_name)
        guard.missing(reference.cluster_uuid, now=now, was_known=was_known)
        if reads.not_found_since is None:
            reads.not_found_since = now
        if now - reads.not_found_since < self._timing.confirm_not_found:
            return UnconfirmedNotFound(cause.message, retry_after=self._timing.confirm_not_found)
        if was_known and guard.is_open(now=now):
            self._metrics.suspicions.inc()
            return UpstreamUnavailable(
                "DigitalOcean says of many clusters at once that they do not exist; that is taken for trouble there or with "
                "the API token, and not believed for an hour. The Secret stays."
            )
        return ClusterNotFound(
            f"DigitalOcean shows this token no cluster {reference.cluster_uuid}: it was deleted, or is another team's. "
            "Correct spec.clusterUUID (delete the resource and create it anew) or use that team's token. Nothing is deleted."
        )

    async def _report(self, entry: Entry, outcome: Outcome, *, refreshed: bool, published: Published | None = None) -> None:
        now = self._clock.now()
        await self._reporter.report(
            entry,
            outcome,
            refreshed=refreshed,
            published=published,
            not_fresh_for=self._not_fresh_for(entry, outcome, now=now),
            now=now,
        )

    def _not_fresh_for(self, entry: Entry, outcome: Outcome, *, now: datetime) -> timedelta:
        state, monotonic = entry.published, self._clock.monotonic()
        if isinstance(outcome, Published):
            state.not_fresh_since = None
            return timedelta()
        if state.not_fresh_since is None:
            # After a restart the status alone knows, by a clock that may have jumped.
            state.not_fresh_since = monotonic - entry.status.not_fresh_for(now).total_seconds()
        return timedelta(seconds=monotonic - state.not_fresh_since)
