"""The routes of the API over the world. Requests in, replies out: no sockets, no clock, no faults, no rate limits."""

import base64
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, TypeAlias
from urllib.parse import unquote, urlencode

from sandbox.digitalocean.engines import Engine
from sandbox.digitalocean.jsontypes import Json, JsonObject, encode
from sandbox.digitalocean.model import Cluster
from sandbox.digitalocean.render import Renderer
from sandbox.digitalocean.replies import Reply, Request, error_reply, json_reply
from sandbox.digitalocean.tokens import READ, READ_TAGS, UPDATE, Token
from sandbox.digitalocean.verbs import UnknownItemError, find, rotate_password
from sandbox.digitalocean.world import World

DEFAULT_PER_PAGE: Final = 20
MOST_PER_PAGE: Final = 200
_BASE: Final = "/v2/databases"
_NUMBER: Final = re.compile(r"[0-9]{1,9}")


class Paging(StrEnum):
    """How the listing pages. The provider's documents settle only the first for lists in general."""

    DOCUMENTED = "documented"
    """`page` and `per_page`, 20 by default, 200 at most."""
    FIXED = "fixed"
    """`per_page` is ignored: always 20."""
    WHOLE = "whole"
    """Everything on one page."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """A request's place in the API: the kind of thing asked for, and whose."""

    kind: str
    cluster: str | None = None
    name: str = ""


_ROUTES: Final = tuple(
    (kind, method, re.compile(_BASE + pattern))
    for kind, method, pattern in (
        ("list", "GET", ""),
        ("cluster", "GET", "/(?P<cluster>[^/]+)"),
        ("ca", "GET", "/(?P<cluster>[^/]+)/ca"),
        ("users", "GET", "/(?P<cluster>[^/]+)/users"),
        ("user", "GET", "/(?P<cluster>[^/]+)/users/(?P<name>[^/]+)"),
        ("reset_auth", "POST", "/(?P<cluster>[^/]+)/users/(?P<name>[^/]+)/reset_auth"),
        ("dbs", "GET", "/(?P<cluster>[^/]+)/dbs"),
        ("db", "GET", "/(?P<cluster>[^/]+)/dbs/(?P<name>[^/]+)"),
        ("pools", "GET", "/(?P<cluster>[^/]+)/pools"),
        ("pool", "GET", "/(?P<cluster>[^/]+)/pools/(?P<name>[^/]+)"),
        ("replicas", "GET", "/(?P<cluster>[^/]+)/replicas"),
    )
)
UNKNOWN_PATH: Final = Route(kind="unknown")
WRONG_METHOD: Final = Route(kind="wrong_method")


def route(method: str, path: str) -> Route:
    """Find a request's place. The path is taken as it came: a name in it may be percent-encoded."""
    for kind, expected, pattern in _ROUTES:
        match = pattern.fullmatch(path.removesuffix("/"))
        if match is not None:
            if method != expected:
                return WRONG_METHOD
            groups = match.groupdict()
            return Route(kind=kind, cluster=groups.get("cluster"), name=unquote(groups.get("name") or ""))
    return UNKNOWN_PATH


@dataclass(frozen=True, slots=True, kw_only=True)
class _Call:
    """One read of one cluster, with what answering it takes."""

    world: World
    token: Token
    request: Request
    cluster: Cluster
    renderer: Renderer
    name: str


def answer(world: World, request: Request, *, place: Route, token: Token, paging: Paging) -> Reply:
    """Answer an authenticated request."""
    if place is UNKNOWN_PATH or place is WRONG_METHOD:
        return error_reply(request, 404 if place is UNKNOWN_PATH else 405)
    if (UPDATE if place.kind == "reset_auth" else READ) not in token.scopes:
        return error_reply(request, 403)
    if place.cluster is None:
        return _list(world, request, token=token, paging=paging)
    try:
        return _answer_of_cluster(world, request, place=place, token=token, cluster=world.get(place.cluster))
    except UnknownItemError:
        return error_reply(request, 404)


def _answer_of_cluster(world: World, request: Request, *, place: Route, token: Token, cluster: Cluster) -> Reply:
    if cluster.team != token.team:
        raise UnknownItemError(cluster.id)
    if not _is_supported(place.kind, cluster.facts):
        return error_reply(request, 422)
    renderer = world.renderer(cluster.team)
    call = _Call(world=world, token=token, request=request, cluster=cluster, renderer=renderer, name=place.name)
    return _ANSWERS[place.kind](call)


def _list(world: World, request: Request, *, token: Token, paging: Paging) -> Reply:
    tag = request.query.get("tag_name")
    if tag is not None and READ_TAGS not in token.scopes:
        return error_reply(request, 403)
    page, per_page = _page_asked_for(request.query, paging=paging)
    offset = 0 if per_page is None else (page - 1) * per_page
    found, total = world.page(team=token.team, tag=tag, offset=offset, limit=per_page)
    view = token.view()
    links = _links(request, page=page, per_page=per_page, total=total)
    body = b'{"databases":[%b],"links":%b,"meta":{"total":%d}}' % (
        b",".join([world.rendered(one, view=view) for one in found]),
        encode(links),
        total,
    )
    return Reply(status=200, body=body)


def _page_asked_for(query: Mapping[str, str], *, paging: Paging) -> tuple[int, int | None]:
    """The page and its size; None: all there is. What is out of range or no number is brought into range."""
    page = _whole(query.get("page"), default=1)
    match paging:
        case Paging.DOCUMENTED:
            return page, min(_whole(query.get("per_page"), default=DEFAULT_PER_PAGE), MOST_PER_PAGE)
        case Paging.FIXED:
            return page, DEFAULT_PER_PAGE
        case Paging.WHOLE:
            return 1, None


def _whole(value: str | None, *, default: int) -> int:
    return max(int(value), 1) if value is not None and _NUMBER.fullmatch(value) else default


def _links(request: Request, *, page: int, per_page: int | None, total: int) -> JsonObject:
    """Absolute URLs of the pages around this one; no `next` on the last, and nothing at all for a single page."""
    last = 1 if per_page is None else max(1, -(-total // per_page))
    numbers = {"first": 1, "prev": page - 1} if page > 1 else {}
    if page < last:
        numbers |= {"next": page + 1, "last": last}
    if not numbers:
        return {}
    kept = {name: value for name, value in request.query.items() if name != "page"}

    def url(number: int) -> str:
        return f"{request.base_url}{_BASE}?{urlencode({**kept, 'page': number})}"

    return {"pages": {name: url(number) for name, number in numbers.items()}}


def _cluster(call: _Call) -> Reply:
    body = call.world.rendered(call.cluster.id, view=call.token.view())
    return Reply(status=200, body=b'{"database":%b}' % body)


def _ca(call: _Call) -> Reply:
    pem = call.renderer.ca(call.cluster)
    return json_reply({"ca": {"certificate": base64.b64encode(pem.encode()).decode()}})


def _users(call: _Call) -> Reply:
    return json_reply({"users": [*call.renderer.users(call.cluster, view=call.token.view())]})


def _user(call: _Call) -> Reply:
    return json_reply({"user": call.renderer.user_named(call.cluster, call.name, view=call.token.view())})


def _reset_auth(call: _Call) -> Reply:
    rotated = rotate_password(call.cluster, seed=call.world.seed, user=call.name)
    call.world.replace(rotated)
    return json_reply({"user": call.renderer.user_named(rotated, call.name, view=call.token.view(reveal_all=True))})


def _dbs(call: _Call) -> Reply:
    return json_reply({"dbs": [{"name": name} for name in call.cluster.all_databases]})


def _db(call: _Call) -> Reply:
    if call.name not in call.cluster.all_databases:
        return error_reply(call.request, 404)
    return json_reply({"db": {"name": call.name}})


def _pools(call: _Call) -> Reply:
    view = call.token.view()
    found: list[Json] = [call.renderer.pool(call.cluster, pool, view=view) for pool in call.cluster.pools]
    return json_reply({"pools": found})


def _pool(call: _Call) -> Reply:
    pool = find(call.cluster.pools, call.name)
    return json_reply({"pool": call.renderer.pool(call.cluster, pool, view=call.token.view())})


def _replicas(call: _Call) -> Reply:
    view = call.token.view()
    found: list[Json] = [call.renderer.replica(call.cluster, one, view=view) for one in call.cluster.replicas]
    return json_reply({"replicas": found})


def _is_supported(kind: str, engine: Engine) -> bool:
    match kind:
        case "users" | "user" | "reset_auth":
            return engine.has_users
        case "dbs" | "db":
            return engine.has_databases
        case "pools" | "pool":
            return engine.has_pools
        case "replicas":
            return engine.has_replicas
        case _:
            return True


_Answer: TypeAlias = Callable[[_Call], Reply]
_ANSWERS: Final[Mapping[str, _Answer]] = {
    "cluster": _cluster,
    "ca": _ca,
    "users": _users,
    "user": _user,
    "reset_auth": _reset_auth,
    "dbs": _dbs,
    "db": _db,
    "pools": _pools,
    "pool": _pool,
    "replicas": _replicas,
}
