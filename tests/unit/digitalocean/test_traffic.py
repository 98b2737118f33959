from collections.abc import AsyncIterator, Callable
from contextlib import suppress

import httpx
import pytest

from dbclusterref.digitalocean.traffic import FORGET_AFTER, MOST_TOKENS, MeasuredClient, Traffic, opaque_id, route_of
from dbclusterref.metrics import ROUTES, Metrics
from tests.support.fake_time import FakeClock

URL = "http://do.example/v2/databases"


class Wire:
    """A client whose requests `answer` answers, each after a second."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.metrics = Metrics()
        self.traffic = Traffic(self.metrics, clock=self.clock)
        self.answer: Callable[[httpx.Request], httpx.Response] = lambda _: httpx.Response(200, json={})
        self.client = MeasuredClient(self.traffic, transport=httpx.MockTransport(self._serve))

    def _serve(self, request: httpx.Request) -> httpx.Response:
        self.clock.advance(1.0)
        return self.answer(request)

    def value(self, name: str, **labels: str) -> float | None:
        return self.metrics.registry.get_sample_value(f"dbclusterref_digitalocean_{name}", labels)

    def requests(self, code: str, route: str = "cluster") -> float | None:
        return self.value("requests_total", route=route, code=code)

    def budget(self, remaining: int) -> None:
        self.answer = lambda _: httpx.Response(200, headers={"ratelimit-remaining": f"{remaining}", "ratelimit-limit": "5000"})

    async def get_as(self, token: str) -> None:
        await self.client.get(f"{URL}/x", headers={"Authorization": f"Bearer {token}"})


class Body(httpx.AsyncByteStream):
    """A body in two pieces, which arrives while it is read; one that `breaks` has only the first."""

    def __init__(self, *, breaks: bool = False) -> None:
        self._breaks = breaks

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield b"{"
        if self._breaks:
            raise httpx.ReadError("reset")
        yield b"}"


@pytest.fixture
async def wire() -> AsyncIterator[Wire]:
    wire = Wire()
    yield wire
    await wire.client.aclose()


@pytest.mark.parametrize(
    ("path", "route"),
    [
        ("/v2/databases", "list"),
        ("/v2/databases/9cc10173", "cluster"),
        ("/v2/databases/9cc10173/ca", "ca"),
        ("/v2/databases/9cc10173/users/ca", "user"),
        ("/v2/databases/9cc10173/dbs/users", "database"),
        ("/v2/databases/9cc10173/replicas", "replicas"),
        ("/v2/databases/9cc10173/pools/orders-pool", "pool"),
        ("/proxy/v2/databases/9cc10173", "cluster"),
    ],
)
def test_a_path_belongs_to_one_of_the_routes(path: str, route: str) -> None:
    assert route_of(path) == route
    assert route in ROUTES


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
async def test_a_request_is_counted_once_and_timed(wire: Wire, *, stream: bool) -> None:
    for status in (200, 503):
        wire.answer = lambda _, status=status: httpx.Response(status, stream=Body())  # type: ignore[misc]
        if stream:
            async with wire.client.stream("GET", f"{URL}/x") as reply:
                assert wire.requests(str(status)) == 0, "counted when the body has been read"
                await reply.aread()
        else:
            await wire.client.get(f"{URL}/x")
        assert wire.requests(str(status)) == 1
    assert wire.value("request_duration_seconds_count", route="cluster") == 2
    assert wire.value("request_duration_seconds_sum", route="cluster") == 2.0


async def test_a_request_without_a_reply_counts_as_0(wire: Wire) -> None:
    def refuse(_: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused")

    wire.answer = refuse
    with pytest.raises(httpx.ConnectError):
        await wire.client.get(URL)
    assert wire.requests("0", route="list") == 1


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
async def test_a_body_that_breaks_off_counts_as_0_and_not_as_200(wire: Wire, *, stream: bool) -> None:
    wire.answer = lambda _: httpx.Response(200, stream=Body(breaks=True))
    with suppress(httpx.ReadError):
        if stream:
            async with wire.client.stream("GET", f"{URL}/x") as reply:
                await reply.aread()
        else:
            await wire.client.get(f"{URL}/x")
    assert (wire.requests("0"), wire.requests("200")) == (1, 0)


async def test_a_body_that_its_reader_has_enough_of_is_no_failure(wire: Wire) -> None:
    wire.answer = lambda _: httpx.Response(200, stream=Body())
    async with wire.client.stream("GET", f"{URL}/x") as reply:
        async for _ in reply.aiter_raw():
            break
    assert (wire.requests("0"), wire.requests("200")) == (0, 1)


async def test_each_token_has_its_budget_under_an_id_that_is_not_the_token(wire: Wire) -> None:
    for token, remaining in (("first-canary", 4000), ("second-canary", 17), ("first-canary", 3999)):
        wire.budget(remaining)
        await wire.get_as(token)
    wire.traffic.measure()
    first, second = opaque_id("Bearer first-canary"), opaque_id("Bearer second-canary")
    assert wire.value("ratelimit_remaining", token=first) == 3999
    assert wire.value("ratelimit_remaining", token=second) == 17
    assert wire.value("ratelimit_limit", token=second) == 5000
    assert wire.value("ratelimit_lowest_remaining") == 17
    assert b"canary" not in wire.metrics.render()[0]
    assert len(bytes.fromhex(first)) == 16, "two tokens never share one by chance"


async def test_the_lowest_budgets_are_shown_and_old_ones_are_dropped(wire: Wire) -> None:
    wire.budget(1)
    await wire.get_as("rotated")
    wire.clock.advance(FORGET_AFTER)
    for number in range(MOST_TOKENS + 5):
        wire.budget(1000 + number)
        await wire.get_as(f"token-{number}")
    wire.traffic.measure()
    assert wire.metrics.render()[0].count(b"ratelimit_remaining{") == MOST_TOKENS
    assert wire.value("ratelimit_lowest_remaining") == 1000
    assert wire.value("ratelimit_remaining", token=opaque_id(f"Bearer token-{MOST_TOKENS}")) is None


async def test_a_reply_without_headers_teaches_nothing(wire: Wire) -> None:
    await wire.get_as("token")
    wire.traffic.measure()
    assert wire.value("ratelimit_lowest_remaining") == 0
