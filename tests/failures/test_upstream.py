"""Whatever DigitalOcean answers, the Secret stays as it was; each failure is called by its name and ends by itself."""

import base64
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.e2e.cluster import Json, Tenant, wait_until
from tests.failures.conftest import CANARY, World, stays

pytestmark = pytest.mark.e2e


@dataclass(frozen=True, kw_only=True)
class Row:
    """A fault of the simulator's and what is to be seen of it."""

    name: str
    kind: str
    reason: str
    stalled: bool = False
    rule: dict[str, Any] = field(default_factory=dict)
    within: float = 15.0


ONE = r"/v2/databases/[^/]+$"
UNAVAILABLE = "UpstreamUnavailable"
ROWS = (
    Row(name="401", kind="status", reason="TokenInvalid", stalled=True, rule={"status": 401}),
    Row(name="403", kind="status", reason="Forbidden", stalled=True, rule={"status": 403}),
    Row(name="404 once", kind="status", reason="ClusterNotFound", rule={"status": 404, "count": 1}),
    Row(name="404 in plain text once", kind="plain_404", reason="ClusterNotFound", rule={"count": 1}),
    Row(
        name="429 with retry-after", kind="status", reason="RateLimited", rule={"status": 429, "headers": {"retry-after": "2"}}
    ),
    Row(name="500", kind="status", reason=UNAVAILABLE, rule={"status": 500}),
    Row(name="502", kind="status", reason=UNAVAILABLE, rule={"status": 502}),
    Row(name="503", kind="status", reason=UNAVAILABLE, rule={"status": 503}),
    Row(name="504 as a page of HTML", kind="gateway_timeout", reason=UNAVAILABLE),
    Row(name="200 as HTML", kind="status", reason=UNAVAILABLE, rule={"status": 200, "body": "<html>maintenance</html>"}),
    Row(name="truncated JSON", kind="truncate", reason=UNAVAILABLE),
    Row(name="connection reset", kind="reset", reason=UNAVAILABLE),
    Row(name="silence in the middle of the body", kind="stall", reason=UNAVAILABLE, within=30.0),
    Row(name="200 without database", kind="no_database", reason=UNAVAILABLE),
    Row(name="200 for another cluster", kind="other_uuid", reason=UNAVAILABLE),
    Row(name="a redirect elsewhere", kind="redirect", reason=UNAVAILABLE),
    Row(name="200 with an empty object", kind="status", reason=UNAVAILABLE, rule={"status": 200, "body": {"database": {}}}),
    Row(name="200 with a list", kind="status", reason=UNAVAILABLE, rule={"status": 200, "body": "[1, 2]"}),
)


@pytest.fixture
def cluster(world: World) -> Json:
    return world.control.create_cluster(engine="pg", num_nodes=2, password=f"{CANARY}-first")


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_the_secret_stays_and_the_failure_is_named(world: World, tenant: Tenant, cluster: Json, row: Row) -> None:
    uuid = cluster["id"]
    tenant.ready(uuid, refreshInterval="10s")
    check = stays(tenant)
    counted = world.operator.metric("dbclusterref_reconciles_total", reason=row.reason)
    rule: dict[str, Any] = {"path": ONE, "cluster": uuid, **row.rule}
    if row.kind in {"other_uuid", "redirect"}:
        rule["target"] = world.control.create_cluster()["id"] if row.kind == "other_uuid" else world.sandbox.digitalocean
    world.control.add_fault(row.kind, **rule)
    tenant.refresh(within=row.within)
    check()
    if "once" not in row.name:
        tenant.wait_for(row.reason, kind="Fresh")
        ready, stalled = tenant.condition("Ready"), tenant.condition("Stalled")
        assert (ready["status"], stalled["status"]) == (("False", "True") if row.stalled else ("True", "False"))
    wait_until(lambda: [one for one in tenant.events() if one["reason"] == row.reason], what="the Event")
    assert world.operator.metric("dbclusterref_reconciles_total", reason=row.reason) > counted
    check()

    world.control.rotate_password(uuid, password=f"{CANARY}-second")
    world.control.clear_faults()
    tenant.refresh(within=25.0)
    wait_until(lambda: tenant.data()["password"] == f"{CANARY}-second", within=25.0, what="the new password")
    assert tenant.condition("Ready")["status"] == "True"
    assert tenant.condition("Stalled")["status"] == "False"


@pytest.mark.parametrize("style", ["empty", "null", "absent"])
def test_a_redacted_password_never_replaces_a_good_one(world: World, tenant: Tenant, cluster: Json, style: str) -> None:
    tenant.ready(cluster["id"])
    check = stays(tenant)
    world.control.redact(cluster["id"], style=style)
    tenant.refresh()
    tenant.wait_for("MissingScope", kind="Stalled")
    check()
    world.control.redact(cluster["id"], style=None)
    tenant.refresh()
    tenant.wait_for("Synced")
    check()


def test_an_empty_host_while_the_cluster_is_created_makes_no_secret(world: World, tenant: Tenant) -> None:
    cluster = world.control.create_cluster(status="creating", addressed=False, password=f"{CANARY}-new")
    tenant.refer(cluster["id"], refreshInterval="10s")
    tenant.wait_for("WaitingForCluster", kind="Reconciling")
    assert tenant.secret() is None
    world.control.update(cluster["id"], status="online", addressed=True)
    tenant.wait_for("Synced")
    assert tenant.data()["password"] == f"{CANARY}-new"


def test_the_ca_failing_alone_costs_nothing_once_it_is_known(world: World, tenant: Tenant, cluster: Json) -> None:
    tenant.ready(cluster["id"])
    ca = tenant.data()["ca.crt"]
    world.control.add_fault("status", path=r"/ca$", cluster=cluster["id"], status=500)
    world.control.rotate_password(cluster["id"], password=f"{CANARY}-second")
    tenant.refresh()
    wait_until(lambda: tenant.data()["password"] == f"{CANARY}-second", what="the new password")
    assert tenant.data()["ca.crt"] == ca
    assert tenant.condition("Fresh")["reason"] == "Synced"


def test_a_missing_cluster_is_believed_after_a_second_look_and_its_secret_stays(
    world: World, tenant: Tenant, cluster: Json
) -> None:
    tenant.ready(cluster["id"], refreshInterval="10s")
    check = stays(tenant)
    world.control.delete_cluster(cluster["id"])
    tenant.refresh()
    assert tenant.condition("Stalled")["status"] == "False"
    tenant.wait_for("ClusterNotFound", kind="Stalled")
    wait_until(lambda: tenant.condition("Stalled")["status"] == "True", what="the confirmation")
    gets = [entry for entry in tenant.requests(cluster["id"]) if entry.status == 404]
    assert len(gets) >= 2
    check()


def test_a_cluster_made_anew_under_another_uuid_leaves_the_old_secret_in_service(
    world: World, tenant: Tenant, cluster: Json
) -> None:
    tenant.ready(cluster["id"], refreshInterval="10s")
    check = stays(tenant)
    world.control.delete_cluster(cluster["id"])
    anew = world.control.create_cluster(name=cluster["name"], password=f"{CANARY}-anew")
    tenant.refresh()
    wait_until(lambda: tenant.condition("Stalled")["status"] == "True", what="the confirmation")
    check()
    tenant.ready(anew["id"], name="orders-anew")
    assert tenant.data("orders-anew")["password"] == f"{CANARY}-anew"
    check()


def test_many_clusters_that_vanish_at_once_are_taken_for_trouble_upstream(world: World, tenant: Tenant) -> None:
    names = [f"db-{number}" for number in range(6)]
    clusters = [world.control.create_cluster(password=f"{CANARY}-{name}")["id"] for name in names]
    for name, uuid in zip(names, clusters, strict=True):
        tenant.refer(uuid, name=name, refreshInterval="10s")
    for name in names:
        tenant.wait_for("Synced", name=name)
    checks = [stays(tenant, name=name) for name in names]
    fault = world.control.add_fault("status", token=tenant.token, status=404)
    for name in names:
        tenant.refresh(name=name)
    for name in names:
        tenant.wait_for("UpstreamUnavailable", name=name, kind="Fresh", within=25.0)
        assert tenant.condition("Ready", name)["status"] == "True"
        assert tenant.condition("Stalled", name)["status"] == "False"
    assert world.operator.metric("dbclusterref_disbelieved_not_found_total") > 0
    for check in checks:
        check()
    world.control.clear_fault(fault)
    for name in names:
        tenant.refresh(name=name)
        assert tenant.condition("Fresh", name)["status"] == "True"


def test_a_budget_of_zero_costs_no_secret(world: World, tenant: Tenant, cluster: Json) -> None:
    tenant.ready(cluster["id"], refreshInterval="10s")
    check = stays(tenant)
    world.control.add_fault("budget", cluster=cluster["id"], headers={"ratelimit-remaining": "0"}, count=3)
    tenant.refresh()
    check()
    world.control.clear_faults()
    tenant.refresh(within=30.0)
    check()


@pytest.mark.parametrize("how", ["deleted", "emptied", "wrong"])
def test_a_token_that_goes_wrong_costs_no_secret(world: World, tenant: Tenant, cluster: Json, how: str) -> None:
    tenant.ready(cluster["id"])
    check = stays(tenant)
    path = tenant.secret_path("do-token")
    if how == "deleted":
        tenant.admin.delete(path)
    else:
        tenant.put_token("" if how == "emptied" else "no-such-token")
    tenant.refresh()
    reason = "TokenInvalid" if how == "wrong" else "TokenSecretMissing"
    tenant.wait_for(reason, kind="Stalled")
    wait_until(lambda: [one for one in tenant.events() if one["reason"] == reason], what="the Event")
    check()
    tenant.put_token()
    tenant.refresh()
    tenant.wait_for("Synced")
    check()


def test_a_rotated_token_is_used_at_the_next_read(world: World, tenant: Tenant, cluster: Json) -> None:
    tenant.ready(cluster["id"])
    check = stays(tenant)
    world.control.set_token(f"{tenant.token}-second")
    world.control.revoke_token(tenant.token)
    tenant.put_token(f"{tenant.token}-second")
    tenant.refresh()
    assert tenant.condition("Fresh")["reason"] == "Synced"
    check()


def test_the_api_token_never_follows_a_redirect(world: World, tenant: Tenant, cluster: Json) -> None:
    tenant.ready(cluster["id"])
    before = world.control.requests().total
    world.control.add_fault("redirect", cluster=cluster["id"], target=f"{world.sandbox.digitalocean}/elsewhere")
    tenant.refresh()
    paths = [entry.path for entry in world.control.requests(limit=world.control.requests().total - before + 5).entries]
    assert not [path for path in paths if "elsewhere" in path]


def test_the_secret_data_is_what_upstream_says_to_the_byte(world: World, tenant: Tenant, cluster: Json) -> None:
    tenant.ready(cluster["id"])
    secret = tenant.secret()
    assert secret is not None
    assert base64.b64decode(secret["data"]["password"]).decode() == f"{CANARY}-first"


def test_a_namespace_that_was_not_named_is_denied_the_operators_own_token(world: World, tenant: Tenant, cluster: Json) -> None:
    tenant.refer(cluster["id"], own_token=False)
    tenant.wait_for("AccessDenied", kind="Stalled")
    assert tenant.secret() is None
    assert tenant.requests(cluster["id"]) == []
