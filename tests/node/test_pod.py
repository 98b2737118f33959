"""The operator's pod, from the image that the Dockerfile makes and with `deploy/` as it is."""

import json
import secrets
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from sandbox.node.install import SYSTEM, install
from tests.e2e.cluster import Json, Tenant, wait_until
from tests.e2e.running import metric_in
from tests.node.conftest import READY_WITHIN, Cluster
from tests.node.measured import Report

GRACE_SECONDS = 10
REFERENCES = 1000
LIMIT = 128 * 2**20
ANOTHER_USER = 12345


@pytest.fixture
def pod(cluster: Cluster, first_start: Json) -> Json:
    """As it is now: a test before may have replaced it."""
    cluster.node.kubectl("-n", SYSTEM, "rollout", "status", "deployment/dbclusterref", f"--timeout={READY_WITHIN}s")
    return cluster.pod()


def test_it_is_ready_within_half_a_minute_without_a_restart(first_start: Json) -> None:
    (container,) = first_start["pod"]["status"]["containerStatuses"]
    assert container["ready"]
    assert container["restartCount"] == 0


def test_a_healthy_start_warns_of_nothing(first_start: Json) -> None:
    assert first_start["warnings"] == []


def test_its_namespace_admits_restricted_pods_alone(cluster: Cluster, pod: Json) -> None:
    labels = cluster.admin.get(f"/api/v1/namespaces/{SYSTEM}")["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"
    refused = subprocess.run(
        [cluster.node.assets / "kubectl", "--kubeconfig", cluster.node.kubeconfig, "-n", SYSTEM, "run", "x", "--image=x"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert 'violates PodSecurity "restricted' in refused.stderr


def test_its_process_has_no_right_that_it_does_not_need(cluster: Cluster, pod: Json) -> None:
    status = process_status(cluster, pod)
    assert status["Uid"].split() == ["65532"] * 4
    assert status["Gid"].split() == ["65532"] * 4
    assert (status["CapEff"], status["CapBnd"], status["CapPrm"]) == ("0" * 16, "0" * 16, "0" * 16)
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")


def test_it_cannot_write_and_has_no_shell(cluster: Cluster, pod: Json) -> None:
    name = pod["metadata"]["name"]
    shell = execute(cluster, name, "sh", "-c", "id")
    assert shell.returncode != 0
    assert "executable file not found" in shell.stderr
    write = execute(cluster, name, "python", "-c", "open('/tmp/x', 'w')")
    assert "Read-only file system: '/tmp/x'" in write.stderr


def test_its_service_leads_to_the_probes_and_the_metrics(cluster: Cluster, pod: Json) -> None:
    service = f"/api/v1/namespaces/{SYSTEM}/services/dbclusterref-metrics:http/proxy"
    assert cluster.admin.text(f"{service}/healthz")
    assert cluster.admin.text(f"{service}/readyz")
    assert metric_in(cluster.admin.text(f"{service}/metrics"), "python_info") == 1


def test_it_ends_well_within_its_grace_period(cluster: Cluster, pod: Json) -> None:
    name, version = pod["metadata"]["name"], pod["metadata"]["resourceVersion"]
    collection = f"/api/v1/namespaces/{SYSTEM}/pods"
    assert pod["spec"]["terminationGracePeriodSeconds"] == GRACE_SECONDS
    with Report.timed("kubectl delete pod"):
        cluster.node.kubectl("-n", SYSTEM, "delete", "pod", name, f"--timeout={GRACE_SECONDS}s")
    states = cluster.admin.history(collection, name=name, since=version)
    ends = [
        one["state"]["terminated"]
        for state in states
        for one in state.get("status", {}).get("containerStatuses", [])
        if "terminated" in one["state"]
    ]
    assert ends
    assert {(end["exitCode"], end["reason"]) for end in ends} == {(0, "Completed")}


@pytest.fixture
def as_another_user(cluster: Cluster, pod: Json) -> Iterator[Json]:
    """As OpenShift does it: any number."""
    context = {"runAsUser": ANOTHER_USER, "runAsGroup": ANOTHER_USER, "fsGroup": ANOTHER_USER}
    patch = [
        {"op": "add", "path": f"/spec/template/spec/securityContext/{name}", "value": value} for name, value in context.items()
    ]
    install(cluster.node, patches=(json.dumps(patch),))
    yield cluster.pod()
    install(cluster.node)


def test_it_runs_as_any_user(cluster: Cluster, as_another_user: Json) -> None:
    assert process_status(cluster, as_another_user)["Uid"].split() == [str(ANOTHER_USER)] * 4
    (container,) = as_another_user["status"]["containerStatuses"]
    assert (container["ready"], container["restartCount"]) == (True, 0)


@pytest.fixture(scope="module")
def crowd(cluster: Cluster, first_start: Json) -> Iterator[Tenant]:
    """A thousand references, all Ready."""
    name = f"crowd-{secrets.token_hex(4)}"
    cluster.admin.create("/api/v1/namespaces", {"metadata": {"name": name}})
    tenant = Tenant(name, admin=cluster.admin, control=cluster.control)
    tenant.put_token()
    # At the provider's rate the CAs of a thousand clusters are read for minutes, and readiness waits for a first pass over all.
    cluster.control.set_token(tenant.token, per_minute=100_000, per_hour=1_000_000)
    uuids = cluster.control.seed_clusters(REFERENCES, engine="pg", num_nodes=2)
    with ThreadPoolExecutor(8) as several:
        list(several.map(lambda one: tenant.refer(one[1], name=f"db-{one[0]}", refreshInterval="1h"), enumerate(uuids)))
    with Report.timed(f"{REFERENCES} references applied until the last is Ready"):
        wait_until(lambda: len(secrets_of(cluster, name)) == REFERENCES, within=120, what="a Secret for each reference")
        wait_until(lambda: all_ready(cluster, name), within=60, what="all are Ready")
    yield tenant
    cluster.node.kubectl("delete", "namespace", name, "--wait=false")


def test_its_memory_stays_below_the_limit_with_a_thousand_references(cluster: Cluster, crowd: Tenant) -> None:
    pod = cluster.pod()
    peak = int(cluster.node.run("cat", peak_file(cluster, pod)))
    Report.add(f"memory peak with {REFERENCES} references: {peak / 2**20:.0f} MiB of {LIMIT // 2**20}")
    assert pod["spec"]["containers"][0]["resources"]["limits"]["memory"] == f"{LIMIT // 2**20}Mi"
    assert peak < LIMIT
    assert pod["status"]["containerStatuses"][0]["restartCount"] == 0


def test_killed_at_its_memory_limit_it_comes_back_and_has_lost_nothing(cluster: Cluster, crowd: Tenant) -> None:
    versions = secrets_of(cluster, crowd.namespace)
    with Report.timed(f"out of memory until a deleted Secret is restored, {REFERENCES} references"):
        run_out_of_memory(cluster, cluster.pod())
        wait_until(lambda: container_of(cluster)["restartCount"] == 1, within=60, what="the container's restart")
        crowd.admin.delete(crowd.secret_path("db-7"))
        wait_until(lambda: crowd.secret("db-7"), within=60, what="a Secret that was deleted is restored")
    assert container_of(cluster)["lastState"]["terminated"]["reason"] == "OOMKilled"
    now = secrets_of(cluster, crowd.namespace)
    assert {name for name, version in versions.items() if now.get(name) != version} == {"db-7"}


def test_restarted_with_a_thousand_references_it_is_ready_again(cluster: Cluster, crowd: Tenant) -> None:
    cluster.node.kubectl("-n", SYSTEM, "delete", "pod", cluster.pod()["metadata"]["name"])
    cluster.node.kubectl("-n", SYSTEM, "rollout", "status", "deployment/dbclusterref", f"--timeout={READY_WITHIN}s")


def process_status(cluster: Cluster, pod: Json) -> dict[str, str]:
    text = cluster.node.run("cat", f"/proc/{cluster.process(pod)}/status")
    return {name: value.strip() for name, _, value in (line.partition(":") for line in text.splitlines())}


def execute(cluster: Cluster, pod: str, *command: str) -> subprocess.CompletedProcess[str]:
    kubectl = [str(cluster.node.assets / "kubectl"), "--kubeconfig", str(cluster.node.kubeconfig)]
    return subprocess.run([*kubectl, "-n", SYSTEM, "exec", pod, "--", *command], capture_output=True, text=True, check=False)


def cgroup_of(cluster: Cluster, pod: Json) -> str:
    """The container's directory in the hierarchy that counts memory, as the node sees it."""
    lines = cluster.node.run("cat", f"/proc/{cluster.process(pod)}/cgroup").splitlines()
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if "memory" in controllers.split(","):
            return f"/sys/fs/cgroup/memory{path}"
    return f"/sys/fs/cgroup{lines[0].split(':', 2)[2]}"


def peak_file(cluster: Cluster, pod: Json) -> str:
    group = cgroup_of(cluster, pod)
    return f"{group}/memory.max_usage_in_bytes" if "/memory/" in group else f"{group}/memory.peak"


def container_of(cluster: Cluster) -> Json:
    container: Json = cluster.pod()["status"]["containerStatuses"][0]
    return container


def run_out_of_memory(cluster: Cluster, pod: Json) -> None:
    """Lowers the limit to a little above what is in use; then one more process takes the rest, and the largest is killed."""
    group = cgroup_of(cluster, pod)
    version_1 = "/memory/" in group
    usage = int(cluster.node.run("cat", f"{group}/memory.{'usage_in_bytes' if version_1 else 'current'}"))
    limit = f"{group}/memory.{'limit_in_bytes' if version_1 else 'max'}"
    cluster.node.run("sh", "-c", f"echo {usage + 2**20} >{limit}")
    execute(cluster, pod["metadata"]["name"], "python", "-c", "x = b'x' * 2**26")


def secrets_of(cluster: Cluster, namespace: str) -> dict[str, str]:
    """The version of each Secret of the operator's."""
    path = f"/api/v1/namespaces/{namespace}/secrets?labelSelector=app.kubernetes.io%2Fmanaged-by%3Ddbclusterref"
    return {one["metadata"]["name"]: one["metadata"]["resourceVersion"] for one in cluster.admin.get(path)["items"]}


def all_ready(cluster: Cluster, namespace: str) -> bool:
    items = cluster.admin.get(f"/apis/dbclusterref.io/v1alpha1/namespaces/{namespace}/databaseclusterrefs")["items"]
    return all(
        any(one["type"] == "Ready" and one["status"] == "True" for one in item.get("status", {}).get("conditions", []))
        for item in items
    )
