"""What the API server lets the operator see, and what it says where that is less than it needs."""

import json
import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from sandbox.controlplane.kubeconfig import by_token, write_kubeconfig
from sandbox.faultproxy import ProxyFault
from tests.e2e.cluster import SYSTEM, Json, Tenant, wait_until
from tests.e2e.running import FAST, Operator
from tests.e2e.sandbox import as_tenant
from tests.failures.conftest import CANARY, StartOperator, World, through

pytestmark = pytest.mark.e2e


@pytest.fixture
def cluster(world: World) -> Json:
    return world.control.create_cluster(engine="pg", num_nodes=2, password=f"{CANARY}-first")


def readiness(operator: Operator) -> str:
    reply = operator.probe("/readyz")
    return f"{reply.status_code} {reply.text}" if reply else ""


def complaints(operator: Operator, *, after: int = 0) -> list[str]:
    return [line for line in operator.lines()[after:] if re.search(r" (WARNING|ERROR) |Traceback", line)]


def test_rejected_credentials_are_said_once_cost_few_requests_and_show_in_readyz(
    world: World, tenant: Tenant, cluster: Json, start: StartOperator, tmp_path: Path
) -> None:
    path = through(world.proxy, tmp_path / "own", sandbox=world.sandbox)
    agent = json.loads(path.read_text())["users"][0]["user"]["token"][-16:]
    operator = start(f"--namespaces={tenant.namespace}", kubeconfig=path)
    tenant.ready(cluster["id"])
    said = len(operator.lines())
    fault = world.proxy.add(ProxyFault.STATUS, status=401, agent=agent)
    world.proxy.cut()
    wait_until(lambda: world.proxy.acted(fault), what="the first refusal")
    began = time.monotonic()
    wait_until(lambda: readiness(operator).startswith("503"), within=60, what="a process that is not ready")
    assert "credentials (401)" in readiness(operator)
    assert operator.metric("dbclusterref_kubernetes_credentials_rejected") == 1
    assert operator.answers("/healthz")
    assert world.proxy.acted(fault) < 10 + 3 * (time.monotonic() - began)
    (line,) = complaints(operator, after=said)
    assert "ERROR" in line
    assert "rejects the operator's credentials (401)" in line
    world.proxy.clear()
    operator.wait_until_ready()
    operator.wait_until_logged("accepts the operator's credentials again")
    tenant.admin.delete(tenant.secret_path())
    wait_until(tenant.secret, what="the repair")
    assert len(complaints(operator, after=said)) == 1


def test_a_crd_that_is_deleted_is_noticed_at_once_and_watched_again_within_seconds_of_its_return(
    world: World, tenant: Tenant, cluster: Json, start: StartOperator
) -> None:
    kubectl = world.sandbox.kubectl
    operator = start(f"--namespaces={tenant.namespace}")
    tenant.ready(cluster["id"])
    said = len(operator.lines())
    crds = kubectl("get", "crd/databaseclusterrefs.dbclusterref.io", "-o", "json").stdout
    kubectl("delete", "crd/databaseclusterrefs.dbclusterref.io")
    wait_until(lambda: "CustomResourceDefinition" in readiness(operator), within=10, what="a process that says what is missing")
    assert operator.answers("/healthz")
    definition = json.loads(crds)
    definition["metadata"] = {"name": definition["metadata"]["name"], "labels": definition["metadata"].get("labels", {})}
    definition.pop("status")
    kubectl("apply", "--server-side", "-f", "-", input=json.dumps(definition))
    kubectl.wait_for_crd()
    wait_until(lambda: readiness(operator).startswith("200"), within=15, what="readiness")
    wait_until(lambda: tenant.admin.find(tenant.references_path), what="discovery of the resource")
    tenant.ready(cluster["id"], name="after")
    assert [line for line in complaints(operator, after=said) if "is not installed" in line]
    assert len(complaints(operator, after=said)) <= 2, complaints(operator, after=said)
    assert operator.metric("dbclusterref_unexpected_errors_total") == 0
    world.operator.wait_until_ready()


def namespaced_account(world: World, namespaces: list[str], path: Path) -> Path:
    """The kubeconfig of an account that may do in some namespaces what the operator may do, and nothing elsewhere."""
    kubectl = world.sandbox.kubectl
    rules = json.loads(kubectl("get", "clusterrole/dbclusterref", "-o", "json").stdout)["rules"]
    rbac = "rbac.authorization.k8s.io"
    account = {"kind": "ServiceAccount", "name": "narrow", "namespace": SYSTEM}
    items: list[Json] = [{"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "narrow", "namespace": SYSTEM}}]
    for namespace in namespaces:
        metadata = {"name": "narrow", "namespace": namespace}
        items.append({"apiVersion": f"{rbac}/v1", "kind": "Role", "metadata": metadata, "rules": rules})
        items.append(
            {
                "apiVersion": f"{rbac}/v1",
                "kind": "RoleBinding",
                "metadata": metadata,
                "roleRef": {"apiGroup": rbac, "kind": "Role", "name": "narrow"},
                "subjects": [account],
            }
        )
    kubectl("apply", "-f", "-", input=json.dumps({"apiVersion": "v1", "kind": "List", "items": items}))
    token = kubectl("-n", SYSTEM, "create", "token", "narrow").stdout.strip()
    return write_kubeconfig(path, url=world.proxy.url, ca=world.proxy.ca, user=by_token(token), namespace=SYSTEM)


@pytest.mark.parametrize("when", ["before the start", "while it runs"])
def test_a_namespace_that_is_gone_is_named_and_the_others_are_served(  # noqa: PLR0917
    tenant: Tenant, cluster: Json, start: StartOperator, tmp_path: Path, when: str, world: World
) -> None:
    with as_tenant(world.sandbox) as other:
        names = [tenant.namespace, other.namespace]
        path = namespaced_account(world, names, tmp_path / "narrow")

        def begin() -> Operator:
            return start(f"--namespaces={','.join(names)}", kubeconfig=path, wait=False)

        operator = begin().wait_until_ready() if when == "while it runs" else None
        other.admin.delete(f"/api/v1/namespaces/{other.namespace}")
        wait_until(lambda: other.admin.find(f"/api/v1/namespaces/{other.namespace}") is None, within=40, what="its end")
        operator = operator or begin()
        wait_until(
            lambda: f"namespace {other.namespace} is not watched" in readiness(operator),
            within=40,
            what="its name",
        )
        assert readiness(operator).startswith("200")
        assert operator.metric("dbclusterref_namespaces_refused") == 1
        operator.wait_until_logged(f"Namespace {other.namespace} cannot be listed")
        tenant.ready(cluster["id"])
        tenant.admin.delete(tenant.secret_path())
        wait_until(tenant.secret, what="the repair at once, by a watch")
        assert operator.metric("dbclusterref_secrets_watched") == 1


def test_secrets_that_cannot_be_listed_are_read_one_by_one(
    world: World, tenant: Tenant, cluster: Json, start: StartOperator, tmp_path: Path
) -> None:
    """As where one of them, of anybody's, cannot be decrypted: the API server then answers 500 to every listing."""
    path = through(world.proxy, tmp_path / "own", sandbox=world.sandbox)
    agent = json.loads(path.read_text())["users"][0]["user"]["token"][-16:]
    refused: Callable[[], int] = lambda: world.proxy.acted(fault)  # noqa: E731
    fault = world.proxy.add(
        ProxyFault.STATUS, path=r"/secrets\?", method="GET", status=500, agent=agent,
        message='Internal error occurred: unable to transform key "/registry/secrets/other/x": no matching prefix found',
    )  # fmt: skip
    operator = start(f"--namespaces={tenant.namespace}", kubeconfig=path, timing=f"{FAST},rights=5")
    assert refused() >= 3
    assert "Secrets cannot be listed" in readiness(operator)
    assert operator.metric("dbclusterref_secrets_watched") == 0
    assert "unable to transform key" in operator.wait_until_logged("Each is read on its own")
    tenant.ready(cluster["id"])
    good = tenant.data()
    tenant.admin.patch(tenant.secret_path(), {"data": {"password": "eA=="}})
    tenant.refresh()
    wait_until(lambda: tenant.data() == good, what="the repair at the refresh")
    world.proxy.clear()
    wait_until(lambda: operator.metric("dbclusterref_secrets_watched") == 1, within=90, what="the watch")
