"""The HTTP shell: bytes in, bytes out, and the ways a connection itself can fail."""

import asyncio
import json
import socket
import struct
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from aiohttp import web

from sandbox.digitalocean.control import obey
from sandbox.digitalocean.disturb import Delivery, Manner
from sandbox.digitalocean.replies import Reply, json_reply
from sandbox.digitalocean.simulator import Simulator
from sandbox.digitalocean.world import Recipe

# Zero seconds to linger: closing the socket then sends RST instead of FIN.
_RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)
_LARGEST_BODY: Final = 16 * 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningSimulator:
    """A simulator that listens."""

    url: str
    """Base URL without a trailing slash; the API lies at `{url}/v2`, the control surface at `{url}/control`."""


@contextmanager
def serve_simulator(
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    seed: int = 0,
    clusters: int = 0,
    clock: Callable[[], float] = time.time,
) -> Iterator[RunningSimulator]:
    """Serve the API until the block ends. Port 0 takes a free one; `clusters` of every engine are there from the start.

    `clock` gives Unix time to the rate limits; the control surface can move it and speed it up from there. The server
    has a thread and an event loop of its own, so that blocking clients (`Control`, pydo) can be used anywhere.
    """
    simulator = Simulator(seed=seed, clock=clock)
    simulator.world.seed_clusters(clusters, Recipe())
    started: Future[_Listening] = Future()
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="digitalocean") as threads:
        ended = threads.submit(asyncio.run, _listen(simulator, host=host, port=port, started=started))
        either: set[Future[Any]] = {started, ended}
        wait(either, return_when=FIRST_COMPLETED)
        if ended.done():
            ended.result()  # raises what kept it from starting: a port that is taken, say
        listening = started.result()
        try:
            yield RunningSimulator(url=listening.url)
        finally:
            listening.stop()
            ended.result()


@asynccontextmanager
async def start_simulator(
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    seed: int = 0,
    clusters: int = 0,
    clock: Callable[[], float] = time.time,
) -> AsyncIterator[RunningSimulator]:
    """`serve_simulator` for a caller in an event loop, which is not held up while the server starts and ends."""
    serving = serve_simulator(host=host, port=port, seed=seed, clusters=clusters, clock=clock)
    with ExitStack() as stack:
        running = await asyncio.to_thread(stack.enter_context, serving)
        try:
            yield running
        finally:
            await asyncio.to_thread(stack.close)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Listening:
    url: str
    stop: Callable[[], object]
    """May be called from any thread."""


async def _listen(simulator: Simulator, *, host: str, port: int, started: Future[_Listening]) -> None:
    shell = _Shell(simulator)
    # Without the cancellation a client that left would keep its hanging request, and the server, alive.
    runner = web.AppRunner(shell.application(), handler_cancellation=True, access_log=None, shutdown_timeout=1)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port, backlog=1024).start()
        bound_host, bound_port = runner.addresses[0][:2]
        shown = f"[{bound_host}]" if ":" in bound_host else bound_host
        stop = partial(asyncio.get_running_loop().call_soon_threadsafe, shell.stopping.set)
        started.set_result(_Listening(url=f"http://{shown}:{bound_port}", stop=stop))
        await shell.stopping.wait()
    finally:
        await runner.cleanup()


class _Shell:
    def __init__(self, simulator: Simulator) -> None:
        self._simulator = simulator
        self.stopping = asyncio.Event()

    def application(self) -> web.Application:
        application = web.Application(client_max_size=_LARGEST_BODY)
        application.router.add_route("*", "/control{tail:.*}", self._serve_control)
        application.router.add_route("*", "/{tail:.*}", self._serve_api)
        return application

    async def _serve_control(self, request: web.Request) -> web.StreamResponse:
        text = await request.text()
        try:
            body = json.loads(text) if text else {}
        except json.JSONDecodeError:
            return _whole(json_reply({"message": "the body is not JSON"}, status=400))
        return _whole(obey(self._simulator, request.method, request.rel_url.raw_path, query=request.query, body=body))

    async def _serve_api(self, request: web.Request) -> web.StreamResponse:
        # reset_auth takes a body; it is read so that the connection can be used again.
        await request.read()
        delivery = self._simulator.handle(
            request.method,
            request.rel_url.raw_path,
            query=request.query,
            path_qs=request.raw_path,
            token=_bearer(request.headers.get("authorization")),
            base_url=str(request.url.origin()),
        )
        return await self._send(request, delivery)

    async def _send(self, request: web.Request, delivery: Delivery) -> web.StreamResponse:
        match delivery.manner:
            case Manner.WHOLE:
                await self._pause(delivery.delay)
                return _whole(delivery.reply)
            case Manner.STALLED:
                return await self._send_stalled(request, delivery)
            case Manner.ENDLESS:
                return await self._send_endless(request, delivery)
            case Manner.RESET:
                await self._pause(delivery.delay)
                _reset(request)
            case Manner.NEVER:
                await self.stopping.wait()
                _reset(request)
        return web.Response()

    async def _send_stalled(self, request: web.Request, delivery: Delivery) -> web.StreamResponse:
        body = delivery.reply.body
        response = web.StreamResponse(status=delivery.reply.status, headers=_headers(delivery.reply))
        response.content_length = len(body)
        await response.prepare(request)
        await response.write(body[: len(body) // 2])
        if delivery.delay:
            await self._pause(delivery.delay)
        else:
            await self.stopping.wait()
        await response.write(body[len(body) // 2 :])
        await response.write_eof()
        return response

    async def _send_endless(self, request: web.Request, delivery: Delivery) -> web.StreamResponse:
        response = web.StreamResponse(status=delivery.reply.status, headers=_headers(delivery.reply))
        await response.prepare(request)
        with suppress(ConnectionError):
            while not self.stopping.is_set():
                await response.write(b" " * 65536)
        return response

    async def _pause(self, seconds: float) -> None:
        """Wait, but not past the end of the server."""
        if seconds:
            with suppress(TimeoutError):
                await asyncio.wait_for(self.stopping.wait(), timeout=seconds)


def _bearer(header: str | None) -> str | None:
    scheme, _, value = (header or "").partition(" ")
    return value.strip() if scheme.lower() == "bearer" and value.strip() else None


def _headers(reply: Reply) -> dict[str, str]:
    return {"content-type": reply.content_type, **reply.headers}


def _whole(reply: Reply) -> web.Response:
    return web.Response(status=reply.status, body=reply.body, headers=_headers(reply))


def _reset(request: web.Request) -> None:
    transport = request.transport
    if transport is None:
        return
    connection: socket.socket | None = transport.get_extra_info("socket")
    if connection is not None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
    transport.abort()
