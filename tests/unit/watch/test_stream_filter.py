import asyncio
import gc
import json
import weakref
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from dbclusterref.kube.connection import METADATA_ALONE
from dbclusterref.watch.stream_filter import LARGE, StreamFilter
from tests.support.fake_time import settle

pytestmark = pytest.mark.sockets

LINES = [b"{own}", b"{foreign}", b"{own}", b"{own}", b"{another}"]
WATCH = "/secrets?watch=true"


@dataclass
class Server:
    """Answers a watch with its pieces, each sent separately, and anything else with one body; the watches' observer, too."""

    pieces: Sequence[bytes] = ()
    body: object = None
    status: int = 200
    gate: asyncio.Event | None = None
    breaks: bool = False
    version: str = "7"
    heard: list[str] = field(default_factory=list)
    told: list[tuple[str, str]] = field(default_factory=list)
    accepted: list[str] = field(default_factory=list)
    left: dict[bytes, bytes] = field(default_factory=dict)
    """What is left for kopf of each large line."""

    def began(self, path: str, *, since: str) -> None:
        self.heard.append(path)
        self.told.append((path, since))

    def received(self, path: str) -> None:
        self.heard.append(path)

    def broke(self, path: str) -> None:
        self.told.append((path, "broke"))

    def refused(self, path: str, *, status: int) -> None:
        self.told.append((path, str(status)))

    def listed_at(self, path: str) -> str:
        self.told.append((path, "listed"))
        return self.version

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.accepted.append(request.headers["Accept"])
        if "watch" not in request.query:
            return web.json_response(self.body, status=self.status)
        response = web.StreamResponse(status=self.status)
        await response.prepare(request)
        for piece in self.pieces:
            await response.write(piece)
            await asyncio.sleep(0)
        if self.gate:
            await self.gate.wait()
        if self.breaks and request.transport:
            request.transport.abort()
        return response

    @asynccontextmanager
    async def session(self) -> AsyncIterator[aiohttp.ClientSession]:
        application = web.Application()
        application.router.add_get("/{tail:.*}", self.answer)
        runner = web.AppRunner(application, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        stream_filter = StreamFilter(
            watches=["/secrets"],
            observer=self,
            is_own_write=lambda line: line == b"{own}",
            take_large=lambda watch, line: self.left[line] if watch == "/secrets" else line,
        )
        url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        try:
            async with aiohttp.ClientSession(
                url, middlewares=(stream_filter,), response_class=stream_filter.response_class
            ) as session:
                yield session
        finally:
            await runner.cleanup()


async def heard(server: Server) -> bytes:
    async with server.session() as session, session.get(WATCH) as reply:
        return b"".join([chunk async for chunk in reply.content.iter_chunked(1024)])


@pytest.mark.parametrize("size", [1, 2, 3, 5, 7, 1000])
async def test_a_watch_is_heard_without_own_writes_however_it_is_cut_into_pieces(size: int) -> None:
    whole = b"\n".join([*LINES, b""])
    pieces = [whole[start : start + size] for start in range(0, len(whole), size)]
    assert await heard(Server(pieces=pieces)) == b"{foreign}\n{another}\n"


async def test_a_large_line_is_taken_in_and_kopf_is_given_what_that_leaves() -> None:
    large = [letter * LARGE + b"}" for letter in (b"a", b"b")]
    server = Server(pieces=[b"\n".join([b"{foreign}", *large, b"{another}", b""])])
    server.left = {large[0]: b"", large[1]: b"{in its place}"}
    assert await heard(server) == b"{foreign}\n{in its place}\n{another}\n"


@pytest.mark.parametrize("end", [b"", b"\n", b"\n{foreign}\n"])
async def test_a_line_that_was_cut_short_ends_the_watch_as_a_broken_connection_does(end: bytes) -> None:
    server = Server(pieces=[b"{foreign}\n", b'{"type": "ADDED", "object": {"meta' + end])
    with pytest.raises(aiohttp.ClientPayloadError):  # kopf begins again; it would end by what is no JSON
        await heard(server)
    assert server.told == [("/secrets", ""), ("/secrets", "broke")]


async def test_a_blank_line_is_no_line_that_was_cut_short() -> None:
    server = Server(pieces=[b"{foreign}\n\n \n{another}\r\n"])
    assert (await heard(server)).split() == [b"{foreign}", b"{another}"]
    assert server.told == [("/secrets", "")]


async def test_a_whole_line_without_its_end_is_passed_on_when_the_watch_ends() -> None:
    assert await heard(Server(pieces=[b"{foreign}\n", b"{another}"])) == b"{foreign}\n{another}"


async def test_a_watch_is_alive_from_when_it_begins_and_with_each_own_write() -> None:
    server = Server(pieces=[b"{own}\n"], gate=asyncio.Event())
    assert server.gate
    async with server.session() as session, session.get(WATCH) as reply:
        assert server.heard == ["/secrets"]
        chunks = asyncio.create_task(anext(reply.content.iter_chunked(1024), None))
        async with asyncio.timeout(5):
            while server.heard != ["/secrets"] * 2:
                await asyncio.wait({chunks}, timeout=0.001)
        assert not chunks.done(), "an own write is not passed on"
        server.gate.set()
        assert await chunks is None


async def json_of(server: Server) -> Any:
    async with server.session() as session, session.get("/secrets") as reply:
        return await reply.json()


async def test_of_a_listing_kopf_is_given_only_the_version_of_our_own() -> None:
    server = Server(body={"metadata": {"continue": "c", "resourceVersion": "9"}, "items": [{"name": "some"}]})
    assert await json_of(server) == {"metadata": {"resourceVersion": "7"}, "items": []}
    assert server.told == [("/secrets", "listed")]
    assert server.accepted == [METADATA_ALONE], "of its one object not even the data is read"


async def test_a_second_listing_waits_until_kopf_is_ended() -> None:
    server = Server(body={"items": []}, version="")
    async with server.session() as session, session.get("/secrets") as reply:
        answer = asyncio.create_task(reply.json())
        await asyncio.wait({answer}, timeout=0.05)
        assert not answer.done()
        answer.cancel()
        await asyncio.gather(answer, return_exceptions=True)


async def test_a_watch_is_told_with_the_version_it_begins_at() -> None:
    server = Server(pieces=[b"{foreign}\n"])
    async with server.session() as session, session.get(f"{WATCH}&resourceVersion=41"):
        assert server.told == [("/secrets", "41")]


async def test_a_watch_that_breaks_off_is_told_and_one_that_ends_is_not() -> None:
    server = Server(pieces=[b"{foreign}\n"], breaks=True)
    with pytest.raises(aiohttp.ClientError):
        await heard(server)
    assert server.told == [("/secrets", ""), ("/secrets", "broke")]
    ending = Server(pieces=[b"{foreign}\n"])
    await heard(ending)
    assert ending.told == [("/secrets", "")]


async def test_a_connection_that_is_refused_is_told() -> None:
    server = Server()
    async with server.session() as session:
        pass
    url, server = str(session._base_url), Server()
    stream_filter = StreamFilter(watches=["/secrets"], observer=server, is_own_write=lambda _: False)
    async with aiohttp.ClientSession(url, middlewares=(stream_filter,)) as session:
        with pytest.raises(aiohttp.ClientError):
            await session.get(WATCH)
    assert server.told == [("/secrets", "broke")]


@pytest.mark.parametrize("path", ["/secrets", WATCH])
async def test_what_is_not_found_is_told_and_waits_until_kopf_is_ended(path: str) -> None:
    server = Server(status=404)
    async with server.session() as session:
        request = asyncio.create_task(session.get(path))
        async with asyncio.timeout(5):
            while not server.told:
                await asyncio.wait({request}, timeout=0.001)
        assert server.told == [("/secrets", "404")]
        await settle()
        assert not request.done()
        request.cancel()
        await asyncio.gather(request, return_exceptions=True)


async def test_a_listing_is_let_go_once_it_was_read() -> None:
    gc.collect()
    gc.disable()
    try:
        async with Server(body={"items": []}).session() as session:
            async with session.get("/secrets") as reply:
                await reply.json()
            response = weakref.ref(reply)
            del reply
            await settle()
            assert response() is None, "what refers to itself stays until the garbage collector comes round"
    finally:
        gc.enable()


@pytest.mark.parametrize("body", [{"items": None}, {"resources": [{"name": "some"}]}, ["some"], None, "some"])
async def test_what_is_no_listing_of_ours_is_passed_on_as_it_is(body: object) -> None:
    server = Server(body=body)
    async with server.session() as session, session.get("/apis") as reply:
        assert await reply.json() == body
    assert server.told == []


async def test_a_refusal_is_told_and_passed_on_as_it_is() -> None:
    refusal = {"kind": "Status", "items": [{"name": "some"}]}
    server = Server(body=refusal, status=410)
    assert await json_of(server) == refusal
    assert server.told == [("/secrets", "410")]
    assert json.loads(await heard(Server(pieces=[json.dumps(refusal).encode()], status=410))) == refusal
