"""Reads through one token: each takes its turn in the budget, and whoever asks for what is being read shares the answer."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Protocol

from dbclusterref.clock import Clock
from dbclusterref.digitalocean.ca_schedule import CA_MAX_AGE, CaSchedule
from dbclusterref.digitalocean.model import ClusterPage, DatabaseCluster, Pool, User
from dbclusterref.digitalocean.rate_limit import RATE_LIMITED, ObserveReply, RateLimitHeaders, TokenBucket
from dbclusterref.digitalocean.single_flight import SingleFlight
from dbclusterref.errors import RateLimited

EXTRA_MAX_AGE = 3600.0
"""A pool, or a user that the cluster does not list, is read when the cluster changed, and in any case this often."""


class Upstream(Protocol):
    """The reads an account needs of DigitalOcean's API."""

    async def get_cluster(self, token: str, uuid: str, *, observe: ObserveReply) -> DatabaseCluster: ...  # noqa: D102
    async def get_page(  # noqa: D102
        self, token: str, after: str | None, *, known: ClusterPage | None, observe: ObserveReply
    ) -> ClusterPage: ...
    async def get_ca(self, token: str, uuid: str, *, observe: ObserveReply) -> bytes: ...  # noqa: D102
    async def get_user(self, token: str, uuid: str, name: str, *, observe: ObserveReply) -> User: ...  # noqa: D102
    async def get_pool(self, token: str, uuid: str, name: str, *, observe: ObserveReply) -> Pool: ...  # noqa: D102


KnownCa = Callable[[], Awaitable[bytes]]


@dataclass(slots=True)
class _Extra:
    value: User | Pool = field(repr=False)
    read_at: float
    cluster: bytes = field(repr=False)


class Reader:
    """The reads, the budget they share, and what is kept of CAs, pools and users.

    `observe` receives the status of each reply and the number of requests left, for metrics.
    """

    def __init__(
        self,
        token: str,
        *,
        upstream: Upstream,
        clock: Clock,
        observe: Callable[[int, int | None], None],
    ) -> None:
        self._token = token
        self._upstream = upstream
        self._now = clock.monotonic
        self._observe = observe
        self._single_flight = SingleFlight()
        self._extras: dict[tuple[str, str, str], _Extra] = {}
        self.clock = clock
        self.ca_schedule = CaSchedule()
        self.budget = TokenBucket(counted_at=self._now())

    @property
    def under_way(self) -> int:
        """How many single reads of clusters have not been answered yet."""
        return self._single_flight.count("cluster")

    def forget_all_but(self, uuids: frozenset[str]) -> None:
        """Drops the pools and users of clusters that nobody wants any more."""
        self._extras = {what: kept for what, kept in self._extras.items() if what[1] in uuids}

    async def cluster(self, uuid: str) -> DatabaseCluster:
        """Read one cluster."""

        async def read() -> DatabaseCluster:
            self._take_turn()
            return await self._upstream.get_cluster(self._token, uuid, observe=self._on_reply)

        return await self._single_flight.do(("cluster", uuid), read)

    async def page(self, after: str | None, *, known: ClusterPage | None) -> ClusterPage:
        """Read a page of the listing."""
        self._take_turn()
        return await self._upstream.get_page(self._token, after, known=known, observe=self._on_reply)

    async def user(self, uuid: str, name: str, *, of: bytes, forced: bool) -> User:
        """Read a database user, unless it was read lately and the cluster, packed, is as it was then."""

        async def read() -> User:
            self._take_turn()
            return await self._upstream.get_user(self._token, uuid, name, observe=self._on_reply)

        value = await self._extra(("user", uuid, name), read, cluster=of, forced=forced)
        assert isinstance(value, User)
        return value

    async def pool(self, uuid: str, name: str, *, of: bytes, forced: bool) -> Pool:
        """Read a connection pool, unless it was read lately and the cluster, packed, is as it was then."""

        async def read() -> Pool:
            self._take_turn()
            return await self._upstream.get_pool(self._token, uuid, name, observe=self._on_reply)

        value = await self._extra(("pool", uuid, name), read, cluster=of, forced=forced)
        assert isinstance(value, Pool)
        return value

    async def _extra(
        self,
        what: tuple[str, str, str],
        read: Callable[[], Awaitable[User | Pool]],
        *,
        cluster: bytes,
        forced: bool,
    ) -> User | Pool:
        kept = self._extras.get(what)
        if kept and not forced and kept.cluster == cluster and self._now() - kept.read_at < EXTRA_MAX_AGE:
            return kept.value
        value = await self._single_flight.do(what, read)
        self._extras[what] = _Extra(value, self._now(), cluster)
        return value

    async def find_ca(self, uuid: str, *, known: KnownCa) -> tuple[bytes, bool]:
        """The CA, and whether upstream has yet to be asked for it; `known` is asked where it has not been."""
        now = self._now()
        kept = self.ca_schedule.get(uuid)
        if kept is not None:
            # What one reference knows is not kept for others: it may come from a Secret that its users can write.
            return kept or await known(), False
        if last := await known():
            # After a restart the day is spread anew.
            self.ca_schedule.plan(uuid, at=now + self.clock.jitter() * CA_MAX_AGE)
            return self.ca_schedule.shared(last), False
        try:
            if self.budget.may_spend(now, spare=self.budget.background):
                await self.ca(uuid)
                return self.ca_schedule.get(uuid) or b"", False
        except RateLimited:
            pass
        self.ca_schedule.plan(uuid, at=now)
        return b"", True

    async def ca(self, uuid: str) -> bool:
        """Read a CA; tells whether it is news."""

        async def read() -> bool:
            self._take_turn()
            ca = await self._upstream.get_ca(self._token, uuid, observe=self._on_reply)
            return self.ca_schedule.learn(uuid, ca, now=self._now(), chance=self.clock.jitter())

        return await self._single_flight.do(("ca", uuid), read)

    def _take_turn(self) -> None:
        now = self._now()
        if now < self.budget.stay_away_until:
            raise RateLimited(RATE_LIMITED, retry_after=self.budget.stay_away_until - now)
        self.budget.spend(now)

    def _on_reply(self, status: int, headers: RateLimitHeaders) -> None:
        self._observe(status, headers.remaining)
        self.budget.learn(status, headers, now=self._now(), unix_time=self.clock.now().timestamp())
