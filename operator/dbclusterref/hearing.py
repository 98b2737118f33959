"""What kopf hears of the API server: on the way each watch is listened to, and what is known already is left out.

kopf takes half a millisecond for each object that it is told of, and would be told of all that was listed before it started and
of each of our own writes.
"""

from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

import aiohttp


class Hearing:
    """A middleware of an aiohttp session.

    `hear` is told the path of a watch when it begins and with each piece that arrives, `is_known` judges the objects of a
    listing, `is_echo` the lines of a watch.
    """

    def __init__(
        self,
        *,
        hear: Callable[[str], object],
        is_known: Callable[[Mapping[str, object]], bool],
        is_echo: Callable[[bytes], bool],
    ) -> None:
        self._hear = hear
        self._is_known = is_known
        self._is_echo = is_echo

    async def __call__(self, request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
        """Passes a request on, and its answer back."""
        response = await handler(request)
        path = request.url.path
        if response.ok and request.url.query.get("watch") == "true":
            self._hear(path)
            response.content = _News(response.content, hear=lambda: self._hear(path), is_echo=self._is_echo)  # type: ignore[assignment]
        elif response.ok:
            response.json = _Read(self._without_known(await response.json()))  # type: ignore[method-assign, assignment]
        return response

    def _without_known(self, answer: Any) -> Any:  # noqa: ANN401
        items = answer.get("items") if isinstance(answer, dict) else None
        if isinstance(items, list):
            answer["items"] = [item for item in items if not self._is_known(item)]
        return answer


class _Read:
    """What was read of a response, for who is about to. It does not hold the response, which would then outlive its use."""

    def __init__(self, value: object) -> None:
        self._value = value

    async def __call__(self) -> object:
        return self._value


class _News:
    """A watch's stream without the echoes; but for its pieces, which end where lines end, it is as it was."""

    def __init__(self, content: aiohttp.StreamReader, *, hear: Callable[[], object], is_echo: Callable[[bytes], bool]) -> None:
        self._content = content
        self._hear = hear
        self._is_echo = is_echo

    def __getattr__(self, name: str) -> object:
        return getattr(self._content, name)

    async def iter_chunked(self, size: int) -> AsyncIterator[bytes]:
        rest = b""
        async for chunk in self._content.iter_chunked(size):
            self._hear()
            *lines, rest = (rest + chunk).split(b"\n")
            if news := [line for line in lines if not self._is_echo(line)]:
                yield b"\n".join([*news, b""])
        if rest:
            yield rest
