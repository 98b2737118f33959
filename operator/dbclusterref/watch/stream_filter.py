"""What kopf is told of the API server's answers: known objects and our own writes are left out.

kopf takes half a millisecond for each object that it is told of, and would be told of all that was listed before it started and
of each of our own writes.
"""

import re
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

import aiohttp

from dbclusterref.resource.objects import uid_of, version_of

MOST = 1000
"""OwnWrites that are waited for at once; beyond, the oldest is forgotten, and taken for news when it comes."""

_CHANGES = (b'{"type":"ADDED",', b'{"type":"MODIFIED",')
_VERSION = re.compile(rb'"resourceVersion":"(\d+)"')


class OwnWrites:
    """What our own writes made: versions, and of which object, since each kind may have an etcd with versions of its own."""

    def __init__(self) -> None:
        self._expected: dict[bytes, bytes] = {}

    def expect(self, body: Mapping[str, object]) -> None:
        """Takes note of the answer to a write, once all that it says is known."""
        self._expected[version_of(body).encode()] = uid_of(body).encode()
        if len(self._expected) > MOST:
            del self._expected[next(iter(self._expected))]

    def is_own(self, line: bytes) -> bool:
        """Tells whether a line of a watch is an echo, by its bytes; each is recognized once. What is in doubt is none."""
        if not self._expected or not line.startswith(_CHANGES):
            return False
        # A label or a key of that very name makes two of it: which is the object's own would be a guess.
        versions = _VERSION.findall(line)
        uid = self._expected.get(versions[0]) if len(versions) == 1 else None
        if uid is None or b'"uid":"%b"' % uid not in line:
            return False
        del self._expected[versions[0]]
        return True


class StreamFilter:
    """A middleware of an aiohttp session.

    `hear` is told the path of a watch when it begins and with each piece that arrives, `is_known` judges the objects of a
    listing, `is_own_write` the lines of a watch.
    """

    def __init__(
        self,
        *,
        hear: Callable[[str], object],
        is_known: Callable[[Mapping[str, object]], bool],
        is_own_write: Callable[[bytes], bool],
    ) -> None:
        self._hear = hear
        self._is_known = is_known
        self._is_own_write = is_own_write

    async def __call__(self, request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
        """Passes a request on, and its answer back."""
        response = await handler(request)
        path = request.url.path
        if response.ok and request.url.query.get("watch") == "true":
            self._hear(path)
            response.content = _FilteredStream(response.content, hear=lambda: self._hear(path), is_own_write=self._is_own_write)  # type: ignore[assignment]
        elif response.ok:
            response.json = _Parsed(self._without_known(await response.json()))  # type: ignore[method-assign, assignment]
        return response

    def _without_known(self, answer: Any) -> Any:  # noqa: ANN401
        items = answer.get("items") if isinstance(answer, dict) else None
        if isinstance(items, list):
            answer["items"] = [item for item in items if not self._is_known(item)]
        return answer


class _Parsed:
    """What was read of a response, for who is about to. It does not hold the response, which would then outlive its use."""

    def __init__(self, value: object) -> None:
        self._value = value

    async def __call__(self) -> object:
        return self._value


class _FilteredStream:
    """A watch's stream without the own_writes; but for its pieces, which end where lines end, it is as it was."""

    def __init__(
        self, content: aiohttp.StreamReader, *, hear: Callable[[], object], is_own_write: Callable[[bytes], bool]
    ) -> None:
        self._content = content
        self._hear = hear
        self._is_own_write = is_own_write

    def __getattr__(self, name: str) -> object:
        return getattr(self._content, name)

    async def iter_chunked(self, size: int) -> AsyncIterator[bytes]:
        rest = b""
        async for chunk in self._content.iter_chunked(size):
            self._hear()
            *lines, rest = (rest + chunk).split(b"\n")
            if news := [line for line in lines if not self._is_own_write(line)]:
                yield b"\n".join([*news, b""])
        if rest:
            yield rest
