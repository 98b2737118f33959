"""The API as a whole, still without sockets: tokens and limits, then faults, then the routes, and the log of it all."""

import dataclasses
from collections.abc import Callable, Mapping

from sandbox.digitalocean.api import Paging, Route, answer, route
from sandbox.digitalocean.clock import SimulatedClock
from sandbox.digitalocean.disturb import Delivery, disturb
from sandbox.digitalocean.faults import Fault, FaultBook, FaultKind, Target
from sandbox.digitalocean.ratelimit import Limits, RateLimiter, Verdict
from sandbox.digitalocean.replies import Reply, Request, error_reply
from sandbox.digitalocean.requestlog import LogEntry, RequestLog
from sandbox.digitalocean.tokens import DEFAULT_TOKEN, Token, TokenRegister
from sandbox.digitalocean.world import World


class Simulator:
    """One API with everything the control surface reaches into."""

    def __init__(self, *, seed: int, clock: Callable[[], float]) -> None:
        self.world = World(seed=seed)
        self.tokens = TokenRegister()
        self.tokens.put(Token(value=DEFAULT_TOKEN))
        self.faults = FaultBook()
        self.log = RequestLog()
        self.clock = SimulatedClock(source=clock)
        self.paging = Paging.DOCUMENTED
        self._number = 0

    def handle(
        self,
        method: str,
        path: str,
        *,
        token: str | None,
        query: Mapping[str, str] | None = None,
        path_qs: str | None = None,
        base_url: str = "",
    ) -> Delivery:
        """Answer one request. `path` is as it came, percent-encoding and all."""
        self._number += 1
        request = Request(
            number=self._number,
            method=method,
            path=path,
            query={} if query is None else query,
            path_qs=path if path_qs is None else path_qs,
            token=token,
            base_url=base_url,
        )
        place = route(method, path)
        delivery, fault = self._deliver(request, place)
        self._record(request, place, status=delivery.status, fault=fault)
        return delivery

    def _deliver(self, request: Request, place: Route) -> tuple[Delivery, Fault | None]:
        known = self.tokens.find(request.token)
        token, limiter = known if known is not None else (None, _unlimited())
        verdict = limiter.admit(now=self.clock.now())
        if not verdict.allowed:
            return Delivery(reply=_limited(error_reply(request, 429), verdict)), None
        fault = self._fault(request, place)
        if fault is not None and fault.kind is FaultKind.OTHER_UUID and place.cluster is not None:
            place = dataclasses.replace(place, cluster=fault.target)
        reply = _limited(self._answer(request, place, token), verdict)
        return (Delivery(reply=reply) if fault is None else disturb(reply, fault, request=request)), fault

    def _answer(self, request: Request, place: Route, token: Token | None) -> Reply:
        if token is None:
            return error_reply(request, 401)
        return answer(self.world, request, place=place, token=token, paging=self.paging)

    def _fault(self, request: Request, place: Route) -> Fault | None:
        target = Target(method=request.method, path_qs=request.path_qs, token=request.token, cluster=place.cluster)
        return self.faults.meet(target)

    def _record(self, request: Request, place: Route, *, status: int, fault: Fault | None) -> None:
        self.log.add(
            LogEntry(
                number=request.number,
                at=self.clock.now(),
                method=request.method,
                path=request.path_qs,
                kind=place.kind,
                cluster=place.cluster,
                token=request.token,
                status=status,
                fault=None if fault is None else fault.kind.value,
            )
        )


def _unlimited() -> RateLimiter:
    # A token that is not in force has no budget to use up, but its replies carry the headers all the same.
    return RateLimiter(Limits())


def _limited(reply: Reply, verdict: Verdict) -> Reply:
    return dataclasses.replace(reply, headers={**verdict.headers, **reply.headers})
