import asyncio
import gc
import json
import weakref
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from dbclusterref.watch.stream_filter import StreamFilter
from tests.support.fakes import settle

pytestmark = pytest.mark.sockets

LINES = [b"echo", b"news", b"echo", b"echo", b"more news"]
WATCH = "/secrets?watch=true"


@dataclass
class Server:
    """Answers a watch with its pieces, each sent by itself, and anything else with one body."""

    pieces: Sequence[bytes] = ()
    body: object = None
    status: int = 200
    gate: asyncio.Event | None = None
    heard: list[str] = field(default_factory=list)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        if "watch" not in request.query:
            return web.json_response(self.body, status=self.status)
        response = web.StreamResponse(status=self.status)
        await response.prepare(request)
        for piece in self.pieces:
            await response.write(piece)
            await asyncio.sleep(0)
        if self.gate:
            await self.gate.wait()
        return response

    @asynccontextmanager
    async def session(self) -> AsyncIterator[aiohttp.ClientSession]:
        application = web.Application()
        application.router.add_get("/{tail:.*}", self.answer)
        runner = web.AppRunner(application, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        stream_filter = StreamFilter(hear=self.heard.append, is_known=is_known, is_own_write=lambda line: line == b"echo")
        url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        async with aiohttp.ClientSession(url, middlewares=(stream_filter,)) as session:
            yield session
        await runner.cleanup()


def is_known(item: Mapping[str, object]) -> bool:
    return item["name"] == "known"


async def heard(server: Server) -> bytes:
    async with server.session() as session, session.get(WATCH) as reply:
        return b"".join([chunk async for chunk in reply.content.iter_chunked(1024)])


@pytest.mark.parametrize("size", [1, 2, 3, 5, 7, 1000])
async def test_a_watch_is_heard_without_echoes_however_it_is_cut_into_pieces(size: int) -> None:
    whole = b"\n".join([*LINES, b""])
    pieces = [whole[start : start + size] for start in range(0, len(whole), size)]
    assert await heard(Server(pieces=pieces)) == b"news\nmore news\n"


async def test_a_line_without_an_end_is_passed_on_when_the_watch_ends() -> None:
    assert await heard(Server(pieces=[b"news\nbroken o", b"ff"])) == b"news\nbroken off"


async def test_a_watch_is_alive_from_when_it_begins_and_with_each_echo() -> None:
    server = Server(pieces=[b"echo\n"], gate=asyncio.Event())
    assert server.gate
    async with server.session() as session, session.get(WATCH) as reply:
        assert server.heard == ["/secrets"]
        chunks = asyncio.create_task(anext(reply.content.iter_chunked(1024), None))
        async with asyncio.timeout(5):
            while server.heard != ["/secrets"] * 2:
                await asyncio.wait({chunks}, timeout=0.001)
        assert not chunks.done(), "an echo is no news"
        server.gate.set()
        assert await chunks is None


async def json_of(server: Server) -> Any:
    async with server.session() as session, session.get("/secrets") as reply:
        return await reply.json()


async def test_a_listing_is_heard_without_what_is_known() -> None:
    listing = {"metadata": {"continue": "c", "resourceVersion": "9"}, "items": [{"name": "known"}, {"name": "new"}]}
    assert await json_of(Server(body=listing)) == {**listing, "items": [{"name": "new"}]}


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


@pytest.mark.parametrize("body", [{"items": None}, {"resources": [{"name": "known"}]}, ["known"], None, "known"])
async def test_what_is_no_listing_is_heard_as_it_is(body: object) -> None:
    assert await json_of(Server(body=body)) == body


async def test_a_refusal_is_heard_as_it_is() -> None:
    refusal = {"kind": "Status", "items": [{"name": "known"}]}
    assert await json_of(Server(body=refusal, status=410)) == refusal
    assert json.loads(await heard(Server(pieces=[json.dumps(refusal).encode()], status=410))) == refusal
