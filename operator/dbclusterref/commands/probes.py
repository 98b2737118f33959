"""Serves /healthz, /readyz and /metrics, and stays reachable whatever else connects to the port."""

import asyncio
import logging
from collections.abc import Callable
from typing import cast

from aiohttp import web
from aiohttp.http import HttpProcessingError

from dbclusterref.errors import SettingsError

Check = Callable[[], list[str]]
"""Returns what is wrong, a sentence each; an empty list means nothing is."""
RenderMetrics = Callable[[str], tuple[bytes, str]]
"""Returns all metrics in a format that an Accept header allows, and their content type."""

MOST_CONNECTIONS = 64
"""At once. A further one takes the place of the oldest, so that a probe is answered while somebody holds connections open."""
LONGEST_CONNECTION = 10.0
"""Seconds from a connection's beginning to its end: a probe or a scrape takes a few milliseconds."""

_LOGGER = logging.getLogger("dbclusterref.http")


def _is_our_fault(record: logging.LogRecord) -> bool:
    """Return False for what is wrong with a request: anyone can send any number, and aiohttp's words quote a token in it."""
    return not (record.exc_info and isinstance(record.exc_info[1], HttpProcessingError))


_LOGGER.addFilter(_is_our_fault)


class Connections:
    """The open connections, oldest first."""

    def __init__(self) -> None:
        self._open: dict[asyncio.Transport, None] = {}

    def add(self, transport: asyncio.Transport) -> None:
        """Add one; the oldest ends where there are too many."""
        if len(self._open) >= MOST_CONNECTIONS:
            oldest = next(iter(self._open))
            self.discard(oldest)
            oldest.abort()
        self._open[transport] = None

    def discard(self, transport: asyncio.Transport) -> None:
        """Drop one that has ended."""
        self._open.pop(transport, None)


class Bounded(asyncio.Protocol):
    """One connection: aiohttp's own protocol within bounds of number and time that aiohttp's server does not have."""

    def __init__(self, inner: asyncio.Protocol, connections: Connections) -> None:
        self._inner = inner
        self._connections = connections
        self._transport: asyncio.Transport | None = None
        self._end: asyncio.TimerHandle | None = None

    def admit(self, transport: asyncio.BaseTransport) -> asyncio.Transport:
        """Have a connection count from now on."""
        self._transport = cast("asyncio.Transport", transport)
        self._connections.add(self._transport)
        self._end = asyncio.get_running_loop().call_later(LONGEST_CONNECTION, self._transport.abort)
        return self._transport

    def begin(self, transport: asyncio.BaseTransport) -> None:
        """Have requests answered, on the connection itself or on what was made of it."""
        self._inner.connection_made(transport)

    def release(self) -> None:
        """Have a connection no longer count."""
        assert self._transport is not None
        assert self._end is not None
        self._end.cancel()
        self._connections.discard(self._transport)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Admit a connection and begin at once."""
        self.begin(self.admit(transport))

    def connection_lost(self, exc: Exception | None) -> None:
        """Release it."""
        self.release()
        self._inner.connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Pass data on."""
        self._inner.data_received(data)

    def eof_received(self) -> bool | None:
        """Pass the end of the data on."""
        return self._inner.eof_received()

    def pause_writing(self) -> None:
        """Pass it on."""
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        """Pass it on."""
        self._inner.resume_writing()


class ProbeServer:
    """The running server."""

    def __init__(self, runner: web.AppRunner, server: asyncio.Server) -> None:
        self._runner = runner
        self._server = server
        self.port = int(server.sockets[0].getsockname()[1])

    async def close(self) -> None:
        """Stop serving."""
        self._server.close()
        await self._runner.cleanup()


async def serve_probes(
    *, host: str, port: int, healthy: Check, ready: Check, metrics: RenderMetrics | None, describe: Check = list
) -> ProbeServer:
    """Start serving; an empty `host` is every address of every family, port 0 one that the system chooses.

    Without `metrics` there is no /metrics. What `describe` returns is shown below every answer of /readyz. Raises SettingsError
    where the address cannot be used.
    """

    def probe(check: Check, more: Check = list) -> Callable[[web.Request], object]:
        async def answer(_request: web.Request) -> web.Response:
            wrong = check()
            return _closing(web.Response(status=503 if wrong else 200, text="\n".join([*(wrong or ["ok"]), *more()]) + "\n"))

        return answer

    application = web.Application()
    application.router.add_get("/healthz", probe(healthy))  # type: ignore[arg-type]
    application.router.add_get("/readyz", probe(ready, describe))  # type: ignore[arg-type]
    if render := metrics:

        async def show_metrics(request: web.Request) -> web.Response:
            return answer_metrics(request, render)

        application.router.add_get("/metrics", show_metrics)
    return await listen(
        application, host=host, port=port, flag="--metrics-address", protocol=lambda make, open_now: Bounded(make(), open_now)
    )


def answer_metrics(request: web.Request, metrics: RenderMetrics) -> web.Response:
    """Return all metrics in the format that a request asks for."""
    body, content_type = metrics(",".join(request.headers.getall("Accept", ())))
    return _closing(web.Response(body=body, headers={"Content-Type": content_type}))


async def listen(
    application: web.Application,
    *,
    host: str,
    port: int,
    flag: str,
    protocol: Callable[[Callable[[], asyncio.Protocol], Connections], asyncio.Protocol],
) -> ProbeServer:
    """Serve an application; `protocol` makes that of each connection of aiohttp's own and the connections that are open.

    Raises SettingsError, naming the flag, where the address cannot be used.
    """
    runner = web.AppRunner(application, access_log=None, logger=_LOGGER, handle_signals=False, shutdown_timeout=1.0)
    await runner.setup()
    assert runner.server is not None
    make_protocol, connections = runner.server, Connections()
    try:
        server = await asyncio.get_running_loop().create_server(
            lambda: protocol(make_protocol, connections), host or None, port, backlog=MOST_CONNECTIONS
        )
    except OSError as error:
        await runner.cleanup()
        raise SettingsError(f"{flag}: cannot listen on {host}:{port} ({error.strerror}); choose another port.") from None
    return ProbeServer(runner, server)


def _closing(response: web.Response) -> web.Response:
    # Probes and scrapes come seconds apart: no open connection is needed in between.
    response.force_close()
    return response
