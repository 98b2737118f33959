"""Requests and replies as values, and the provider's error bodies."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from sandbox.digitalocean.jsontypes import Json, encode

JSON_TYPE: Final = "application/json; charset=utf-8"

_ERRORS: Final[Mapping[int, tuple[str, str]]] = {
    400: ("bad_request", "The request could not be understood."),
    401: ("unauthorized", "Unable to authenticate you."),
    403: ("forbidden", "You are not authorized to perform this operation."),
    404: ("not_found", "The resource you requested could not be found."),
    405: ("method_not_allowed", "The method is not allowed for this resource."),
    422: ("unprocessable_entity", "operation is not supported for this cluster type"),
    429: ("too_many_requests", "API rate limit exceeded."),
    500: ("server_error", "Unexpected server-side error"),
    503: ("service_unavailable", "The service is temporarily unavailable."),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What the API looks at of an HTTP request."""

    number: int
    """The running number; names the request in error bodies."""
    method: str
    path: str
    query: Mapping[str, str] = field(default_factory=dict)
    path_qs: str = ""
    """Path and query as they came."""
    token: str | None = None
    base_url: str = ""
    """Scheme and authority the client used; goes into links."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """An HTTP reply, whole."""

    status: int
    body: bytes
    content_type: str = JSON_TYPE
    headers: Mapping[str, str] = field(default_factory=dict)


def json_reply(value: Json, *, status: int = 200, headers: Mapping[str, str] | None = None) -> Reply:
    """A reply with a JSON body."""
    return Reply(status=status, body=encode(value), headers={} if headers is None else headers)


def error_reply(request: Request, status: int, *, message: str | None = None) -> Reply:
    """The provider's error body for a status, exactly `id`, `message` and `request_id`."""
    slug, default = _ERRORS.get(status, _ERRORS[500])
    body: Json = {
        "id": slug,
        "message": default if message is None else message,
        "request_id": f"00000000-0000-4000-8000-{request.number:012x}",
    }
    return json_reply(body, status=status)
