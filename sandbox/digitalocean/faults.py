"""What goes wrong on demand: which request a fault meets, and how often. What it then does is in `disturb` and `server`."""

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from sandbox.digitalocean.generate import draw_fraction
from sandbox.digitalocean.jsontypes import Json, JsonMapping, JsonObject
from sandbox.digitalocean.parsing import (
    BadRequestError,
    Parser,
    anything,
    headers,
    maybe,
    number,
    one_of,
    parse_members,
    text,
    whole,
)
from sandbox.digitalocean.verbs import UnknownItemError


class FaultKind(StrEnum):
    """The ways to fail."""

    STATUS = "status"
    """`status` with `body` (an object or a text) and `headers`; without a body, the API's own error for that status."""
    GATEWAY_TIMEOUT = "gateway_timeout"
    """An HTML 504 from the CDN in front of the API: no JSON, no rate-limit headers."""
    PLAIN_404 = "plain_404"
    """`404 page not found`, as plain text."""
    TRUNCATE = "truncate"
    """The true reply, cut off in the middle of its JSON; its length says so, so it arrives as a whole body."""
    DELAY = "delay"
    """The true reply, `delay` seconds late."""
    STALL = "stall"
    """Headers and half the body; then nothing for `delay` seconds, or forever when it is 0."""
    BOMB = "bomb"
    """200 with 64 KiB of gzip that decode to 64 MiB."""
    ENDLESS = "endless"
    """The true reply's headers and a body of white space that never ends."""
    RESET = "reset"
    """The connection is reset before a reply."""
    HANG = "hang"
    """No reply, ever; the connection stays open until the client leaves."""
    NO_DATABASE = "no_database"
    """200 whose object lacks its one member (`database`, `databases`, `ca`, …)."""
    OTHER_UUID = "other_uuid"
    """200 with the object of another cluster: the identifiers are `target`."""
    FOREIGN_NEXT = "foreign_next"
    """A listing whose next page lies on another host: `target`, a base URL. Given on the last page too."""
    CONTENT_TYPE = "content_type"
    """The true reply under another content type: `body`, default `text/html`."""
    REDIRECT = "redirect"
    """A redirect (`status`, default 302) to `target`, a base URL; the path is kept."""
    BUDGET = "budget"
    """The true reply with `headers` over its own: an exhausted budget, or none at all (a value of "" drops the header)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One rule. A request meets it if every condition given holds; the first rule in force that matches acts alone."""

    kind: FaultKind
    path: str = ""
    """Regular expression searched in the path with its query."""
    method: str | None = None
    token: str | None = None
    cluster: str | None = None
    skip: int = 0
    """Matching requests to leave alone first."""
    count: int | None = None
    """Requests to corrupt; None: until it is cleared."""
    probability: float = 1.0
    seed: int = 0
    """Decides, with the running number of the matching request, which ones the probability picks."""
    status: int | None = None
    body: Json = None
    headers: Mapping[str, str] = field(default_factory=dict)
    delay: float = 0.0
    """Seconds of real time before the reply's headers, with every kind but `stall`."""
    target: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What of a request a fault looks at."""

    method: str
    path_qs: str
    token: str | None
    cluster: str | None


@dataclass(slots=True, kw_only=True)
class _Rule:
    id: int
    fault: Fault
    pattern: re.Pattern[str]
    seen: int = 0
    """Matching requests, corrupted or not."""
    acted: int = 0

    def meets(self, target: Target) -> bool:
        fault = self.fault
        return (
            (fault.method is None or fault.method == target.method)
            and (fault.token is None or fault.token == target.token)
            and (fault.cluster is None or fault.cluster == target.cluster)
            and self.pattern.search(target.path_qs) is not None
        )

    def acts(self) -> bool:
        self.seen += 1
        if self.seen <= self.fault.skip:
            return False
        if self.fault.probability < 1 and draw_fraction(self.fault.seed, "fault", self.seen) >= self.fault.probability:
            return False
        self.acted += 1
        return True

    @property
    def spent(self) -> bool:
        return self.fault.count is not None and self.acted >= self.fault.count


class FaultBook:
    """The rules in force, oldest first."""

    def __init__(self) -> None:
        self._rules: dict[int, _Rule] = {}
        self._last = 0

    def add(self, fault: Fault) -> int:
        """Put a rule in force; returns its number."""
        self._last += 1
        self._rules[self._last] = _Rule(id=self._last, fault=fault, pattern=re.compile(fault.path))
        return self._last

    def clear(self, number_: int | None = None) -> None:
        """End one rule, or all of them; `UnknownItemError` for a number that never was."""
        if number_ is None:
            self._rules.clear()
        elif number_ > self._last or number_ < 1:
            raise UnknownItemError(f"fault {number_}")
        else:
            self._rules.pop(number_, None)

    def meet(self, target: Target) -> Fault | None:
        """The fault that corrupts this request, if one does. Counts."""
        for rule in tuple(self._rules.values()):
            if rule.meets(target) and rule.acts():
                if rule.spent:
                    del self._rules[rule.id]
                return rule.fault
        return None

    def listed(self) -> list[JsonObject]:
        """The rules in force with how often each met and corrupted a request."""
        return [
            {"id": rule.id, "seen": rule.seen, "acted": rule.acted, **_as_json(rule.fault)} for rule in self._rules.values()
        ]


def parse_fault(body: JsonMapping) -> Fault:
    """A fault from its JSON; `kind` is required, and `target` where the kind points somewhere."""
    parsed = parse_members(body, takes=_FAULT, required=("kind",))
    fault = Fault(**parsed)  # type: ignore[arg-type]  # the table parsed every member
    if fault.kind in _POINTING and not fault.target:
        raise BadRequestError(f"target is required with kind {fault.kind}")
    if fault.kind is FaultKind.STATUS and fault.status is None:
        raise BadRequestError("status is required with kind status")
    return fault


def _pattern(name: str, value: Json) -> str:
    try:
        re.compile(text(name, value))
    except re.error as error:
        raise BadRequestError(f"{name} takes a regular expression: {error}") from None
    return text(name, value)


def _as_json(fault: Fault) -> JsonObject:
    return {**dataclasses.asdict(fault), "headers": dict(fault.headers)}


_POINTING: Final = frozenset({FaultKind.OTHER_UUID, FaultKind.FOREIGN_NEXT, FaultKind.REDIRECT})
_FAULT: Final[Mapping[str, Parser[object]]] = {
    "kind": one_of(FaultKind),
    "path": _pattern,
    "method": maybe(text),
    "token": maybe(text),
    "cluster": maybe(text),
    "skip": whole,
    "count": maybe(whole),
    "probability": number,
    "seed": whole,
    "status": maybe(whole),
    "body": anything,
    "headers": headers,
    "delay": number,
    "target": text,
}
