"""Two replicas (deploy/overlays/highly-available): whatever ends the leader, the other one goes on with its work."""

from collections.abc import Callable, Iterator

import pytest

from sandbox.node.install import SYSTEM, install
from tests.e2e.cluster import Json, Tenant, wait_until
from tests.node.conftest import Cluster
from tests.node.measured import Report

LEASE = f"/apis/coordination.k8s.io/v1/namespaces/{SYSTEM}/leases/dbclusterref"
NEXT_LEADER_WITHIN = 60


@pytest.fixture(scope="module", autouse=True)
def two_replicas(cluster: Cluster, first_start: Json) -> Iterator[None]:
    install(cluster.node, folder="overlays/highly-available")
    yield
    install(cluster.node)


@pytest.fixture
def served(cluster: Cluster, tenant: Tenant) -> Tenant:
    """Somebody whose reference is Ready, while two pods run and one of them leads."""
    cluster.node.kubectl("-n", SYSTEM, "rollout", "status", "deployment/dbclusterref", "--timeout=60s")
    wait_until(lambda: len(cluster.pods()) == 2 and holder(cluster), what="two pods and a leader")
    uuid = cluster.control.create_cluster(name="orders", engine="pg", num_nodes=2)["id"]
    tenant.ready(uuid)
    return tenant


def delete(cluster: Cluster, leader: str) -> None:
    cluster.node.kubectl("-n", SYSTEM, "delete", "pod", leader, "--wait=false")


def kill(cluster: Cluster, leader: str) -> None:
    """As the machine would: no signal that it could handle."""
    pod = cluster.admin.get(f"/api/v1/namespaces/{SYSTEM}/pods/{leader}")
    cluster.node.run("kill", "-KILL", str(cluster.process(pod)))


def roll(cluster: Cluster, leader: str) -> None:
    cluster.node.kubectl("-n", SYSTEM, "rollout", "restart", "deployment/dbclusterref")


@pytest.mark.parametrize("end", [delete, kill, roll])
def test_another_replica_takes_over(cluster: Cluster, served: Tenant, end: Callable[[Cluster, str], None]) -> None:
    former = holder(cluster)
    content = served.data()
    with Report.timed(f"leader's end by {end.__name__} until another one leads"):
        end(cluster, former.rpartition("_")[0])
        wait_until(lambda: holder(cluster) not in {"", former}, within=NEXT_LEADER_WITHIN, what="another leader")
    served.admin.delete(served.secret_path())
    wait_until(lambda: served.data() == content, within=NEXT_LEADER_WITHIN, what="a Secret that was deleted is restored")
    cluster.node.kubectl("-n", SYSTEM, "rollout", "status", "deployment/dbclusterref", "--timeout=60s")


def holder(cluster: Cluster) -> str:
    """Pod and process that hold the Lease; empty while nobody does."""
    lease = cluster.admin.find(LEASE) or {"spec": {}}
    return lease["spec"].get("holderIdentity") or ""
