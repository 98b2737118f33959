"""Orders about the API itself: its faults, tokens, log, clock and settings."""

from collections.abc import Mapping
from typing import Final

from sandbox.digitalocean import verbs
from sandbox.digitalocean.api import Paging
from sandbox.digitalocean.faults import FaultKind, parse_fault
from sandbox.digitalocean.jsontypes import Json, JsonObject
from sandbox.digitalocean.model import Redaction
from sandbox.digitalocean.orders import Order, Route, limit_of
from sandbox.digitalocean.parsing import BadRequestError, Parser, flag, maybe, number, one_of, parse_members, text, texts, whole
from sandbox.digitalocean.ratelimit import Limits
from sandbox.digitalocean.tokens import ALL_SCOPES, Token

_DEFAULT_ENTRIES: Final = 1000


def _add_fault(order: Order) -> JsonObject:
    fault = parse_fault(order.body)
    if fault.kind is FaultKind.OTHER_UUID:
        order.simulator.world.get(fault.target)
    return {"id": order.simulator.faults.add(fault)}


def _list_faults(order: Order) -> JsonObject:
    return {"faults": [*order.simulator.faults.listed()]}


def _clear_faults(order: Order) -> JsonObject:
    name = order.where.get("number")
    order.simulator.faults.clear(None if name is None else int(name))
    return {}


def _set_token(order: Order) -> JsonObject:
    parsed = parse_members(order.body, takes=_TOKEN, required=("value",))
    limits = Limits(**{name: parsed.pop(name) for name in ("per_hour", "per_minute") if name in parsed})  # type: ignore[arg-type]  # the table parsed every member
    order.simulator.tokens.put(Token(limits=limits, **parsed))  # type: ignore[arg-type]  # the table parsed every member
    return {}


def _revoke_token(order: Order) -> JsonObject:
    if not order.simulator.tokens.revoke(order.where["name"]):
        raise verbs.UnknownItemError("token of that value")
    return {}


def _list_requests(order: Order) -> JsonObject:
    limit = limit_of(order.query)
    return order.simulator.log.report(limit=_DEFAULT_ENTRIES if limit is None else limit)


def _clear_requests(order: Order) -> JsonObject:
    order.simulator.log.clear()
    return {}


def _set_clock(order: Order) -> JsonObject:
    parsed = parse_members(order.body, takes={"now": maybe(number), "speed": maybe(number), "advance": number})
    return {"now": order.simulator.clock.set(**parsed)}  # type: ignore[arg-type]  # the table parsed every member


def _configure(order: Order) -> JsonObject:
    parsed = parse_members(order.body, takes={"paging": one_of(Paging)})
    order.simulator.paging = Paging(str(parsed.get("paging", order.simulator.paging)))
    return {"paging": order.simulator.paging}


def _scopes(name: str, value: Json) -> frozenset[str]:
    scopes = frozenset(texts(name, value))
    if not scopes <= ALL_SCOPES:
        raise BadRequestError(f"{name} takes: {', '.join(sorted(ALL_SCOPES))}")
    return scopes


_TOKEN: Final[Mapping[str, Parser[object]]] = {
    "value": text,
    "team": text,
    "scopes": _scopes,
    "redaction": one_of(Redaction),
    "redact_user": flag,
    "per_hour": whole,
    "per_minute": whole,
}


ROUTES: Final[tuple[Route, ...]] = (
    ("POST", "/faults", _add_fault),
    ("GET", "/faults", _list_faults),
    ("DELETE", "/faults", _clear_faults),
    ("DELETE", "/faults/(?P<number>[0-9]{1,9})", _clear_faults),
    ("POST", "/tokens", _set_token),
    ("DELETE", "/tokens/(?P<name>[^/]+)", _revoke_token),
    ("GET", "/requests", _list_requests),
    ("DELETE", "/requests", _clear_requests),
    ("POST", "/clock", _set_clock),
    ("POST", "/settings", _configure),
)
