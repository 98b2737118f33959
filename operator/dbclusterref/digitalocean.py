"""The edge to DigitalOcean's API: four reads over one pooled client, each reply parsed once.

Every way to fail leaves here as one of the causes in `errors`. A message says what DigitalOcean answered, but quotes a reply's
body only where the API's own error object says something short and printable.
"""

import asyncio
import json
from base64 import b64decode
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar
from urllib.parse import quote

import httpx

from dbclusterref.cluster import DatabaseCluster, Pool, User
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

V = TypeVar("V")

TIMEOUT = httpx.Timeout(10.0, connect=5.0)
"""Per step (connect, each read), in seconds."""
DEADLINE = 30.0
"""For a whole call, in seconds: a reply that trickles must not hold a worker."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """What a reply's headers say of the token's hourly quota; `reset` is Unix time, None where the header was absent."""

    limit: int | None
    remaining: int | None
    reset: int | None
    retry_after: float | None

    @classmethod
    def from_headers(cls, headers: Mapping[str, str]) -> "Budget":
        """Reads the four headers; what is no number is as if it were absent."""
        return cls(
            limit=_whole(headers.get("ratelimit-limit")),
            remaining=_whole(headers.get("ratelimit-remaining")),
            reset=_whole(headers.get("ratelimit-reset")),
            retry_after=_whole(headers.get("retry-after")),
        )


ObserveReply = Callable[[int, Budget], None]
"""Is told each reply's HTTP status and budget, the failing ones too; status 0 where no reply came."""


class DigitalOcean:
    """Reads database clusters. `client` must not follow redirects: the token goes to `base_url` alone."""

    def __init__(self, client: httpx.AsyncClient, *, base_url: str) -> None:
        self._client = client
        self._base_url = base_url

    async def get_cluster(self, token: str, uuid: str, *, observe: ObserveReply) -> DatabaseCluster:
        """Reads one cluster. A 404 is an UnconfirmedNotFound: one alone proves nothing."""
        body = await self._get(token, f"/v2/databases/{uuid}", observe=observe, not_found=_no_cluster(uuid))
        cluster = DatabaseCluster.from_api(body.get("database"))
        if cluster.uuid and cluster.uuid != uuid:
            raise UpstreamUnavailable(f"DigitalOcean answered for another cluster than {uuid}; trying again.")
        return cluster

    async def get_ca(self, token: str, uuid: str, *, observe: ObserveReply) -> bytes:
        """Reads the CA's PEM; b"" where the cluster has none (its certificate is publicly trusted then)."""
        try:
            body = await self._get(token, f"/v2/databases/{uuid}/ca", observe=observe, not_found=_no_cluster(uuid))
        except UnconfirmedNotFound:
            return b""
        ca = body.get("ca")
        certificate = ca.get("certificate") if isinstance(ca, Mapping) else None
        if not certificate:
            return b""
        try:
            pem = b64decode(certificate, validate=True)
        except (ValueError, TypeError):
            raise _garbled("its CA certificate is not base64") from None
        if b"-----BEGIN CERTIFICATE-----" not in pem:
            raise _garbled("its CA certificate is not PEM")
        return pem

    async def get_user(self, token: str, uuid: str, name: str, *, observe: ObserveReply) -> User:
        """Reads one database user."""
        missing = UserNotFound(
            f"The cluster has no user {name}; create it (`doctl databases user create`) or correct spec.user."
        )
        body = await self._get(token, f"/v2/databases/{uuid}/users/{quote(name, safe='')}", observe=observe, not_found=missing)
        return User.from_api(body.get("user"), path="user")

    async def get_pool(self, token: str, uuid: str, name: str, *, observe: ObserveReply) -> Pool:
        """Reads one PostgreSQL connection pool."""
        missing = PoolNotFound(
            f"The cluster has no connection pool {name}; create it (`doctl databases pool create`) or correct spec.pool. "
            "Only PostgreSQL clusters have pools."
        )
        body = await self._get(token, f"/v2/databases/{uuid}/pools/{quote(name, safe='')}", observe=observe, not_found=missing)
        return Pool.from_api(body.get("pool"))

    async def _get(self, token: str, path: str, *, observe: ObserveReply, not_found: Cause) -> Mapping[str, object]:
        try:
            async with asyncio.timeout(DEADLINE):
                reply = await self._client.get(self._base_url + path, headers={"Authorization": f"Bearer {token}"})
        except (httpx.HTTPError, httpx.InvalidURL, TimeoutError) as error:
            observe(0, Budget(limit=None, remaining=None, reset=None, retry_after=None))
            raise _no_reply(error) from None
        budget = Budget.from_headers(reply.headers)
        observe(reply.status_code, budget)
        _raise_for_status(reply, said=_message_in(reply, token=token), budget=budget, not_found=not_found)
        return _json_object(reply)


def _raise_for_status(reply: httpx.Response, *, said: str, budget: Budget, not_found: Cause) -> None:
    match reply.status_code:
        case 200:
            return
        case 401:
            raise TokenInvalid(
                "DigitalOcean does not accept the API token (401); put a valid one where this resource takes it from: it is "
                "read anew by itself."
            )
        case 403:
            raise Forbidden(
                f"DigitalOcean refuses the API token this read (403{said}); give it the scopes database:read and "
                "database:view_credentials."
            )
        case 404 | 422:
            raise not_found
        case 429:
            raise RateLimited(
                "The API token's request quota at DigitalOcean is used up; reading goes on when it allows. Raise "
                "spec.refreshInterval, or use fewer tools with one token.",
                retry_after=budget.retry_after,
            )
        case status if status in range(300, 400):
            raise UpstreamUnavailable(
                f"DigitalOcean's API redirected the read ({status}), which it never does by itself; check --api-url."
            )
        case status:
            raise UpstreamUnavailable(f"DigitalOcean answered {status}{said}; trying again.", retry_after=budget.retry_after)


def _no_cluster(uuid: str) -> UnconfirmedNotFound:
    return UnconfirmedNotFound(
        f"DigitalOcean shows this token no cluster {uuid}; asking once more before believing it (a new cluster needs a moment)."
    )


def _no_reply(error: Exception) -> UpstreamUnavailable:
    match error:
        case httpx.ConnectTimeout() | httpx.ConnectError():
            what = "cannot be reached (no connection)"
        case TimeoutError() | httpx.TimeoutException():
            what = "did not answer in time"
        case httpx.InvalidURL() | httpx.UnsupportedProtocol():
            what = "has no usable address; check --api-url"
        case _:
            what = "broke off its answer"
    return UpstreamUnavailable(f"DigitalOcean's API {what}; trying again.")


def _json_object(reply: httpx.Response) -> Mapping[str, object]:
    try:
        body = json.loads(reply.content)
    except (ValueError, RecursionError):
        raise _garbled("its body is no JSON") from None
    if not isinstance(body, Mapping):
        raise _garbled("its body is no JSON object")
    return body


def _message_in(reply: httpx.Response, *, token: str) -> str:
    """What the API's error object says, ready to stand behind the status; empty for HTML pages and the like."""
    try:
        message = json.loads(reply.content)["message"]
    except (ValueError, LookupError, TypeError, RecursionError):
        return ""
    if not isinstance(message, str) or not message.isprintable() or not message:
        return ""
    # An echoed token must not be shown; a request's number or a time would make each try another message, thus a write.
    if token in message or any(character.isdigit() for character in message):
        return ""
    return f": {message[:120].rstrip('.')}"


def _garbled(what: str) -> UpstreamUnavailable:
    return UpstreamUnavailable(f"DigitalOcean's answer makes no sense ({what}); trying again.")


def _whole(text: str | None) -> int | None:
    return int(text) if text and text.isascii() and text.isdigit() and len(text) < 16 else None  # noqa: PLR2004
