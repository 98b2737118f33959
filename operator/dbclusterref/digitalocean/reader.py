"""Reads through one token: each waits for its turn, spends from the budget, and is shared by all who ask for the same."""

from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import partial
from typing import Generic, Protocol, TypeVar

from dbclusterref.clock import Clock
from dbclusterref.digitalocean.ca_schedule import CaSchedule
from dbclusterref.digitalocean.demand import Freshness, Requested, Routine, is_fresh
from dbclusterref.digitalocean.details import Detail, KeptDetails, Missing, What
from dbclusterref.digitalocean.fair_queue import FairQueue, Rank
from dbclusterref.digitalocean.model import ClusterPage, Database, DatabaseCluster, Pool, User
from dbclusterref.digitalocean.not_found import database_not_found, pool_not_found, user_not_found
from dbclusterref.digitalocean.rate_limit import RATE_LIMITED, ObserveReply, RateLimitHeaders, TokenBucket
from dbclusterref.digitalocean.replicas import Replicas
from dbclusterref.digitalocean.single_flight import SingleFlight
from dbclusterref.digitalocean.snapshot import unpack_cluster
from dbclusterref.errors import (
    Cause,
    DatabaseNotFound,
    PoolNotFound,
    RateLimited,
    ReplicasNotListed,
    TokenInvalid,
    UpstreamUnavailable,
    UserNotFound,
)

REJECTED_MAX_AGE = 60.0
"""Seconds for which a 401 is believed: a rejected token costs one request a minute, however many references use it."""

UNEXPECTED = (
    "The operator could not process DigitalOcean's answer because of a bug, which its log describes; retrying automatically. "
    "Please report it."
)
KEEPS_ENDING = (
    "The operator's background reads with this API token keep ending because of a bug, which its log describes. Until it is "
    "restarted clusters are read individually, which takes longer, and CA certificates only where a refresh is requested. "
    "Restart the operator, and please report it."
)

V = TypeVar("V")
D = TypeVar("D", bound=Detail)


class Upstream(Protocol):
    """The reads an account needs of DigitalOcean's API."""

    async def get_cluster(self, token: str, uuid: str, *, observe: ObserveReply) -> DatabaseCluster: ...  # noqa: D102
    async def get_page(  # noqa: D102
        self, token: str, after: str | None, *, known: ClusterPage | None, observe: ObserveReply
    ) -> ClusterPage: ...
    async def get_ca(self, token: str, uuid: str, *, observe: ObserveReply) -> bytes: ...  # noqa: D102
    async def get_user(self, token: str, uuid: str, name: str, *, observe: ObserveReply) -> User: ...  # noqa: D102
    async def get_pool(self, token: str, uuid: str, name: str, *, observe: ObserveReply) -> Pool: ...  # noqa: D102
    async def get_database(self, token: str, uuid: str, name: str, *, observe: ObserveReply) -> Database: ...  # noqa: D102
    async def get_replicas(self, token: str, uuid: str, *, observe: ObserveReply) -> Replicas: ...  # noqa: D102


KnownCa = Callable[[], Awaitable[bytes]]


@dataclass(frozen=True, slots=True)
class Answer(Generic[V]):
    """What upstream answered to a request made at `asked_at`."""

    value: V = field(repr=False)
    asked_at: float


class Reader:
    """The reads, their queue and budget, and what is kept of CAs and details."""

    def __init__(
        self,
        token: str,
        *,
        upstream: Upstream,
        clock: Clock,
    ) -> None:
        self._token = token
        self._upstream = upstream
        self._now = clock.monotonic
        self._single_flight = SingleFlight()
        self._asked_at: dict[What, float] = {}
        self._rejected: Answer[TokenInvalid] | None = None
        self.clock = clock
        self.queue = FairQueue()
        self.ca_schedule = CaSchedule()
        self.details = KeptDetails(self._now)
        self.budget = TokenBucket(counted_at=self._now())
        self.bugs: deque[Exception] = deque(maxlen=10)

    @property
    def under_way(self) -> int:
        """How many single reads of clusters have not been answered yet."""
        return self._single_flight.count("cluster")

    @property
    def rejected_at(self) -> float:
        """When the request was made that DigitalOcean answered with 401, if that was its last answer; 0 otherwise."""
        return self._rejected.asked_at if self._rejected else 0.0

    # turns

    def wait_for_turn(
        self,
        lane: str,
        place: What,
        *,
        rank: Rank = Rank.ROUTINE,
        requests: int = 1,
        weight: int = 1,
        behind: int = 0,
        spare: float = 0.0,
    ) -> float:
        """Return how long to wait until so many requests may go, `behind` others and with `spare` left; 0 for now.

        Each request counts `weight` times for the lane's share.
        A caller that has to wait keeps its place in the queue, and one whose turn it is leaves it.
        """
        wait = self.turn_comes_in(lane, place, rank=rank, requests=requests, behind=behind, spare=spare)
        if wait:
            self.queue.join(lane, place, rank=rank, now=self._now())
        else:
            self.queue.serve(lane, place, requests=requests * weight)
        return wait

    def turn_comes_in(
        self, lane: str, place: What, *, rank: Rank = Rank.ROUTINE, requests: int = 1, behind: int = 0, spare: float = 0.0
    ) -> float:
        """Return what `wait_for_turn` would, and leave the queue as it is."""
        now = self._now()
        ahead = behind + self.queue.position(lane, place, rank=rank, now=now)
        # Nobody is in front: a budget too small for all of them at once must do.
        others = ahead + requests - 1 if ahead else min(requests, self.budget.burst) - 1
        return self.budget.seconds_until(now, spare=max(others, spare))

    def reserve(self, requests: int) -> AbstractContextManager[None]:
        """Keep what a turn of several requests needs while the first of them is under way."""
        return self.budget.reserve(requests - 1)

    def is_under_way(self, what: What, *, since: float) -> bool:
        """Return whether a read that was asked for at `since` or later is under way: it can be shared."""
        return self._asked_at.get(what, -1.0) >= since

    def refuse(self, wanted: Freshness) -> None:
        """Raise the cause for which no request would be made now: a 429's pause, or a rejected token."""
        now = self._now()
        if now < self.budget.stay_away_until:
            raise RateLimited(RATE_LIMITED, retry_after=self.budget.stay_away_until - now)
        if self._rejected:
            believed = wanted if isinstance(wanted, Requested) else Routine(now - REJECTED_MAX_AGE)
            if is_fresh(self._rejected.asked_at, believed):
                raise self._rejected.value.without_frames()

    # reads

    async def cluster(self, uuid: str, *, wanted: Freshness) -> Answer[DatabaseCluster]:
        """Read one cluster."""
        return await self._shared(
            ("cluster", uuid), wanted, lambda: self._upstream.get_cluster(self._token, uuid, observe=self._on_reply)
        )

    async def page(self, after: str | None, *, known: ClusterPage | None) -> Answer[ClusterPage]:
        """Read a page of the listing."""
        asked_at = self._now()
        page = await self._send(
            Routine(asked_at), lambda: self._upstream.get_page(self._token, after, known=known, observe=self._on_reply)
        )
        return Answer(page, asked_at)

    async def ca(self, uuid: str, *, wanted: Freshness) -> bool:
        """Read a CA; return whether it has changed."""
        before = self.ca_schedule.get(uuid)
        answer = await self._shared(
            ("ca", uuid), wanted, lambda: self._upstream.get_ca(self._token, uuid, observe=self._on_reply)
        )
        if answer.asked_at > self.ca_schedule.asked_at(uuid):
            self.ca_schedule.learn(uuid, answer.value, asked_at=answer.asked_at, chance=self.clock.jitter())
        return before != self.ca_schedule.get(uuid)

    async def user(self, uuid: str, name: str, *, of: bytes, listed: bool, wanted: Freshness) -> User:
        """Read a database user, unless the answer kept is fresh; `listed` where the cluster, `of`, lists its users."""
        read = partial(self._upstream.get_user, self._token, uuid, name, observe=self._on_reply)
        return await self._detail(User, ("user", uuid, name), read, of=of, wanted=wanted, listed=listed)

    async def pool(self, uuid: str, name: str, *, of: bytes, wanted: Freshness) -> Pool:
        """Read a connection pool, unless the answer kept is fresh."""
        read = partial(self._upstream.get_pool, self._token, uuid, name, observe=self._on_reply)
        return await self._detail(Pool, ("pool", uuid, name), read, of=of, wanted=wanted)

    async def database(self, uuid: str, name: str, *, of: bytes, wanted: Freshness) -> Database:
        """Read whether there is a database, unless the answer kept is fresh."""
        read = partial(self._upstream.get_database, self._token, uuid, name, observe=self._on_reply)
        return await self._detail(Database, ("database", uuid, name), read, of=of, wanted=wanted)

    async def replicas(self, uuid: str, *, always_listed: bool, wanted: Freshness) -> Replicas:
        """Read the cluster's read-only replicas, unless the answer kept is fresh; that there is no list is kept as well.

        `always_listed`: clusters of that engine have a list, and where it is missing it is asked for again.
        """

        async def read() -> Detail | Missing:
            try:
                return await self._upstream.get_replicas(self._token, uuid, observe=self._on_reply)
            except ReplicasNotListed as cause:
                if always_listed:
                    raise
                return cause.without_frames()

        return await self._detail(Replicas, ("replicas", uuid), read, of=b"", wanted=wanted)

    async def _detail(
        self,
        kind: type[D],
        what: What,
        read: Callable[[], Awaitable[Detail | Missing]],
        *,
        of: bytes,
        wanted: Freshness,
        listed: bool = False,
    ) -> D:
        name = what[-1]

        async def read_or_missing() -> Detail | Missing:
            try:
                return await read()
            except UserNotFound:
                return user_not_found(name, cluster=unpack_cluster(of))
            except PoolNotFound:
                return pool_not_found(name, cluster=unpack_cluster(of))
            except DatabaseNotFound:
                return database_not_found(name, cluster=unpack_cluster(of))

        found = self.details.get(what, of=of, wanted=wanted)
        if found is None:
            answer = await self._shared(what, wanted, read_or_missing)
            found = self.details.keep(
                what, answer.value, asked_at=answer.asked_at, of=of, listed=listed, requested=isinstance(wanted, Requested)
            )
        assert isinstance(found, kind)
        return found

    async def _shared(self, what: What, wanted: Freshness, call: Callable[[], Awaitable[V]]) -> Answer[V]:
        async def ask() -> Answer[V]:
            asked_at = self._asked_at[what] = self._now()
            try:
                return Answer(await self._send(wanted, call), asked_at)
            finally:
                del self._asked_at[what]

        since = min(wanted.since, self._now())
        while True:
            answer = await self._single_flight.do(what, ask)
            # What was asked for before the refresh was requested does not answer it.
            if answer.asked_at >= since:
                return answer

    async def _send(self, wanted: Freshness, call: Callable[[], Awaitable[V]]) -> V:
        self.refuse(wanted)
        asked_at = self._now()
        self.budget.spend(asked_at)
        try:
            value = await call()
        except TokenInvalid as cause:
            self._rejected = Answer(cause, asked_at)
            raise
        except Cause:
            raise
        except Exception as bug:  # noqa: BLE001 - whatever an answer provokes is a cause, and ends no task
            self.bugs.append(bug)
            raise UpstreamUnavailable(UNEXPECTED, answered=True) from None
        self._rejected = None
        return value

    def _on_reply(self, status: int, headers: RateLimitHeaders) -> None:
        self.budget.learn(status, headers, now=self._now(), unix_time=self.clock.now().timestamp())
