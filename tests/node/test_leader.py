"""Two replicas (deploy/overlays/highly-available): whatever ends the leader, the other one goes on with its work."""

from collections.abc import Callable, Iterator

import pytest

from sandbox.node.install import SYSTEM, install
from tests.e2e.cluster import Json, Tenant, wait_until
from tests.node.conftest import Cluster
from tests.node.measured import Report

LEASE = f"/apis/coordination.k8s.io/v1/namespaces/{SYSTEM}/leases/dbclusterref"
NEXT_LEADER_WITHIN = 60
SECONDS = len("2026-11-27T15:00:00")


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


@pytest.mark.parametrize("end", [delete, roll])
def test_another_replica_takes_over(cluster: Cluster, served: Tenant, end: Callable[[Cluster, str], None]) -> None:
    former = holder(cluster)
    content = served.data()
    with Report.timed(f"leader's end by {end.__name__} until another one leads"):
        end(cluster, pod_of(former))
        wait_until(lambda: holder(cluster) not in {"", former}, within=NEXT_LEADER_WITHIN, what="another leader")
    assert_it_works(cluster, served, content)


def test_a_killed_leader_whose_container_starts_again_takes_its_own_lease_at_once(cluster: Cluster, served: Tenant) -> None:
    former, content, transitions = holder(cluster), served.data(), lease(cluster)["leaseTransitions"]

    def leads_again() -> bool:
        started = restarted_at(cluster, pod_of(former))
        return bool(started) and lease(cluster)["renewTime"][:SECONDS] > started[:SECONDS]

    with Report.timed("leader's end by SIGKILL until it leads again"):
        kill(cluster, pod_of(former))
        wait_until(leads_again, within=NEXT_LEADER_WITHIN, what="the Lease is renewed after the container's restart")
    assert holder(cluster) == former
    assert lease(cluster)["leaseTransitions"] == transitions, "the standby did not come between"
    assert_it_works(cluster, served, content)


def assert_it_works(cluster: Cluster, served: Tenant, content: dict[str, str]) -> None:
    served.admin.delete(served.secret_path())
    wait_until(lambda: served.data() == content, within=NEXT_LEADER_WITHIN, what="a Secret that was deleted is restored")
    cluster.node.kubectl("-n", SYSTEM, "rollout", "status", "deployment/dbclusterref", "--timeout=60s")


def restarted_at(cluster: Cluster, pod: str) -> str:
    """When the container that runs now began; empty if it is the first one, or none runs."""
    (container,) = cluster.admin.get(f"/api/v1/namespaces/{SYSTEM}/pods/{pod}")["status"]["containerStatuses"]
    return container["state"].get("running", {}).get("startedAt", "") if container["restartCount"] else ""


def pod_of(holder: str) -> str:
    """The identity in the Lease begins with the pod's name, which has no underscore."""
    return holder.partition("_")[0]


def lease(cluster: Cluster) -> Json:
    spec: Json = (cluster.admin.find(LEASE) or {"spec": {}})["spec"]
    return spec


def holder(cluster: Cluster) -> str:
    """Pod and process that hold the Lease; empty while nobody does."""
    return lease(cluster).get("holderIdentity") or ""
