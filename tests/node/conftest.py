"""One node for the whole run, with the operator's image on it; each module deploys what it needs."""

import contextlib
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest

from sandbox.binaries import ensure_assets, ensure_node_programs
from sandbox.digitalocean import Control
from sandbox.node import Images, Node, find_missing, prepare_images
from sandbox.node.images.names import PAUSE
from sandbox.node.install import SYSTEM, install
from sandbox.servers import MissingProgramError, Nursery, find_program
from tests.e2e.cluster import Administrator, Json, Tenant, wait_until
from tests.node.measured import Report

HERE = "tests/node"
SYNC_SECONDS = 2
"""Instead of the kubelet's minute, so that mounted Secrets follow while a test waits."""
RESTRICTED = {"pod-security.kubernetes.io/enforce": "restricted"}
SERVERS = ("postgres", "psql", "mariadbd", "mariadb", "redis-server", "redis-cli")
# A kubelet that has just come up warns that it has not read the volumes of its first pod yet.
WARM_UP = f"""
apiVersion: v1
kind: Pod
metadata: {{name: warm-up, namespace: default}}
spec: {{containers: [{{name: warm-up, image: "{PAUSE}"}}]}}
"""
READY_WITHIN = 30
# The first test waits for programs and images to be made, where nothing of them is in the cache.
TIMEOUT = 1200


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.as_posix():
            item.add_marker(pytest.mark.node)
            item.add_marker(pytest.mark.timeout(TIMEOUT))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    Report.write(terminalreporter)


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """The node, who administers it, and the provider that its references point to."""

    node: Node
    admin: Administrator = field(repr=False)
    control: Control = field(repr=False)

    def pods(self, namespace: str = SYSTEM, *, app: str = "dbclusterref") -> list[Json]:
        """An application's pods, the ones that are being deleted left out."""
        path = f"/api/v1/namespaces/{namespace}/pods?labelSelector=app.kubernetes.io%2Fname%3D{app}"
        return [pod for pod in self.admin.get(path)["items"] if "deletionTimestamp" not in pod["metadata"]]

    def pod(self, namespace: str = SYSTEM, *, app: str = "dbclusterref") -> Json:
        """The one pod, as soon as there is exactly one."""

        def only() -> Json | None:
            pods = self.pods(namespace, app=app)
            return pods[0] if len(pods) == 1 else None

        return wait_until(only, what=f"one pod of {app}")

    def warnings(self, namespace: str = SYSTEM) -> list[str]:
        """What is warned of pods and what makes them; the API server warns of its own Service addresses while it starts."""
        items = self.admin.get(f"/api/v1/namespaces/{namespace}/events")["items"]
        return [
            f"{one['involvedObject']['name']}: {one['message']}"
            for one in items
            if one["type"] == "Warning" and one["involvedObject"]["kind"] != "Service"
        ]

    def process(self, pod: Json) -> int:
        """The number that a pod's one container has inside the node."""
        container = pod["status"]["containerStatuses"][0]["containerID"].rpartition("/")[2]
        lines = self.node.run("ctr", "-n", "k8s.io", "tasks", "list").splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith(container))


@pytest.fixture(scope="session")
def images() -> Images:
    """Skips, with the reason, where a node cannot run."""
    if missing := find_missing():
        pytest.skip(missing)
    for program in SERVERS:
        try:
            find_program(program)
        except MissingProgramError as error:
            pytest.skip(str(error))
    ensure_assets()
    ensure_node_programs()
    return prepare_images()


@pytest.fixture(scope="session")
def cluster(images: Images) -> Iterator[Cluster]:
    with (
        Node(images=images, sync_seconds=SYNC_SECONDS) as node,
        contextlib.closing(Administrator(node.kubeconfig)) as admin,
        Control(node.digitalocean) as control,
    ):
        node.kubectl("apply", "-f", "-", stdin=WARM_UP)
        node.kubectl("wait", "--for=condition=Ready", "pod/warm-up", "--timeout=60s")
        node.kubectl("delete", "pod", "warm-up", "--grace-period=1")
        yield Cluster(node=node, admin=admin, control=control)


@pytest.fixture(scope="session")
def first_start(cluster: Cluster) -> Json:
    """`deploy/` is applied for the first time: the pod, Ready within half a minute, and what was warned of until then."""
    with Report.timed("deploy/ applied for the first time until the operator's pod is Ready"):
        install(cluster.node, wait=False)
        cluster.node.kubectl("-n", SYSTEM, "rollout", "status", "deployment/dbclusterref", f"--timeout={READY_WITHIN}s")
    return {"pod": cluster.pod(), "warnings": cluster.warnings()}


@pytest.fixture(scope="session")
def servers(cluster: Cluster) -> Iterator[Nursery]:
    """Real database servers that the node's pods reach."""
    with Nursery(place=cluster.node.place) as nursery:
        yield nursery


@pytest.fixture
def make_tenant(cluster: Cluster) -> Iterator[Callable[[], Tenant]]:
    """Makes tenants in namespaces that admit only what the restricted Pod Security level does."""
    with contextlib.ExitStack() as stack:
        yield lambda: stack.enter_context(_tenant(cluster))


@pytest.fixture
def tenant(make_tenant: Callable[[], Tenant]) -> Tenant:
    return make_tenant()


@contextlib.contextmanager
def _tenant(cluster: Cluster) -> Iterator[Tenant]:
    name = f"node-{secrets.token_hex(4)}"
    cluster.admin.create("/api/v1/namespaces", {"metadata": {"name": name, "labels": RESTRICTED}})
    tenant = Tenant(name, admin=cluster.admin, control=cluster.control)
    tenant.put_token()
    yield tenant
    cluster.admin.delete(f"/api/v1/namespaces/{name}")
