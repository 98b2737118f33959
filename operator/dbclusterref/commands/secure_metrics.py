"""Serves /metrics over TLS, with a certificate that may be replaced while it runs, to callers that know a token."""

import asyncio
import hmac
import logging
import ssl
from collections.abc import Callable
from pathlib import Path

from aiohttp import web

from dbclusterref.commands.probes import (
    LONGEST_CONNECTION,
    Bounded,
    Connections,
    ProbeServer,
    RenderMetrics,
    answer_metrics,
    listen,
)
from dbclusterref.errors import SettingsError

LONGEST_TOKEN_FILE = 64 * 1024


class Certificate:
    """The certificate and key in two files. A pair that is replaced serves the connections that come afterwards.

    Raises SettingsError where there is no usable pair at the start.
    """

    def __init__(self, cert_file: str, key_file: str, *, logger: logging.Logger) -> None:
        self._files = (cert_file, key_file)
        self._logger = logger
        self._seen = self._state()
        try:
            self._context = self._load()
        except OSError as error:
            raise SettingsError(
                f"--metrics-tls-cert-file and --metrics-tls-key-file: cannot use {cert_file} with {key_file} ({_why(error)}); "
                "mount a PEM certificate and its unencrypted key."
            ) from None

    def context(self) -> ssl.SSLContext:
        """Return what to serve the next connection with."""
        seen = self._state()
        if seen != self._seen:
            self._seen = seen  # what cannot be used is said once
            try:
                self._context = self._load()
            except OSError as error:
                self._logger.warning(
                    "The new certificate in %s cannot be used (%s); the former one stays. Check that the key belongs to it.",
                    self._files[0], _why(error),
                )  # fmt: skip
            else:
                self._logger.info("Serving metrics with the new certificate in %s.", self._files[0])
        return self._context

    def _state(self) -> tuple[tuple[int, int, int] | None, ...]:
        return tuple(map(_state_of, self._files))

    def _load(self) -> ssl.SSLContext:
        # A new one each time: one that has failed to load a pair may hold half of it.
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(*self._files, password=lambda: b"")  # without it OpenSSL asks on the terminal
        return context


def _state_of(file: str) -> tuple[int, int, int] | None:
    try:
        found = Path(file).stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino, found.st_size


def _why(error: OSError) -> str:
    return getattr(error, "reason", None) or error.strerror or type(error).__name__


class TokenFile:
    """The tokens that a file holds, one a line, so that both sides of a rotation are served; read for each request."""

    def __init__(self, file: str) -> None:
        self._file = file

    def require_usable(self) -> None:
        """Raise SettingsError where there is no token at the start."""
        if not self._tokens():
            raise SettingsError(
                f"--metrics-token-file: {self._file} holds no token, or more than {LONGEST_TOKEN_FILE} bytes; write one a "
                "line, or leave the flag out."
            )

    def allows(self, authorization: str) -> bool:
        """Return whether an Authorization header holds one of the tokens. Without a readable file nobody is allowed."""
        scheme, _, given = authorization.partition(" ")
        if scheme.lower() != "bearer":
            return False
        # Each is compared, in the same time whatever it is.
        matches = [hmac.compare_digest(given.strip().encode(errors="replace"), token) for token in self._tokens()]
        return any(matches)

    def _tokens(self) -> list[bytes]:
        try:
            with Path(self._file).open("rb") as file:
                content = file.read(LONGEST_TOKEN_FILE + 1)
        except OSError:
            return []
        if len(content) > LONGEST_TOKEN_FILE:
            return []  # its last line would be the beginning of a token, and be believed
        return [line.strip() for line in content.splitlines() if line.strip()]


class _Secured(asyncio.Protocol):
    """One connection, within the bounds of number and time from before its handshake on: asyncio's TLS server counts later."""

    def __init__(self, inner: asyncio.Protocol, *, connections: Connections, context: ssl.SSLContext) -> None:
        self._bounded = Bounded(inner, connections)
        self._context = context
        self._handshake: asyncio.Task[None] | None = None
        self._early = bytearray()
        self._is_connected = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        raw = self._bounded.admit(transport)
        raw.pause_reading()
        self._handshake = asyncio.get_running_loop().create_task(self._shake_hands(raw), name="metrics-tls")

    async def _shake_hands(self, raw: asyncio.Transport) -> None:
        secured: asyncio.Transport | None = None
        try:
            secured = await asyncio.get_running_loop().start_tls(
                raw, self, self._context, server_side=True, ssl_handshake_timeout=LONGEST_CONNECTION
            )
        except OSError:
            return  # no TLS, a version that is too old, or gone: the caller sees it
        finally:
            self._is_connected = secured is not None and not secured.is_closing()
            if not self._is_connected:
                raw.abort()
                self._bounded.release()
        if secured is None or not self._is_connected:
            return
        self._bounded.begin(secured)
        if self._early:
            self._bounded.data_received(bytes(self._early))
            self._early.clear()

    def data_received(self, data: bytes) -> None:
        # A client's first request may come with the last record of its handshake.
        if self._is_connected:
            self._bounded.data_received(data)
        else:
            self._early += data

    def eof_received(self) -> bool | None:
        return self._bounded.eof_received() if self._is_connected else None

    def connection_lost(self, exc: Exception | None) -> None:
        if self._is_connected:
            self._bounded.connection_lost(exc)

    def pause_writing(self) -> None:
        self._bounded.pause_writing()

    def resume_writing(self) -> None:
        self._bounded.resume_writing()


async def serve_secure_metrics(
    *, host: str, port: int, certificate: Certificate, token: TokenFile | None, metrics: RenderMetrics
) -> ProbeServer:
    """Start serving; `host` and `port` as for the probes. Raises SettingsError where the address cannot be used."""

    async def show_metrics(request: web.Request) -> web.Response:
        if token and not token.allows(request.headers.get("Authorization", "")):
            response = web.Response(status=401, text="unauthorized\n", headers={"WWW-Authenticate": "Bearer"})
            response.force_close()
            return response
        return answer_metrics(request, metrics)

    application = web.Application()
    application.router.add_get("/metrics", show_metrics)

    def secure(inner: Callable[[], asyncio.Protocol], connections: Connections) -> asyncio.Protocol:
        return _Secured(inner(), connections=connections, context=certificate.context())

    return await listen(application, host=host, port=port, flag="--metrics-tls-address", protocol=secure)
