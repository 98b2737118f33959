"""A reverse proxy in front of the API server that fails on demand: what stands between an operator and a calm night.

It ends TLS with a certificate of its own authority and speaks to the API server as whoever asks: the bearer token goes through.
Every write that passes is kept, so that a test can say who wrote what, and when.
"""

import asyncio
import io
import itertools
import json
import re
import ssl
import threading
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum
from http import HTTPStatus
from pathlib import Path
from typing import Any, Self

import aiohttp
from aiohttp import web

from sandbox.controlplane.certificates import Authority

WRITES = frozenset({"POST", "PUT", "PATCH", "DELETE"})
SECONDS = 30.0
_DROPPED = {"connection", "transfer-encoding", "content-length", "keep-alive", "host", "content-encoding"}


class ProxyFault(StrEnum):
    """The ways to fail."""

    STATUS = "status"
    """Answers `status` with a Status object; `headers` beside it."""
    HANG = "hang"
    """Takes the request and never answers."""
    RESET = "reset"
    """Closes the connection without an answer."""
    DELAY = "delay"
    """Passes the request on `delay` seconds late."""
    LATE_REPLY = "late_reply"
    """Passes the request on at once and the answer `delay` seconds late: the write lands, the writer does not know."""
    LOST_REPLY = "lost_reply"
    """Passes the request on and closes the connection in place of the answer."""
    EXPIRED = "expired"
    """In a watch: the event ERROR with code 410, as when the history was compacted."""
    BROKEN_EVENT = "broken_event"
    """In a watch: half a line of JSON, then the end."""
    EMPTY_LIST = "empty_list"
    """A listing without its items."""


_GONE = {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old resource version"}
_LAST_LINES = {
    ProxyFault.EXPIRED: json.dumps({"type": "ERROR", "object": _GONE}).encode() + b"\n",
    ProxyFault.BROKEN_EVENT: b'{"type": "ADDED", "object": {"meta\n',
}


@dataclass(slots=True, kw_only=True)
class Rule:
    """Which requests are corrupted and how. `path` is searched in the path with its query."""

    kind: ProxyFault
    path: str = ""
    method: str = ""
    agent: str = ""
    """Searched in the bearer token and the User-Agent: one operator among several."""
    status: int = 500
    message: str = "injected"
    headers: dict[str, str] = field(default_factory=dict)
    delay: float = 0.0
    count: int | None = None
    probability: float = 1.0
    acted: int = 0

    def meets(self, request: web.Request) -> bool:
        """Return whether a request is one of those."""
        caller = f"{request.headers.get('User-Agent', '')} {request.headers.get('Authorization', '')}"
        return (
            (self.count is None or self.acted < self.count)
            and (not self.method or request.method in self.method.split("|"))
            and re.search(self.path, request.path_qs) is not None
            and self.agent in caller
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Write:
    """A write that the API server was asked for and answered; `began` and `ended` are monotonic seconds."""

    method: str
    path: str
    peer: str
    began: float
    ended: float
    status: int
    body: bytes = field(repr=False)


class FaultProxy:
    """Runs in a thread and an event loop of its own. A context manager, to be used from any thread."""

    def __init__(self, *, server: str, server_ca: bytes, directory: Path, chance: Callable[[], float]) -> None:
        self._server = server
        self._directory = directory
        self._chance = chance
        self._authority = Authority(name="fault-proxy-ca")
        self._upstream_tls = ssl.create_default_context(cadata=server_ca.decode())
        self._rules: dict[int, Rule] = {}
        self._numbers = itertools.count(1)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="fault-proxy", daemon=True)
        self._open: dict[int, web.Request] = {}
        self.writes: list[Write] = []
        self.url = ""

    @property
    def ca(self) -> bytes:
        """PEM of the authority that signed the proxy's certificate."""
        return self._authority.certificate

    def __enter__(self) -> Self:
        self._thread.start()
        self._call(self._start())
        return self

    def __exit__(self, *_: object) -> None:
        self._call(self._stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def add(self, kind: ProxyFault, **rule: Any) -> int:  # noqa: ANN401 - the fields of Rule
        """Puts a rule in force, before older ones; returns its number."""
        number = next(self._numbers)
        self._rules = {number: Rule(kind=kind, **rule), **self._rules}
        return number

    def acted(self, number: int) -> int:
        """How many requests a rule has corrupted."""
        return self._rules[number].acted

    def clear(self, number: int | None = None) -> None:
        """Ends one rule, or all."""
        self._rules = {} if number is None else {key: rule for key, rule in self._rules.items() if key != number}

    def cut(self, path: str = "") -> None:
        """Closes the connections of the requests under way whose path matches: watches above all."""
        self._loop.call_soon_threadsafe(self._cut, path)

    def _cut(self, path: str) -> None:
        for request in list(self._open.values()):
            if re.search(path, request.path_qs) and request.transport:
                request.transport.abort()

    def _call(self, work: Coroutine[Any, Any, None]) -> None:
        future: Future[None] = asyncio.run_coroutine_threadsafe(work, self._loop)
        future.result(SECONDS)

    async def _start(self) -> None:
        credential = self._authority.issue("fault-proxy", hosts=("127.0.0.1", "localhost"))
        certificate = self._directory / "fault-proxy.pem"
        certificate.touch(mode=0o600)
        certificate.write_bytes(credential.certificate + credential.key)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, ssl=self._upstream_tls), trust_env=False, auto_decompress=False
        )
        application = web.Application(client_max_size=64 * 2**20)
        application.router.add_route("*", "/{path:.*}", self._serve)
        self._runner = web.AppRunner(application, access_log=None, handler_cancellation=True, shutdown_timeout=0.2)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0, ssl_context=context)
        await site.start()
        self.url = f"https://127.0.0.1:{self._runner.addresses[0][1]}"

    async def _stop(self) -> None:
        await self._runner.cleanup()
        await self._session.close()

    def _pick(self, request: web.Request) -> Rule | None:
        for rule in self._rules.values():
            if rule.meets(request) and (rule.probability >= 1 or self._chance() < rule.probability):
                rule.acted += 1
                return rule
        return None

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        rule = self._pick(request)
        self._open[id(request)] = request
        try:
            if rule is None:
                return await self._pass_on(request, body)
            return await self._corrupt(rule, request, body)
        finally:
            del self._open[id(request)]

    async def _corrupt(self, rule: Rule, request: web.Request, body: bytes) -> web.StreamResponse:
        match rule.kind:
            case ProxyFault.STATUS:
                status = {
                    "kind": "Status",
                    "apiVersion": "v1",
                    "status": "Failure",
                    "code": rule.status,
                    "message": rule.message,
                }
                return web.json_response(status, status=rule.status, headers=rule.headers)
            case ProxyFault.HANG:
                await asyncio.Event().wait()
            case ProxyFault.RESET:
                self._abort(request)
            case ProxyFault.DELAY:
                await asyncio.sleep(rule.delay)
            case ProxyFault.LATE_REPLY | ProxyFault.LOST_REPLY:
                return await self._pass_on(request, body, late=rule.delay, lost=rule.kind is ProxyFault.LOST_REPLY)
            case ProxyFault.EXPIRED | ProxyFault.BROKEN_EVENT:
                return await self._stream(request, _LAST_LINES[rule.kind])
            case ProxyFault.EMPTY_LIST:
                return await self._pass_on(request, body, empty=True)
        return await self._pass_on(request, body)  # after the delay

    async def _stream(self, request: web.Request, line: bytes) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        await response.write(line)
        return response

    async def _pass_on(
        self, request: web.Request, body: bytes, *, late: float = 0.0, lost: bool = False, empty: bool = False
    ) -> web.StreamResponse:
        headers = {name: value for name, value in request.headers.items() if name.lower() not in _DROPPED}
        if empty:  # what is to be changed has to be read, so it must not come compressed
            headers = {name: value for name, value in headers.items() if name.lower() != "accept-encoding"}
            headers["Accept-Encoding"] = "identity"
        began = time.monotonic()
        try:
            async with self._session.request(
                request.method,
                self._server + request.path_qs,
                data=io.BytesIO(body) if body else None,  # plain bytes of a megabyte are a warning
                headers=headers,
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=5),
                allow_redirects=False,
            ) as reply:
                if request.query.get("watch") == "true":
                    return await self._relay(request, reply)
                content = await reply.read()
                if request.method in WRITES:
                    self._note(request, body, began=began, status=reply.status)
                if late:
                    await asyncio.sleep(late)
                if lost:
                    self._abort(request)
                if empty and reply.status == HTTPStatus.OK:
                    content = json.dumps(json.loads(content) | {"items": []}).encode()
                kept = {
                    name: value for name, value in reply.headers.items() if name.lower() not in _DROPPED - {"content-encoding"}
                }
                return web.Response(status=reply.status, body=content, headers=kept)
        except aiohttp.ClientError:
            self._abort(request)
            raise

    async def _relay(self, request: web.Request, reply: aiohttp.ClientResponse) -> web.StreamResponse:
        response = web.StreamResponse(
            status=reply.status, headers={"Content-Type": reply.headers.get("Content-Type", "application/json")}
        )
        await response.prepare(request)
        with suppress(ConnectionError, aiohttp.ClientError):
            async for piece in reply.content.iter_any():
                await response.write(piece)
        return response

    def _note(self, request: web.Request, body: bytes, *, began: float, status: int) -> None:
        self.writes.append(
            Write(
                method=request.method,
                path=request.path,
                peer=request.headers.get("User-Agent", "") + " " + request.headers.get("Authorization", "")[-16:],
                began=began,
                ended=time.monotonic(),
                status=status,
                body=body,
            )
        )

    def _abort(self, request: web.Request) -> None:
        if request.transport:
            request.transport.abort()
        raise asyncio.CancelledError
