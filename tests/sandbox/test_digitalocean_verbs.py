"""What the control surface does to a cluster, without sockets."""

import json
from typing import Any
from urllib.parse import urlsplit

import pytest

from sandbox.digitalocean.control import obey
from sandbox.digitalocean.jsontypes import Json, JsonObject
from sandbox.digitalocean.simulator import Simulator
from sandbox.digitalocean.tokens import DEFAULT_TOKEN
from sandbox.digitalocean.world import Recipe


@pytest.fixture
def simulator() -> Simulator:
    return Simulator(seed=0, clock=lambda: 1_700_000_000.0)


def control(simulator: Simulator, method: str, path: str, **body: Json) -> Any:
    reply = obey(simulator, method, f"/control{path}", query={}, body=body)
    assert reply.status == 200, reply.body
    return json.loads(reply.body)


def create(simulator: Simulator, **changes: Json) -> Any:
    return control(simulator, "POST", "/clusters", **changes)["cluster"]


def read(simulator: Simulator, cluster: str) -> Any:
    reply = simulator.handle("GET", f"/v2/databases/{cluster}", token=DEFAULT_TOKEN).reply
    return json.loads(reply.body)["database"]


def test_a_rotation_reaches_every_connection_and_the_list_of_users(simulator: Simulator) -> None:
    before = create(simulator, num_nodes=2)

    after = control(simulator, "POST", f"/clusters/{before['id']}/rotate")["cluster"]

    new = after["connection"]["password"]
    assert new != before["connection"]["password"]
    for kind in ("connection", "private_connection", "standby_connection", "standby_private_connection"):
        assert after[kind]["password"] == new
        assert f":{new}@" in after[kind]["uri"]
    assert after["users"][0]["password"] == new
    assert read(simulator, before["id"]) == after


def test_rotating_a_named_user_leaves_the_default_user_alone(simulator: Simulator) -> None:
    cluster = create(simulator)["id"]
    before = control(simulator, "POST", f"/clusters/{cluster}/users", name="app")["cluster"]

    after = control(simulator, "POST", f"/clusters/{cluster}/rotate", user="app", password="new")["cluster"]

    assert after["users"][1]["password"] == "new"
    assert {**after, "users": None} == {**before, "users": None}
    assert after["users"][0] == before["users"][0]


def test_a_rotation_replaces_a_password_that_was_laid_over_a_connection(simulator: Simulator) -> None:
    laid: Json = {"private_connection": {"host": "10.0.0.7", "password": "old", "uri": "postgresql://x"}}
    cluster = create(simulator, connections=laid)["id"]

    after = control(simulator, "POST", f"/clusters/{cluster}/rotate", password="new")["cluster"]["private_connection"]

    assert (after["host"], after["password"]) == ("10.0.0.7", "new")
    assert urlsplit(after["uri"]).hostname == "10.0.0.7"


def test_many_passwords_rotate_in_one_step(simulator: Simulator) -> None:
    ids = simulator.world.seed_clusters(30, Recipe(engine="pg"))
    before = [read(simulator, one)["connection"]["password"] for one in ids]

    control(simulator, "POST", "/rotate", ids=[*ids[:20]])

    after = [read(simulator, one)["connection"]["password"] for one in ids]
    assert [old == new for old, new in zip(before, after, strict=True)] == [False] * 20 + [True] * 10


def test_a_failover_takes_the_standby_away_and_keeps_the_host_names(simulator: Simulator) -> None:
    before = create(simulator, num_nodes=2)
    cluster = before["id"]

    failed = control(simulator, "POST", f"/clusters/{cluster}/fail-over")["cluster"]
    restored = control(simulator, "POST", f"/clusters/{cluster}/restore-standby")["cluster"]

    assert failed["private_connection"] == before["private_connection"]
    assert "standby_private_connection" not in failed
    assert "standby_connection" not in failed
    assert restored == before


def test_a_failover_between_real_servers_swaps_their_addresses(simulator: Simulator) -> None:
    servers: Json = {
        "private_connection": {"host": "127.0.0.1", "port": 5432},
        "standby_private_connection": {"host": "127.0.0.1", "port": 5433},
    }
    cluster = create(simulator, num_nodes=2, connections=servers)["id"]

    control(simulator, "POST", f"/clusters/{cluster}/fail-over", swap_hosts=True)
    after = control(simulator, "POST", f"/clusters/{cluster}/restore-standby")["cluster"]

    assert (after["private_connection"]["port"], after["standby_private_connection"]["port"]) == (5433, 5432)
    assert urlsplit(after["private_connection"]["uri"]).port == 5433


def test_swapping_default_addresses_exchanges_the_host_names_of_the_public_pair_too(simulator: Simulator) -> None:
    before = create(simulator, num_nodes=2)

    control(simulator, "POST", f"/clusters/{before['id']}/fail-over", swap_hosts=True)
    after = control(simulator, "POST", f"/clusters/{before['id']}/restore-standby")["cluster"]

    for primary, standby in (
        ("connection", "standby_connection"),
        ("private_connection", "standby_private_connection"),
    ):
        assert after[primary] == before[standby]
        assert after[standby] == before[primary]


def test_members_laid_over_a_connection_go_into_its_uri_and_merge(simulator: Simulator) -> None:
    cluster = create(simulator, connections={"private_connection": {"host": "::1", "protocol": "postgresql"}})["id"]

    merged: Json = {"private_connection": {"port": 5432, "database": "a b", "user": "me@home"}}
    found = control(simulator, "PATCH", f"/clusters/{cluster}", connections=merged)["cluster"]
    reset = control(simulator, "PATCH", f"/clusters/{cluster}", connections={"private_connection": None})["cluster"]

    assert found["private_connection"]["protocol"] == "postgresql"
    assert "://me%40home:" in found["private_connection"]["uri"]
    assert "@[::1]:5432/a%20b?sslmode=require" in found["private_connection"]["uri"]
    assert reset["private_connection"]["host"] == f"private-{reset['connection']['host']}"


def test_a_uri_laid_over_is_taken_as_it_is(simulator: Simulator) -> None:
    created = create(simulator, connections={"connection": {"uri": "", "port": 0}})

    assert (created["connection"]["uri"], created["connection"]["port"]) == ("", 0)


@pytest.mark.parametrize("value", [None, {}, []])
def test_a_member_can_be_anything_or_absent(simulator: Simulator, value: Json) -> None:
    created = create(simulator, members={"standby_connection": value, "tags": None}, omit=["private_connection"])

    assert created["standby_connection"] == value
    assert created["tags"] is None
    assert "private_connection" not in created


def test_arbitrary_members_change_in_place(simulator: Simulator) -> None:
    cluster = create(simulator)["id"]
    changes: JsonObject = {"status": "resizing", "size": "db-s-8vcpu-16gb", "num_nodes": 3, "version": "18"}

    after = control(simulator, "PATCH", f"/clusters/{cluster}", **changes)["cluster"]

    assert {name: after[name] for name in changes} == changes
    assert after["semantic_version"] == "18"
    assert "standby_private_connection" in after


def test_what_belongs_to_a_cluster_can_be_removed_again(simulator: Simulator) -> None:
    before = create(simulator)
    at = f"/clusters/{before['id']}"
    control(simulator, "POST", f"{at}/users", name="app")
    control(simulator, "POST", f"{at}/pools", name="pool", db="defaultdb")
    control(simulator, "POST", f"{at}/databases", name="orders")
    control(simulator, "POST", f"{at}/replicas", name="read-1")

    for path in ("users/app", "pools/pool", "databases/orders", "replicas/read-1"):
        control(simulator, "DELETE", f"{at}/{path}")

    assert read(simulator, before["id"]) == before


def test_a_pool_outlives_its_user_without_a_password(simulator: Simulator) -> None:
    cluster = create(simulator)["id"]
    control(simulator, "POST", f"/clusters/{cluster}/users", name="app")
    control(simulator, "POST", f"/clusters/{cluster}/pools", name="pool", db="defaultdb", user="app")

    control(simulator, "DELETE", f"/clusters/{cluster}/users/app")

    reply = simulator.handle("GET", f"/v2/databases/{cluster}/pools/pool", token=DEFAULT_TOKEN).reply
    connection = json.loads(reply.body)["pool"]["private_connection"]
    assert (connection["user"], connection["password"]) == ("app", "")


def test_a_pool_needs_a_user_that_exists(simulator: Simulator) -> None:
    cluster = create(simulator)["id"]
    body: JsonObject = {"name": "pool", "db": "defaultdb", "user": "nobody"}

    assert obey(simulator, "POST", f"/control/clusters/{cluster}/pools", query={}, body=body).status == 404


def test_a_cluster_moves_to_another_team(simulator: Simulator) -> None:
    cluster = create(simulator)["id"]
    control(simulator, "PATCH", f"/clusters/{cluster}", team="theirs")

    assert simulator.world.page(team="default")[0] == []
    assert simulator.world.page(team="theirs") == ([cluster], 1)


@pytest.mark.parametrize(
    ("order", "body", "status", "message"),
    [
        ("POST /clusters", {"nmae": "orders"}, 422, "unknown member 'nmae'"),
        ("POST /clusters", {"num_nodes": "2"}, 422, "num_nodes takes an integer"),
        ("POST /clusters", {"id": "ORDERS"}, 422, "id takes a lower-case UUID"),
        ("POST /clusters", {"redaction": "blue"}, 422, "redaction takes one of: empty, null, absent"),
        ("POST /clusters", {"connections": {"public": {}}}, 422, "unknown connection 'public'"),
        ("POST /clusters", {"connections": {"connection": 1}}, 422, "connections.connection takes an object"),
        ("POST /clusters", [], 422, "the body takes an object"),
        ("POST /fleet", {}, 422, "count is required"),
        ("POST /faults", {"kind": "status", "path": "("}, 422, "path takes a regular expression"),
        ("POST /faults", {"kind": "status"}, 422, "status is required"),
        ("POST /faults", {"kind": "redirect"}, 422, "target is required"),
        ("POST /faults", {"kind": "other_uuid", "target": "nobody"}, 404, "there is no nobody"),
        ("POST /tokens", {"value": "x", "scopes": ["root"]}, 422, "scopes takes:"),
        ("GET /clusters/nobody", {}, 404, "there is no nobody"),
        ("DELETE /faults/7", {}, 404, "there is no fault 7"),
        ("DELETE /tokens/nobody", {}, 404, "there is no token"),
        ("PUT /clusters", {}, 404, "there is no PUT /control/clusters"),
    ],
)
def test_an_order_that_cannot_be_obeyed_is_refused_with_its_reason(
    simulator: Simulator, order: str, body: Json, status: int, message: str
) -> None:
    method, path = order.split()
    reply = obey(simulator, method, f"/control{path}", query={}, body=body)

    assert reply.status == status
    assert message in json.loads(reply.body)["message"]


def test_a_name_that_is_taken_is_refused(simulator: Simulator) -> None:
    cluster = create(simulator)["id"]
    control(simulator, "POST", f"/clusters/{cluster}/users", name="app")

    for path, body in (
        ("/clusters", {"id": cluster}),
        (f"/clusters/{cluster}/users", {"name": "doadmin"}),
        (f"/clusters/{cluster}/users", {"name": "app"}),
        (f"/clusters/{cluster}/databases", {"name": "defaultdb"}),
    ):
        assert obey(simulator, "POST", f"/control{path}", query={}, body=dict(body)).status == 409


def test_a_large_fleet_costs_little_until_it_is_read(simulator: Simulator) -> None:
    ids = simulator.world.seed_clusters(30_000, Recipe())

    assert len(simulator.world) == len(set(ids)) == 30_000
    assert not simulator.world._changed
    assert not simulator.world._rendered
