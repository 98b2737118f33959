"""START HERE. One resource brought in line: observe upstream, publish the Secret, report the status.

`reconcile` may be called at any time, for any reason, any number of times: it looks at how things are, does what is missing,
and returns when to look again. It never waits for DigitalOcean: where a read is due it returns that read, which the controller
runs in a lane of its own and follows by another `reconcile`. So a repair needs nobody but the API server, and a slow upstream
holds up nobody else.
"""

from collections.abc import Hashable
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from math import inf, isfinite

from dbclusterref.backoff import LOCAL_CAP, after_conflict, after_failure, after_success
from dbclusterref.clock import Clock
from dbclusterref.digitalocean.account import Account, Queued
from dbclusterref.digitalocean.accounts import Accounts
from dbclusterref.digitalocean.deletion_guard import DeletionGuard
from dbclusterref.digitalocean.demand import Freshness, Requested, Routine
from dbclusterref.digitalocean.not_found import cluster_not_found
from dbclusterref.digitalocean.rate_limit import queued
from dbclusterref.digitalocean.snapshot import Snapshot, unpack_cluster
from dbclusterref.digitalocean.tokens import Tokens, in_words
from dbclusterref.errors import (
    Cause,
    ClusterNotFound,
    Forbidden,
    InvalidSpec,
    MissingScope,
    NotGranted,
    PasswordMissing,
    PasswordSecretForbidden,
    RateLimited,
    SecretConflict,
    SecretRefused,
    TokenInvalid,
    TokenSecretForbidden,
    TokenSecretMissing,
    UnconfirmedNotFound,
    UpstreamUnavailable,
)
from dbclusterref.metrics import Metrics
from dbclusterref.reconcile.conditions import Outcome, Result, Suspended
from dbclusterref.reconcile.entry import Entry, Overtaken, ReadState, Superseded
from dbclusterref.reconcile.followers import Followed, Followers
from dbclusterref.reconcile.lateness import is_delayed, not_fresh_for, seconds_until_late, still_late
from dbclusterref.reconcile.passwords import Passwords
from dbclusterref.reconcile.publisher import Publication, Publisher
from dbclusterref.reconcile.read_lane import PendingRead
from dbclusterref.reconcile.renditions import RecentRenditions
from dbclusterref.reconcile.reporter import Reporter
from dbclusterref.reconcile.store import Store
from dbclusterref.resource.objects import ObjectKey
from dbclusterref.resource.reference import Reference
from dbclusterref.secret.rendering import Rendition
from dbclusterref.timing import Timing

SAID_AFTER = 10.0
"""Seconds for which a read may wait for its turn before the status says so, at once where it is known to wait longer."""

_WITHOUT_TOKEN = (TokenSecretMissing, TokenSecretForbidden)
"""Causes that end when the token can be read: what was kept of its Secret is not believed."""
_OF_THE_PASSWORD = (PasswordMissing, PasswordSecretForbidden)
"""Causes that a password's Secret ends: it is looked up often, and nothing is read upstream before it is there."""
_OF_THE_TOKEN = (TokenInvalid, Forbidden, MissingScope)
"""Causes that another token ends: its Secret is looked up often, while DigitalOcean is rarely asked about the same one."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """It is not this resource's turn to read for so many seconds; `why` is the cause, where the rate limit is not."""

    seconds: float
    what: str
    why: Cause | None = None


@dataclass(frozen=True, slots=True)
class Read:
    """What was read makes this Secret; the next read is due in so many seconds.

    `unread` is why a part of it is older than the refresh that was requested; `slowed` where the rate limit slows walks down.
    """

    rendition: Rendition
    next_in: float
    unread: Cause | None
    slowed: bool


@dataclass(frozen=True, slots=True)
class Failed:
    """There is no complete Secret to be made; `answered` where DigitalOcean was asked and has said so."""

    cause: Cause
    answered: bool


Observation = Waiting | Read | Failed


@dataclass(frozen=True, slots=True, kw_only=True)
class NextStep:
    """What follows a reconciliation: the read to make now, or the next look in so many seconds; neither until a change."""

    after: float | None = None
    read: PendingRead | None = None


class Reconciler:
    """Brings one resource in line at a time; different resources may be worked on side by side, one never twice at once."""

    def __init__(
        self,
        *,
        store: Store,
        tokens: Tokens,
        passwords: Passwords,
        accounts: Accounts,
        publisher: Publisher,
        followers: Followers,
        reporter: Reporter,
        metrics: Metrics,
        clock: Clock,
        timing: Timing | None = None,
    ) -> None:
        self._store = store
        self._tokens = tokens
        self._passwords = passwords
        self._accounts = accounts
        self._publisher = publisher
        self._followers = followers
        self._reporter = reporter
        self._metrics = metrics
        self._clock = clock
        self._timing = timing or Timing()
        self._renditions = RecentRenditions()

    async def reconcile(self, key: ObjectKey) -> NextStep:
        """Do what is due now.

        Raises KubernetesError where the API server is in trouble: nothing is lost, the caller tries again.
        """
        entry = self._store.get(key)
        if entry is None or entry.identity.deleting:
            # The garbage collector removes the Secret; writing it back now would race with that.
            self._followers.forget(key)
            return NextStep()
        try:
            if entry.reference is None:
                assert entry.invalid is not None
                holds = await self._publisher.keep(entry)
                after = await self._report(entry, Publication(outcome=entry.invalid, holds=holds))
                if not after and self._store.is_refused(entry):
                    self._store.told(entry)
                return NextStep(after=after or None)
            if entry.reference.suspend:
                self._followers.forget(key)
                entry.published.config_map = None  # looked at once it goes on
                entry.reads.doubted_at = self._clock.monotonic()
                holds = await self._publisher.inspect(entry)
                return NextStep(after=await self._report(entry, Publication(outcome=Suspended(), holds=holds)) or None)
            return await self._bring_in_line(entry, entry.reference)
        except Superseded:
            # The resource was changed, deleted or recreated meanwhile, which marked it again: nothing is done in the old name.
            return NextStep()

    async def _bring_in_line(self, entry: Entry, reference: Reference) -> NextStep:
        reads = entry.reads
        due_in = reads.seconds_until_due(self._clock.monotonic(), requested=entry.refresh_is_new)
        reading = reads.under_way or not due_in
        if reads.cause is None and (reads.packed_snapshot is None or reads.is_doubted):
            # Nothing to write yet, and nothing to say: where a read waits for its turn for long, that is a cause.
            return self._start_read(entry, reference) if reading else NextStep(after=due_in)
        if reading and (reads.is_doubted or self._publisher.is_settled(entry, reference)):
            return self._start_read(entry, reference)
        rendition = self._renditions.take(reads.packed_snapshot, reference)
        try:
            publication = await self._publisher.publish(entry, reference, rendition=rendition)
        except Overtaken:
            reads.doubted_at = self._clock.monotonic()
            return self._start_read(entry, reference)
        followed = Followed()
        if published := publication.in_the_secret:
            followed = await self._followers.step(entry, reference, revision=published.revision)
        overwritten = await self._report(entry, publication, followed)
        if reading:
            return self._start_read(entry, reference)
        after = overwritten or min(followed.look_in, self._seconds_until_next_look(entry, reference, publication.outcome))
        return NextStep(after=after if isfinite(after) else None)

    def _seconds_until_next_look(self, entry: Entry, reference: Reference, outcome: Outcome) -> float:
        due_in = entry.reads.seconds_until_due(self._clock.monotonic(), requested=entry.refresh_is_new)
        if isinstance(outcome, SecretConflict | SecretRefused):
            return min(due_in, after_conflict(jitter=self._clock.jitter()))
        repair = self._publisher.seconds_until_repair(reference)
        return due_in if repair is None else min(due_in, repair)

    def _start_read(self, entry: Entry, reference: Reference) -> NextStep:
        if entry.reads.under_way:
            return NextStep()  # its end brings this resource back
        entry.reads.under_way = True
        token: Hashable = reference.token_secret and (reference.key.namespace, reference.token_secret)
        read = PendingRead(
            namespace=reference.key.namespace,
            token=token,
            run=partial(self._read_upstream, entry, reference),
            urgent=entry.reads.packed_snapshot is None or entry.refresh_is_requested,
        )
        return NextStep(read=read)

    async def _read_upstream(self, entry: Entry, reference: Reference) -> None:
        """Read, and record in the entry what that taught."""
        reads, requested = entry.reads, entry.refresh_is_requested
        serves_on = False
        try:
            observation = await self._observe(entry, reference)
            if isinstance(observation, Waiting) and entry.was_served and not requested:
                # After a restart there may be no Secret to serve on, whatever the status says.
                serves_on = await self._publisher.is_in_place(entry, reference)
        finally:
            reads.under_way = False
        now, answered = self._clock.monotonic(), False
        match observation:
            case Waiting(seconds, what, why):
                waited = reads.waits(seconds, now=now)
                late_in = seconds_until_late(reads, now=now, interval=reference.refresh_interval)
                if late_in and serves_on:
                    reads.not_before = min(reads.not_before, now + late_in)
                elif max(seconds, waited) >= SAID_AFTER:
                    reads.explain_wait(why or queued(what), waited=waited)
                return
            case Read(rendition, next_in, unread, slowed):
                interval, read_at = reference.refresh_interval, rendition.snapshot.read_at
                late = None if requested else still_late(reads, read_at=read_at, interval=interval, slowed=slowed)
                if unread:
                    due_at = now + self._retry_in(reads, reference, unread)
                    reads.partly_succeeded(rendition.snapshot, unread, due_at=due_at, late=late)
                else:
                    due_in = after_success(min(next_in, interval) if late else next_in, jitter=self._clock.jitter())
                    reads.succeeded(rendition.snapshot, due_at=now + due_in, late=late)
                assert reads.packed_snapshot is not None
                self._renditions.keep(reads.packed_snapshot, rendition)
                answered = unread is None
            case Failed(cause, answered):
                # Nothing but another spec, or another engine, ends it: the account tells of the latter.
                delay = inf if isinstance(cause, InvalidSpec) else self._retry_in(reads, reference, cause)
                reads.ask_again_at = now + delay
                if isinstance(cause, _OF_THE_TOKEN) or _waits_for_password(cause, reference):
                    delay = min(delay, LOCAL_CAP)
                reads.failed(cause, now=now, due_at=now + delay)
        if requested and answered:
            reads.answered_request = entry.identity.refresh_requested_at

    def _retry_in(self, reads: ReadState, reference: Reference, cause: Cause) -> float:
        failures, interval = reads.failures + 1, reference.refresh_interval
        return after_failure(cause, failures=failures, interval=interval, jitter=self._clock.jitter())

    def _wanted(self, entry: Entry, reference: Reference) -> Freshness:
        now, reads = self._clock.monotonic(), entry.reads
        # Half an interval: references to one cluster share reads, at the price of an answer up to that much older.
        shared = now - reference.refresh_interval / 2
        if entry.refresh_is_requested:
            requested = max(reads.requested(entry.identity.refresh_requested_at, now=now), reads.doubted_at)
            return Requested(max(requested, shared), requested_at=requested)
        # An answer from before a failure does not disprove it.
        failed_at = -inf if reads.failed_at is None else reads.failed_at
        since = max(shared, reads.doubted_at, failed_at)
        # A page from before a 404 does not show that the cluster is there.
        doubted_at = reads.doubted_at if reads.not_found_since is None else max(reads.doubted_at, failed_at)
        return Routine(since, doubted_at=doubted_at)

    async def _observe(self, entry: Entry, reference: Reference) -> Observation:
        reads, wanted = entry.reads, self._wanted(entry, reference)
        account: Account | None = None
        answered, was_granted = False, entry.was_granted
        try:
            doubtful = entry.refresh_is_requested or isinstance(reads.cause, (*_WITHOUT_TOKEN, *_OF_THE_TOKEN))
            token = await self._tokens.find(reference, fresh=doubtful)
            reads.found_token(token)
            account = self._accounts.of(token)
            asks_often = isinstance(reads.cause, _OF_THE_TOKEN) and not entry.refresh_is_requested
            if asks_often and (wait := reads.ask_again_at - self._clock.monotonic()) > 0:
                return Waiting(min(wait, LOCAL_CAP), "the cluster")
            if _waits_for_password(reads.cause, reference):
                await self._passwords.find(reference)
            snapshot = await self._read(entry, reference, token=token, wanted=wanted, was_granted=was_granted)
            if isinstance(snapshot, Queued):
                return Waiting(snapshot.seconds, snapshot.what, snapshot.why)
            answered = snapshot.unread is None
            snapshot = replace(snapshot, password=await self._passwords.find(reference))
            rendition = Rendition.of(reference, snapshot)
        except Cause as raised:
            if account:
                _record_failure(entry, reference, raised, account=account, store=self._store)
            else:
                reads.lost_token()
            guard = account.deletion_guard if account else None
            cause = self._confirmed(entry, reference, raised, guard=guard)
            # A failed attempt is acknowledged too, with its cause in the same status; one that the rate limit delays was none.
            return Failed(cause, answered=answered or not isinstance(cause, RateLimited))
        account.deletion_guard.found(reference.cluster_uuid, now=self._clock.monotonic())
        return Read(rendition, account.next_look(reference, snapshot), snapshot.unread, account.is_slowed(reference))

    async def _read(
        self, entry: Entry, reference: Reference, *, token: str, wanted: Freshness, was_granted: bool
    ) -> Snapshot | Queued:
        """Read with the token; where it is refused, with the one that has taken its place since it was looked up."""

        async def read_with(token: str) -> Snapshot | Queued:
            account = self._accounts.of(token)
            return await account.read(
                reference,
                wanted=wanted,
                known_replicas=entry.known_replicas,
                known_ca=lambda: self._publisher.known_ca(entry, reference),
                was_granted=was_granted,
                was_served=entry.was_served,
            )

        try:
            return await read_with(token)
        except TokenInvalid:
            newer = await self._tokens.find(reference, fresh=True)
            if newer == token:
                raise self._tokens.rejected(reference) from None
            entry.reads.found_token(newer)
            return await read_with(newer)
        except Forbidden:
            raise self._tokens.denied(reference) from None

    def _confirmed(self, entry: Entry, reference: Reference, cause: Cause, *, guard: DeletionGuard | None) -> Cause:
        reads = entry.reads
        if not isinstance(cause, UnconfirmedNotFound) or guard is None:
            reads.not_found_since = None
            return cause
        now = self._clock.monotonic()
        was_known = reads.packed_snapshot is not None or bool(entry.status.binding_name)
        guard.missing(reference.cluster_uuid, now=now, was_known=was_known)
        if reads.not_found_since is None:
            reads.not_found_since = now
        believed = isinstance(reads.cause, ClusterNotFound)
        if not believed and now - reads.not_found_since < self._timing.confirm_not_found:
            return UnconfirmedNotFound(cause.message, retry_after=self._timing.confirm_not_found)
        if not believed and was_known and guard.is_open(now=now):
            self._metrics.suspicions.inc()
            return UpstreamUnavailable(
                "Many clusters of this account returned 404 at once; treated as an upstream or token problem for up to an "
                f"hour. The Secret is unchanged. They were read with {in_words(reference)}. Check that it still belongs to "
                "their team."
            )
        written = entry.published.key
        return cluster_not_found(reference.cluster_uuid, secret=entry.status.binding_name or (written.name if written else ""))

    async def _report(self, entry: Entry, publication: Publication, followed: Followed | None = None) -> float:
        """Report; return in how many seconds to do so again, 0 where that is not needed."""
        now, reads = self._clock.now(), entry.reads
        monotonic, cluster = self._clock.monotonic(), None
        if reads.packed_cluster and isinstance(publication.outcome, Cause):
            cluster = unpack_cluster(reads.packed_cluster)
        answered_at = reads.answered_at
        result = Result(
            outcome=publication.outcome,
            published=publication.published,
            holds=publication.holds,
            cluster=cluster,
            answered_at=None if answered_at is None else now - timedelta(seconds=monotonic - answered_at),
            refreshed=entry.refresh_is_answered,
            not_fresh_for=not_fresh_for(entry, publication.outcome, now=now, monotonic=monotonic),
            restarts=followed.restarts if followed else None,
            ca_config_map=followed.ca_config_map if followed else None,
            not_retained=entry.published.not_retained,
            late=is_delayed(reads),
        )
        return await self._reporter.report(entry, result, now=now)


def _record_failure(entry: Entry, reference: Reference, cause: Cause, *, account: Account, store: Store) -> None:
    """Record what a failed read has taught of the cluster, as far as the namespace may know it."""
    if isinstance(cause, NotGranted):
        # Nothing is restored any more from what was read before.
        entry.reads.lost_access()
        store.forget_published(entry)
    elif answer := account.last_answer(reference):
        entry.reads.saw(answer.packed, read_at=answer.read_at)


def _waits_for_password(cause: Cause | None, reference: Reference) -> bool:
    return isinstance(cause, _OF_THE_PASSWORD) and reference.password_secret is not None
