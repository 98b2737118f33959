"""Whatever the Kubernetes API does, nothing is forgotten and nothing is written wrongly."""

import base64
import json
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from sandbox.controlplane import Component
from sandbox.controlplane.kubeconfig import by_token, write_kubeconfig
from sandbox.faultproxy import ProxyFault
from tests.e2e.cluster import REFRESH, SYSTEM, Json, Tenant, wait_until
from tests.failures.conftest import CANARY, StartOperator, World, stays

pytestmark = pytest.mark.e2e


@pytest.fixture
def cluster(world: World) -> Json:
    return world.control.create_cluster(engine="pg", num_nodes=2, password=f"{CANARY}-first")


def rotate_and_wait(world: World, tenant: Tenant, uuid: str, word: str, *, within: float = 25.0) -> None:
    world.control.rotate_password(uuid, password=f"{CANARY}-{word}")
    tenant.refresh(within=within)
    wait_until(lambda: tenant.data().get("password") == f"{CANARY}-{word}", within=within, what="the new password")


# --- the write fails


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (403, 'secrets "orders-db" is forbidden: User cannot patch resource "secrets"'),
        (403, 'secrets "orders-db" is forbidden: exceeded quota: no-secrets'),
        (422, "admission webhook denied the request"),
    ],
    ids=["RBAC", "quota", "admission"],
)
def test_a_refused_write_is_named_and_made_when_it_is_allowed(
    world: World, tenant: Tenant, cluster: Json, status: int, message: str
) -> None:
    tenant.ready(cluster["id"])
    check = stays(tenant)
    failed = failed_writes(world)
    path = f"/namespaces/{tenant.namespace}/secrets/"
    world.proxy.add(ProxyFault.STATUS, path=path, method="PATCH", status=status, message=message)
    world.control.rotate_password(cluster["id"], password=f"{CANARY}-second")
    tenant.refresh()
    tenant.wait_for("SecretRefused", kind="Stalled")
    assert tenant.condition("Stalled")["status"] == "True"
    wait_until(lambda: [one for one in tenant.events() if one["reason"] == "SecretRefused"], what="the Event")
    assert failed_writes(world) > failed
    check()
    world.proxy.clear()
    rotate_and_wait(world, tenant, cluster["id"], "third")
    tenant.wait_for("Synced")


def test_a_real_quota_is_named_and_waited_for(world: World, tenant: Tenant, cluster: Json) -> None:
    quotas = f"/api/v1/namespaces/{tenant.namespace}/resourcequotas"
    tenant.admin.create(quotas, {"metadata": {"name": "none"}, "spec": {"hard": {"count/secrets": "1"}}})
    # What the quota's controller would write, which the sandbox does not run.
    full = {"status": {"hard": {"count/secrets": "1"}, "used": {"count/secrets": "1"}}}
    tenant.admin.patch(f"{quotas}/none/status", full)
    tenant.refer(cluster["id"])
    tenant.wait_for("SecretRefused", kind="Stalled")
    assert "quota" in tenant.condition("Stalled")["message"]
    tenant.admin.delete(f"{quotas}/none")
    tenant.refresh()
    tenant.wait_for("Synced")


@pytest.mark.parametrize("status", [409, 429, 500, 504])
def test_an_api_server_in_trouble_is_asked_again(world: World, tenant: Tenant, cluster: Json, status: int) -> None:
    tenant.ready(cluster["id"])
    path = f"/namespaces/{tenant.namespace}/"
    headers = {"Retry-After": "1"} if status == 429 else {}
    rule = world.proxy.add(ProxyFault.STATUS, path=path, method="PATCH", status=status, headers=headers, count=2)
    rotate_and_wait(world, tenant, cluster["id"], "second")
    assert world.proxy.acted(rule) == 2
    tenant.wait_for("Synced")


@pytest.mark.parametrize("kind", [ProxyFault.RESET, ProxyFault.LOST_REPLY], ids=["before", "after"])
def test_a_connection_lost_around_a_write_loses_nothing(world: World, tenant: Tenant, cluster: Json, kind: ProxyFault) -> None:
    tenant.ready(cluster["id"])
    fault = world.proxy.add(kind, path=f"/namespaces/{tenant.namespace}/", method="PATCH", count=2)
    rotate_and_wait(world, tenant, cluster["id"], "second")
    assert world.proxy.acted(fault) == 2
    tenant.wait_for("Synced")


def test_a_namespace_that_is_terminating_is_left_alone_and_can_end(world: World, tenant: Tenant, cluster: Json) -> None:
    tenant.ready(cluster["id"])
    bugs = world.operator.metric("dbclusterref_unexpected_errors_total")
    tenant.admin.delete(f"/api/v1/namespaces/{tenant.namespace}")
    wait_until(lambda: tenant.admin.find(f"/api/v1/namespaces/{tenant.namespace}") is None, within=30, what="its end")
    assert world.operator.metric("dbclusterref_unexpected_errors_total") == bugs


# --- the API server is away


@pytest.mark.parametrize("status", [500, 403])
def test_an_api_server_that_refuses_everything_ends_nothing(world: World, tenant: Tenant, cluster: Json, status: int) -> None:
    tenant.ready(cluster["id"])
    check = stays(tenant)
    started = world.operator.metric("process_start_time_seconds")
    fault = world.proxy.add(ProxyFault.STATUS, status=status)
    world.proxy.cut()
    wait_until(lambda: world.proxy.acted(fault) >= 8, within=20, what="some refusals")
    assert world.operator.answers("/healthz")
    check()
    world.proxy.clear()
    rotate_and_wait(world, tenant, cluster["id"], "second")
    assert world.operator.metric("process_start_time_seconds") == started


def test_an_api_server_that_refuses_connections_ends_nothing(world: World, tenant: Tenant, cluster: Json) -> None:
    tenant.ready(cluster["id"])
    fault = world.proxy.add(ProxyFault.RESET)
    world.proxy.cut()
    wait_until(lambda: world.proxy.acted(fault) >= 5, within=20, what="some tries")
    assert world.operator.answers("/healthz")
    world.proxy.clear()
    rotate_and_wait(world, tenant, cluster["id"], "second")


def test_an_api_server_that_is_slow_only_takes_longer(world: World, tenant: Tenant, cluster: Json) -> None:
    tenant.ready(cluster["id"])
    fault = world.proxy.add(ProxyFault.DELAY, path=f"/namespaces/{tenant.namespace}/", delay=1.0)
    rotate_and_wait(world, tenant, cluster["id"], "second")
    assert world.proxy.acted(fault) >= 2, "the Secret and the status"
    tenant.wait_for("Synced")


def failed_writes(world: World) -> float:
    return world.operator.metric("dbclusterref_kubernetes_writes_total", kind="Secret", result="failed")


@contextmanager
def frozen(world: World, component: Component) -> Iterator[None]:
    """It stands still as a machine that swaps or a disk that hangs: connections stay open, and nothing is answered."""
    pid = world.sandbox.pids[component]
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


@pytest.mark.parametrize(
    ("component", "until"),
    [(Component.ETCD, "the write hangs"), (Component.APISERVER, "the write hangs"), (Component.APISERVER, "it is given up")],
)
def test_a_control_plane_that_freezes_and_thaws_loses_nothing(
    world: World, tenant: Tenant, cluster: Json, component: Component, until: str
) -> None:
    tenant.ready(cluster["id"])
    before = tenant.secret()
    assert before is not None
    started = world.operator.metric("process_start_time_seconds")
    bugs = world.operator.metric("dbclusterref_unexpected_errors_total")
    failed = failed_writes(world)
    world.control.rotate_password(cluster["id"], password=f"{CANARY}-second")
    read = world.control.add_fault("delay", cluster=cluster["id"], delay=1.5)
    asked = world.proxy.add(ProxyFault.DELAY, path=tenant.secret_path(), method="PATCH")
    tenant.admin.patch(tenant.path(), {"metadata": {"annotations": {REFRESH: "before it freezes"}}})
    wait_until(lambda: [one for one in world.control.faults() if one["id"] == read and one["acted"]], what="the read")
    with frozen(world, component):
        wait_until(lambda: world.proxy.acted(asked), what="the write")
        wait_until(lambda: world.operator.metric("dbclusterref_watch_age_seconds") > 1.5, what="the watches' silence")
        if until == "it is given up":
            # It may land all the same when the server wakes.
            wait_until(lambda: failed_writes(world) > failed, within=40, what="the end of the write")
        assert world.operator.answers("/healthz"), "an API server that is away is not this process's illness"
        assert len([write for write in world.proxy.writes if write.path == tenant.secret_path()]) == 1, "none was answered"
    wait_until(lambda: tenant.data().get("password") == f"{CANARY}-second", within=60, what="the new password, afterwards")
    since = before["metadata"]["resourceVersion"]
    states = tenant.admin.history(f"/api/v1/namespaces/{tenant.namespace}/secrets", name="orders-db", since=since)
    assert [state["data"].keys() for state in states] == [before["data"].keys()], "one write, and a complete one"
    rotate_and_wait(world, tenant, cluster["id"], "third")
    tenant.wait_for("Synced", kind="Fresh")
    wait_until(lambda: world.operator.answers("/healthz"), what="health")
    assert world.operator.metric("process_start_time_seconds") == started
    assert world.operator.metric("dbclusterref_unexpected_errors_total") == bugs


# --- the watches


@pytest.mark.parametrize("kind", [ProxyFault.EXPIRED, ProxyFault.BROKEN_EVENT, ProxyFault.STATUS], ids=lambda kind: kind.value)
def test_a_resource_deleted_while_its_watch_expired_is_found_out(
    world: World, tenant: Tenant, cluster: Json, kind: ProxyFault
) -> None:
    tenant.ready(cluster["id"], name="doomed")
    known = world.operator.metric("dbclusterref_references")
    # The watch is refused until the deletion is history; the listing that follows it no longer shows the resource.
    fault = world.proxy.add(ProxyFault.STATUS, path="databaseclusterrefs.*watch=true", status=500)
    world.proxy.cut("databaseclusterrefs.*watch=true")
    wait_until(lambda: world.proxy.acted(fault) > 0, what="the refusal")
    tenant.admin.delete(tenant.path("doomed"))
    wait_until(lambda: tenant.admin.find(tenant.path("doomed")) is None, what="its end")
    world.proxy.clear(fault)
    fault = world.proxy.add(kind, path="databaseclusterrefs.*watch=true", count=1, status=410)
    wait_until(lambda: world.operator.metric("dbclusterref_references") < known, what="the smaller count")
    assert world.proxy.acted(fault) == 1
    world.proxy.clear()
    tenant.ready(cluster["id"], name="later")
    assert "please report it" not in world.operator.log.read_text(), "nothing of it is a bug"


def test_a_change_that_no_watch_tells_of_is_found_by_the_full_listing(world: World, tenant: Tenant, cluster: Json) -> None:
    missed = world.operator.metric("dbclusterref_missed_changes_total")
    fault = world.proxy.add(ProxyFault.HANG, path="watch=true")
    world.proxy.cut("watch=true")
    wait_until(lambda: world.proxy.acted(fault) >= 2, what="the silence of both watches")
    tenant.ready(cluster["id"])
    # Counted when the whole listing has been compared; the resource itself is served before.
    wait_until(lambda: world.operator.metric("dbclusterref_missed_changes_total") > missed, what="the count of missed changes")
    secret = tenant.secret()
    assert secret is not None
    tenant.admin.delete(tenant.secret_path())
    wait_until(tenant.secret, what="the Secret, made again")


def test_an_empty_listing_is_not_believed(world: World, tenant: Tenant, cluster: Json) -> None:
    tenant.ready(cluster["id"])
    lists = world.proxy.add(ProxyFault.EMPTY_LIST, path=r"databaseclusterrefs\?limit=", count=2)
    wait_until(lambda: world.proxy.acted(lists) == 2, what="two false listings")
    tenant.admin.delete(tenant.secret_path())
    wait_until(tenant.secret, what="the repair by an operator that still knows the resource")
    rotate_and_wait(world, tenant, cluster["id"], "second")


def test_a_silent_watch_is_started_again_and_seen_in_metrics(world: World, tenant: Tenant, cluster: Json) -> None:
    tenant.ready(cluster["id"])
    restarts = world.operator.metric("dbclusterref_watch_restarts_total")
    world.proxy.add(ProxyFault.HANG, path="databaseclusterrefs.*watch=true")
    world.proxy.cut("databaseclusterrefs.*watch=true")
    wait_until(lambda: world.operator.metric("dbclusterref_watch_age_seconds") > 3, what="the watch's age")
    wait_until(lambda: world.operator.metric("dbclusterref_watch_restarts_total") > restarts, what="the restart")
    world.operator.wait_until_logged("A watch is silent while the Kubernetes API answers")
    wait_until(lambda: world.operator.answers("/healthz", status=503), within=30, what="a process that calls itself ill")
    world.proxy.clear()
    wait_until(lambda: world.operator.answers("/healthz"), within=30, what="health")
    world.operator.wait_until_ready()
    rotate_and_wait(world, tenant, cluster["id"], "second")


def test_a_read_under_way_is_finished_although_the_watches_start_again(world: World, tenant: Tenant, cluster: Json) -> None:
    slow = world.control.add_fault("delay", cluster=cluster["id"], delay=8)
    tenant.refer(cluster["id"])
    wait_until(lambda: any(one["id"] == slow and one["acted"] for one in world.control.faults()), what="a slow read")
    world.control.clear_fault(slow)
    restarts = world.operator.metric("dbclusterref_watch_restarts_total")
    world.proxy.add(ProxyFault.EXPIRED, path="databaseclusterrefs.*watch=true", count=1)
    world.proxy.cut("databaseclusterrefs.*watch=true")
    wait_until(lambda: world.operator.metric("dbclusterref_watch_restarts_total") > restarts, what="the restart")
    tenant.wait_for("Synced", within=30)
    assert len(tenant.requests(cluster["id"])) == len({"the cluster", "its CA"}), "nothing was read twice"


# --- drift


@pytest.mark.parametrize("upstream", ["up", "down"])
@pytest.mark.parametrize("how", ["edited", "deleted", "stripped of its label", "stripped of its owner"])
def test_a_secret_that_was_tampered_with_is_repaired_from_memory_within_two_seconds(
    world: World, tenant: Tenant, cluster: Json, how: str, upstream: str
) -> None:
    tenant.ready(cluster["id"])
    before = tenant.secret()
    assert before is not None
    if upstream == "down":
        world.control.add_fault("reset", cluster=cluster["id"])
    asked = len(tenant.requests(cluster["id"]))
    path = tenant.secret_path()
    began = time.monotonic()
    match how:
        case "edited":
            tenant.admin.patch(path, {"data": {"password": base64.b64encode(b"wrong").decode()}})
        case "deleted":
            tenant.admin.delete(path)
        case "stripped of its label":
            tenant.admin.patch(path, {"metadata": {"labels": {"app.kubernetes.io/managed-by": None}}})
        case _:
            tenant.admin.patch(path, {"metadata": {"ownerReferences": None}})

    def repaired() -> bool:
        now = tenant.secret() or {"data": {}, "metadata": {}}
        metadata = now["metadata"]
        marked = metadata.get("labels", {}).get("app.kubernetes.io/managed-by") == "dbclusterref"
        return bool(now["data"] == before["data"] and marked and metadata.get("ownerReferences"))

    wait_until(repaired, what="the repair")
    assert time.monotonic() - began < 2.0
    assert len(tenant.requests(cluster["id"])) == asked
    wait_until(lambda: [one for one in tenant.events() if one["reason"] == "SecretRepaired"], what="the Event")


def test_a_conflict_with_another_writer_is_bounded_told_once_and_ends(world: World, tenant: Tenant, cluster: Json) -> None:
    tenant.ready(cluster["id"])
    good = tenant.data()
    path = tenant.secret_path()
    edits = 0
    deadline = time.monotonic() + 6

    def edit() -> bool:
        nonlocal edits
        edits += 1
        tenant.admin.patch(path, {"data": {"password": base64.b64encode(f"theirs-{edits}".encode()).decode()}})
        return time.monotonic() > deadline

    began = len(world.proxy.writes)
    wait_until(edit, within=20)
    repairs = [write for write in world.proxy.writes[began:] if write.path == path and write.method == "PATCH"]
    assert edits > 2 * len(repairs)
    assert len(repairs) <= 8
    tenant.wait_for("SecretContested", kind="Stalled")
    assert tenant.condition("Ready")["status"] == "False", "it is known to be wrong"
    tenant.admin.delete(path)
    wait_until(lambda: tenant.secret() is not None, within=2, what="the Secret that was deleted")
    assert len([one for one in tenant.events() if one["reason"] == "SecretContested"]) == 1
    wait_until(lambda: tenant.data() == good, what="the last repair")
    tenant.wait_for("Synced", kind="Fresh", within=20)
    assert len([one for one in tenant.events() if one["reason"] == "SecretContested"]) == 1


# --- the resource itself changes under the operator's hands


def test_a_resource_made_again_while_a_read_is_in_flight_gets_its_own_secret(world: World, tenant: Tenant) -> None:
    slow = world.control.create_cluster(password=f"{CANARY}-slow")["id"]
    quick = world.control.create_cluster(password=f"{CANARY}-quick")["id"]
    delayed = world.control.add_fault("delay", cluster=slow, delay=3.0)
    tenant.refer(slow)

    def is_asked() -> bool:
        return any(fault["id"] == delayed and fault["acted"] for fault in world.control.faults())

    wait_until(is_asked, what="the slow read")
    tenant.admin.delete(tenant.path())
    wait_until(lambda: tenant.admin.find(tenant.path()) is None, what="its end")
    made = len(world.proxy.writes)
    second = tenant.refer(quick)
    tenant.wait_for("Synced", within=20)
    wait_until(lambda: not world.operator.metric("dbclusterref_queue_length"), what="quiet")
    owners = [owner["uid"] for owner in (tenant.secret() or {})["metadata"]["ownerReferences"]]
    assert owners == [second["metadata"]["uid"]]
    assert tenant.data()["password"] == f"{CANARY}-quick"
    slow_password = base64.b64encode(f"{CANARY}-slow".encode())
    assert not [write for write in world.proxy.writes[made:] if slow_password in write.body]


def test_two_resources_that_name_one_secret_do_not_share_it(world: World, tenant: Tenant, cluster: Json) -> None:
    tenant.ready(cluster["id"])
    check = stays(tenant)
    tenant.refer(cluster["id"], name="second", secret={"name": "orders-db"})
    tenant.wait_for("SecretConflict", name="second", kind="Stalled")
    check()
    tenant.admin.delete(tenant.path())
    tenant.wait_for("Synced", name="second", within=40)


def test_a_foreign_secret_is_left_alone_until_the_way_is_free(world: World, tenant: Tenant, cluster: Json) -> None:
    tenant.create_secret("orders-db", data={"mine": base64.b64encode(b"x").decode()})
    check = stays(tenant)
    tenant.refer(cluster["id"])
    tenant.wait_for("SecretConflict", kind="Stalled")
    check()
    tenant.admin.delete(tenant.secret_path())
    tenant.refresh()
    tenant.wait_for("Synced")


def test_a_secret_of_another_type_is_left_alone(world: World, tenant: Tenant, cluster: Json) -> None:
    tenant.create_secret("orders-db", data={"mine": base64.b64encode(b"x").decode()}, type_="example.com/other")
    tenant.admin.patch(tenant.secret_path(), {"metadata": {"annotations": {"dbclusterref.io/adopt": "orders-db"}}})
    check = stays(tenant)
    tenant.refer(cluster["id"])
    tenant.wait_for("SecretConflict", kind="Stalled")
    check()


# --- least rights


@pytest.fixture
def paused(world: World) -> Iterator[None]:
    """The shared operator stands still."""
    world.operator.process.send_signal(signal.SIGSTOP)
    yield
    world.operator.process.send_signal(signal.SIGCONT)


@pytest.fixture
def blind_account(world: World, paused: None, tmp_path: Path) -> Path:
    """The kubeconfig of an account that may do all the operator may, but list and watch Secrets."""
    kubectl, admin = world.sandbox.kubectl, world.sandbox.admin
    role = json.loads(kubectl("get", "clusterrole/dbclusterref", "-o", "json").stdout)
    for rule in role["rules"]:
        if rule["resources"] == ["secrets"]:
            rule["verbs"] = ["get", "create", "patch", "delete"]
    binding = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": "blind"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "blind"},
        "subjects": [{"kind": "ServiceAccount", "name": "blind", "namespace": SYSTEM}],
    }
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "blind", "namespace": SYSTEM}}
    role = {**role, "metadata": {"name": "blind"}}
    items = {"apiVersion": "v1", "kind": "List", "items": [role, binding, account]}
    kubectl("apply", "-f", "-", input=json.dumps(items))
    token = kubectl("-n", SYSTEM, "create", "token", "blind").stdout.strip()
    return write_kubeconfig(tmp_path / "blind", url=admin.server, ca=admin.ca, user=by_token(token), namespace=SYSTEM)


def test_without_the_right_to_watch_secrets_the_operator_says_so_and_repairs_at_each_refresh(
    world: World, tenant: Tenant, cluster: Json, start: StartOperator, blind_account: Path
) -> None:
    blind = start(f"--namespaces={tenant.namespace}", kubeconfig=blind_account)
    blind.wait_until_logged("Secrets may not be listed and watched")
    assert blind.metric("dbclusterref_secrets_watched") == 0
    reply = blind.probe("/readyz")
    assert reply is not None
    assert "Secrets may not be watched" in reply.text
    tenant.ready(cluster["id"])
    good = tenant.data()
    tenant.admin.patch(tenant.secret_path(), {"data": {"password": base64.b64encode(b"wrong").decode()}})
    tenant.refresh()
    wait_until(lambda: tenant.data() == good, what="the repair at the refresh")
    assert not [line for line in blind.lines() if "ERROR" in line]
