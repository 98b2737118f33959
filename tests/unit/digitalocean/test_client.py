import asyncio
import logging
import traceback
from base64 import b64encode
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any, Unpack
from urllib.parse import quote

import httpx
import pytest

from dbclusterref.digitalocean.client import DigitalOcean
from dbclusterref.digitalocean.model import DatabaseCluster
from dbclusterref.digitalocean.rate_limit import RateLimitHeaders
from dbclusterref.errors import (
    Cause,
    Forbidden,
    PoolNotFound,
    RateLimited,
    TokenInvalid,
    UnconfirmedNotFound,
    UpstreamUnavailable,
    UserNotFound,
)
from sandbox.digitalocean import Control, serve_simulator
from sandbox.digitalocean.terms import FaultRule

pytestmark = pytest.mark.sockets

TOKEN = "dop_v1_CANARY+token/="
PASSWORD = "CANARY@:/?#%&+ \"'é"
NOBODY = "00000000-0000-0000-0000-000000000000"


@dataclass
class Edge:
    """The module under test, in front of a real simulator."""

    api: DigitalOcean
    control: Control
    url: str
    cluster: str
    replies: list[tuple[int, RateLimitHeaders]] = field(default_factory=list)

    def observe(self, status: int, budget: Any) -> None:
        self.replies.append((status, budget))

    async def get(self, uuid: str = "", *, token: str = TOKEN) -> DatabaseCluster:
        return await self.api.get_cluster(token, uuid or self.cluster, observe=self.observe)

    async def ca(self) -> bytes:
        return await self.api.get_ca(TOKEN, self.cluster, observe=self.observe)

    async def failing(self, kind: str, **rule: Unpack[FaultRule]) -> Cause:
        """Read the cluster while the fault is in force, and returns the cause that came of it."""
        number = self.control.add_fault(kind, **rule)
        try:
            with pytest.raises(Cause) as raised:
                await self.get()
        finally:
            self.control.clear_fault(number)
        return raised.value


@pytest.fixture(scope="module")
def simulator() -> Iterator[str]:
    with serve_simulator(seed=7) as running:
        yield running.url


@pytest.fixture
async def edge(simulator: str) -> AsyncIterator[Edge]:
    with Control(simulator) as control:
        control.clear_faults()
        control.clear_requests()
        control.set_token(TOKEN)
        cluster = control.create_cluster(name="orders", num_nodes=2, password=PASSWORD)["id"]
        timeout = httpx.Timeout(0.3, connect=0.3)
        async with httpx.AsyncClient(timeout=timeout, follow_redirects=False, trust_env=False) as client:
            yield Edge(DigitalOcean(client, base_url=simulator), control, simulator, cluster)
        control.clear_faults()


# --- what is read ----------------------------------------------------------------------------------------------------------


async def test_a_cluster_is_read_with_its_private_primary_and_standby(edge: Edge) -> None:
    cluster = await edge.get()
    assert (cluster.uuid, cluster.name, cluster.engine) == (edge.cluster, "orders", "pg")
    assert cluster.endpoints.private is not None
    assert cluster.endpoints.private.password == PASSWORD
    assert cluster.endpoints.standby is not None
    assert cluster.endpoints.standby.host.startswith("private-replica-")


async def test_the_ca_comes_as_pem(edge: Edge) -> None:
    assert (await edge.ca()).decode() == edge.control.ca(edge.cluster)


async def test_a_user_is_read_whatever_its_name(edge: Edge) -> None:
    name = "app/../x?y=1#z é"
    edge.control.add_user(edge.cluster, name, password=PASSWORD)
    user = await edge.api.get_user(TOKEN, edge.cluster, name, observe=edge.observe)
    assert (user.name, user.password) == (name, PASSWORD)


async def test_a_pool_is_read(edge: Edge) -> None:
    edge.control.add_pool(edge.cluster, "orders-pool", db="defaultdb")
    pool = await edge.api.get_pool(TOKEN, edge.cluster, "orders-pool", observe=edge.observe)
    assert pool.endpoints.private is not None
    assert pool.endpoints.private.port == 25061


async def test_a_missing_user_or_pool_is_named_with_the_remedy(edge: Edge) -> None:
    with pytest.raises(UserNotFound, match=r"no user ghost; .*doctl databases user create.*spec\.user"):
        await edge.api.get_user(TOKEN, edge.cluster, "ghost", observe=edge.observe)
    with pytest.raises(PoolNotFound, match=r"no connection pool ghost; .*spec\.pool"):
        await edge.api.get_pool(TOKEN, edge.cluster, "ghost", observe=edge.observe)


async def test_a_pool_of_an_engine_without_pools_is_a_missing_one(edge: Edge) -> None:
    mysql = edge.control.create_cluster(name="bills", engine="mysql")["id"]
    with pytest.raises(PoolNotFound, match="Only PostgreSQL clusters have pools"):
        await edge.api.get_pool(TOKEN, mysql, "p", observe=edge.observe)
    assert [status for status, _ in edge.replies] == [422]


async def test_the_headers_say_what_is_left_of_the_budget(edge: Edge) -> None:
    await edge.get()
    status, budget = edge.replies[-1]
    assert status == 200
    assert budget.limit == 5000
    assert budget.remaining is not None
    assert 0 < budget.remaining < 5000
    assert budget.reset is not None
    assert budget.retry_after is None


def test_a_header_that_is_no_number_is_as_if_it_were_absent() -> None:
    nonsense = ("", "soon", "-1", "1.5", "٣", "9" * 40, "Wed, 21 Oct 2026 07:28:00 GMT")
    for text in nonsense:
        budget = RateLimitHeaders.from_headers({"ratelimit-remaining": text, "retry-after": text})
        assert (budget.remaining, budget.retry_after) == (None, None)


# --- each way to fail ------------------------------------------------------------------------------------------------------


async def test_a_token_that_is_not_known_is_invalid(edge: Edge) -> None:
    with pytest.raises(TokenInvalid, match="401"):
        await edge.get(token="dop_v1_unknown")


async def test_a_token_without_the_scope_is_forbidden_and_told_which_it_needs(edge: Edge) -> None:
    edge.control.set_token("narrow", scopes=["tag:read"])
    with pytest.raises(Forbidden) as raised:
        await edge.get(token="narrow")
    for word in ("403: You are not authorized", "database:read", "database:view_credentials"):
        assert word in raised.value.message


async def test_a_403_without_words_is_forbidden_all_the_same(edge: Edge) -> None:
    cause = await edge.failing("status", status=403, body="")
    assert isinstance(cause, Forbidden)
    assert "(403)" in cause.message


async def test_a_404_is_not_yet_believed(edge: Edge) -> None:
    with pytest.raises(UnconfirmedNotFound, match=NOBODY):
        await edge.get(NOBODY)


async def test_a_404_in_plain_text_is_a_404(edge: Edge) -> None:
    assert isinstance(await edge.failing("plain_404"), UnconfirmedNotFound)


async def test_a_full_minute_says_for_how_long_to_stay_away(edge: Edge) -> None:
    edge.control.set_token("busy", per_minute=1)
    await edge.get(token="busy")
    with pytest.raises(RateLimited) as raised:
        await edge.get(token="busy")
    assert raised.value.retry_after is not None
    assert 1 <= raised.value.retry_after <= 60
    assert [status for status, _ in edge.replies] == [200, 429]
    assert edge.replies[-1][1].remaining == 0


async def test_a_full_hour_does_not_say_for_how_long(edge: Edge) -> None:
    edge.control.set_token("spent", per_hour=0)
    with pytest.raises(RateLimited) as raised:
        await edge.get(token="spent")
    assert raised.value.retry_after is None


@pytest.mark.parametrize("status", [500, 502, 503, 529, 400, 405, 418, 204])
async def test_any_other_status_is_upstream_trouble(edge: Edge, status: int) -> None:
    cause = await edge.failing("status", status=status)
    assert type(cause) is UpstreamUnavailable
    assert str(status) in cause.message


async def test_a_503_that_asks_for_time_gets_it(edge: Edge) -> None:
    cause = await edge.failing("status", status=503, headers={"retry-after": "30"})
    assert cause.retry_after == 30


async def test_the_page_of_a_gateway_is_not_quoted(edge: Edge) -> None:
    cause = await edge.failing("gateway_timeout")
    assert type(cause) is UpstreamUnavailable
    assert cause.message == "DigitalOcean answered 504; trying again."


async def test_what_the_api_says_is_quoted_in_short(edge: Edge) -> None:
    cause = await edge.failing("status", status=500, body={"id": "x", "message": "a" * 5000})
    assert len(cause.message) < 300
    cause = await edge.failing("status", status=500, body={"id": "x", "message": "two\nlines"})
    assert cause.message == "DigitalOcean answered 500; trying again."


async def test_what_the_api_says_is_not_quoted_where_it_would_differ_each_time(edge: Edge) -> None:
    cause = await edge.failing("status", status=500, body={"id": "x", "message": "request 7f3a2b failed"})
    assert cause.message == "DigitalOcean answered 500; trying again."


@pytest.mark.parametrize("status", [301, 302, 307, 308])
async def test_a_redirect_is_not_followed_and_the_token_goes_nowhere_else(edge: Edge, status: int) -> None:
    with listening() as (elsewhere, seen):
        cause = await edge.failing("redirect", target=elsewhere, status=status)
    assert type(cause) is UpstreamUnavailable
    assert "redirected" in cause.message
    assert "--api-url" in cause.message
    assert seen == []


async def test_json_that_was_cut_off_makes_no_sense(edge: Edge) -> None:
    cause = await edge.failing("truncate")
    assert type(cause) is UpstreamUnavailable
    assert "no JSON" in cause.message


@pytest.mark.parametrize("body", ["[]", "null", '"text"', "<html>", "[" * 100_000])
async def test_a_body_that_is_no_object_makes_no_sense(edge: Edge, body: str) -> None:
    assert type(await edge.failing("status", status=200, body=body)) is UpstreamUnavailable


async def test_a_reply_without_a_database_is_named_as_such(edge: Edge) -> None:
    cause = await edge.failing("no_database")
    assert type(cause) is UpstreamUnavailable
    assert "database is not an object" in cause.message


async def test_another_clusters_answer_is_never_taken_for_this_ones(edge: Edge) -> None:
    other = edge.control.create_cluster(name="other")["id"]
    cause = await edge.failing("other_uuid", target=other)
    assert type(cause) is UpstreamUnavailable
    assert "another cluster" in cause.message


async def test_a_reply_that_does_not_come_is_waited_for_no_longer_than_the_time_out(edge: Edge) -> None:
    cause = await edge.failing("hang")
    assert cause.message == "DigitalOcean's API did not answer in time; trying again."
    assert [status for status, _ in edge.replies] == [0]


async def test_a_body_that_stops_half_way_is_a_time_out(edge: Edge) -> None:
    assert "did not answer in time" in (await edge.failing("stall")).message


async def test_a_connection_that_is_reset_is_a_broken_answer(edge: Edge) -> None:
    cause = await edge.failing("reset")
    assert type(cause) is UpstreamUnavailable
    assert "broke off" in cause.message


async def test_a_body_that_breaks_off_half_way_is_a_broken_answer() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b'HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n{"database": {')
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        cause = await failure_at(f"http://127.0.0.1:{port}")
    assert "broke off" in cause.message


async def test_a_refused_connection_is_no_connection() -> None:
    with listening() as (url, _):
        pass
    assert "cannot be reached" in (await failure_at(url)).message


async def test_a_host_that_does_not_speak_tls_is_no_connection() -> None:
    with listening() as (url, _):
        assert "cannot be reached" in (await failure_at(url.replace("http://", "https://"))).message


async def test_an_address_that_is_none_is_the_settings_fault() -> None:
    assert "--api-url" in (await failure_at("gopher://example")).message


@pytest.mark.parametrize(
    ("certificate", "said"),
    [("*not base64*", "not base64"), (b64encode(b"some bytes").decode(), "not PEM"), ([1], "not base64"), (True, "not base64")],
)
async def test_a_garbled_ca_makes_no_sense(edge: Edge, certificate: Any, said: str) -> None:
    edge.control.add_fault("status", path="/ca$", status=200, body={"ca": {"certificate": certificate}})
    with pytest.raises(UpstreamUnavailable, match=said):
        await edge.ca()


@pytest.mark.parametrize("body", [{}, {"ca": None}, {"ca": {}}, {"ca": {"certificate": ""}}, {"ca": []}])
async def test_a_cluster_may_have_no_ca(edge: Edge, body: Any) -> None:
    edge.control.add_fault("status", path="/ca$", status=200, body=body)
    assert await edge.ca() == b""


async def test_the_same_failure_says_the_same_words(edge: Edge) -> None:
    for kind in ("plain_404", "gateway_timeout", "truncate"):
        assert (await edge.failing(kind)).message == (await edge.failing(kind)).message


# --- the canary ------------------------------------------------------------------------------------------------------------

CANARIES = (
    "CANARY",
    quote(PASSWORD, safe=""),
    b64encode(TOKEN.encode()).decode(),
    b64encode(PASSWORD.encode()).decode(),
)


@pytest.mark.parametrize(
    ("kind", "rule"),
    [
        ("truncate", {}),
        ("no_database", {}),
        ("stall", {}),
        ("reset", {}),
        ("plain_404", {}),
        ("status", {"status": 401}),
        ("status", {"status": 429}),
        ("status", {"status": 403, "body": {"id": "forbidden", "message": f"Token {TOKEN} may not."}}),
        ("status", {"status": 500, "body": {"id": "x", "message": f"Cannot parse: Bearer {TOKEN}"}}),
        ("status", {"status": 200, "body": {"database": {"id": PASSWORD, "name": 5, "engine": PASSWORD}}}),
        ("status", {"status": 200, "body": {"database": {"name": "n", "private_connection": PASSWORD}}}),
        ("status", {"status": 200, "body": PASSWORD}),
    ],
)
async def test_neither_token_nor_password_shows_in_a_failure_or_its_log(
    edge: Edge, caplog: pytest.LogCaptureFixture, kind: str, rule: FaultRule
) -> None:
    caplog.set_level(logging.DEBUG)
    cause = await edge.failing(kind, **rule)
    told = "".join(traceback.format_exception(cause)) + repr(cause) + caplog.text + repr(edge.api) + repr(edge.replies)
    assert caplog.records, "the libraries do log at this level"
    for canary in CANARIES:
        assert canary not in told


async def test_neither_token_nor_password_shows_in_a_success_or_its_log(edge: Edge, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    cluster = await edge.get()
    told = repr(cluster) + str(cluster) + caplog.text
    for canary in CANARIES:
        assert canary not in told


# --- helpers ---------------------------------------------------------------------------------------------------------------


async def failure_at(url: str) -> Cause:
    timeout = httpx.Timeout(2.0)
    async with httpx.AsyncClient(timeout=timeout, trust_env=False) as client:
        with pytest.raises(UpstreamUnavailable) as raised:
            await DigitalOcean(client, base_url=url).get_cluster(TOKEN, NOBODY, observe=lambda *_: None)
    return raised.value


class listening:  # noqa: N801 - a context manager, used as a word
    """Another host: writes down every request that reaches it."""

    def __enter__(self) -> tuple[str, list[str]]:
        seen: list[str] = []

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                seen.append(f"{self.path} {self.headers.get('Authorization')}")
                self.send_response(200)
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name for it
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()
        return f"http://127.0.0.1:{self._server.server_port}", seen

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
