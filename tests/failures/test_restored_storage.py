"""etcd restored from a snapshot under a running operator: resource versions go backwards, and the world is an older one."""

import asyncio
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from sandbox.binaries import ensure_assets
from sandbox.binaries.etcdutl import ensure_etcdutl
from sandbox.controlplane import ControlPlane
from sandbox.digitalocean import Control
from tests.e2e.cluster import ROOT, Administrator, Kubectl, Tenant, wait_until
from tests.e2e.running import Operator, account_kubeconfig, install

pytestmark = pytest.mark.e2e

CRD = "crd/databaseclusterrefs.dbclusterref.io"


@dataclass(frozen=True, kw_only=True)
class Past:
    """A control plane whose storage can be set back."""

    plane: ControlPlane
    etcdutl: Path
    folder: Path
    kubectl: Kubectl
    admin: Administrator
    control: Control
    digitalocean: str

    def save(self, name: str) -> None:
        (self.folder / name).write_bytes(asyncio.run(self.plane.snapshot()))

    def restore(self, name: str, tenant: Tenant | None = None, *, versions: int = 300) -> None:
        """Go back; by many versions what is written from then on is still older than what the operator has seen."""
        for number in range(versions):
            self.admin.create("/api/v1/namespaces/default/configmaps", {"metadata": {"name": f"{name}-{number}"}})
        if tenant:
            tenant.refresh()  # its acknowledgement shows that the watch has seen a version of now
        asyncio.run(self.plane.restore(self.folder / name, etcdutl=self.etcdutl))

    def operator(self, *flags: str) -> Operator:
        """With the periods of an installation: what is noticed here is not found by the regular listing."""
        kubeconfig = account_kubeconfig(self.folder / "operator", kubectl=self.kubectl, admin=self.admin)
        return Operator(*flags, kubeconfig=kubeconfig, api_url=self.digitalocean, log=self.folder / "operator.log")


@pytest.fixture
def past(tmp_path: Path) -> Iterator[Past]:
    plane = ControlPlane(assets=ensure_assets())
    command = [sys.executable, "-m", "sandbox.digitalocean", "--seed", "5"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as simulator:
        try:
            assert simulator.stdout is not None
            url = json.loads(simulator.stdout.readline())["url"]
            asyncio.run(plane.start())
            kubectl = Kubectl(assets=plane.assets, kubeconfig=plane.kubeconfig)
            install(kubectl)
            with closing(Administrator(plane.kubeconfig)) as admin, Control(url) as control:
                yield Past(
                    plane=plane,
                    etcdutl=ensure_etcdutl(),
                    folder=tmp_path,
                    kubectl=kubectl,
                    admin=admin,
                    control=control,
                    digitalocean=url,
                )
        finally:
            simulator.terminate()
            asyncio.run(plane.stop())


@pytest.fixture
def begin(past: Past) -> Iterator[Callable[..., Operator]]:
    started: list[Operator] = []

    def start(*flags: str) -> Operator:
        started.append(past.operator(*flags))
        return started[-1].wait_until_ready()

    yield start
    for operator in started:
        operator.kill()


def make_tenant(past: Past) -> Tenant:
    past.admin.create("/api/v1/namespaces", {"metadata": {"name": "shop"}})
    tenant = Tenant("shop", admin=past.admin, control=past.control)
    tenant.put_token()
    return tenant


@pytest.mark.parametrize("versions", [300, 0], ids=["long ago", "a moment ago"])
def test_after_a_restore_the_operator_sees_what_is_there_and_what_changes(
    past: Past, begin: Callable[..., Operator], versions: int
) -> None:
    operator = begin("--leader-elect")
    tenant = make_tenant(past)
    cluster = past.control.create_cluster(engine="pg", num_nodes=2, password="first")["id"]
    tenant.ready(cluster)
    past.save("ready")
    past.control.rotate_password(cluster, password="second")
    tenant.refresh()
    wait_until(lambda: tenant.data()["password"] == "second", what="the new password")
    tenant.ready(cluster, name="later")

    past.restore("ready", tenant, versions=versions)
    # Not the Secret: the operator may have written it before it is looked at.
    assert tenant.admin.find(tenant.path("later")) is None, "what was made since is still there: the restore did nothing"
    wait_until(lambda: tenant.data()["password"] == "second", within=30, what="the password of now")
    # Whether the log names the restore depends on which watch ends first: it also begins again, and lists, after a 403 or 429
    # of an API server that is starting. What counts is that everything is seen.
    wait_until(lambda: operator.metric("dbclusterref_references") == 1, what="the end of what was made since")

    tenant.refresh(within=10)
    tenant.admin.patch(tenant.secret_path(), {"data": {"password": "eA=="}})
    wait_until(lambda: tenant.data()["password"] == "second", within=10, what="the repair")
    tenant.admin.delete(tenant.secret_path())
    wait_until(tenant.secret, within=10, what="the Secret, made again")
    past.control.rotate_password(cluster, password="third")
    tenant.refresh(within=10)
    wait_until(lambda: tenant.data()["password"] == "third", within=10, what="the newest password")
    tenant.admin.patch(tenant.path(), {"spec": {"suspend": True}})
    tenant.wait_for("Suspended", kind="Fresh", within=10)
    tenant.ready(cluster, name="another")
    assert operator.metric("dbclusterref_leader") == 1, "the Lease of then is its own, too"
    assert operator.answers("/healthz")
    operator.wait_until_ready()
    assert operator.metric("dbclusterref_unexpected_errors_total") == 0
    # Twice where the two listings notice it at the same moment.
    assert len([line for line in operator.lines() if "restored from a backup" in line]) <= 2


def test_a_restore_to_before_the_crd_is_said_and_over_when_the_crd_is_back(past: Past, begin: Callable[..., Operator]) -> None:
    crd = json.loads(past.kubectl("get", CRD, "-o", "json").stdout)
    crd["metadata"] = {"name": crd["metadata"]["name"]}
    del crd["status"]
    past.kubectl("delete", CRD)
    tenant = make_tenant(past)
    account_kubeconfig(past.folder / "operator", kubectl=past.kubectl, admin=past.admin)
    past.save("empty")

    def apply_crd() -> None:
        past.kubectl("apply", "--server-side", "-f", "-", input=json.dumps(crd))
        past.kubectl.wait_for_crd()
        wait_until(lambda: past.admin.find(tenant.references_path), what="discovery of the resource")

    apply_crd()
    operator = begin()
    cluster = past.control.create_cluster(engine="pg", num_nodes=2, password="first")["id"]
    tenant.ready(cluster)

    past.restore("empty", tenant)

    def says_what_is_missing() -> bool:
        reply = operator.probe("/readyz")
        return reply is not None and reply.status_code == 503 and "CustomResourceDefinition" in reply.text

    wait_until(says_what_is_missing, within=30, what="a process that says what is missing")
    apply_crd()
    operator.wait_until_ready()
    tenant.ready(cluster)
    tenant.admin.delete(tenant.secret_path())
    wait_until(tenant.secret, within=10, what="the repair")
    assert operator.metric("dbclusterref_references") == 1


def test_a_restore_to_before_a_leader_ends_it_and_the_next_leads(past: Past, begin: Callable[..., Operator]) -> None:
    past.save("no-lease")
    operator = begin("--leader-elect")
    wait_until(lambda: operator.metric("dbclusterref_leader") == 1, what="the leader")
    past.restore("no-lease")
    operator.process.wait(30)
    assert operator.process.returncode == 3
    following = begin("--leader-elect")
    wait_until(lambda: following.metric("dbclusterref_leader") == 1, within=30, what="the next leader")
