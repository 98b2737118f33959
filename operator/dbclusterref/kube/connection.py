"""The connection to the Kubernetes API: who we are, one request and its answer, and a listing in pages.

Memory is bounded here: pages of a listing by their bytes, large answers by how many are read at once.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from http import HTTPStatus
from urllib.parse import urlencode

import aiohttp
from kubernetes.aio.client.api_client import ApiClient
from kubernetes.aio.client.configuration import Configuration
from kubernetes.aio.config.config_exception import ConfigException

from dbclusterref.errors import KubernetesError
from dbclusterref.kube.config import TokenSource
from dbclusterref.kube.page_size import MOST_ALONE, PageSize
from dbclusterref.kube.request_info import request_info

TIMEOUT = 15.0
"""For one call, in seconds; the library's own is five minutes."""
PAGE_TIMEOUT = 60.0
"""Seconds for a page."""
LARGE = 256 * 1024
"""Bytes of an answer beyond which it waits for its turn to be read: 24 workers may each ask for a Secret of a megabyte."""
LARGE_AT_ONCE = 2
LONGEST_PAUSE = 30.0
"""The longest, in seconds, that an answer's Retry-After is followed: the API server asks for a few."""
REJECTED_PAUSE = 5.0
"""Seconds without a request after the API server rejected the credentials, a new token included."""

JSON = "application/json"
METADATA_ALONE = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
"""Accept header for a listing without specs and data."""
_REJECTED = (
    "The Kubernetes API rejected the operator's credentials (401); check that its ServiceAccount exists, or renew the "
    "kubeconfig's credentials."
)

Json = dict[str, object]
ObserveRequest = Callable[[str, str, int], object]
"""Receives verb, resource and HTTP status of each request, status 0 where no reply came."""


class Connection:
    """Sends requests to the API server. Every method raises KubernetesError where the answer is not a success."""

    def __init__(self, configuration: Configuration, *, user_agent: str, observe: ObserveRequest = lambda *_: None) -> None:
        self._observe = observe
        self._configuration = configuration
        self._client = ApiClient(configuration)
        self._client.user_agent = user_agent
        self._large = asyncio.Semaphore(LARGE_AT_ONCE)
        self._pause_until = float("-inf")
        self.is_rejected = False
        """Whether the last answer to this client or its sessions was a 401."""

    @property
    def server(self) -> str:
        """Return the API server's URL."""
        return str(self._configuration.host)

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()

    def session(
        self, *middlewares: aiohttp.ClientMiddlewareType, response_class: type[aiohttp.ClientResponse] = aiohttp.ClientResponse
    ) -> aiohttp.ClientSession:
        """Return a session for another library: same credentials, looked up for each request, same TLS and proxy.

        A 401 that a new token does not cure raises ClientConnectionError: kopf would authenticate again in a tight loop.
        """

        async def authorize(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
            if self._configuration.tls_server_name:
                request.server_hostname = self._configuration.tls_server_name
            credentials: dict[str, str] | None = await self._credentials()
            while credentials is not None:
                request.headers.update(credentials)
                try:
                    response = await handler(request)
                except (aiohttp.ClientError, TimeoutError, OSError):
                    self._observe(*request_info(request.method, request.url.path, request.url.query), 0)
                    raise
                self._observe(*request_info(request.method, request.url.path, request.url.query), response.status)
                if not self._note_status(response.status):
                    return response
                response.release()
                credentials = await self._newer_credentials(credentials)
            raise aiohttp.ClientConnectionError(_REJECTED)

        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, ssl=self._client.rest_client.ssl_context),
            headers={"User-Agent": self._client.user_agent},
            middlewares=(authorize, *middlewares),
            response_class=response_class,
            proxy=self._configuration.proxy,
            read_bufsize=2**17,
        )

    async def call(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, object] | Sequence[Mapping[str, object]] | None = None,
        content_type: str = JSON,
        accept: str = JSON,
        timeout: float = TIMEOUT,
        most: int = MOST_ALONE,
        measured: Callable[[int], object] = lambda _: None,
    ) -> Json:
        """Return the answer to one request. `timeout` is in seconds; `measured` receives the answer's size in bytes.

        Raises _TooLargeError where that is more than `most`.
        """
        if self.is_rejected and asyncio.get_running_loop().time() < self._pause_until:
            raise KubernetesError(_REJECTED, status=HTTPStatus.UNAUTHORIZED)
        url = self.server + path + (f"?{urlencode(query)}" if query else "")
        headers = {"User-Agent": self._client.user_agent, "Content-Type": content_type, "Accept": accept}
        try:
            credentials = await self._credentials()
            while True:
                # Not through `param_serialize`, which looks through all that it is given for objects to convert.
                response = await self._client.call_api(method, url, headers | credentials, body=body, _request_timeout=timeout)
                self._observe(*request_info(method, path, query or {}), response.status)
                answer, size = await self._read(response.response, most=most)
                newer = await self._newer_credentials(credentials) if self._note_status(response.status) else None
                if newer is None:
                    break
                credentials = newer
        except (aiohttp.ClientError, TimeoutError, OSError, ConfigException) as error:
            self._observe(*request_info(method, path, query or {}), 0)
            raise KubernetesError(
                f"The Kubernetes API at {self.server} cannot be reached ({type(error).__name__}).", status=0
            ) from None
        if response.status not in range(200, 300):
            raise _refusal(response.status, answer, retry_after=response.headers.get("Retry-After"))
        measured(size)
        return answer

    async def _read(self, response: aiohttp.ClientResponse, *, most: int) -> tuple[Json, int]:
        content = bytearray()
        async with AsyncExitStack() as stack:
            stack.callback(response.close)  # does nothing once all was read
            is_large = False
            async for chunk in response.content.iter_any():
                content += chunk
                if len(content) > most:
                    raise _TooLargeError
                if not is_large and len(content) > LARGE:
                    is_large = True
                    await stack.enter_async_context(self._large)
            return _json(content), len(content)

    async def _credentials(self) -> dict[str, str]:
        """Return the headers that say who this client is, looked up for each request: a token is replaced in its file."""
        headers: dict[str, str] = {}
        for setting in (await self._configuration.auth_settings()).values():
            assert isinstance(setting, Mapping)
            if setting["value"]:
                headers[setting["key"]] = setting["value"].strip()
        return headers

    async def _newer_credentials(self, rejected: Mapping[str, str]) -> dict[str, str] | None:
        """Return the credentials that have taken the place of rejected ones, None where there are no others."""
        found = await self._credentials()
        return found if found != rejected else None

    def _note_status(self, status: int) -> bool:
        """Record an answer's status; return whether the API server rejected the credentials."""
        self.is_rejected = status == HTTPStatus.UNAUTHORIZED
        if self.is_rejected:
            self._pause_until = asyncio.get_running_loop().time() + REJECTED_PAUSE
            source = self._configuration.refresh_api_key_hook
            if isinstance(source, TokenSource):
                source.rejected()
        return self.is_rejected

    async def pages_of(
        self, path: str, *, selector: str, accept: str, listed_at: Callable[[str], object]
    ) -> AsyncIterator[Json]:
        """List a collection as it is at this moment. `listed_at` is told its resource version before the first object."""
        # No resourceVersion: only such a listing is sure to show all that was written before it.
        query = {"labelSelector": selector} if selector else {}
        pages, sizes = PageSize(), list[int]()
        position = ""
        while True:
            more = {"continue": position} if position else {}
            try:
                page = await self.call(
                    "GET", path, query={"limit": str(pages.limit), **query, **more}, accept=accept,
                    timeout=PAGE_TIMEOUT, most=pages.most_bytes, measured=sizes.append,
                )  # fmt: skip
            except _TooLargeError as error:
                if pages.limit == 1:
                    raise KubernetesError(f"An object in {path} is larger than {MOST_ALONE} bytes.", status=0) from error
                pages.shrink()
                continue
            items, metadata = page.get("items", "none"), page.get("metadata")
            # Go writes an empty list as null.
            items = [] if items is None else items
            if not isinstance(items, list) or not isinstance(metadata, Mapping):
                raise KubernetesError(f"The Kubernetes API returned an invalid list for {path}.", status=0)
            if not position:
                listed_at(str(metadata.get("resourceVersion") or ""))
            pages.seen(objects=len(items), size=sizes.pop())
            del page
            # Each object is let go once it was handled, and not with its page.
            items.reverse()
            while items:
                yield items.pop()
            position = str(metadata.get("continue") or "")
            if not position:
                return


class _TooLargeError(Exception):
    """An answer is larger than its reader allows."""


def _refusal(status: int, answer: Json, *, retry_after: str | None) -> KubernetesError:
    # A Status object's message names objects and fields, never the values of a Secret's data.
    said = answer.get("message") or f"HTTP status {status}"
    message = _REJECTED if status == HTTPStatus.UNAUTHORIZED else str(said)
    pause = None
    if retry_after and retry_after.isascii() and retry_after.isdigit():
        pause = min(float(retry_after), LONGEST_PAUSE)
    return KubernetesError(message, status=status, retry_after=pause)


def _json(content: bytes | bytearray) -> Json:
    try:
        value = json.loads(content)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}
