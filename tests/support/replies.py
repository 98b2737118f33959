"""Replies as a network brings them, for `httpx.MockTransport`: its own arrive read and decoded, which no real one does."""

from collections.abc import AsyncIterator, Mapping

import httpx


class _Arriving(httpx.AsyncByteStream):
    def __init__(self, content: bytes, *, piece: int) -> None:
        self._content = content
        self._piece = piece

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for start in range(0, len(self._content), self._piece):
            yield self._content[start : start + self._piece]


def arriving(status: int, content: bytes, *, headers: Mapping[str, str] | None = None, piece: int = 65536) -> httpx.Response:
    """A reply whose body comes in pieces."""
    return httpx.Response(status, stream=_Arriving(content, piece=piece), headers=dict(headers or {}))
