"""What the operator writes where nothing has changed: nothing. Counted by the API server, not by the operator."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.cluster import REFERENCES, Administrator, Tenant, wait_until
from tests.e2e.conftest import StartOperator
from tests.e2e.running import Operator, metric_in
from tests.e2e.sandbox import Sandbox, as_tenant

pytestmark = pytest.mark.e2e

# Not Leases: the API server itself renews one every ten seconds.
RESOURCES = ("databaseclusterrefs", "secrets", "events")
WRITES = ("POST", "PUT", "PATCH", "APPLY", "DELETE")


def writes(admin: Administrator) -> float:
    return metric_in(admin.text("/metrics"), "apiserver_request_total", resource=RESOURCES, verb=WRITES)


def reconciled(operator: Operator) -> float:
    """Reconciliations that have ended."""
    return operator.metric("dbclusterref_reconcile_duration_seconds_count")


@pytest.fixture(scope="module")
def quiet(sandbox: Sandbox) -> None:
    """Waits until the namespaces of other modules' tests are gone: the controllers that empty them write, too."""

    def gone() -> bool:
        namespaces = sandbox.admin.get("/api/v1/namespaces")["items"]
        return not [one for one in namespaces if one["status"]["phase"] == "Terminating"]

    wait_until(gone, within=60, what="the end of other tests' namespaces")


@pytest.fixture(scope="module")
def idler(quiet: None, installed: Path, sandbox: Sandbox) -> Iterator[Tenant]:
    """The one namespace in the sandbox while writes are counted."""
    with as_tenant(sandbox) as tenant:
        yield tenant


@pytest.fixture(scope="module")
def clusters(idler: Tenant) -> list[str]:
    """Three clusters, each with a resource that reads as often as is allowed."""
    created = [idler.control.create_cluster(name=f"db-{i}", num_nodes=2)["id"] for i in range(3)]
    for i, cluster in enumerate(created):
        idler.refer(cluster, name=f"db-{i}", refreshInterval="10s")
    return created


@pytest.fixture
def operator(idler: Tenant, clusters: list[str], start_operator: StartOperator) -> Operator:
    """An operator that has looked at each of them and has written what there was to write."""
    operator = start_operator()
    wait_until(lambda: reconciled(operator) >= len(clusters), what="a look at each")
    for i, _ in enumerate(clusters):
        idler.wait_for("Synced", name=f"db-{i}")
        # Events come last, when there is nothing else to do.
        wait_until(lambda i=i: idler.events(name=f"db-{i}"), what="the Event of the first write")  # type: ignore[misc]
    return operator


def test_idle_refreshes_write_nothing_and_log_nothing(idler: Tenant, clusters: list[str], operator: Operator) -> None:
    objects = f"{REFERENCES}/databaseclusterrefs", f"/api/v1/namespaces/{idler.namespace}/secrets"
    before = [idler.admin.get(path)["items"] for path in objects]
    written, logged, done = writes(idler.admin), operator.lines(), reconciled(operator)
    asked = {cluster: len(idler.requests(cluster)) for cluster in clusters}

    def twice_more() -> bool:
        read = all(len(idler.requests(cluster)) >= asked[cluster] + 2 for cluster in clusters)
        return read and reconciled(operator) >= done + 2 * len(clusters)

    wait_until(twice_more, within=40, what="two idle refreshes of each")
    assert writes(idler.admin) == written
    assert operator.lines() == logged
    assert [idler.admin.get(path)["items"] for path in objects] == before


def test_a_restart_with_nothing_changed_writes_nothing_and_says_nothing_of_resources(
    idler: Tenant, clusters: list[str], operator: Operator, start_operator: StartOperator
) -> None:
    operator.stop()
    written = writes(idler.admin)
    asked = {cluster: len(idler.requests(cluster)) for cluster in clusters}

    second = start_operator()
    wait_until(lambda: reconciled(second) >= len(clusters), what="a look at each")
    assert all(len(idler.requests(cluster)) > asked[cluster] for cluster in clusters)
    assert writes(idler.admin) == written
    assert [line for line in second.lines() if idler.namespace in line] == []


def test_one_change_is_one_secret_one_status_one_event_and_one_line(
    idler: Tenant, clusters: list[str], operator: Operator
) -> None:
    written, logged = writes(idler.admin), len(operator.lines())
    idler.control.rotate_password(clusters[0])

    def told() -> bool:
        return "SecretUpdated" in {event["reason"] for event in idler.events("db-0")}

    wait_until(told, within=20, what="the Event")
    assert writes(idler.admin) - written == 3
    (line,) = operator.lines()[logged:]
    said = f"{idler.namespace}/db-0: SecretUpdated: Updated Secret db-0 (revision 2): changed "
    assert said in line
    assert "password" in line.split(said)[1]


def test_no_finalizer_and_no_annotation_ever_appears_on_a_resource(lone: Tenant, start_operator: StartOperator) -> None:
    cluster = lone.control.create_cluster(num_nodes=2)["id"]
    first = lone.refer(cluster)
    operator = start_operator()
    lone.wait_for("Synced")
    for spec, reason in (({"suspend": True}, "Suspended"), ({"suspend": False, "user": "nobody"}, "UserNotFound")):
        lone.admin.patch(lone.path(), {"spec": spec})
        lone.wait_for(reason)
    operator.stop()
    start_operator()
    lone.admin.patch(lone.path(), {"spec": {"user": None, "secret": {"template": {"MORE": "{host}"}}}})
    assert lone.wait_for("Synced")["status"]["secretRevision"] == 2

    states = lone.admin.history(lone.references_path, name="orders-db", since=first["metadata"]["resourceVersion"])
    assert len(states) >= 7  # three changes of the spec, four of the status
    for state in [first, *states]:
        assert state["metadata"].keys().isdisjoint({"finalizers", "annotations", "labels", "ownerReferences"})
    assert {
        entry["subresource"] for entry in states[-1]["metadata"]["managedFields"] if entry["manager"] == "dbclusterref"
    } == {"status"}


def test_a_namespace_is_deleted_while_the_operator_is_stopped(
    sandbox: Sandbox, lone: Tenant, start_operator: StartOperator
) -> None:
    operator = start_operator()
    for i in range(3):
        lone.ready(lone.control.create_cluster()["id"], name=f"db-{i}")
    operator.stop()
    sandbox.kubectl("delete", "namespace", lone.namespace, "--timeout=60s")
    assert lone.admin.find(f"/api/v1/namespaces/{lone.namespace}") is None


def test_a_namespace_is_deleted_while_the_operator_runs_and_it_makes_no_fuss(
    sandbox: Sandbox, lone: Tenant, start_operator: StartOperator
) -> None:
    operator = start_operator()
    for i in range(3):
        lone.ready(lone.control.create_cluster()["id"], name=f"db-{i}", refreshInterval="10s")
    sandbox.kubectl("delete", "namespace", lone.namespace, "--timeout=60s")
    assert [line for line in operator.lines() if "WARNING" in line or "ERROR" in line] == []


def test_what_changed_while_the_operator_was_stopped_is_caught_up(lone: Tenant, start_operator: StartOperator) -> None:
    kept, gone = (lone.control.create_cluster(num_nodes=2)["id"] for _ in range(2))
    operator = start_operator()
    lone.ready(kept, name="kept")
    lone.ready(gone, name="gone")
    operator.stop()
    password = lone.control.rotate_password(kept)["private_connection"]["password"]
    lone.admin.delete(lone.secret_path("kept"))
    lone.admin.delete(lone.path("gone"))
    new = lone.control.create_cluster()["id"]
    lone.refer(new, name="new")

    start_operator()
    wait_until(lambda: lone.data("kept").get("password") == password, what="the Secret with the new password")
    lone.wait_for("Synced", name="new")
    wait_until(lambda: lone.secret("gone") is None, within=60, what="the garbage collector")
