"""The edge to DigitalOcean's API: five reads over one pooled client, each reply parsed once.

Every way to fail leaves here as one of the causes in `errors`. A message says what DigitalOcean answered, but quotes a reply's
body only where the API's own error object says something short and printable.
"""

import asyncio
import contextlib
import hashlib
import json
from base64 import b64decode
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TypeVar
from urllib.parse import quote, urlsplit

import httpx

from dbclusterref.digitalocean.model import ClusterPage, DatabaseCluster, Pool, User
from dbclusterref.digitalocean.rate_limit import RATE_LIMITED, ObserveReply, RateLimitHeaders
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

PER_PAGE = 200
"""The most the API gives of a listing at once."""
TIMEOUT = httpx.Timeout(10.0, connect=5.0)
"""Per step (connect, each read), in seconds."""
DEADLINE = 30.0
"""For a whole call, in seconds: a reply that trickles must not hold a worker."""


class DigitalOcean:
    """Reads database clusters. `client` must not follow redirects: the token goes to `base_url` alone."""

    def __init__(self, client: httpx.AsyncClient, *, base_url: str) -> None:
        self._client = client
        self._base_url = base_url

    async def get_cluster(self, token: str, uuid: str, *, observe: ObserveReply) -> DatabaseCluster:
        """Read one cluster. A 404 is an UnconfirmedNotFound: one alone proves nothing."""
        body = await self._get(token, f"/v2/databases/{uuid}", observe=observe, not_found=_no_cluster(uuid))
        cluster = DatabaseCluster.from_api(body.get("database"))
        if cluster.uuid and cluster.uuid != uuid:
            raise UpstreamUnavailable(f"DigitalOcean answered for another cluster than {uuid}; trying again.")
        return cluster

    async def get_page(self, token: str, after: str | None, *, known: ClusterPage | None, observe: ObserveReply) -> ClusterPage:
        """Read the listing's first page, or the one that a former page's `next` named; `known` is what it was last time.

        A cluster on it that makes no sense is left out: it is no reason to do without the others, and a read of its own says
        what is wrong with it. Raises UpstreamUnavailable where the next page is said to be on another host.
        """
        path = after or f"/v2/databases?per_page={PER_PAGE}"
        missing = UpstreamUnavailable("DigitalOcean's API has no listing of clusters (404).")
        content = await self._content(token, path, observe=observe, not_found=missing)
        digest = hashlib.blake2b(content, digest_size=16).digest()
        if known and known.digest == digest:
            return replace(known, clusters=None)
        body = _json_object(content)
        items = body.get("databases")
        if not isinstance(items, list):
            raise _garbled("its listing has no clusters")
        return ClusterPage(
            length=len(items),
            clusters=tuple(_readable(items)),
            next=self._next_page(body),
            total=_total(body),
            digest=digest,
        )

    def _next_page(self, body: Mapping[str, object]) -> str | None:
        url = _inner(_inner(body.get("links")).get("pages")).get("next")
        if not url:
            return None
        own = urlsplit(self._base_url).hostname
        try:
            parts = urlsplit(str(url))
        except ValueError:
            raise _garbled("the address of its listing's next page is none") from None
        if (parts.hostname or own) != own:
            # The token goes to the configured host alone, wherever a reply points.
            raise _garbled("the next page of its listing is on another host")
        return f"/v2/databases?{parts.query}"

    async def get_ca(self, token: str, uuid: str, *, observe: ObserveReply) -> bytes:
        """Read the CA's PEM; b"" where the cluster has none (its certificate is publicly trusted then)."""
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
        """Read one database user."""
        missing = UserNotFound(
            f"The cluster has no user {name}; create it (`doctl databases user create`) or correct spec.user. "
            "Redis and Valkey clusters have no users to name."
        )
        body = await self._get(token, f"/v2/databases/{uuid}/users/{quote(name, safe='')}", observe=observe, not_found=missing)
        return User.from_api(body.get("user"), path="user")

    async def get_pool(self, token: str, uuid: str, name: str, *, observe: ObserveReply) -> Pool:
        """Read one PostgreSQL connection pool."""
        missing = PoolNotFound(
            f"The cluster has no connection pool {name}; create it (`doctl databases pool create`) or correct spec.pool. "
            "Only PostgreSQL clusters have pools."
        )
        body = await self._get(token, f"/v2/databases/{uuid}/pools/{quote(name, safe='')}", observe=observe, not_found=missing)
        return Pool.from_api(body.get("pool"))

    async def _get(self, token: str, path: str, *, observe: ObserveReply, not_found: Cause) -> Mapping[str, object]:
        return _json_object(await self._content(token, path, observe=observe, not_found=not_found))

    async def _content(self, token: str, path: str, *, observe: ObserveReply, not_found: Cause) -> bytes:
        try:
            async with asyncio.timeout(DEADLINE):
                reply = await self._client.get(self._base_url + path, headers={"Authorization": f"Bearer {token}"})
        except (httpx.HTTPError, httpx.InvalidURL, TimeoutError) as error:
            observe(0, RateLimitHeaders(limit=None, remaining=None, reset=None, retry_after=None))
            raise _no_reply(error) from None
        headers = RateLimitHeaders.from_headers(reply.headers)
        observe(reply.status_code, headers)
        if reply.status_code == httpx.codes.OK:
            return reply.content
        raise _failure(reply, said=_message_in(reply, token=token), headers=headers, not_found=not_found)


def _failure(reply: httpx.Response, *, said: str, headers: RateLimitHeaders, not_found: Cause) -> Cause:
    match reply.status_code:
        case 401:
            return TokenInvalid(
                "DigitalOcean does not accept the API token (401); put a valid one where this resource takes it from: it is "
                "read anew by itself."
            )
        case 403:
            return Forbidden(
                f"DigitalOcean refuses the API token this read (403{said}); give it the scopes database:read and "
                "database:view_credentials."
            )
        case 404 | 422:
            return not_found
        case 429:
            return RateLimited(RATE_LIMITED, retry_after=headers.retry_after)
        case status if status in range(300, 400):
            return UpstreamUnavailable(
                f"DigitalOcean's API redirected the read ({status}), which it never does by itself; check --api-url."
            )
        case status:
            return UpstreamUnavailable(f"DigitalOcean answered {status}{said}; trying again.", retry_after=headers.retry_after)


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


def _readable(items: list[object]) -> Iterator[DatabaseCluster]:
    # Each is let go once it is read: two hundred of them are megabytes.
    items.reverse()
    while items:
        with contextlib.suppress(UpstreamUnavailable):
            yield DatabaseCluster.from_api(items.pop())


def _total(body: Mapping[str, object]) -> int | None:
    total = _inner(body.get("meta")).get("total")
    return total if isinstance(total, int) and not isinstance(total, bool) and total >= 0 else None


def _inner(value: object) -> Mapping[str, object]:
    return value if isinstance(value, Mapping) else {}


def _json_object(content: bytes) -> Mapping[str, object]:
    try:
        body = json.loads(content)
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
