"""The edge to DigitalOcean's API: seven reads over one pooled client, each reply parsed once.

Every way to fail leaves here as one of the causes in `errors`. A message says what DigitalOcean answered and never repeats its
words: they may hold anything, a password among it.
"""

import asyncio
import hashlib
import zlib
from base64 import b64decode
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from functools import partial, wraps
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any, ParamSpec, TypeVar
from urllib.parse import quote, urlsplit

import httpx
from msgspec import Raw
from msgspec.json import Decoder

from dbclusterref.digitalocean import wire
from dbclusterref.digitalocean.grants import GrantTag
from dbclusterref.digitalocean.model import ClusterPage, Database, DatabaseCluster, Pool, User
from dbclusterref.digitalocean.rate_limit import RATE_LIMITED, ObserveReply, RateLimitHeaders
from dbclusterref.digitalocean.replicas import Replicas, not_listed
from dbclusterref.errors import (
    Cause,
    DatabaseNotFound,
    Forbidden,
    PoolNotFound,
    RateLimited,
    TokenInvalid,
    UnconfirmedNotFound,
    UpstreamUnavailable,
    UserNotFound,
)

Named = TypeVar("Named", User, Pool, Database)
P = ParamSpec("P")
V = TypeVar("V")

PER_PAGE = 200
"""The most the API gives of a listing at once."""
TIMEOUT = httpx.Timeout(10.0, connect=5.0)
"""Per step (connect, each read), in seconds."""
DEADLINE = 30.0
"""For a whole call, in seconds: a reply that trickles must not hold a worker."""
ASK_AGAIN_AFTER = 1.0
"""Seconds between a token's first 401 and the second request that confirms it."""
REMEMBERED_REFUSALS = 1000

MAX_OBJECT = 2**20
"""Bytes of one reply, decoded. A cluster with 2,000 users has 160,000."""
MAX_PAGE = 4 * 2**20
"""A page of 200 clusters has some 500,000."""
MAX_CA = 2**18
MAX_ERROR = 2**16
LARGE = 2**16
"""Bytes of a body beyond which it waits for its turn to be read: all connections may bring a megabyte at the same time."""
LARGE_AT_ONCE = 3
MAX_NEXT = 2048
"""Characters of the query that leads to a listing's next page."""
MAX_TOTAL = 1_000_000
"""More clusters than this are taken for a mistake in the listing's total."""

_ERROR = Decoder(wire.ErrorShape)
_META = Decoder(wire.MetaShape)
_COUNT = Decoder(int)
_KNOWN_ERRORS = frozenset(
    {"bad_request", "conflict", "forbidden", "not_found", "server_error", "service_unavailable", "too_many_requests",
     "unauthorized", "unprocessable_entity"}
)  # fmt: skip
"""Words that may be repeated of what the API's error object says."""


@dataclass(frozen=True, slots=True)
class _Reply:
    status: int
    headers: RateLimitHeaders
    body: bytes = field(repr=False)

    @property
    def error(self) -> wire.ErrorShape | None:
        """The API's own error object; None for HTML pages and whatever else a gateway says."""
        return wire.attempt(_ERROR, Raw(self.body))


def _without_frames(read: Callable[P, Coroutine[Any, Any, V]]) -> Callable[P, Coroutine[Any, Any, V]]:
    """Have a read raise its cause without the frames that hold the reply: causes are kept."""

    @wraps(read)
    async def wrapped(*args: P.args, **kwargs: P.kwargs) -> V:
        try:
            return await read(*args, **kwargs)
        except Cause as cause:
            raise cause.without_frames() from None

    return wrapped


class DigitalOcean:
    """Reads database clusters. `client` must not follow redirects: the token goes to `base_url` alone.

    Of a cluster's tags those are kept that `grant_tag` says grant it to a namespace.
    """

    def __init__(
        self,
        client: httpx.AsyncClient,
        *,
        base_url: str,
        ask_again_after: float = ASK_AGAIN_AFTER,
        grant_tag: GrantTag = GrantTag(),  # noqa: B008 - it is frozen
    ) -> None:
        # One jar serves all tokens: what a reply to one of them sets must not travel with another.
        client.cookies = CookieJar(DefaultCookiePolicy(allowed_domains=()))
        self._client = client
        self._base_url = base_url
        self._ask_again_after = ask_again_after
        self._refused: set[bytes] = set()
        self._grant_tag = grant_tag
        self._large = asyncio.Semaphore(LARGE_AT_ONCE)

    @_without_frames
    async def get_cluster(self, token: str, uuid: str, *, observe: ObserveReply) -> DatabaseCluster:
        """Read one cluster. A 404 is an UnconfirmedNotFound: one alone proves nothing."""
        reply = await self._get(token, f"/v2/databases/{uuid}", observe=observe, not_found=_no_cluster(uuid))
        cluster = DatabaseCluster.from_json(reply.database, grant_tag=self._grant_tag)
        if cluster.uuid != uuid:
            raise UpstreamUnavailable(f"DigitalOcean answered for another cluster than {uuid}; retrying.", answered=True)
        return cluster

    @_without_frames
    async def get_page(self, token: str, after: str | None, *, known: ClusterPage | None, observe: ObserveReply) -> ClusterPage:
        """Read the listing's first page, or the one that a former page's `next` named; `known` is what it was last time.

        A cluster that cannot be read is left out: the others are not kept waiting for it, and a read of its own says what is
        wrong with it. Raises UpstreamUnavailable where the next page is said to be on another host.
        """
        path = after or f"/v2/databases?per_page={PER_PAGE}"
        missing = UpstreamUnavailable("DigitalOcean's API has no listing of clusters (404); retrying.")
        content = await self._content(token, path, at_most=MAX_PAGE, observe=observe, not_found=missing)
        digest = hashlib.blake2b(content, digest_size=16).digest()
        if known and known.digest == digest:
            return replace(known, clusters=None)
        reply = wire.read_reply(content)
        if reply.databases is None:
            raise wire.missing("databases")
        return ClusterPage(
            length=len(reply.databases),
            clusters=tuple(_readable(reply.databases, grant_tag=self._grant_tag)),
            next=self._next_page(reply),
            total=_total(reply.meta),
            digest=digest,
        )

    def _next_page(self, reply: wire.ReplyShape) -> str | None:
        url = reply.links.pages.next if reply.links and reply.links.pages else None
        if not url:
            return None
        own = urlsplit(self._base_url).hostname
        try:
            parts = urlsplit(url)
        except ValueError:
            raise wire.unexpected("links.pages.next", "a valid URL") from None
        if (parts.hostname or own) != own:
            # The token goes to the configured host alone, wherever a reply points.
            raise wire.unexpected("links.pages.next", "on DigitalOcean's own host")
        if not (parts.query.isascii() and parts.query.isprintable() and len(parts.query) <= MAX_NEXT):
            raise wire.unexpected("links.pages.next", "a valid URL")
        return f"/v2/databases?{parts.query}"

    @_without_frames
    async def get_ca(self, token: str, uuid: str, *, observe: ObserveReply) -> bytes:
        """Read the CA's PEM; b"" where the cluster has none (its certificate is publicly trusted then)."""
        path = f"/v2/databases/{uuid}/ca"
        try:
            reply = await self._get(token, path, at_most=MAX_CA, observe=observe, not_found=_no_cluster(uuid))
        except UnconfirmedNotFound:
            return b""
        if not reply.ca or not reply.ca.certificate:
            return b""
        try:
            pem = b64decode(reply.ca.certificate, validate=True)
        except ValueError:
            raise wire.unexpected("ca.certificate", "base64") from None
        if not wire.holds_certificates(pem):
            raise wire.unexpected("ca.certificate", "PEM")
        return pem

    @_without_frames
    async def get_user(self, token: str, uuid: str, name: str, *, observe: ObserveReply) -> User:
        """Read one database user."""
        missing = UserNotFound(f"The cluster has no user {name}. Create it or correct spec.user.")
        reply = await self._get(token, _path(uuid, "users", name), observe=observe, not_found=missing)
        return _of_name(name, User.from_json(reply.user), what="user")

    @_without_frames
    async def get_pool(self, token: str, uuid: str, name: str, *, observe: ObserveReply) -> Pool:
        """Read one PostgreSQL connection pool."""
        missing = PoolNotFound(f"The cluster has no connection pool {name}. Create it or correct spec.pool.")
        reply = await self._get(token, _path(uuid, "pools", name), observe=observe, not_found=missing)
        return _of_name(name, Pool.from_json(reply.pool), what="connection pool")

    @_without_frames
    async def get_database(self, token: str, uuid: str, name: str, *, observe: ObserveReply) -> Database:
        """Read whether there is a database of that name."""
        missing = DatabaseNotFound(f"The cluster has no database {name}. Create it or correct spec.database.")
        reply = await self._get(token, _path(uuid, "dbs", name), observe=observe, not_found=missing)
        return _of_name(name, Database.from_json(reply.db), what="database")

    @_without_frames
    async def get_replicas(self, token: str, uuid: str, *, observe: ObserveReply) -> Replicas:
        """Read the cluster's read-only replicas, those that serve. Raises ReplicasNotListed where there is no list."""
        reply = await self._get(token, f"/v2/databases/{uuid}/replicas", observe=observe, not_found=not_listed())
        if reply.replicas is wire.ABSENT:
            raise wire.missing("replicas")
        return Replicas.from_json(reply.replicas)

    async def _get(
        self, token: str, path: str, *, observe: ObserveReply, not_found: Cause, at_most: int = MAX_OBJECT
    ) -> wire.ReplyShape:
        return wire.read_reply(await self._content(token, path, at_most=at_most, observe=observe, not_found=not_found))

    async def _content(self, token: str, path: str, *, at_most: int, observe: ObserveReply, not_found: Cause) -> bytes:
        reply = await self._ask(token, path, at_most=at_most, observe=observe)
        if reply.status == httpx.codes.UNAUTHORIZED and self._is_first_refusal(token):
            # One 401 alone is also what a failing node of the API answers: a person is called after two.
            await asyncio.sleep(self._ask_again_after)
            reply = await self._ask(token, path, at_most=at_most, observe=observe)
        if reply.status != httpx.codes.UNAUTHORIZED:
            self._refused.discard(_digest(token))
        if reply.status == httpx.codes.OK:
            return reply.body
        raise _failure(reply, not_found=not_found)

    def _is_first_refusal(self, token: str) -> bool:
        digest = _digest(token)
        if digest in self._refused:
            return False
        if len(self._refused) >= REMEMBERED_REFUSALS:
            self._refused.clear()
        self._refused.add(digest)
        return True

    async def _ask(self, token: str, path: str, *, at_most: int, observe: ObserveReply) -> _Reply:
        # Only gzip, because only that is decoded here.
        headers = {"Authorization": f"Bearer {token}", "Accept-Encoding": "gzip"}
        try:
            async with (
                asyncio.timeout(DEADLINE),
                AsyncExitStack() as turn,
                self._client.stream("GET", self._base_url + path, headers=headers) as reply,
            ):
                ok = reply.status_code == httpx.codes.OK
                when_large = partial(turn.enter_async_context, self._large)
                limits = RateLimitHeaders.from_headers(reply.headers)
                try:
                    body = await _read_body(reply, at_most=at_most if ok else MAX_ERROR, when_large=when_large)
                except UpstreamUnavailable:
                    observe(reply.status_code, limits)
                    if ok:
                        raise
                    return _Reply(reply.status_code, limits, b"")
        except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, TimeoutError, OSError, ValueError) as error:
            observe(0, RateLimitHeaders(limit=None, remaining=None, reset=None, retry_after=None))
            raise _no_reply(error) from None
        observe(reply.status_code, limits)
        return _Reply(reply.status_code, limits, body)


def _path(uuid: str, kind: str, name: str) -> str:
    return f"/v2/databases/{uuid}/{kind}/{quote(name, safe='')}"


def _of_name(name: str, found: Named, *, what: str) -> Named:
    """Return what was found. Raises UpstreamUnavailable where it is another one than was asked for."""
    if found.name != name:
        raise UpstreamUnavailable(f"DigitalOcean answered for another {what} than {name}; retrying.")
    return found


async def _read_body(reply: httpx.Response, *, at_most: int, when_large: Callable[[], Awaitable[object]]) -> bytes:
    """Read and decode a body of `at_most` bytes. httpx would decode a whole piece at once: 64 KiB of gzip may hold 64 MiB.

    `when_large` is awaited before more than LARGE bytes are held.
    """
    encoding = reply.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in {"identity", "gzip"}:
        raise wire.invalid("its content encoding is not gzip")
    inflate = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16) if encoding == "gzip" else None
    body, room = bytearray(), min(LARGE, at_most)
    async for piece in reply.aiter_raw():
        rest = piece
        while True:
            step = min(LARGE, room + 1 - len(body))
            decoded, rest = _decode(rest, inflate, at_most=step)
            body += decoded
            if len(body) > at_most:
                raise wire.invalid(f"the body is larger than {at_most} bytes")
            if len(body) > room:
                await when_large()
                room = at_most
            elif len(decoded) < step:
                break
    if inflate is not None and not inflate.eof:
        raise wire.invalid("its gzip data is incomplete")
    return bytes(body)


def _decode(piece: bytes, inflate: "zlib._Decompress | None", *, at_most: int) -> tuple[bytes, bytes]:
    """Decode so many bytes at most; return them, and the rest of the piece."""
    if inflate is None:
        return piece[:at_most], piece[at_most:]
    try:
        decoded = inflate.decompress(piece, at_most)
    except zlib.error:
        raise wire.invalid("its gzip data is corrupted") from None
    if inflate.unused_data:
        raise wire.invalid("its gzip data does not end where it should")
    return decoded, inflate.unconsumed_tail


def _failure(reply: _Reply, *, not_found: Cause) -> Cause:
    error = reply.error
    match reply.status:
        case 401:
            return TokenInvalid(
                "DigitalOcean rejected the API token (401). Replace the token; the operator picks up the new one automatically."
            )
        case 403:
            return _denied(by_the_api=error is not None)
        case 404 | 422:
            return not_found
        case 429:
            return RateLimited(RATE_LIMITED, retry_after=reply.headers.retry_after)
        case status if status in range(300, 400):
            return UpstreamUnavailable(
                f"DigitalOcean's API redirected the request ({status}), and the operator follows no redirects; check --api-url."
            )
        case status:
            known = f" ({error.id})" if error and error.id in _KNOWN_ERRORS else ""
            return UpstreamUnavailable(
                f"DigitalOcean answered {status}{known}; retrying.", retry_after=reply.headers.retry_after
            )


def _denied(*, by_the_api: bool) -> Cause:
    if by_the_api:
        return Forbidden(
            "DigitalOcean denied this request (403). Grant the API token the scopes database:read and "
            "database:view_credentials."
        )
    return UpstreamUnavailable(
        "A 403 came without the error object of DigitalOcean's API: a proxy or gateway may have refused the request; retrying."
    )


def _no_cluster(uuid: str) -> UnconfirmedNotFound:
    return UnconfirmedNotFound(
        f"Cluster {uuid} was not found with this API token (404). The operator checks again before it reports the cluster "
        "missing: a new one can take a moment to appear."
    )


def _no_reply(error: Exception) -> UpstreamUnavailable:
    match error:
        case httpx.ConnectTimeout() | httpx.ConnectError():
            what = "cannot be reached (no connection: if it lasts, look at DNS, egress rules and proxies)"
        case TimeoutError() | httpx.TimeoutException():
            what = "did not answer in time"
        case httpx.InvalidURL() | httpx.UnsupportedProtocol():
            what = "has no valid address; check --api-url"
        case httpx.HTTPError() | OSError():
            what = "closed the connection before the response was complete"
        case _:
            what = "could not be asked"
    return UpstreamUnavailable(f"DigitalOcean's API {what}; retrying.")


def _readable(items: list[Raw], *, grant_tag: GrantTag) -> Iterator[DatabaseCluster]:
    for number, item in enumerate(items):
        try:
            yield DatabaseCluster.from_json(item, path=f"databases[{number}]", grant_tag=grant_tag)
        except UpstreamUnavailable:
            continue


def _total(meta: Raw) -> int | None:
    shape = wire.attempt(_META, meta)
    total = wire.attempt(_COUNT, shape.total) if shape else None
    return total if total is not None and 0 <= total <= MAX_TOTAL else None


def _digest(token: str) -> bytes:
    return hashlib.blake2b(token.encode(), digest_size=16).digest()
