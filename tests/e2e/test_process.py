"""The operator as a process: its start in bad circumstances, its end, its probes, its logs, and what none of them may show."""

import asyncio
import base64
import json
import pwd
import secrets
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from sandbox.controlplane import Component, ControlPlane
from sandbox.digitalocean import Control
from tests.e2e.cluster import ROOT, SYSTEM, Administrator, Json, Kubectl, Tenant, wait_until
from tests.e2e.conftest import Served, StartOperator
from tests.e2e.running import FAST, Operator, account_kubeconfig, install
from tests.e2e.sandbox import Sandbox

pytestmark = pytest.mark.e2e


# --- the end


def test_sigterm_ends_it_well_while_reads_are_under_way(lone: Tenant, start_operator: StartOperator) -> None:
    clusters = [lone.control.create_cluster()["id"] for _ in range(3)]
    for i, cluster in enumerate(clusters):
        lone.refer(cluster, name=f"db-{i}")
        lone.control.add_fault("delay", delay=60, cluster=cluster)
    operator = start_operator()
    numbers = {fault["id"] for fault in lone.control.faults() if fault["cluster"] in clusters}
    wait_until(lambda: all(fault["acted"] for fault in lone.control.faults() if fault["id"] in numbers), what="reads under way")
    assert operator.stop() < 5
    for number in numbers:
        lone.control.clear_fault(number)
    assert "Traceback" not in "\n".join(operator.lines())
    assert "never retrieved" not in "\n".join(operator.lines())


def test_sigterm_ends_it_well_before_it_has_begun(lone: Tenant, start_operator: StartOperator) -> None:
    operator = start_operator(wait=False)
    operator.wait_until_logged("Starting")
    operator.stop()


def test_sigterm_while_idle_ends_it_within_a_second_or_two_and_says_so(lone: Tenant, start_operator: StartOperator) -> None:
    operator = start_operator()
    lone.ready(lone.control.create_cluster()["id"])
    assert operator.stop() < 3
    assert operator.lines()[-1].endswith("Stopped.")
    assert [line for line in operator.lines() if "Traceback" in line or "WARNING" in line or "ERROR" in line] == []


# --- the start


def _may_have_a_user_namespace() -> bool:
    unshare = shutil.which("unshare")
    return bool(unshare) and subprocess.run([str(unshare), "--map-user=65532", "true"], check=False).returncode == 0


@pytest.mark.skipif(not _may_have_a_user_namespace(), reason="unshare (util-linux) may make no user namespace here")
@pytest.mark.parametrize("uid", [65532, 1_000_650_000])
def test_a_user_without_a_name_serves_resources(lone: Tenant, start_operator: StartOperator, uid: int) -> None:
    """As in a container: the image's own user, and one that OpenShift would choose."""
    with pytest.raises(KeyError):
        pwd.getpwuid(uid)
    operator = start_operator(user=uid)
    lone.ready(lone.control.create_cluster()["id"])
    assert [line for line in operator.lines() if "Traceback" in line or "ERROR" in line] == []
    operator.stop()


@pytest.fixture(scope="module")
def plane(served: Served) -> Iterator[ControlPlane]:
    """A control plane that can be stopped, with everything of `deploy/` but the CustomResourceDefinition."""
    plane = ControlPlane(assets=served.sandbox.assets)
    asyncio.run(plane.start())
    try:
        kubectl = Kubectl(assets=plane.assets, kubeconfig=plane.kubeconfig)
        kubectl("apply", "-k", str(ROOT / "deploy"))
        yield plane
    finally:
        asyncio.run(plane.stop())


@pytest.fixture
def plane_admin(plane: ControlPlane) -> Iterator[Administrator]:
    with closing(Administrator(plane.kubeconfig)) as admin:
        yield admin


@pytest.fixture
def start_there(
    plane: ControlPlane, plane_admin: Administrator, served: Served, tmp_path: Path
) -> Iterator[Callable[[], Operator]]:
    kubectl = Kubectl(assets=plane.assets, kubeconfig=plane.kubeconfig)
    kubeconfig = account_kubeconfig(tmp_path / "kubeconfig", kubectl=kubectl, admin=plane_admin)
    started: list[Operator] = []

    def start() -> Operator:
        log = tmp_path / f"operator-{len(started)}.log"
        started.append(Operator(kubeconfig=kubeconfig, api_url=served.sandbox.digitalocean, log=log))
        return started[-1]

    try:
        yield start
        for operator in started:
            operator.stop()
    finally:
        for operator in started:
            operator.kill()


def _serve(admin: Administrator, control: Control, **spec: Any) -> tuple[Tenant, str]:
    """Proves that resources are served, in a fresh namespace; returns its tenant and the cluster."""
    namespace = f"e2e-{secrets.token_hex(4)}"
    admin.create("/api/v1/namespaces", {"metadata": {"name": namespace}})
    tenant = Tenant(namespace, admin=admin, control=control)
    tenant.put_token()
    cluster: str = control.create_cluster()["id"]
    tenant.ready(cluster, **spec)
    return tenant, cluster


def test_a_missing_crd_is_told_and_waited_for(
    plane: ControlPlane, plane_admin: Administrator, start_there: Callable[[], Operator], served: Served
) -> None:
    operator = start_there()
    line = operator.wait_until_logged("CustomResourceDefinition")
    assert line.endswith(
        "The CustomResourceDefinition databaseclusterrefs.dbclusterref.io is not installed; apply crds/. Waiting for it."
    )
    assert operator.answers("/healthz")
    assert operator.answers("/readyz", status=503)

    install(Kubectl(assets=plane.assets, kubeconfig=plane.kubeconfig))
    operator.wait_until_ready()
    operator.wait_until_logged("watching again")
    _serve(plane_admin, served.sandbox.control)
    assert len([line for line in operator.lines() if "CustomResourceDefinition" in line]) == 1


@contextmanager
def away(plane: ControlPlane, *, crash: bool = False) -> Iterator[None]:
    """The API server refuses connections; it is back afterwards in any case."""
    asyncio.run(plane.stop_apiserver(kill=crash))
    try:
        yield
    finally:
        asyncio.run(plane.start_apiserver())


def test_an_api_server_that_is_down_at_the_start_is_told_and_waited_for(
    plane: ControlPlane, plane_admin: Administrator, start_there: Callable[[], Operator], served: Served
) -> None:
    install(Kubectl(assets=plane.assets, kubeconfig=plane.kubeconfig))
    with away(plane, crash=True):
        operator = start_there()
        line = operator.wait_until_logged("cannot be reached", within=30)
        assert plane.url in line
        assert operator.answers("/healthz")
        assert operator.answers("/readyz", status=503)
    operator.wait_until_ready()
    _serve(plane_admin, served.sandbox.control)


def test_an_api_server_that_goes_away_is_told_once_and_survived(
    plane: ControlPlane, plane_admin: Administrator, start_there: Callable[[], Operator], served: Served
) -> None:
    install(Kubectl(assets=plane.assets, kubeconfig=plane.kubeconfig))
    operator = start_there().wait_until_ready()
    tenant, cluster = _serve(plane_admin, served.sandbox.control, refreshInterval="10s")
    with away(plane):
        password = tenant.control.rotate_password(cluster)["private_connection"]["password"]
        operator.wait_until_logged("Retrying.", within=30)
    wait_until(lambda: tenant.data().get("password") == password, what="the new password")
    # An API server that still fills its cache when it is back may answer a watch with 429: that is another line.
    assert len([line for line in operator.lines() if "Retrying." in line and "429" not in line]) <= 1


def test_an_api_server_that_hangs_does_not_keep_it_from_ending(
    plane: ControlPlane, start_there: Callable[[], Operator]
) -> None:
    install(Kubectl(assets=plane.assets, kubeconfig=plane.kubeconfig))
    operator = start_there().wait_until_ready()
    plane.freeze(Component.APISERVER)
    try:
        operator.stop()
    finally:
        plane.thaw(Component.APISERVER)


def test_a_secret_with_forged_managed_fields_keeps_it_from_nothing(lone: Tenant, start_operator: StartOperator) -> None:
    # Written by hand; the API server takes an owner that is named by something else than its UID.
    owners: Json = {"f:metadata": {"f:ownerReferences": {'k:{"name":"x"}': {}}}}
    ours = {"manager": "dbclusterref", "operation": "Apply", "apiVersion": "v1", "fieldsType": "FieldsV1", "fieldsV1": owners}
    forged = {"name": "forged", "labels": {"app.kubernetes.io/managed-by": "dbclusterref"}, "managedFields": [ours]}
    secrets_here = f"/api/v1/namespaces/{lone.namespace}/secrets"
    taken = lone.admin.create(secrets_here, {"metadata": forged})
    assert owners in [entry["fieldsV1"] for entry in taken["metadata"]["managedFields"]]
    operator = start_operator(environ={"DBCLUSTERREF_TIMING": FAST})
    lone.ready(lone.control.create_cluster()["id"])
    lone.admin.patch(f"{secrets_here}/forged", {"metadata": {"labels": {"seen": "again"}}})
    before = operator.metric("dbclusterref_kubernetes_requests_total", verb="list", resource="secrets")
    wait_until(
        lambda: operator.metric("dbclusterref_kubernetes_requests_total", verb="list", resource="secrets") > before + 1,
        what="further listings",
    )
    assert "unexpected" not in operator.log.read_text()


@pytest.mark.parametrize(
    ("flags", "environ", "words"),
    [
        (["--metrics-address=8080"], {}, "--metrics-address"),
        (["--frobnicate"], {}, "--frobnicate"),
        ([], {"DBCLUSTERREF_LEADER_ELECT": "maybe"}, "DBCLUSTERREF_LEADER_ELECT"),
        ([], {"KUBECONFIG": "/nowhere/config"}, "KUBECONFIG"),
    ],
    ids=["a flag", "an unknown flag", "a variable", "a kubeconfig"],
)
def test_a_bad_setting_ends_it_with_2_and_one_line_that_names_it(
    flags: list[str], environ: dict[str, str], words: str, tmp_path: Path
) -> None:
    result = subprocess.run(
        [sys.executable, "-P", "-m", "dbclusterref", "run", *flags],
        env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), **environ},
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert result.returncode == 2
    (line,) = result.stderr.splitlines()
    assert line.startswith("dbclusterref: ")
    assert words in line


def test_a_port_that_is_taken_is_a_bad_setting(served: Served, start_operator: StartOperator) -> None:
    taken = served.operator.url.removeprefix("http://")
    operator = start_operator(f"--metrics-address={taken}", wait=False)
    assert operator.process.wait(20) == 2
    assert f"--metrics-address: cannot listen on {taken}" in operator.lines()[-1]


# --- probes and logs


def test_probes_and_metrics_answer(served: Served, tenant: Tenant) -> None:
    tenant.ready(tenant.control.create_cluster()["id"])
    for path, says in (("/healthz", "ok\n"), ("/readyz", "ok\nalone\n")):
        reply = served.operator.probe(path)
        assert reply is not None
        assert (reply.status_code, reply.text) == (200, says)
    assert served.operator.metric("dbclusterref_references", reason="Synced") >= 1
    assert served.operator.metric("dbclusterref_digitalocean_requests_total", code="200") >= 2
    assert served.operator.metric("dbclusterref_kubernetes_writes_total", kind="Secret", result="ok") >= 1
    assert served.operator.metric("dbclusterref_unexpected_errors_total") == 0
    assert served.operator.metric("dbclusterref_leader") == 1


def test_json_logs_parse_line_by_line(lone: Tenant, start_operator: StartOperator) -> None:
    operator = start_operator("--log-format=json", "--log-level=debug")
    cluster = lone.control.create_cluster()["id"]
    lone.ready(cluster)
    lone.control.add_fault("status", status=500, cluster=cluster, count=1)
    lone.refresh()
    operator.stop()
    lines = [json.loads(line) for line in operator.lines()]
    assert all(line.keys() >= {"time", "level", "logger", "message"} for line in lines)
    told = [line for line in lines if line.get("namespace") == lone.namespace]
    assert [(line["level"], line["name"], line["reason"]) for line in told][:2] == [
        ("info", "orders-db", "SecretCreated"),
        ("warning", "orders-db", "UpstreamUnavailable"),
    ]


def test_no_token_and_no_password_is_ever_shown(lone: Tenant, start_operator: StartOperator, tmp_path: Path) -> None:
    marks = {name: f"canary-{name}-{secrets.token_hex(8)}" for name in ("tenant", "own", "password", "rotated", "user")}
    lone.control.set_token(marks["tenant"])
    lone.control.set_token(marks["own"])
    lone.put_token(marks["tenant"])
    (tmp_path / "token").write_text(marks["own"])
    operator = start_operator(
        f"--token-file={tmp_path / 'token'}", "--token-namespaces=*", "--log-level=debug", "--log-format=json"
    )
    cluster = lone.control.create_cluster(num_nodes=2, password=marks["password"] + "/@:%é", tags=lone.grant)["id"]
    lone.control.add_user(cluster, "app", password=marks["user"])
    lone.ready(cluster, name="by-tenant", user="app")
    lone.ready(cluster, name="by-operator", own_token=False)
    lone.control.rotate_password(cluster, password=marks["rotated"])
    for kind in ("truncate", "no_database", "reset", "gateway_timeout"):
        fault = lone.control.add_fault(kind, cluster=cluster)
        lone.refresh(name="by-operator")
        lone.control.clear_fault(fault)
    lone.control.update(cluster, connections={"private_connection": {"port": marks["rotated"]}})
    lone.refresh(name="by-operator")
    lone.control.update(cluster, connections={"private_connection": None})
    lone.admin.delete(lone.secret_path("by-tenant"))
    wait_until(lambda: lone.data("by-tenant").get("password") == marks["user"], what="the repaired Secret")
    lone.refresh(name="by-operator")
    wait_until(lambda: lone.data("by-operator").get("password") == marks["rotated"], what="the rotated password")
    metrics = operator.probe("/metrics")
    assert metrics is not None
    operator.stop()

    shown = {
        "the log": operator.log.read_text(),
        "the Events": json.dumps(lone.admin.get(f"/apis/events.k8s.io/v1/namespaces/{lone.namespace}/events")),
        "the resources": json.dumps(lone.admin.get(lone.references_path)),
        "the metrics": metrics.text,
        "the Secret's metadata": json.dumps([(lone.secret(name) or {})["metadata"] for name in ("by-tenant", "by-operator")]),
    }
    for where, text in shown.items():
        for name, mark in marks.items():
            for form in (mark, base64.b64encode(mark.encode()).decode()[:-4], quote(mark), mark[::-1]):
                assert form not in text, f"{name} stands in {where}"
    assert lone.namespace in shown["the log"]  # the log is the right one, and not empty


# --- leader election


def leases(sandbox: Sandbox) -> dict[str, object]:
    lease = sandbox.admin.find(f"/apis/coordination.k8s.io/v1/namespaces/{SYSTEM}/leases/dbclusterref")
    spec: dict[str, object] = (lease or {}).get("spec", {})
    return spec


def test_a_single_leader_holds_its_lease_and_gives_it_back(
    sandbox: Sandbox, lone: Tenant, start_operator: StartOperator
) -> None:
    operator = start_operator("--leader-elect", environ={"POD_NAME": "only"})
    wait_until(lambda: str(leases(sandbox).get("holderIdentity", "")).startswith("only_"), what="the Lease")
    lone.ready(lone.control.create_cluster()["id"])
    assert operator.metric("dbclusterref_leader") == 1
    operator.stop()
    assert leases(sandbox).get("holderIdentity", "") == ""


def test_of_two_replicas_one_writes_and_the_other_takes_over(
    sandbox: Sandbox, lone: Tenant, start_operator: StartOperator
) -> None:
    first, second = (start_operator(environ={"POD_NAME": name, "DBCLUSTERREF_LEADER_ELECT": "true"}) for name in ("one", "two"))
    wait_until(lambda: leases(sandbox).get("holderIdentity"), what="a leader")
    cluster = lone.control.create_cluster()["id"]
    lone.ready(cluster)
    leader, standby = (first, second) if first.metric("dbclusterref_leader") else (second, first)
    assert leader.metric("dbclusterref_kubernetes_writes_total") >= 2
    assert standby.metric("dbclusterref_leader") == 0
    assert standby.metric("dbclusterref_kubernetes_writes_total") == 0
    assert {entry.token for entry in lone.requests(cluster)} == {lone.token}

    leader.stop()
    password = lone.control.rotate_password(cluster)["private_connection"]["password"]
    lone.refresh(within=10)
    assert lone.data()["password"] == password
    assert standby.metric("dbclusterref_leader") == 1
