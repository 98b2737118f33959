"""Orders about clusters, what happens to them and what belongs to them."""

from collections.abc import Mapping
from typing import Final

from sandbox.digitalocean import verbs
from sandbox.digitalocean.changes import apply_changes, parse_pool, parse_replica, password_style, uuid_text
from sandbox.digitalocean.jsontypes import JsonObject
from sandbox.digitalocean.model import DEFAULT_TEAM
from sandbox.digitalocean.orders import Order, Route, limit_of, shown
from sandbox.digitalocean.parsing import Parser, flag, maybe, members, parse_members, text, texts, whole
from sandbox.digitalocean.world import Recipe

_FLEET: Final[Mapping[str, Parser[object]]] = {
    "count": whole,
    "engine": maybe(text),
    "num_nodes": maybe(whole),
    "team": text,
    "tags": texts,
    "password_style": password_style,
}


# Clusters


def _list_clusters(order: Order) -> JsonObject:
    found, total = order.simulator.world.page(
        team=order.query.get("team", DEFAULT_TEAM), tag=order.query.get("tag"), limit=limit_of(order.query)
    )
    return {"ids": [*found], "total": total}


def _create_cluster(order: Order) -> JsonObject:
    changes = dict(order.body)
    cluster_id = maybe(uuid_text)("id", changes.pop("id", None))
    name = maybe(text)("name", changes.get("name"))
    style = password_style("password_style", changes.get("password_style", {}))
    recipe = Recipe(engine="pg", num_nodes=1, team=text("team", changes.get("team", DEFAULT_TEAM)), password_style=style)
    drafted = order.simulator.world.draft(recipe, cluster_id=cluster_id, name=name)
    created = apply_changes(drafted, {"tags": [], **changes})
    order.simulator.world.add(created)
    return shown(order.simulator, created)


def _seed_clusters(order: Order) -> JsonObject:
    parsed = parse_members(order.body, takes=_FLEET, required=("count",))
    count = parsed.pop("count")
    assert isinstance(count, int)
    recipe = Recipe(**parsed)  # type: ignore[arg-type]  # the table parsed every member
    return {"ids": [*order.simulator.world.seed_clusters(count, recipe)]}


def _get_cluster(order: Order) -> JsonObject:
    return shown(order.simulator, order.cluster())


def _update_cluster(order: Order) -> JsonObject:
    return order.change(apply_changes(order.cluster(), order.body))


def _delete_cluster(order: Order) -> JsonObject:
    order.simulator.world.delete(order.where["cluster"])
    return {}


def _get_ca(order: Order) -> JsonObject:
    cluster = order.cluster()
    return {"ca": order.simulator.world.renderer(cluster.team).ca(cluster)}


# What happens to them


def _rotate_password(order: Order) -> JsonObject:
    parsed = parse_members(order.body, takes={"user": maybe(text), "password": maybe(text)})
    return order.change(verbs.rotate_password(order.cluster(), seed=order.simulator.world.seed, **parsed))  # type: ignore[arg-type]  # the table parsed every member


def _rotate_passwords(order: Order) -> JsonObject:
    world = order.simulator.world
    rotated = [verbs.rotate_password(world.get(one), seed=world.seed) for one in texts("ids", order.body.get("ids", []))]
    for cluster in rotated:
        world.replace(cluster)
    return {"rotated": len(rotated)}


def _fail_over(order: Order) -> JsonObject:
    parsed = parse_members(order.body, takes={"swap_hosts": flag})
    return order.change(verbs.fail_over(order.cluster(), swap_hosts=bool(parsed.get("swap_hosts"))))


def _restore_standby(order: Order) -> JsonObject:
    return order.change(verbs.restore_standby(order.cluster()))


# What belongs to them


def _add_user(order: Order) -> JsonObject:
    takes: Mapping[str, Parser[object]] = {"name": text, "password": maybe(text), "members": members}
    parsed = parse_members(order.body, takes=takes, required=("name",))
    return order.change(verbs.add_user(order.cluster(), seed=order.simulator.world.seed, **parsed))  # type: ignore[arg-type]  # the table parsed every member


def _add_pool(order: Order) -> JsonObject:
    return order.change(verbs.add_pool(order.cluster(), parse_pool(order.body)))


def _add_replica(order: Order) -> JsonObject:
    cluster = order.cluster()
    return order.change(verbs.add_replica(cluster, parse_replica(order.body, cluster=cluster)))


def _add_database(order: Order) -> JsonObject:
    parsed = parse_members(order.body, takes={"name": text}, required=("name",))
    return order.change(verbs.add_database(order.cluster(), name=str(parsed["name"])))


def _remove_user(order: Order) -> JsonObject:
    return order.change(verbs.remove_user(order.cluster(), name=order.where["name"]))


def _remove_pool(order: Order) -> JsonObject:
    return order.change(verbs.remove_pool(order.cluster(), name=order.where["name"]))


def _remove_replica(order: Order) -> JsonObject:
    return order.change(verbs.remove_replica(order.cluster(), name=order.where["name"]))


def _remove_database(order: Order) -> JsonObject:
    return order.change(verbs.remove_database(order.cluster(), name=order.where["name"]))


_ONE: Final = "/clusters/(?P<cluster>[^/]+)"
ROUTES: Final[tuple[Route, ...]] = (
    ("GET", "/clusters", _list_clusters),
    ("POST", "/clusters", _create_cluster),
    ("POST", "/fleet", _seed_clusters),
    ("POST", "/rotate", _rotate_passwords),
    ("GET", _ONE, _get_cluster),
    ("PATCH", _ONE, _update_cluster),
    ("DELETE", _ONE, _delete_cluster),
    ("GET", _ONE + "/ca", _get_ca),
    ("POST", _ONE + "/rotate", _rotate_password),
    ("POST", _ONE + "/fail-over", _fail_over),
    ("POST", _ONE + "/restore-standby", _restore_standby),
    ("POST", _ONE + "/users", _add_user),
    ("POST", _ONE + "/pools", _add_pool),
    ("POST", _ONE + "/replicas", _add_replica),
    ("POST", _ONE + "/databases", _add_database),
    ("DELETE", _ONE + "/users/(?P<name>[^/]+)", _remove_user),
    ("DELETE", _ONE + "/pools/(?P<name>[^/]+)", _remove_pool),
    ("DELETE", _ONE + "/replicas/(?P<name>[^/]+)", _remove_replica),
    ("DELETE", _ONE + "/databases/(?P<name>[^/]+)", _remove_database),
)
