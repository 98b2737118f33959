"""One DigitalOcean account as seen through one API token: plans its reads, shares their answers, keeps to its rate limit.

References that ask for the same cluster share its answer for as long as that is fresh, and share a read that is under way.
Where many clusters are wanted, the account's own task (`poller`) walks the listing and marks the references whose cluster has
changed. A caller never waits in here for its turn: it is told when to look again, so that no token delays another.
"""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from dbclusterref.digitalocean.ca_reads import CaReads
from dbclusterref.digitalocean.cache import LATE, CachedCluster, ClusterCache
from dbclusterref.digitalocean.database_check import DatabaseChecks
from dbclusterref.digitalocean.deletion_guard import DeletionGuard
from dbclusterref.digitalocean.demand import LOOK, Freshness, Requested, Routine, is_fresh
from dbclusterref.digitalocean.details import What, details_of, has_no_address_yet, in_words, listed_user, named_in
from dbclusterref.digitalocean.fair_queue import LOOK_AGAIN, Rank
from dbclusterref.digitalocean.grants import GrantTag, not_granted
from dbclusterref.digitalocean.model import DatabaseCluster
from dbclusterref.digitalocean.poller import Poller
from dbclusterref.digitalocean.reader import KnownCa, Reader
from dbclusterref.digitalocean.replica_reads import ReplicaReads
from dbclusterref.digitalocean.replicas import Address
from dbclusterref.digitalocean.snapshot import ReadCluster, Snapshot, packed_cluster, unpack_cluster
from dbclusterref.errors import Cause, Forbidden, NotGranted, RateLimited, UnconfirmedNotFound, UpstreamUnavailable
from dbclusterref.resource.objects import ObjectKey
from dbclusterref.resource.reference import Reference

ANSWERS_SOON = 5.0
"""Seconds until a caller that waits for a page looks again; the page's arrival marks it earlier."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Queued:
    """It is another read's turn: look again in so many seconds. `what` names what is still to be read.

    `why` is the cause to show where the wait is long, and the rate limit is not to blame.
    """

    seconds: float
    what: str
    why: Cause | None = None


class Account:
    """Reads through one token.

    `on_change` receives each reference whose cluster has changed. A reference without a token of its own uses the operator's,
    and may see the clusters that a tag grants to its namespace; `on_own_answer` receives to whom such a cluster is granted.
    """

    def __init__(
        self,
        reader: Reader,
        *,
        on_change: Callable[[ObjectKey], object] = lambda _: None,
        grant_tag: GrantTag = GrantTag(),  # noqa: B008 - it is frozen
        on_own_answer: Callable[[tuple[str, ...] | None], object] = lambda _: None,
    ) -> None:
        self._now = reader.clock.monotonic
        self._reader = reader
        self._cache = ClusterCache(on_change=on_change)
        self._ca_reads = CaReads(reader, self._cache)
        self._poller = Poller(reader, self._cache, self._ca_reads)
        self._replica_reads = ReplicaReads(reader)
        self._database_checks = DatabaseChecks(reader)
        self._grant_tag = grant_tag
        self._on_own_answer = on_own_answer
        self.deletion_guard = DeletionGuard()
        self.used_at = self._now()

    @property
    def slowdown(self) -> float:
        """Factor by which reads are slowed by a low hourly limit; 1 for not at all."""
        return self._reader.budget.slowdown

    def read_times(self) -> Iterator[tuple[str, float]]:
        """Return when DigitalOcean last answered for each cluster, in monotonic seconds."""
        return self._cache.read_times()

    @property
    def rejected_at(self) -> float:
        """When the request was made that DigitalOcean answered with 401, if that was its last answer; 0 otherwise."""
        return self._reader.rejected_at

    async def read(
        self,
        reference: Reference,
        *,
        wanted: Freshness,
        known_ca: KnownCa,
        known_replicas: tuple[Address, ...] = (),
        was_granted: bool = False,
        was_served: bool = False,
    ) -> Snapshot | Queued:
        """Read all that the reference's Secret is made from, as far as what is known is not fresh enough.

        Every request of every kind waits for its turn in one queue, in which namespaces take turns. `known_ca` returns the CA
        in this very reference's Secret, for as long as upstream has not been asked for it. `known_replicas` are those that
        serve on where their list cannot be read. `was_granted` says that the reference has been allowed to see the cluster, and
        `was_served` that a Secret was made for this very spec. Raises the cause where a read fails.
        """
        try:
            self.used_at = self._now()
            found = None if was_granted or self._may_see(reference) else await self._look_first(reference, wanted)
            if isinstance(found, Queued):
                return found
            try:
                read = await self._read_or_queue(reference, found, wanted=wanted, known_ca=known_ca, was_served=was_served)
            except RateLimited:
                await self._read_parts(reference, wanted, was_served=was_served)
                raise
            if isinstance(read, Queued):
                await self._read_parts(reference, wanted, was_served=was_served)
            if isinstance(read, Queued) or has_no_address_yet(read.cluster):
                return read
            engine, region, behind = read.cluster.engine, read.cluster.region, int(self._poller.page_is_due())
            replicas, unread = await self._replica_reads.read(
                reference, engine=engine, region=region, wanted=wanted, known=known_replicas, behind=behind
            )
            late = read.late or self._replica_reads.why_late(reference, engine=engine, wanted=wanted)
            return replace(read, replicas=replicas, unread=read.unread or unread, late=late)
        finally:
            self._poller.keep_going()

    async def _read_or_queue(
        self, reference: Reference, found: ReadCluster | None, *, wanted: Freshness, known_ca: KnownCa, was_served: bool
    ) -> Snapshot | Queued:
        now, uuid = self._now(), reference.cluster_uuid
        self._record_interest(reference, now)
        self._poller.replan(now)
        if found is None and (packed := self._fresh_cluster(uuid, wanted)) is not None:
            found = ReadCluster.from_cache(packed)
        if found:
            self._require_grant(reference, found.cluster)
        kept_ca = self._reader.ca_schedule.get(uuid)
        # What one reference knows is not kept for others: it may come from a Secret that its users can write.
        ca = kept_ca or await known_ca()
        first = kept_ca is None and not ca and not (found and has_no_address_yet(found.cluster))
        ca_follows = (
            first
            and found is not None
            and self._ca_reads.follow(uuid, lane=reference.key.namespace, place=_place(reference, wanted))
        )
        needed = self._reads_needed(reference, found, wanted, needs_ca=first and not ca_follows, was_served=was_served)
        if needed:
            if queued := self._queued(reference, wanted, needs_cluster=found is None, needed=needed):
                # A crowd that comes meanwhile ends the wait for a first CA.
                return replace(queued, seconds=min(queued.seconds, ANSWERS_SOON)) if first and found else queued
        else:
            self._reader.queue.leave(reference.key.namespace, _place(reference, wanted))
        with self._reader.reserve(max(len(needed), 1)):
            return await self._read(reference, found, wanted=wanted, known_ca=ca, ca_follows=ca_follows, was_served=was_served)

    async def _read_parts(self, reference: Reference, wanted: Freshness, *, was_served: bool) -> None:
        """Read what has a turn of its own while the cluster waits for its own: after that, their places would be lost."""
        kept = self.last_answer(reference) if reference.database or reference.wants_replicas else None
        if kept is None or has_no_address_yet(cluster := unpack_cluster(kept.packed)):
            return
        checks, behind = self._database_checks, int(self._poller.page_is_due())
        asked_for = {what[0] for what in details_of(reference, cluster)}
        if "database" in asked_for and checks.follows(reference, was_served=was_served):
            with contextlib.suppress(Cause):  # it is kept, or comes again with the next try
                await checks.check(reference, of=kept.packed, wanted=wanted, was_served=was_served, behind=behind)
        engine, region = cluster.engine, cluster.region
        with contextlib.suppress(Cause):
            await self._replica_reads.read_before_cluster(reference, engine=engine, region=region, wanted=wanted, behind=behind)

    def _may_see(self, reference: Reference) -> bool:
        """Return whether a token of the reference's own, or what was last read of the cluster, lets it see the cluster."""
        if reference.token_secret:
            return True
        kept = self._cache.get(reference.cluster_uuid)
        return kept is not None and unpack_cluster(kept.packed).is_granted_to(reference.key.namespace)

    async def _look_first(self, reference: Reference, wanted: Freshness) -> ReadCluster | Queued:
        """Find out whether a cluster is granted, where nothing known says so. Raises NotGranted.

        What is asked, and when, depends on nothing that only a granted reference may know: whether there is such a cluster,
        whether the listing has it, what else was read of it.
        """
        uuid, key, poller = reference.cluster_uuid, reference.key, self._poller
        place, what = _place(reference, wanted), in_words(("cluster", uuid))
        self._reader.refuse(wanted)
        if poller.walk_is_over(uuid, key):
            poller.first_looks.leave(uuid, key)
            self._reader.queue.leave(key.namespace, place)
            if kept := self._cache.get(uuid):
                self._on_own_answer(unpack_cluster(kept.packed).granted_to)
            raise self._not_granted(reference)
        if (routine := isinstance(wanted, Routine)) and poller.many_are_waiting():
            poller.wait_for_walk(uuid, key)
            return Queued(seconds=ANSWERS_SOON, what=what, why=poller.why_it_takes_long())
        if wait := self._reader.wait_for_turn(key.namespace, place, rank=Rank.URGENT, behind=int(poller.page_is_due())):
            if routine:
                poller.wait_for_walk(uuid, key)
            return Queued(seconds=min(wait, LOOK_AGAIN), what=what, why=poller.why_unreliable())
        try:
            answer = await self._reader.cluster(uuid, wanted=wanted)
        except (UnconfirmedNotFound, Forbidden):
            raise self._not_granted(reference) from None
        except UpstreamUnavailable as cause:
            # What is wrong with this one object shows that it is there; what is wrong with the API says nothing of it.
            raise (self._not_granted(reference) if cause.answered else cause) from None
        finally:
            poller.first_looks.leave(uuid, key)
        self._require_grant(reference, answer.value)
        return poller.keep(answer)

    def _require_grant(self, reference: Reference, cluster: DatabaseCluster) -> None:
        if reference.token_secret:
            return
        self._on_own_answer(cluster.granted_to)
        if cluster.is_granted_to(reference.key.namespace):
            return
        self._cache.leave(cluster.uuid, reference.key)
        raise self._not_granted(reference, revoked=cluster.is_revoked_for(reference.key.namespace))

    def _not_granted(self, reference: Reference, *, revoked: bool = False) -> NotGranted:
        namespace = reference.key.namespace
        return not_granted(reference.cluster_uuid, namespace=namespace, tag=self._grant_tag.of(namespace), revoked=revoked)

    async def _read(
        self,
        reference: Reference,
        found: ReadCluster | None,
        *,
        wanted: Freshness,
        known_ca: bytes,
        ca_follows: bool,
        was_served: bool,
    ) -> Snapshot:
        uuid = reference.cluster_uuid
        found = found or await self._poller.read_individually(uuid, wanted=wanted)
        self._require_grant(reference, found.cluster)
        cluster, packed = found.cluster, found.packed
        asked_for = {what[0] for what in details_of(reference, cluster)}
        user, pool = listed_user(cluster, reference.user), None
        if "user" in asked_for:
            listed = bool(cluster.users)
            user = await self._reader.user(uuid, reference.user, of=packed, listed=listed, wanted=wanted)
        if "pool" in asked_for:
            pool = await self._reader.pool(uuid, reference.pool, of=packed, wanted=wanted)
        unchecked = late = None
        if "database" in asked_for:
            unchecked = await self._database_checks.check(
                reference, of=packed, wanted=wanted, was_served=was_served, behind=int(self._poller.page_is_due())
            )
            late = self._database_checks.why_late(reference, wanted=wanted)
        unread, ca, pending = None, known_ca, False
        if not has_no_address_yet(cluster):
            # Before, there may be no CA either, and that answer would be believed for an hour.
            unread = await self._ca_reads.read_requested(uuid, wanted)
            ca, pending = await self._ca_reads.find(uuid, known=known_ca, follows=ca_follows)
        if unread and not ca:
            raise unread
        if self._reader.ca_schedule.is_overdue(uuid, now=self._now()):
            unread = unread or self._poller.why_unreliable()
        answer = self._cache.get(uuid)
        return Snapshot(
            cluster=cluster, packed=packed, read_at=answer.read_at if answer else self._now(), ca=ca, ca_pending=pending,
            user=user, pool=pool, unread=unread or unchecked, late=late,
            granted_by="" if reference.token_secret else self._grant_tag.of(reference.key.namespace),
        )  # fmt: skip

    def last_answer(self, reference: Reference) -> CachedCluster | None:
        """Return a reference's cluster as it was last read, and when; None where it was not, or may not be seen."""
        return self._cache.get(reference.cluster_uuid) if self._may_see(reference) else None

    def next_look(self, reference: Reference, snapshot: Snapshot) -> float:
        """Return in how many seconds the reference should look again unless it is marked earlier; 0 if there is a change."""
        uuid = reference.cluster_uuid
        kept, ca = self._cache.get(uuid), self._reader.ca_schedule.get(uuid)
        if (kept and kept.packed != packed_cluster(snapshot)) or (ca is not None and snapshot.ca_pending):
            return 0.0
        # No page of the listing shows a pool, or a user that the cluster does not list.
        listed = not snapshot.pool and (not snapshot.user or listed_user(snapshot.cluster, snapshot.user.name) is not None)
        routine = max(LOOK, reference.refresh_interval) if listed and self._poller.covers(uuid) else reference.refresh_interval
        replicas = self._replica_reads.next_look(reference, engine=snapshot.cluster.engine)
        if all(what[0] != "database" for what in details_of(reference, snapshot.cluster)):
            return min(routine, replicas)
        return min(routine, replicas, self._database_checks.next_look(reference, of=packed_cluster(snapshot)))

    def is_slowed(self, reference: Reference) -> bool:
        """Return whether the walks that bring a reference's cluster are slower than planned because of the rate limit."""
        return self._poller.is_slowed(reference.cluster_uuid)

    def keep_going(self) -> None:
        """Make sure that the account's own task runs while it has anything to do."""
        self._poller.keep_going()

    def take_bugs(self) -> list[Exception]:
        """Return the unexpected exceptions since the last call."""
        bugs = list(self._reader.bugs)
        self._reader.bugs.clear()
        return bugs

    def problems(self) -> list[str]:
        """Return a sentence if the account's own task keeps dying."""
        return self._poller.problems()

    def is_idle(self) -> bool:
        """Return whether nobody is to read through it: some references are read once a day."""
        self._poller.replan(self._now())
        return not self._cache.demand and not self._poller.first_looks

    def release(self, still_reads: Callable[[ObjectKey, str], bool]) -> None:
        """Stop reading for the references of which `still_reads` says that they do not, or no longer, read a cluster."""
        cache, released = self._cache, False
        for uuid in cache.demand.clusters():
            for key in cache.demand.followers(uuid):
                if not still_reads(key, uuid):
                    cache.leave(uuid, key)
                    released = True
        if released:
            self._poller.plan_again()
            self._poller.replan(self._now())

    def close(self) -> None:
        """End the account's own task."""
        self._poller.close()

    def _record_interest(self, reference: Reference, now: float) -> None:
        if self._cache.demand.want(reference.cluster_uuid, reference.key, interval=reference.refresh_interval, now=now):
            self._poller.plan_again()

    def _reads_needed(
        self, reference: Reference, found: ReadCluster | None, wanted: Freshness, *, needs_ca: bool, was_served: bool
    ) -> list[What]:
        """Return what a read would ask for: reads that are under way already, and fresh enough, are shared."""
        uuid, needed, details = reference.cluster_uuid, list[What](), self._reader.details
        if found is None:
            needed.append(("cluster", uuid))
            # Whether the cluster lists them will be known only when it is read; a pool it never does.
            needed += (what for what in named_in(reference) if what[0] == "pool" or what in details)
        else:
            asked_for = details_of(reference, found.cluster)
            needed += (what for what in asked_for if details.get(what, of=found.packed, wanted=wanted) is None)
        if needs_ca or self._ca_reads.is_requested(uuid, wanted):
            needed.append(("ca", uuid))
        if self._database_checks.follows(reference, was_served=was_served):
            needed = [what for what in needed if what[0] != "database"]
        return [what for what in needed if not self._reader.is_under_way(what, since=wanted.since)]

    def _queued(self, reference: Reference, wanted: Freshness, *, needs_cluster: bool, needed: list[What]) -> Queued | None:
        """Return None where it is this reference's turn. Raises the cause for which it cannot be."""
        uuid, routine = reference.cluster_uuid, isinstance(wanted, Routine)
        kept, late = self._cache.get(uuid), None
        self._reader.refuse(wanted)
        if needs_cluster:
            at_once = isinstance(wanted, Requested) or (kept is not None and kept.read_at <= wanted.doubted_at)
            if routine and (late := self._poller.why_not_fresh(uuid)):
                self._cache.late.add(uuid)
                # What no page shows still gets its turn: while walks take too long, a page is old before that turn comes.
                if kept is None or not isinstance(late, RateLimited) or _pages_show_all(reference, kept):
                    raise late.without_frames()
            elif self._poller.will_bring(uuid, at_once=at_once):
                self._poller.wait_for(uuid)
                why = self._poller.why_it_takes_long()
                return Queued(seconds=ANSWERS_SOON, what=in_words(("cluster", uuid)), why=why)
        wait = self._reader.wait_for_turn(
            reference.key.namespace,
            _place(reference, wanted),
            # New resources, and what a person has asked for, go before what is only to be refreshed.
            rank=Rank.URGENT if not routine or kept is None else Rank.ROUTINE,
            requests=len(needed),
            behind=int(self._poller.page_is_due()),
        )
        if not wait:
            return None
        if late:
            raise late.without_frames()
        if needs_cluster:
            self._cache.waiting.add(uuid)
        return Queued(seconds=min(wait, LOOK_AGAIN), what=in_words(needed[0]), why=self._poller.why_unreliable())

    def _fresh_cluster(self, uuid: str, wanted: Freshness) -> bytes | None:
        kept = self._cache.get(uuid)
        if kept is None:
            return None
        if isinstance(wanted, Routine) and self._poller.covers(uuid):
            if self._poller.needs_a_person:
                return None  # the cause is reported at once
            is_late = self._now() - kept.read_at >= self._cache.demand.interval(uuid) * LATE
            if not is_late and kept.read_at > wanted.doubted_at:
                return kept.packed
        return kept.packed if is_fresh(kept.read_at, wanted) else None


def _pages_show_all(reference: Reference, kept: CachedCluster) -> bool:
    """Return whether all that a Secret is made from is on the listing's pages; whether a database exists is not in it."""
    return all(what[0] == "database" for what in details_of(reference, unpack_cluster(kept.packed)))


def _place(reference: Reference, wanted: Freshness) -> What:
    """Name a reference's place in the queue: the same whichever of its reads is needed, so that it keeps its place."""
    name = ("pool", reference.pool) if reference.pool else ("user", reference.user)
    return (type(wanted).__name__, reference.cluster_uuid, *name)
