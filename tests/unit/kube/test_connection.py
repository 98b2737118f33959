import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from kubernetes.aio.client.configuration import Configuration

from dbclusterref.errors import KubernetesError
from dbclusterref.kube.config import TokenSource
from dbclusterref.kube.connection import LARGE, LARGE_AT_ONCE, REJECTED_PAUSE, Connection
from dbclusterref.kube.page_size import FIRST, MOST
from sandbox.controlplane.certificates import Authority

pytestmark = pytest.mark.sockets

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def serving(answer: Handler, *, tls: ssl.SSLContext | None = None) -> AsyncIterator[str]:
    application = web.Application()
    application.router.add_route("*", "/{tail:.*}", answer)
    runner = web.AppRunner(application, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls).start()
    yield f"{'https' if tls else 'http'}://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


@asynccontextmanager
async def connected(url: str, **settings: object) -> AsyncIterator[Connection]:
    configuration = Configuration(host=url)
    configuration.api_key["BearerToken"] = "Bearer first"
    configuration.client_session_kwargs = {"trust_env": False}
    for name, value in settings.items():
        setattr(configuration, name, value)
    connection = Connection(configuration, user_agent="dbclusterref/test")
    yield connection
    await connection.close()


# --- rejected credentials


class Gate:
    """Accepts one token."""

    def __init__(self) -> None:
        self.accepted = "Bearer second"
        self.asked: list[str] = []

    async def answer(self, request: web.Request) -> web.Response:
        self.asked.append(request.headers["Authorization"])
        if self.asked[-1] != self.accepted:
            return web.json_response({"kind": "Status", "message": "Unauthorized"}, status=401)
        return web.json_response({"items": []})


def replaced_by(token: str) -> TokenSource:
    async def read(configuration: Configuration) -> None:
        configuration.api_key["BearerToken"] = token

    source = TokenSource(read)
    source._read_at -= 10
    return source


async def test_a_rejected_token_that_was_replaced_costs_one_request_more() -> None:
    gate = Gate()
    async with serving(gate.answer) as url, connected(url, refresh_api_key_hook=replaced_by("Bearer second")) as connection:
        assert await connection.call("GET", "/x") == {"items": []}
        assert gate.asked == ["Bearer first", "Bearer second"]
        assert not connection.is_rejected


async def test_the_watches_session_finds_a_replaced_token_too() -> None:
    gate = Gate()
    source = replaced_by("Bearer second")
    async with serving(gate.answer) as url, connected(url, refresh_api_key_hook=source) as connection:
        async with connection.session() as session, session.get(f"{url}/x") as reply:
            assert reply.status == 200
        assert gate.asked == ["Bearer first", "Bearer second"]


async def test_rejected_credentials_are_a_broken_connection_to_kopf_which_it_retries_slowly() -> None:
    gate = Gate()
    async with serving(gate.answer) as url, connected(url) as connection:
        async with connection.session() as session:
            with pytest.raises(aiohttp.ClientConnectionError, match="rejected the operator's credentials"):
                await session.get(f"{url}/x")
        assert connection.is_rejected
        assert len(gate.asked) == 1


async def test_while_credentials_are_rejected_few_requests_are_made() -> None:
    gate = Gate()
    async with serving(gate.answer) as url, connected(url) as connection:
        for _ in range(20):
            with pytest.raises(KubernetesError, match=r"rejected the operator's credentials \(401\)") as raised:
                await connection.call("GET", "/x")
            assert raised.value.status == 401
        assert len(gate.asked) == 1
        gate.accepted = "Bearer first"
        connection._pause_until -= REJECTED_PAUSE
        assert await connection.call("GET", "/x") == {"items": []}
        assert not connection.is_rejected
        await connection.call("GET", "/x")
        assert len(gate.asked) == 3


# --- what a kubeconfig says of the way


async def test_the_watches_go_through_the_proxy_as_the_calls_do() -> None:
    asked: list[str] = []

    async def proxy(request: web.Request) -> web.Response:
        asked.append(str(request.url))
        return web.json_response({})

    url = "http://api.example:1234"
    async with serving(proxy) as proxy_url, connected(url, proxy=proxy_url) as connection:
        await connection.call("GET", "/call")
        async with connection.session() as session, session.get(f"{url}/watch") as reply:
            await reply.read()
    assert asked == [f"{url}/call", f"{url}/watch"]


async def test_the_watches_check_the_certificate_for_the_name_that_the_calls_check(tmp_path: Path) -> None:
    # `server_hostname` of a request is not documented for middlewares: this fails where that changes.
    authority = Authority(name="ca")
    credential = authority.issue("server", hosts=("kubernetes.example",))
    pem, ca = tmp_path / "server.pem", tmp_path / "ca.pem"
    pem.write_bytes(credential.certificate + credential.key)
    ca.write_bytes(authority.certificate)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(pem)

    async def answer(_: web.Request) -> web.Response:
        return web.json_response({})

    async with serving(answer, tls=tls) as url:
        async with connected(url, ssl_ca_cert=str(ca), tls_server_name="kubernetes.example") as connection:
            await connection.call("GET", "/call")
            async with connection.session() as session, session.get(f"{url}/watch") as reply:
                assert reply.status == 200
        async with connected(url, ssl_ca_cert=str(ca)) as connection, connection.session() as session:
            with pytest.raises(aiohttp.ClientConnectorCertificateError):
                await session.get(f"{url}/watch")


# --- listings


class Collection:
    """A collection of objects, served in pages."""

    def __init__(self, *sizes: int) -> None:
        self.items = [{"number": number, "x": "x" * size} for number, size in enumerate(sizes)]
        self.limits: list[int] = []
        self.longest = 0

    async def answer(self, request: web.Request) -> web.Response:
        limit, first = int(request.query["limit"]), int(request.query.get("continue", 0))
        self.limits.append(limit)
        more = str(first + limit) if first + limit < len(self.items) else ""
        page = {"metadata": {"resourceVersion": "7", "continue": more}, "items": self.items[first : first + limit]}
        return web.json_response(page)


async def listed(collection: Collection) -> list[int]:
    versions: list[str] = []
    async with serving(collection.answer) as url, connected(url) as connection:
        pages = connection.pages_of("/x", selector="", accept="application/json", listed_at=versions.append)
        numbers = [item["number"] async for item in pages]
    assert versions == ["7"]
    return numbers  # type: ignore[return-value]


async def test_small_objects_come_in_large_pages_and_in_order() -> None:
    collection = Collection(*[100] * 1000)
    assert await listed(collection) == list(range(1000))
    assert len(collection.limits) < 6


async def test_large_objects_among_small_ones_come_in_small_pages_and_all_of_them() -> None:
    collection = Collection(*[100] * 200, *[900_000] * 12, *[100] * 200, *[900_000] * 3)
    assert await listed(collection) == list(range(415))
    assert collection.limits[0] == FIRST
    assert 1 in collection.limits


async def test_a_page_that_is_too_large_is_not_read_to_its_end() -> None:
    sent = 0

    async def answer(request: web.Request) -> web.StreamResponse:
        nonlocal sent
        if request.query["limit"] == "1":
            return web.json_response({"metadata": {"resourceVersion": "7"}, "items": []})
        response = web.StreamResponse()
        await response.prepare(request)
        for _ in range(1000):
            await response.write(b" " * 100_000)
            sent += 100_000
        return response

    async with serving(answer) as url, connected(url) as connection:
        pages = connection.pages_of("/x", selector="", accept="application/json", listed_at=lambda _: None)
        assert [item async for item in pages] == []
    assert sent < 10 * MOST


async def test_a_large_answer_waits_while_others_are_read_and_a_small_one_does_not() -> None:
    """24 workers may each ask for a Secret of a megabyte."""

    async def answer(request: web.Request) -> web.Response:
        return web.json_response({"x": "x" * (4 * LARGE if request.path == "/large" else 10)})

    async with serving(answer) as url, connected(url) as connection:
        for _ in range(LARGE_AT_ONCE):
            await connection._large.acquire()
        large = asyncio.create_task(connection.call("GET", "/large"))
        await connection.call("GET", "/small")
        await asyncio.wait({large}, timeout=0.1)
        assert not large.done()
        connection._large.release()
        assert len(str((await large)["x"])) == 4 * LARGE
        assert connection._large._value == 1, "it is given back"
