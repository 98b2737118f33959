"""DigitalOcean's API in memory, behind the operator's own client protocol."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from dbclusterref.digitalocean.model import ClusterPage, Database, DatabaseCluster, Pool, User
from dbclusterref.digitalocean.rate_limit import ObserveReply, RateLimitHeaders
from dbclusterref.digitalocean.replicas import Replicas
from dbclusterref.errors import Cause, DatabaseNotFound, PoolNotFound, RateLimited, UnconfirmedNotFound, UserNotFound
from tests.support.builders import PEM


def rate_limit_headers(
    *, limit: int | None = 5000, remaining: int | None = 4999, reset: int | None = None, retry_after: float | None = None
) -> RateLimitHeaders:
    return RateLimitHeaders(limit=limit, remaining=remaining, reset=reset, retry_after=retry_after)


@dataclass(slots=True)
class FakeUpstream:
    """Clusters in memory. `trouble` by kind of read, or `*` for all, is raised in place of the answer."""

    clusters: dict[str, DatabaseCluster] = field(default_factory=dict)
    cas: dict[str, bytes] = field(default_factory=dict)
    users: dict[str, User] = field(default_factory=dict)
    pools: dict[str, Pool] = field(default_factory=dict)
    databases: set[str] = field(default_factory=set)
    """Those that a read finds by name, whatever the clusters list."""
    replicas: list[dict[str, object]] = field(default_factory=list)
    """Of every cluster, as the API lists them."""
    trouble: dict[str, Exception] = field(default_factory=dict)
    requests: list[tuple[str, str]] = field(default_factory=list)
    tokens: list[str] = field(default_factory=list)
    gate: asyncio.Event | None = None
    on_request: Callable[[], object] = lambda: None
    per_page: int = 200
    last_page_leads_to: str | None = None
    remaining: int = 4999

    async def get_cluster(self, token: str, uuid: str, *, observe: ObserveReply) -> DatabaseCluster:
        await self._enter("cluster", token, uuid, observe=observe)
        if uuid not in self.clusters:
            raise UnconfirmedNotFound("No such cluster.")
        return self.clusters[uuid]

    async def get_page(self, token: str, after: str | None, *, known: ClusterPage | None, observe: ObserveReply) -> ClusterPage:
        await self._enter("page", token, after or "", observe=observe)
        first = int(after or 0)
        page = tuple(self.clusters.values())[first : first + self.per_page]
        shown = [(c.uuid, c.name, c.granted_to, c.endpoints.private and c.endpoints.private.password) for c in page]
        digest = repr(shown).encode()
        more = first + self.per_page < len(self.clusters)
        if known and known.digest == digest:
            return replace(known, clusters=None)
        return ClusterPage(
            clusters=page,
            length=len(page),
            next=str(first + self.per_page) if more else self.last_page_leads_to,
            total=len(self.clusters),
            digest=digest,
        )

    async def get_ca(self, token: str, uuid: str, *, observe: ObserveReply) -> bytes:
        await self._enter("ca", token, uuid, observe=observe)
        return self.cas.get(uuid, PEM)

    async def get_user(self, token: str, uuid: str, name: str, *, observe: ObserveReply) -> User:
        await self._enter("user", token, uuid, observe=observe)
        if name not in self.users:
            raise UserNotFound(f"No user {name}.")
        return self.users[name]

    async def get_pool(self, token: str, uuid: str, name: str, *, observe: ObserveReply) -> Pool:
        await self._enter("pool", token, uuid, observe=observe)
        if name not in self.pools:
            raise PoolNotFound(f"No pool {name}.")
        return self.pools[name]

    async def get_database(self, token: str, uuid: str, name: str, *, observe: ObserveReply) -> Database:
        await self._enter("database", token, uuid, observe=observe)
        if name not in self.databases:
            raise DatabaseNotFound(f"No database {name}.")
        return Database(name=name)

    async def get_replicas(self, token: str, uuid: str, *, observe: ObserveReply) -> Replicas:
        await self._enter("replicas", token, uuid, observe=observe)
        return Replicas.from_api(self.replicas)

    async def _enter(self, kind: str, token: str, uuid: str, *, observe: ObserveReply) -> None:
        self.requests.append((kind, uuid))
        self.tokens.append(token)
        self.on_request()
        if self.gate:
            await self.gate.wait()
        error = self.trouble.get(kind) or self.trouble.get("*")
        if isinstance(error, RateLimited):
            observe(429, rate_limit_headers(remaining=0, retry_after=error.retry_after))
        elif isinstance(error, Cause):
            observe(0, rate_limit_headers(remaining=None))
        if error:
            raise error
        observe(200, rate_limit_headers(remaining=self.remaining))
