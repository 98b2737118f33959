"""One DigitalOcean account as seen through one API token: shares answers, keeps the token's budget, takes turns.

Everyone who asks for the same cluster within an answer's age gets that answer; everyone who asks while a read is under way
gets that read's. An account never waits itself: it says how long to stay away, so that no token holds up another.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar, cast

from dbclusterref.cluster import DatabaseCluster, Pool, Snapshot, User
from dbclusterref.errors import Cause, RateLimited
from dbclusterref.reference import Reference

V = TypeVar("V")

CA_MAX_AGE = 24 * 3600.0
"""A CA changes about never; it is read once a day, in seconds, spread so that no hour reads them all."""
NO_CA_MAX_AGE = 600.0
"""An answer without a CA may be a 404 that passes: it is believed for this many seconds, and never against a known CA."""

PACE_BURST = 100.0
PACE_PER_SECOND = 2.5
"""DigitalOcean allows 250 requests a minute: a full burst and a minute of the pace together stay within it."""

QUOTA_PAUSE = 60.0
"""Seconds to stay away after a 429 that does not say for how long."""


class Budget(Protocol):
    """What a reply says of the token's quota."""

    @property
    def remaining(self) -> int | None: ...  # noqa: D102
    @property
    def retry_after(self) -> float | None: ...  # noqa: D102


ObserveReply = Callable[[int, Budget], None]


class Upstream(Protocol):
    """The reads an account needs of DigitalOcean's API."""

    async def get_cluster(self, token: str, uuid: str, *, observe: ObserveReply) -> DatabaseCluster: ...  # noqa: D102
    async def get_ca(self, token: str, uuid: str, *, observe: ObserveReply) -> bytes: ...  # noqa: D102
    async def get_user(self, token: str, uuid: str, name: str, *, observe: ObserveReply) -> User: ...  # noqa: D102
    async def get_pool(self, token: str, uuid: str, name: str, *, observe: ObserveReply) -> Pool: ...  # noqa: D102


@dataclass(slots=True)
class _Kept(Generic[V]):
    value: V = field(repr=False)
    read_at: float


class Account:
    """Reads through one token. `clock` is monotonic, in seconds; `observe` is told every reply (for metrics)."""

    def __init__(
        self,
        token: str,
        *,
        upstream: Upstream,
        clock: Callable[[], float],
        observe: Callable[[int, int | None], None],
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._token = token
        self._upstream = upstream
        self._clock = clock
        self._observe = observe
        self._chance = chance
        self._clusters: dict[str, _Kept[DatabaseCluster]] = {}
        self._cas: dict[str, _Kept[bytes]] = {}
        self._under_way: dict[tuple[str, ...], asyncio.Future[object]] = {}
        self._stay_away_until = 0.0
        self._tokens_left = PACE_BURST
        self._counted_at = clock()
        self.used_at = clock()

    def seconds_to_wait(self, cluster_uuid: str, *, max_age: float) -> float:
        """How long to stay away before a read is this account's turn; 0 where it is, or where no request would be needed."""
        if self._fresh_cluster(cluster_uuid, max_age=max_age):
            return 0.0
        now = self._clock()
        if now < self._stay_away_until:
            return 0.0  # the read itself says RateLimited, so that the status does too
        self._refill(now)
        return 0.0 if self._tokens_left >= 1 else (1 - self._tokens_left) / PACE_PER_SECOND

    async def read(self, reference: Reference, *, max_age: float, known_ca: Callable[[], Awaitable[bytes]]) -> Snapshot:
        """Reads all that the reference's Secret is rendered from; an answer up to `max_age` seconds old will do.

        `known_ca` is asked for the CA last seen where the CA alone cannot be read now.
        Raises the cause where any other read fails.
        """
        self.used_at = self._clock()
        uuid = reference.cluster_uuid
        cluster = self._fresh_cluster(uuid, max_age=max_age) or await self._read_cluster(uuid)
        user = pool = None
        if reference.user:
            # The cluster's own list has every engine's users but their certificates, which only Kafka has.
            user = cluster.user(reference.user) if cluster.engine != "kafka" else None
            user = user or await self._shared(
                lambda: self._upstream.get_user(self._token, uuid, reference.user, observe=self._on_reply),
                "user", uuid, reference.user,
            )  # fmt: skip
        if reference.pool:
            pool = await self._shared(
                lambda: self._upstream.get_pool(self._token, uuid, reference.pool, observe=self._on_reply),
                "pool", uuid, reference.pool,
            )  # fmt: skip
        return Snapshot(cluster=cluster, ca=await self._read_ca(uuid, known=known_ca), user=user, pool=pool)

    def _fresh_cluster(self, uuid: str, *, max_age: float) -> DatabaseCluster | None:
        kept = self._clusters.get(uuid)
        return kept.value if kept and self._clock() - kept.read_at < max_age else None

    async def _read_cluster(self, uuid: str) -> DatabaseCluster:
        cluster = await self._shared(
            lambda: self._upstream.get_cluster(self._token, uuid, observe=self._on_reply), "cluster", uuid
        )
        self._clusters[uuid] = _Kept(cluster, self._clock())
        return cluster

    async def _read_ca(self, uuid: str, *, known: Callable[[], Awaitable[bytes]]) -> bytes:
        kept = self._cas.get(uuid)
        if kept and self._clock() - kept.read_at < (CA_MAX_AGE if kept.value else NO_CA_MAX_AGE):
            return kept.value or await known()
        try:
            ca = await self._shared(lambda: self._upstream.get_ca(self._token, uuid, observe=self._on_reply), "ca", uuid)
        except Cause:
            last = (kept.value if kept else b"") or await known()
            if not last:
                raise
            return last
        if not ca and kept:
            ca = kept.value
        # Up to a tenth of a day older than it is, so that CAs read together are not read together again.
        self._cas[uuid] = _Kept(ca, self._clock() - (self._chance() * CA_MAX_AGE / 10 if ca else 0.0))
        # What one reference knows is not kept for others: it may come from a Secret that its users can write.
        return ca or await known()

    async def _shared(self, read: Callable[[], Awaitable[V]], *what: str) -> V:
        under_way = self._under_way.get(what)
        if under_way is not None:
            return cast("V", await asyncio.shield(under_way))
        self._take_turn()
        future: asyncio.Future[object] = asyncio.get_running_loop().create_future()
        self._under_way[what] = future
        try:
            value = await read()
        except BaseException as error:
            # Whoever shares the read shares its end; nobody may be there to see it.
            future.set_exception(error if isinstance(error, Exception) else asyncio.CancelledError())
            future.exception()
            raise
        else:
            future.set_result(value)
            return value
        finally:
            del self._under_way[what]

    def _take_turn(self) -> None:
        now = self._clock()
        if now < self._stay_away_until:
            raise RateLimited(
                "The API token's request quota at DigitalOcean is used up; reading goes on when it allows. Raise "
                "spec.refreshInterval, or use fewer tools with one token.",
                retry_after=self._stay_away_until - now,
            )
        self._refill(now)
        # May go below zero: the second read of one refresh (its CA, its pool) is not worth another round.
        self._tokens_left -= 1

    def _refill(self, now: float) -> None:
        self._tokens_left = min(PACE_BURST, self._tokens_left + (now - self._counted_at) * PACE_PER_SECOND)
        self._counted_at = now

    def _on_reply(self, status: int, budget: Budget) -> None:
        self._observe(status, budget.remaining)
        if status == 429:  # noqa: PLR2004
            self._stay_away_until = self._clock() + (budget.retry_after or QUOTA_PAUSE)


class Accounts:
    """The accounts in use, one per distinct token; tokens are the only key, and are never shown."""

    def __init__(self, make_account: Callable[[str], Account]) -> None:
        self._make_account = make_account
        self._by_token: dict[str, Account] = {}

    def of(self, token: str) -> Account:
        """Finds the token's account, or opens it."""
        account = self._by_token.get(token)
        if account is None:
            account = self._by_token[token] = self._make_account(token)
        return account

    def drop_unused(self, *, since: float) -> None:
        """Forgets accounts that nobody has read through since then: rotated tokens and what was read with them."""
        for token, account in list(self._by_token.items()):
            if account.used_at < since:
                del self._by_token[token]
