"""What a fault makes of a reply. Pure: how the bytes then travel is the server's part."""

import dataclasses
import functools
import gzip
import json
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final, cast

from sandbox.digitalocean.faults import Fault, FaultKind
from sandbox.digitalocean.jsontypes import JsonObject
from sandbox.digitalocean.replies import Reply, Request, error_reply, json_reply

_GATEWAY_TIMEOUT_PAGE: Final = (
    b"<!DOCTYPE html>\n<html><head><title>504 Gateway Time-out</title></head>\n"
    b"<body><center><h1>504 Gateway Time-out</h1></center></body></html>\n"
)
_PLAIN_404: Final = Reply(status=404, body=b"404 page not found\n", content_type="text/plain; charset=utf-8")
_BOMB_SIZE: Final = 64 * 2**20


class Manner(Enum):
    """How a reply reaches the client."""

    WHOLE = auto()
    STALLED = auto()
    """Headers and half the body, then a pause."""
    ENDLESS = auto()
    """Headers and a body without end."""
    RESET = auto()
    NEVER = auto()


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """A reply and how it is to be sent."""

    reply: Reply
    manner: Manner = Manner.WHOLE
    delay: float = 0.0
    """Seconds: before the headers, or in the middle of a stalled body (then 0 means forever)."""

    @property
    def status(self) -> int:
        """What the client gets to see; 0: nothing."""
        return 0 if self.manner in {Manner.RESET, Manner.NEVER} else self.reply.status


def disturb(reply: Reply, fault: Fault, *, request: Request) -> Delivery:
    """Corrupt the true reply."""
    manner = _MANNERS.get(fault.kind, Manner.WHOLE)
    corrupted = _corrupt(reply, fault, request=request) if manner is Manner.WHOLE else reply
    headers = {name: value for name, value in {**corrupted.headers, **_lowered(fault)}.items() if value}
    return Delivery(reply=dataclasses.replace(corrupted, headers=headers), manner=manner, delay=fault.delay)


def _corrupt(reply: Reply, fault: Fault, *, request: Request) -> Reply:
    match fault.kind:
        case FaultKind.STATUS:
            return _with_headers_of(reply, _status(fault, request=request))
        case FaultKind.GATEWAY_TIMEOUT:
            return Reply(status=504, body=_GATEWAY_TIMEOUT_PAGE, content_type="text/html; charset=utf-8")
        case FaultKind.BOMB:
            return dataclasses.replace(reply, body=_bomb(), headers={**reply.headers, "content-encoding": "gzip"})
        case FaultKind.PLAIN_404:
            return _with_headers_of(reply, _PLAIN_404)
        case FaultKind.REDIRECT:
            location = fault.target.rstrip("/") + request.path_qs
            return Reply(status=fault.status or 302, body=b"", headers={**reply.headers, "location": location})
        case _:
            return _retouched(reply, fault, request=request)


def _retouched(reply: Reply, fault: Fault, *, request: Request) -> Reply:
    """The true reply, wrong in one place."""
    match fault.kind:
        case FaultKind.TRUNCATE:
            return dataclasses.replace(reply, body=reply.body[: len(reply.body) // 2])
        case FaultKind.NO_DATABASE:
            return _without_object(reply)
        case FaultKind.FOREIGN_NEXT:
            return _with_next(reply, f"{fault.target.rstrip('/')}{request.path}?page=2")
        case FaultKind.CONTENT_TYPE:
            return dataclasses.replace(reply, content_type=fault.body if isinstance(fault.body, str) else "text/html")
        case _:
            return reply


def _status(fault: Fault, *, request: Request) -> Reply:
    status = fault.status or 500
    if fault.body is None:
        return error_reply(request, status)
    if isinstance(fault.body, str):
        return Reply(status=status, body=fault.body.encode(), content_type="text/plain; charset=utf-8")
    return json_reply(fault.body, status=status)


def _with_headers_of(reply: Reply, other: Reply) -> Reply:
    return dataclasses.replace(other, headers={**reply.headers, **other.headers})


def _without_object(reply: Reply) -> Reply:
    """Every reply's object is its first member; links and meta may follow."""
    body = _object(reply)
    first = next(iter(body), None)
    return json_reply(
        {name: value for name, value in body.items() if name != first}, status=reply.status, headers=reply.headers
    )


def _with_next(reply: Reply, url: str) -> Reply:
    body = _object(reply)
    if "databases" not in body:
        return reply
    return json_reply({**body, "links": {"pages": {"next": url}}}, status=reply.status, headers=reply.headers)


def _object(reply: Reply) -> JsonObject:
    return cast("JsonObject", json.loads(reply.body))


def _lowered(fault: Fault) -> dict[str, str]:
    return {name.lower(): value for name, value in fault.headers.items()}


@functools.cache
def _bomb() -> bytes:
    return gzip.compress(b" " * _BOMB_SIZE, compresslevel=9)


_MANNERS: Final = {
    FaultKind.STALL: Manner.STALLED,
    FaultKind.ENDLESS: Manner.ENDLESS,
    FaultKind.RESET: Manner.RESET,
    FaultKind.HANG: Manner.NEVER,
}
