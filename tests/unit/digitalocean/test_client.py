import asyncio
import contextlib
import gzip
import json
import logging
import traceback
import tracemalloc
from base64 import b64encode
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any, Unpack
from urllib.parse import quote

import httpx
import pytest

from dbclusterref.digitalocean.client import (
    LARGE,
    LARGE_AT_ONCE,
    MAX_CA,
    MAX_OBJECT,
    MAX_PAGE,
    PER_PAGE,
    REMEMBERED_REFUSALS,
    DigitalOcean,
)
from dbclusterref.digitalocean.model import ClusterPage, DatabaseCluster
from dbclusterref.digitalocean.rate_limit import RateLimitHeaders
from dbclusterref.errors import (
    Cause,
    DatabaseNotFound,
    Forbidden,
    PoolNotFound,
    RateLimited,
    ReplicasNotListed,
    TokenInvalid,
    UnconfirmedNotFound,
    UpstreamUnavailable,
    UserNotFound,
)
from sandbox.digitalocean import Control, serve_simulator
from sandbox.digitalocean.jsontypes import Json
from sandbox.digitalocean.terms import FaultRule
from tests.support.builders import PEM, UUID, cluster_body, connection_body
from tests.support.plain_http import NO_CERTIFICATES
from tests.support.replies import arriving

pytestmark = pytest.mark.sockets

TOKEN = "dop_v1_CANARY+token/="
PASSWORD = "CANARY@:/?#%&+ \"'é"
OTHER = "1c4b1fd9-36a4-4c4b-9a4c-2d1a5b5e7f01"
NOBODY = "00000000-0000-0000-0000-000000000000"


@dataclass
class Edge:
    """The module under test, in front of a real simulator."""

    api: DigitalOcean
    client: httpx.AsyncClient
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
        if kind in {"hang", "stall"}:
            self.client.timeout = httpx.Timeout(0.3, connect=5.0)
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
        # Long enough for a busy machine; `failing` shortens it where nothing comes.
        async with httpx.AsyncClient(timeout=30.0, follow_redirects=False, trust_env=False, verify=NO_CERTIFICATES) as client:
            yield Edge(DigitalOcean(client, base_url=simulator, ask_again_after=0.01), client, control, simulator, cluster)
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


async def test_a_database_is_read_whatever_its_name(edge: Edge) -> None:
    name = "or?ders#1 é"
    edge.control.add_database(edge.cluster, name)
    assert (await edge.api.get_database(TOKEN, edge.cluster, name, observe=edge.observe)).name == name


async def test_the_replicas_that_serve_are_read(edge: Edge) -> None:
    assert (await edge.api.get_replicas(TOKEN, edge.cluster, observe=edge.observe)).serving == ()
    edge.control.add_replica(edge.cluster, "read-2")
    edge.control.add_replica(edge.cluster, "read-1")
    found = await edge.api.get_replicas(TOKEN, edge.cluster, observe=edge.observe)
    assert [one.name for one in found.serving] == ["read-2", "read-1"]
    assert found.serving[0].address.host.startswith("private-read-2-")


async def test_a_list_of_replicas_that_is_refused_or_missing_is_no_empty_one(edge: Edge) -> None:
    valkey = edge.control.create_cluster(name="cache", engine="valkey")["id"]
    for uuid in (valkey, NOBODY):
        with pytest.raises(ReplicasNotListed, match="no list of read-only replicas"):
            await edge.api.get_replicas(TOKEN, uuid, observe=edge.observe)


async def test_a_missing_user_pool_or_database_is_named_with_the_remedy(edge: Edge) -> None:
    with pytest.raises(UserNotFound, match=r"no user ghost\. .*spec\.user"):
        await edge.api.get_user(TOKEN, edge.cluster, "ghost", observe=edge.observe)
    with pytest.raises(PoolNotFound, match=r"no connection pool ghost\. .*spec\.pool"):
        await edge.api.get_pool(TOKEN, edge.cluster, "ghost", observe=edge.observe)
    with pytest.raises(DatabaseNotFound, match=r"no database ghost\. .*spec\.database"):
        await edge.api.get_database(TOKEN, edge.cluster, "ghost", observe=edge.observe)


async def test_a_pool_of_an_engine_without_pools_is_a_missing_one(edge: Edge) -> None:
    mysql = edge.control.create_cluster(name="bills", engine="mysql")["id"]
    with pytest.raises(PoolNotFound, match="no connection pool p"):
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


async def test_a_lone_401_is_asked_again_and_a_second_one_is_believed(edge: Edge) -> None:
    edge.control.add_fault("status", status=401, count=1)
    assert (await edge.get()).uuid == edge.cluster
    edge.control.add_fault("status", status=401, count=2)
    with pytest.raises(TokenInvalid):
        await edge.get()
    assert [status for status, _ in edge.replies] == [401, 200, 401, 401]


async def test_a_token_that_is_known_to_be_refused_is_asked_for_once_a_read_until_it_works(edge: Edge) -> None:
    edge.control.add_fault("status", status=401, count=3)
    for _ in range(2):
        with pytest.raises(TokenInvalid):
            await edge.get()
    await edge.get()
    edge.control.add_fault("status", status=401, count=1)
    await edge.get()
    assert [status for status, _ in edge.replies] == [401, 401, 401, 200, 401, 200]


async def test_the_refusals_that_are_remembered_are_bounded(edge: Edge) -> None:
    for number in range(REMEMBERED_REFUSALS):
        edge.api._is_first_refusal(f"token-{number}")
    assert not edge.api._is_first_refusal("token-0")
    assert edge.api._is_first_refusal("one-more")
    assert len(edge.api._refused) == 1


async def test_a_token_without_the_scope_is_forbidden_and_told_which_it_needs(edge: Edge) -> None:
    edge.control.set_token("narrow", scopes=["tag:read"])
    with pytest.raises(Forbidden) as raised:
        await edge.get(token="narrow")
    for word in ("(403)", "database:read", "database:view_credentials"):
        assert word in raised.value.message


@pytest.mark.parametrize(
    "body",
    ["", "<html>Access denied</html>", {"message": "Forbidden"}, {"id": "forbidden"}, {"id": 1, "message": "x"}, "[]", "null"],
)
async def test_a_403_that_is_not_the_apis_own_is_trouble_upstream(edge: Edge, body: Any) -> None:
    cause = await edge.failing("status", status=403, body=body)
    assert type(cause) is UpstreamUnavailable
    assert "gateway" in cause.message


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


async def test_a_pause_that_is_asked_for_is_capped(edge: Edge) -> None:
    for status in (429, 503):
        for asked in ("86400", "1790000000", "999999999999999"):
            cause = await edge.failing("status", status=status, headers={"retry-after": asked})
            assert cause.retry_after == 300
            assert edge.replies[-1][1].retry_after == 300


async def test_a_503_that_asks_for_time_gets_it(edge: Edge) -> None:
    cause = await edge.failing("status", status=503, headers={"retry-after": "30"})
    assert cause.retry_after == 30


async def test_the_page_of_a_gateway_is_not_quoted(edge: Edge) -> None:
    cause = await edge.failing("gateway_timeout")
    assert type(cause) is UpstreamUnavailable
    assert cause.message == "DigitalOcean answered 504; retrying."


async def test_of_what_the_api_says_only_known_words_are_repeated(edge: Edge) -> None:
    cause = await edge.failing("status", status=500, body={"id": "server_error", "message": f"password {PASSWORD} is bad"})
    assert cause.message == "DigitalOcean answered 500 (server_error); retrying."
    bodies: list[Json] = [{"id": PASSWORD, "message": "x"}, {"id": "x", "message": "a"}, {"message": "Internal"}, PASSWORD]
    for body in bodies:
        cause = await edge.failing("status", status=500, body=body)
        assert cause.message == "DigitalOcean answered 500; retrying."


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
    assert "the body is not valid JSON" in cause.message


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
    assert cause.message == "DigitalOcean's API did not answer in time; retrying."
    assert [status for status, _ in edge.replies] == [0]


async def test_a_body_that_stops_half_way_is_a_time_out(edge: Edge) -> None:
    assert "did not answer in time" in (await edge.failing("stall")).message


async def test_a_connection_that_is_reset_is_a_broken_answer(edge: Edge) -> None:
    cause = await edge.failing("reset")
    assert type(cause) is UpstreamUnavailable
    assert "closed the connection" in cause.message


async def test_a_body_that_breaks_off_half_way_is_a_broken_answer() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b'HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n{"database": {')
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        cause = await failure_at(f"http://127.0.0.1:{port}")
    assert "closed the connection" in cause.message


async def test_a_refused_connection_is_no_connection() -> None:
    with listening() as (url, _):
        pass
    message = (await failure_at(url)).message
    assert "cannot be reached (no connection: if it lasts, look at DNS, egress rules and proxies); retrying." in message


async def test_a_host_that_does_not_speak_tls_is_no_connection() -> None:
    with listening() as (url, _):
        assert "cannot be reached" in (await failure_at(url.replace("http://", "https://"))).message


async def test_an_address_that_is_none_is_the_settings_fault() -> None:
    assert "--api-url" in (await failure_at("gopher://example")).message


@pytest.mark.parametrize(
    ("certificate", "said"),
    [
        ("*not base64*", "ca.certificate is not base64"),
        (b64encode(b"some bytes").decode(), "ca.certificate is not PEM"),
        (b64encode(b"-----BEGIN CERTIFICATE-----\0").decode(), "ca.certificate is not PEM"),
        (b64encode("-----BEGIN CERTIFICATE-----é".encode()).decode(), "ca.certificate is not PEM"),
        (b64encode(b"-----BEGIN CERTIFICATE-----\nMIIE").decode(), "ca.certificate is not PEM"),
        (b64encode(PEM + b"-----BEGIN CERTIFICATE-----\nMIIE\n").decode(), "ca.certificate is not PEM"),
        (b64encode(PEM.replace(b"MII", b"M<I")).decode(), "ca.certificate is not PEM"),
        (b64encode(b"-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n").decode(), "ca.certificate is not PEM"),
        (b64encode(PEM + b"\x1b[2J").decode(), "ca.certificate is not PEM"),
        ([1], "ca.certificate is not a string"),
        (True, "ca.certificate is not a string"),
        ("é", "ca.certificate is not base64"),
    ],
)
async def test_a_garbled_ca_makes_no_sense(edge: Edge, certificate: Any, said: str) -> None:
    edge.control.add_fault("status", path="/ca$", status=200, body={"ca": {"certificate": certificate}})
    with pytest.raises(UpstreamUnavailable, match=said):
        await edge.ca()


@pytest.mark.parametrize("pem", [PEM, PEM + PEM, b"subject=CN = ca\r\n" + PEM.replace(b"\n", b"\r\n"), PEM.rstrip()])
async def test_a_ca_is_one_certificate_or_several(edge: Edge, pem: bytes) -> None:
    body: Json = {"ca": {"certificate": b64encode(pem).decode()}}
    edge.control.add_fault("status", path="/ca$", status=200, body=body)
    assert await edge.ca() == pem


@pytest.mark.parametrize("body", [{}, {"ca": None}, {"ca": {}}, {"ca": {"certificate": ""}}])
async def test_a_cluster_may_have_no_ca(edge: Edge, body: Any) -> None:
    edge.control.add_fault("status", path="/ca$", status=200, body=body)
    assert await edge.ca() == b""


async def test_a_404_in_place_of_a_ca_is_a_cluster_without_one(edge: Edge) -> None:
    edge.control.add_fault("status", path="/ca$", status=404)
    assert await edge.ca() == b""


async def test_the_same_failure_says_the_same_words(edge: Edge) -> None:
    for kind in ("plain_404", "gateway_timeout", "truncate"):
        assert (await edge.failing(kind)).message == (await edge.failing(kind)).message


# --- the listing -----------------------------------------------------------------------------------------------------------


def answering(
    *bodies: object, status: int = 200, headers: Mapping[str, str] | None = None, seen: list[httpx.Request] | None = None
) -> DigitalOcean:
    """The edge in front of replies that are given, one after the other, the last one again and again."""
    left = list(bodies)

    def answer(request: httpx.Request) -> httpx.Response:
        if seen is not None:
            seen.append(request)
        body = left.pop(0) if len(left) > 1 else left[0]
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        return arriving(status, content, headers=headers, piece=1000)

    client = httpx.AsyncClient(transport=httpx.MockTransport(answer))
    return DigitalOcean(client, base_url="http://do.example", ask_again_after=0.0)


async def page_of(*bodies: object, after: str | None = None, known: ClusterPage | None = None) -> ClusterPage:
    return await answering(*bodies).get_page(TOKEN, after, known=known, observe=lambda *_: None)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({}, "required field databases is missing"),
        ({"databases": None}, "required field databases is missing"),
        ({"databases": {}}, "databases is not a list"),
        ({"databases": "x"}, "databases is not a list"),
        ({"databases": [], "links": []}, "links is not an object"),
        ({"databases": [], "links": {"pages": {"next": 7}}}, "links.pages.next is not a string"),
        ({"databases": [], "links": {"pages": {"next": "http://["}}}, "links.pages.next is not a valid URL"),
        ({"databases": [], "links": {"pages": {"next": "?\ud800"}}}, "links.pages.next is not a valid URL"),
        ({"databases": [], "links": {"pages": {"next": "?page=é"}}}, "links.pages.next is not a valid URL"),
        ({"databases": [], "links": {"pages": {"next": "?a\0b"}}}, "links.pages.next is not a valid URL"),
        ({"databases": [], "links": {"pages": {"next": "?" + "a" * 2049}}}, "links.pages.next is not a valid URL"),
        ({"databases": [], "links": {"pages": {"next": "http://evil.example/v2/databases?page=2"}}}, "DigitalOcean's own host"),
        (
            {"databases": [], "links": {"pages": {"next": "http://do.example@evil.example/?page=2"}}},
            "pages.next is not on DigitalOcean's own host",
        ),
        (b'{"databases": [' + b"1," * 300_000 + b"1]}", "too many values"),
    ],
)
async def test_a_listing_that_cannot_be_read_says_why(body: object, said: str) -> None:
    with pytest.raises(UpstreamUnavailable, match=said):
        await page_of(body)


@pytest.mark.parametrize(
    ("links", "read"),
    [
        (None, None),
        ({}, None),
        ({"pages": None}, None),
        ({"pages": {}}, None),
        ({"pages": {"next": ""}}, None),
        ({"pages": {"next": None}}, None),
        ({"pages": {"next": "http://do.example/v2/databases?page=2&per_page=200"}}, "/v2/databases?page=2&per_page=200"),
        ({"pages": {"next": "?page=" + "2" * 2043}}, "/v2/databases?page=" + "2" * 2043),
    ],
)
async def test_the_next_page_is_asked_for_by_the_query_it_was_named_with(links: object, read: str | None) -> None:
    assert (await page_of({"databases": [], "links": links})).next == read


@pytest.mark.parametrize(
    ("total", "read"),
    [
        (401, 401),
        (0, 0),
        (10**6, 10**6),
        (10**6 + 1, None),
        (10**4000, None),
        (-1, None),
        (True, None),
        ("4", None),
        (None, None),
    ],
)
async def test_a_total_that_cannot_be_was_not_said(total: object, read: int | None) -> None:
    assert (await page_of({"databases": [], "meta": {"total": total}})).total == read


@pytest.mark.parametrize("meta", [None, [], "x", {}])
async def test_a_listing_without_a_total_is_one(meta: object) -> None:
    assert (await page_of({"databases": [], "meta": meta})).total is None


async def test_one_cluster_that_cannot_be_read_does_not_cost_the_page() -> None:
    good = cluster_body()
    bads: list[object] = [None, 7, [], {}, {**good, "id": None}, {**good, "id": "x"}, {**good, "engine": "\ud800"}]
    for bad in bads:
        page = await page_of({"databases": [good, bad, {**good, "id": OTHER}]})
        assert page.length == 3
        assert page.clusters is not None
        assert [found.uuid for found in page.clusters] == [good["id"], OTHER]
    page = await page_of(b'{"databases": [{"id": "\xff"}, ' + json.dumps(good).encode() + b"]}")
    assert page.clusters is not None
    assert len(page.clusters) == 1


async def test_half_a_character_costs_what_it_stands_in_alone() -> None:
    halved = cluster_body(private_connection=connection_body(password="\ud800"))
    page = await page_of({"databases": [halved, {**cluster_body(name="\ud800"), "id": OTHER}], "x\udfff": "\ud800"})
    assert page.clusters is not None
    first, second = page.clusters
    assert first.endpoints.faults
    assert (second.name, second.endpoints.faults) == ("\N{REPLACEMENT CHARACTER}", {})


async def test_a_page_that_is_as_it_was_is_not_parsed_again() -> None:
    first = await page_of({"databases": [cluster_body()], "meta": {"total": 1}})
    again = await page_of({"databases": [cluster_body()], "meta": {"total": 1}}, known=first)
    assert again == replace(first, clusters=None)
    assert "pw-1" not in repr(first)
    changed = await page_of({"databases": [cluster_body(name="other")], "meta": {"total": 1}}, known=first)
    assert changed.clusters is not None


async def test_the_first_page_is_as_large_as_the_api_allows_and_the_others_are_as_they_were_named() -> None:
    seen: list[httpx.Request] = []
    api = answering({"databases": []}, seen=seen)
    await api.get_page(TOKEN, None, known=None, observe=lambda *_: None)
    await api.get_page(TOKEN, "/v2/databases?page=2", known=None, observe=lambda *_: None)
    assert [str(request.url) for request in seen] == [
        f"http://do.example/v2/databases?per_page={PER_PAGE}",
        "http://do.example/v2/databases?page=2",
    ]
    assert PER_PAGE == 200


async def test_an_api_without_a_listing_is_trouble_upstream() -> None:
    with pytest.raises(UpstreamUnavailable, match="no listing"):
        await answering({}, status=404).get_page(TOKEN, None, known=None, observe=lambda *_: None)


# --- whose answer it is ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("change", [{"id": None}, {"id": ""}, {"id": NOBODY}])
async def test_an_answer_without_the_uuid_that_was_asked_for_is_not_that_clusters(change: dict[str, Any]) -> None:
    with pytest.raises(UpstreamUnavailable):
        await answering({"database": cluster_body(**change)}).get_cluster(TOKEN, UUID, observe=lambda *_: None)


async def test_another_users_or_pools_answer_is_never_taken_for_the_one_that_was_asked_for() -> None:
    api = answering({"user": {"name": "other", "password": "x"}, "pool": {"name": "other"}})
    with pytest.raises(UpstreamUnavailable, match="for another user than app; retrying"):
        await api.get_user(TOKEN, UUID, "app", observe=lambda *_: None)
    with pytest.raises(UpstreamUnavailable, match="for another connection pool than app; retrying"):
        await api.get_pool(TOKEN, UUID, "app", observe=lambda *_: None)


async def test_a_cookie_of_one_token_travels_with_none() -> None:
    seen: list[httpx.Request] = []
    headers = {"set-cookie": "session=CANARY; Path=/; Max-Age=3600"}
    api = answering({"database": cluster_body()}, headers=headers, seen=seen)
    for token in (TOKEN, "another", TOKEN):
        await api.get_cluster(token, UUID, observe=lambda *_: None)
    assert [request.headers.get("cookie") for request in seen] == [None, None, None]
    assert [request.headers["authorization"] for request in seen] == [f"Bearer {TOKEN}", "Bearer another", f"Bearer {TOKEN}"]


# --- how large it is -------------------------------------------------------------------------------------------------------


def zipped(content: bytes) -> bytes:
    return gzip.compress(content, compresslevel=1)


async def read_zipped(content: bytes, *, encoding: str = "gzip", status: int = 200) -> DatabaseCluster:
    api = answering(content, headers={"content-encoding": encoding}, status=status)
    return await api.get_cluster(TOKEN, UUID, observe=lambda *_: None)


WHOLE = json.dumps({"database": cluster_body()}).encode()


@pytest.mark.parametrize("encoding", ["gzip", "GZIP", " gzip "])
async def test_a_body_may_be_zipped(encoding: str) -> None:
    assert (await read_zipped(zipped(WHOLE), encoding=encoding)).uuid == UUID


async def test_a_body_is_as_large_as_allowed_and_not_a_byte_larger() -> None:
    filled = WHOLE + b" " * (MAX_OBJECT - len(WHOLE))
    for encoding, encode in (("gzip", zipped), ("identity", bytes)):
        assert (await read_zipped(encode(filled), encoding=encoding)).uuid == UUID
        with pytest.raises(UpstreamUnavailable, match="larger than 1048576 bytes"):
            await read_zipped(encode(filled + b" "), encoding=encoding)


async def test_a_ca_and_a_page_have_limits_of_their_own() -> None:
    with pytest.raises(UpstreamUnavailable, match="larger than 262144 bytes"):
        await answering(b" " * (MAX_CA + 1)).get_ca(TOKEN, UUID, observe=lambda *_: None)
    page = json.dumps({"databases": []}).encode()
    assert (await page_of(page + b" " * (MAX_PAGE - len(page)))).length == 0
    with pytest.raises(UpstreamUnavailable, match="larger than 4194304 bytes"):
        await page_of(page + b" " * (MAX_PAGE + 1 - len(page)))


async def test_what_a_bomb_would_become_is_never_held() -> None:
    bomb = zipped(bytes(256 * 2**20))
    tracemalloc.start()
    try:
        with pytest.raises(UpstreamUnavailable, match="larger than"):
            await read_zipped(bomb)
        with pytest.raises(UpstreamUnavailable, match="answered 500; retrying"):
            await read_zipped(bomb, status=500)
        assert tracemalloc.get_traced_memory()[1] < 8 * 2**20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "body", [b" " * (MAX_OBJECT + 1), b'{"database": "' + b"x" * (MAX_OBJECT - 100) + b'"}'], ids=["too large", "wrong"]
)
async def test_a_cause_that_is_kept_does_not_keep_the_reply_that_it_came_from(body: bytes) -> None:
    api, kept = answering(body), list[Cause]()
    tracemalloc.start()
    try:
        for _ in range(20):
            with pytest.raises(UpstreamUnavailable) as caught:
                await api.get_cluster(TOKEN, UUID, observe=lambda *_: None)
            kept.append(caught.value)
            del caught
        assert tracemalloc.get_traced_memory()[0] < 4 * 2**20
    finally:
        tracemalloc.stop()


async def test_of_large_bodies_a_few_are_read_at_a_time_and_small_ones_do_not_wait() -> None:
    arrived: Counter[str] = Counter()
    may_end = asyncio.Event()

    class Slow(httpx.AsyncByteStream):
        def __init__(self, uuid: str, size: int) -> None:
            self._uuid, self._size = uuid, size

        async def __aiter__(self) -> AsyncIterator[bytes]:
            body = json.dumps({"database": cluster_body(id=self._uuid)}).encode()
            for _ in range(self._size // 1024):
                yield b" " * 1024
                arrived[self._uuid] += 1024
                await asyncio.sleep(0)
            if self._size > LARGE:
                await may_end.wait()
            yield body

    def answer(request: httpx.Request) -> httpx.Response:
        uuid = request.url.path.rpartition("/")[2]
        return httpx.Response(200, stream=Slow(uuid, sizes[uuid]))

    large, small = ([f"{kind}0000000-0000-4000-8000-00000000000{number}" for number in range(9)] for kind in (1, 2))
    sizes = dict.fromkeys(large, 4 * LARGE) | dict.fromkeys(small, LARGE // 2)
    api = DigitalOcean(httpx.AsyncClient(transport=httpx.MockTransport(answer)), base_url="http://do.example")
    reads = {uuid: asyncio.create_task(api.get_cluster(TOKEN, uuid, observe=lambda *_: None)) for uuid in (*large, *small)}
    assert [(await reads[uuid]).uuid for uuid in small] == small
    for _ in range(20 * LARGE // 1024):
        await asyncio.sleep(0)
    assert sum(arrived[uuid] > LARGE + 1024 for uuid in large) == LARGE_AT_ONCE
    may_end.set()
    assert [(await reads[uuid]).uuid for uuid in large] == large


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (zipped(WHOLE)[:-9], "incomplete"),
        (b"", "incomplete"),
        (zipped(WHOLE)[:20] + b"\xff" * 500, "corrupted"),
        (WHOLE, "corrupted"),
        (zipped(WHOLE) + bytes(5000), "does not end where it should"),
        (zipped(WHOLE) + b"x", "does not end where it should"),
        (zipped(WHOLE) * 2, "does not end where it should"),
    ],
)
async def test_a_zipped_body_that_is_broken_is_named_as_such(content: bytes, said: str) -> None:
    with pytest.raises(UpstreamUnavailable, match=said):
        await read_zipped(content)


@pytest.mark.parametrize("encoding", ["br", "deflate", "gzip, gzip", "zstd", "x"])
async def test_an_encoding_that_nobody_asked_for_is_refused(encoding: str) -> None:
    with pytest.raises(UpstreamUnavailable, match="encoding is not gzip"):
        await read_zipped(WHOLE, encoding=encoding)


async def test_a_body_without_end_is_not_waited_for() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        with contextlib.suppress(ConnectionError):
            while not writer.is_closing():
                writer.write(b" " * 65536)
                await writer.drain()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        cause = await failure_at(f"http://127.0.0.1:{port}")
    assert "larger than 1048576 bytes" in cause.message


async def test_every_reply_is_counted_also_one_that_cannot_be_read() -> None:
    for status, body in ((200, b" " * (MAX_OBJECT + 1)), (500, b" " * (MAX_OBJECT + 1)), (200, b"{"), (404, b"")):
        seen: list[tuple[int, int | None]] = []
        api = answering(body, status=status, headers={"ratelimit-remaining": "7"})
        with pytest.raises(Cause):
            await api.get_cluster(TOKEN, UUID, observe=lambda *reply: seen.append((reply[0], reply[1].remaining)))  # noqa: B023
        assert seen == [(status, 7)]


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
    async with httpx.AsyncClient(timeout=timeout, trust_env=False, verify=NO_CERTIFICATES) as client:
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
