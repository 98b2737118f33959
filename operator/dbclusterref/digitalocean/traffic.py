"""Requests to DigitalOcean's API as metrics show them: how many and how long by route, and what each token has left.

They are measured in the HTTP client, where a request is sent, so that no caller can forget one.
"""

import hashlib
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from heapq import nsmallest
from typing import Any, cast

import httpx

from dbclusterref.digitalocean.rate_limit import DEFAULT_LIMIT, RateLimitHeaders
from dbclusterref.metrics import NO_REPLY, Metrics

MOST_TOKENS = 20
"""Tokens that metrics show: those with the fewest requests left."""
FORGET_AFTER = 3600.0
"""Seconds after its last reply that a token's budget is dropped: the limit is one of an hour."""


@dataclass(frozen=True, slots=True)
class _Budget:
    remaining: int
    limit: int
    heard_at: float


class Traffic:
    """Counts and times requests. `clock` is monotonic, in seconds."""

    def __init__(self, metrics: Metrics, *, clock: Callable[[], float]) -> None:
        self._metrics = metrics
        self._budgets: dict[str, _Budget] = {}
        self.clock = clock

    def record(self, request: httpx.Request, *, code: str, seconds: float) -> None:
        """Record one request that has ended."""
        route = route_of(request.url.path)
        self._metrics.upstream_requests.labels(route, code).inc()
        self._metrics.upstream_seconds.labels(route).observe(seconds)

    def learn(self, request: httpx.Request, headers: Mapping[str, str]) -> None:
        """Record what a reply says of its token's budget."""
        said = RateLimitHeaders.from_headers(headers)
        if said.remaining is not None:
            token = opaque_id(request.headers.get("Authorization", ""))
            self._budgets[token] = _Budget(said.remaining, said.limit or DEFAULT_LIMIT, self.clock())

    def measure(self) -> None:
        """Update the gauges of budgets."""
        since = self.clock() - FORGET_AFTER
        self._budgets = {token: budget for token, budget in self._budgets.items() if budget.heard_at >= since}
        lowest = nsmallest(MOST_TOKENS, self._budgets.items(), key=lambda item: item[1].remaining)
        self._metrics.set_budgets({token: (budget.remaining, budget.limit) for token, budget in lowest})
        self._metrics.upstream_lowest.set(lowest[0][1].remaining if lowest else 0)


class MeasuredClient(httpx.AsyncClient):
    """An HTTP client whose requests are recorded, each when its body has been read or given up."""

    def __init__(self, traffic: Traffic, **options: Any) -> None:  # noqa: ANN401 - httpx's own
        super().__init__(**options)
        self._traffic = traffic

    async def send(self, request: httpx.Request, *, stream: bool = False, **options: Any) -> httpx.Response:  # noqa: ANN401
        """Send as httpx does."""
        began = self._traffic.clock()

        def ended(code: str) -> None:
            self._traffic.record(request, code=code, seconds=self._traffic.clock() - began)

        try:
            response = await super().send(request, stream=stream, **options)
        except BaseException:
            ended(NO_REPLY)
            raise
        self._traffic.learn(request, response.headers)
        if stream and not response.is_closed:
            body = cast("httpx.AsyncByteStream", response.stream)
            response.stream = _MeasuredBody(body, lambda complete: ended(str(response.status_code) if complete else NO_REPLY))
        else:
            ended(str(response.status_code))
        return response


class _MeasuredBody(httpx.AsyncByteStream):
    """A body that reports once whether it was read without a failure."""

    def __init__(self, body: httpx.AsyncByteStream, ended: Callable[[bool], object]) -> None:
        self._body = body
        self._ended: Callable[[bool], object] | None = ended
        self._failed = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for piece in self._body:
                yield piece
        except GeneratorExit:
            raise  # the reader has enough
        except BaseException:
            self._failed = True
            raise

    async def aclose(self) -> None:
        ended, self._ended = self._ended, None
        if ended:
            ended(not self._failed)
        await self._body.aclose()


def route_of(path: str) -> str:
    """Return which read a request is, one of the metrics' ROUTES."""
    parts = path.rpartition("/v2/databases")[2].strip("/").split("/")
    if parts == [""]:
        return "list"
    kind = parts[1] if len(parts) > 1 else ""
    return {"ca": "ca", "users": "user", "pools": "pool", "dbs": "database", "replicas": "replicas"}.get(kind, "cluster")


def opaque_id(authorization: str) -> str:
    """Return an id for a token: the same in every process, and of no use for finding the token, which is random."""
    return hashlib.blake2b(authorization.encode(), digest_size=16, person=b"dbclusterref").hexdigest()
