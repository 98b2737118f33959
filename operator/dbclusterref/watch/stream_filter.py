"""What kopf receives of the API server's answers: no listings, and of the watches no own writes and no large objects.

kopf takes half a millisecond for each object that it is given. What exists is listed by `resync`, in pages of bounded size;
kopf begins its watch where that listing ended. What our own writes made is known from their answers. And kopf keeps an object
for a while, parsed, to see whether another version of it follows: a dozen Secrets of a megabyte that are deleted at once would
be in memory together. So large ones are taken in here, one at a time.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Iterator, Mapping
from http import HTTPStatus
from typing import Any, ClassVar, Protocol

import aiohttp

from dbclusterref.kube.connection import METADATA_ALONE
from dbclusterref.resource.objects import uid_of, version_of

MOST = 1000
"""Own writes that are waited for at once; beyond that the oldest is forgotten, and counts as a change when it comes."""

LARGE = 2**15
"""Bytes of a watch's line beyond which it does not go through kopf."""

_CHANGES = (b'{"type":"ADDED",', b'{"type":"MODIFIED",')
_VERSION = re.compile(rb'"resourceVersion":"(\d+)"')


class OwnWrites:
    """What our own writes made: versions, and of which object, since each kind may have an etcd with versions of its own."""

    def __init__(self) -> None:
        self._expected: dict[bytes, bytes] = {}

    def expect(self, body: Mapping[str, object]) -> None:
        """Record the answer to a write, once all that it says is known."""
        self._expected[version_of(body).encode()] = uid_of(body).encode()
        if len(self._expected) > MOST:
            del self._expected[next(iter(self._expected))]

    def forget(self) -> None:
        """Forget all of them: versions are given out a second time after a restored backup."""
        self._expected.clear()

    def is_own(self, line: bytes) -> bool:
        """Return whether a line of a watch tells of an own write; each is recognized once. An ambiguous line is not one."""
        if not self._expected or not line.startswith(_CHANGES):
            return False
        # A label or a key of that very name makes two of it: which is the object's own would be a guess.
        versions = _VERSION.findall(line)
        uid = self._expected.get(versions[0]) if len(versions) == 1 else None
        if uid is None or b'"uid":"%b"' % uid not in line:
            return False
        del self._expected[versions[0]]
        return True


class WatchObserver(Protocol):
    """What is told of the watches, each named by its path."""

    def began(self, path: str, *, since: str) -> None:
        """Record that the API server serves a watch, and from which version on."""

    def received(self, path: str) -> None:
        """Record a piece of data, bookmarks included."""

    def broke(self, path: str) -> None:
        """Record that a connection to the API server failed: what serves the next one may be another, or have another past."""

    def refused(self, path: str, *, status: int) -> None:
        """Record that the API server refused a watch or a listing."""

    def listed_at(self, path: str) -> str:
        """Return the version of our own listing; "" where kopf asks a second time, and everything must be listed again."""


class StreamFilter:
    """A middleware and a response class for the aiohttp session that kopf is given. `watches` are the paths of its watches.

    `take_large` is given a watch's path and a large line, and returns what kopf is given in its place, b"" for nothing.
    """

    def __init__(
        self,
        *,
        watches: Collection[str],
        observer: WatchObserver,
        is_own_write: Callable[[bytes], bool],
        take_large: Callable[[str, bytes], bytes] = lambda _, line: line,
    ) -> None:
        self._watches = watches
        self.observer = observer
        self._is_own_write = is_own_write
        self._take_large = take_large

    @property
    def response_class(self) -> type[aiohttp.ClientResponse]:
        """Return the class of the session's responses."""
        return type("FilteredResponse", (_FilteredResponse,), {"stream_filter": self})

    async def __call__(self, request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
        """Pass a request on, and its answer back."""
        watch = self.watch_of(request.url.path)
        if watch and not _is_watch(request):
            request.headers["Accept"] = METADATA_ALONE  # of this listing only the version is used
        try:
            response = await handler(request)
        except aiohttp.ClientError:
            self.observer.broke(watch or request.url.path)
            raise
        if not response.ok:
            self.observer.refused(watch or request.url.path, status=response.status)
            if response.status == HTTPStatus.NOT_FOUND:
                # The CRD was deleted. The observer ends kopf, which would end with a traceback otherwise.
                response.release()
                await _until_cancelled()
        elif watch and _is_watch(request):
            self.observer.began(watch, since=request.url.query.get("resourceVersion", ""))
        return response

    def watch_of(self, path: str) -> str:
        """Return the watch that a request belongs to, "" for none; the server's URL may have a path of its own before it."""
        return next((watch for watch in self._watches if path.endswith(watch)), "")

    def for_kopf(self, watch: str, lines: Iterable[bytes]) -> Iterator[bytes]:
        """Return what of a watch's lines kopf is given."""
        for line in lines:
            if (content := line.strip()) and not content.endswith(b"}"):
                # Something cut it short. kopf would end by it; after a broken connection it begins again where it was.
                self.observer.broke(watch)
                raise aiohttp.ClientPayloadError("a line of a watch is incomplete")
            if not self._is_own_write(line):
                left = self._take_large(watch, line) if len(line) > LARGE else line
                if left:
                    yield left

    async def listing(self, watch: str) -> dict[str, object]:
        """Return the listing that kopf is given: nothing, as of the version of our own listing."""
        version = self.observer.listed_at(watch)
        if not version:
            await _until_cancelled()
        return {"metadata": {"resourceVersion": version}, "items": []}


class _FilteredResponse(aiohttp.ClientResponse):
    stream_filter: ClassVar[StreamFilter]

    async def start(self, connection: Any) -> aiohttp.ClientResponse:  # noqa: ANN401 - aiohttp's own, which is not public
        """Read the head of the answer; a watch's body is filtered from then on."""
        response = await super().start(connection)
        watch = self.stream_filter.watch_of(self.url.path)
        if self.ok and watch and _is_watch(self):
            self.content = _FilteredStream(self.content, watch=watch, stream_filter=self.stream_filter)  # type: ignore[assignment]
        return response

    async def json(self, **options: Any) -> Any:  # noqa: ANN401 - as aiohttp declares it
        """Return the body, parsed; in place of a listing, what kopf is to make of it."""
        watch = self.stream_filter.watch_of(self.url.path)
        if not self.ok or not watch:
            return await super().json(**options)
        await self.read()
        return await self.stream_filter.listing(watch)


class _FilteredStream:
    """A watch's body without own writes. Its pieces end where lines end; otherwise it is unchanged."""

    def __init__(self, content: aiohttp.StreamReader, *, watch: str, stream_filter: StreamFilter) -> None:
        self._content = content
        self._watch = watch
        self._filter = stream_filter

    def __getattr__(self, name: str) -> object:
        return getattr(self._content, name)

    async def iter_chunked(self, size: int) -> AsyncIterator[bytes]:
        rest = bytearray()
        async for chunk in self._pieces(size):
            self._filter.observer.received(self._watch)
            rest += chunk
            end = rest.rfind(b"\n")
            if end < 0:
                continue
            with memoryview(rest) as view:
                whole = view[:end].tobytes()  # a slice of the bytearray would be one more copy
            del rest[: end + 1]
            if changes := [*self._filter.for_kopf(self._watch, whole.split(b"\n"))]:
                yield b"\n".join([*changes, b""])
        for line in self._filter.for_kopf(self._watch, [bytes(rest)] if rest else []):
            yield line

    async def _pieces(self, size: int) -> AsyncIterator[bytes]:
        try:
            async for chunk in self._content.iter_chunked(size):
                yield chunk
        except aiohttp.ClientError:
            self._filter.observer.broke(self._watch)
            raise


def _is_watch(message: aiohttp.ClientRequest | aiohttp.ClientResponse) -> bool:
    return message.url.query.get("watch") == "true"


async def _until_cancelled() -> None:
    await asyncio.get_running_loop().create_future()
