"""What takes its time: each scenario is under way from the module's start, and its test waits for its end."""

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack

import pytest

from tests.e2e.cluster import MANAGED_BY, Tenant, encoded, wait_until
from tests.e2e.conftest import Served
from tests.e2e.sandbox import as_tenant

pytestmark = pytest.mark.e2e

POSTGRESQL = "servicebinding.io/postgresql"
Scenario = Callable[[Tenant], None]
UnderWay = Mapping[str, "Future[None]"]

scenarios: dict[str, Scenario] = {}


def side_by_side(scenario: Scenario) -> Callable[[UnderWay], None]:
    """Makes a test of a scenario."""
    name = scenario.__name__
    scenarios[name] = scenario

    def test(under_way: UnderWay) -> None:
        under_way[name].result()

    return test


@pytest.fixture(scope="module")
def under_way(served: Served, request: pytest.FixtureRequest) -> Iterator[UnderWay]:
    wanted = {item.name for item in request.session.items} & scenarios.keys()
    with ExitStack() as stack:
        tenants = {name: stack.enter_context(as_tenant(served.sandbox)) for name in wanted}
        with ThreadPoolExecutor(len(wanted)) as pool:
            yield {name: pool.submit(scenarios[name], tenant) for name, tenant in tenants.items()}


@side_by_side
def test_a_password_rotated_upstream_arrives_without_help_and_is_counted(tenant: Tenant) -> None:
    cluster = tenant.control.create_cluster(num_nodes=2)
    first = tenant.ready(cluster["id"], refreshInterval="10s")["status"]
    rotated = tenant.control.rotate_password(cluster["id"])["private_connection"]["password"]
    wait_until(lambda: tenant.data().get("password") == rotated, within=20, what="the new password")
    status = wait_until(lambda: tenant.status() if tenant.status()["secretRevision"] == 2 else None)
    assert first["secretRevision"] == 1
    assert status["lastChangeTime"] >= first["lastChangeTime"]
    data = tenant.data()
    assert data["PGPASSWORD"] == rotated
    assert cluster["private_connection"]["password"] not in "".join(data.values())


@side_by_side
def test_a_cluster_that_is_being_created_is_waited_for(tenant: Tenant) -> None:
    cluster = tenant.control.create_cluster(status="creating", addressed=False)["id"]
    tenant.refer(cluster, refreshInterval="10s")
    tenant.wait_for("WaitingForCluster", kind="Reconciling")
    assert tenant.secret() is None
    online = tenant.control.update(cluster, status="online", addressed=True)
    tenant.wait_for("Synced", within=20)
    assert tenant.data()["host"] == online["private_connection"]["host"]


@side_by_side
def test_a_cluster_that_is_gone_is_believed_at_the_second_look_and_the_secret_stays(tenant: Tenant) -> None:
    cluster = tenant.control.create_cluster()["id"]
    tenant.ready(cluster, refreshInterval="10s")
    before = tenant.secret()
    tenant.control.delete_cluster(cluster)
    tenant.refresh()
    assert tenant.condition("Fresh")["reason"] == "ClusterNotFound"
    assert tenant.condition("Stalled")["status"] == "False"
    assert tenant.condition("Ready")["status"] == "True"
    wait_until(lambda: tenant.condition("Stalled")["status"] == "True", within=30, what="the second look")
    assert tenant.condition("Ready")["reason"] == "ClusterNotFound"
    assert tenant.secret() == before

    tenant.control.create_cluster(id=cluster)
    tenant.wait_for("Synced", within=60)


@side_by_side
def test_deletion_takes_the_secret_along_and_leaves_the_database_alone(tenant: Tenant) -> None:
    cluster = tenant.control.create_cluster(num_nodes=2)
    tenant.ready(cluster["id"])
    tenant.admin.delete(tenant.path())
    wait_until(lambda: tenant.secret() is None, within=60, what="the garbage collector")
    assert tenant.control.get(cluster["id"]) == cluster
    assert {entry.method for entry in tenant.control.requests(limit=50_000).entries} == {"GET"}


@side_by_side
def test_deletion_leaves_a_secret_that_is_to_be_retained(tenant: Tenant) -> None:
    cluster = tenant.control.create_cluster()["id"]
    tenant.ready(cluster, name="kept", secret={"deletionPolicy": "Retain"})
    tenant.ready(cluster, name="clock")
    kept = tenant.secret("kept")
    for name in ("kept", "clock"):
        tenant.admin.delete(tenant.path(name))
    wait_until(lambda: tenant.secret("clock") is None, within=60, what="the garbage collector at work on the other")
    assert kept is not None
    assert tenant.secret("kept") == kept


@side_by_side
def test_a_foreign_secret_is_left_as_it_is_and_its_deletion_resolves_the_conflict(tenant: Tenant) -> None:
    cluster = tenant.control.create_cluster()["id"]
    foreign = tenant.create_secret("orders-db", data={"mine": encoded("mine")})
    tenant.refer(cluster)
    tenant.wait_for("SecretConflict")
    assert tenant.condition("Stalled")["status"] == "True"
    assert tenant.secret() == foreign
    tenant.admin.delete(tenant.secret_path())
    # Nobody tells the operator about Secrets that are not its own: it looks again every half minute.
    tenant.wait_for("Synced", within=60)
    assert "mine" not in tenant.data()


@side_by_side
def test_a_foreign_secret_is_adopted_when_its_annotation_hands_it_over(tenant: Tenant) -> None:
    cluster = tenant.control.create_cluster()["id"]
    foreign = tenant.create_secret("orders-db", data={"mine": encoded("mine")}, type_=POSTGRESQL)
    tenant.refer(cluster)
    tenant.wait_for("SecretConflict")
    offer = f"kubectl annotate secret -n {tenant.namespace} orders-db dbclusterref.io/adopt=orders-db"
    assert offer in tenant.condition("Ready")["message"]
    assert tenant.secret() == foreign
    tenant.admin.patch(tenant.secret_path(), {"metadata": {"annotations": {"dbclusterref.io/adopt": "orders-db"}}})
    tenant.wait_for("Synced", within=60)
    adopted = tenant.secret()
    assert adopted is not None
    assert adopted["metadata"]["uid"] == foreign["metadata"]["uid"]
    assert adopted["metadata"]["labels"][MANAGED_BY] == "dbclusterref"
    assert tenant.data()["mine"] == "mine"  # another's key, of no concern
    assert tenant.data()["password"] == tenant.control.get(cluster)["private_connection"]["password"]


@side_by_side
def test_a_suspended_resource_is_not_read_and_goes_on_when_it_is_resumed(tenant: Tenant) -> None:
    suspended, clock = (tenant.control.create_cluster(name=name)["id"] for name in ("suspended", "clock"))
    tenant.ready(suspended, name="suspended", refreshInterval="10s")
    tenant.ready(clock, name="clock", refreshInterval="10s")
    tenant.admin.patch(tenant.path("suspended"), {"spec": {"suspend": True}})
    tenant.wait_for("Suspended", name="suspended")
    assert tenant.condition("Ready", "suspended")["status"] == "True"
    rotated = tenant.control.rotate_password(suspended)["private_connection"]["password"]
    asked, ticks = len(tenant.requests(suspended)), len(tenant.requests(clock))
    wait_until(lambda: len(tenant.requests(clock)) >= ticks + 2, within=30, what="two reads of the other")
    assert len(tenant.requests(suspended)) == asked
    assert tenant.data("suspended")["password"] != rotated

    tenant.admin.patch(tenant.path("suspended"), {"spec": {"suspend": False}})
    tenant.wait_for("Synced", name="suspended")
    assert tenant.data("suspended")["password"] == rotated


@side_by_side
def test_a_rotated_token_is_taken_up_without_a_restart_and_without_an_alarm(tenant: Tenant) -> None:
    cluster = tenant.control.create_cluster()["id"]
    born = tenant.ready(cluster, refreshInterval="10s")["metadata"]["resourceVersion"]
    fresh = f"{tenant.token}-2"
    tenant.control.set_token(fresh)
    tenant.put_token(fresh)
    tenant.control.revoke_token(tenant.token)
    wait_until(lambda: fresh in {one.token for one in tenant.requests(cluster)}, within=20, what="a read with the new token")
    tenant.wait_for("Synced")
    states = tenant.admin.history(tenant.references_path, name="orders-db", since=born)
    reasons = {one["reason"] for state in states for one in state["status"].get("conditions", [])}
    assert reasons <= {"Synced"}


@side_by_side
def test_a_token_secret_that_serves_many_is_looked_at_within_their_interval(tenant: Tenant) -> None:
    def pages(token: str) -> int:
        entries = tenant.control.requests(limit=50_000).entries
        return sum(one.kind == "list" and one.token == token for one in entries)

    names, second = [f"orders-{number}" for number in range(9)], f"{tenant.token}-2"
    for name in names:
        tenant.refer(tenant.control.create_cluster()["id"], name=name, refreshInterval="10s")
    for name in names:
        tenant.wait_for("Synced", name=name, within=60)
    wait_until(lambda: pages(tenant.token) >= 2, within=60, what="walks that serve all")
    tenant.control.set_token(second)
    tenant.put_token(second)
    wait_until(lambda: pages(second) >= 2, within=60, what="walks with the new token")
    former = pages(tenant.token)
    tenant.admin.delete(tenant.secret_path("do-token"))
    for name in names:
        tenant.wait_for("TokenSecretMissing", kind="Fresh", name=name, within=30)
    assert pages(tenant.token) == former


@side_by_side
def test_a_quota_that_is_used_up_is_respected_and_told(tenant: Tenant) -> None:
    cluster = tenant.control.create_cluster()["id"]
    tenant.ready(cluster, refreshInterval="10s")
    fault = tenant.control.add_fault("status", status=429, headers={"retry-after": "12"}, cluster=cluster)
    wait_until(lambda: tenant.condition("Fresh")["reason"] == "RateLimited", within=40, what="the refusal")
    assert tenant.condition("Ready")["status"] == "True"
    tenant.control.clear_fault(fault)
    wait_until(lambda: tenant.condition("Fresh")["status"] == "True", within=40, what="freshness")
    refused, accepted = [entry.at for entry in tenant.requests(cluster)][-2:]
    assert accepted - refused >= 11.9
