"""The applications of deploy/samples as they are: in a pod, against real servers, before and after a rotated password."""

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from sandbox.node.install import install
from sandbox.servers import MariaDb, Nursery, PostgreSql, Redis
from tests.clients.binding import at
from tests.clients.credentials import ASCII_HOSTILE, DATABASE, HOSTILE, USER
from tests.e2e.cluster import ROOT, Json, Tenant, wait_until
from tests.node.conftest import Cluster
from tests.node.measured import Report

SAMPLES = ROOT / "deploy" / "samples"
FIRST_PASSWORD = "first-password"
NEXT_PASSWORD = "next " + ASCII_HOSTILE
READS_THE_ENVIRONMENT = "while true; do psql -c 'select now() as by_environment'; sleep 2; done"
REFRESH_SECONDS = 10
"""The least there is, so that a test needs to wait no minute."""


@dataclass(frozen=True, kw_only=True)
class Application:
    """A sample: the file and names of its objects, and a server for it."""

    file: str
    reference_file: str
    name: str
    secret: str
    start: Callable[[Nursery, str], tuple[PostgreSql | MariaDb | Redis, Json]]
    password: str
    success: str = ""
    """What a line of its log has after the name of the way by which it connected."""


def postgresql(servers: Nursery, password: str) -> tuple[PostgreSql, Json]:
    pair = servers.postgresql(user=USER, password=password, database=DATABASE)
    connections = {
        **at(pair.primary, "private_connection", "connection"),
        **at(pair.standby, "standby_private_connection", "standby_connection"),
    }
    return pair.primary, {"engine": "pg", "num_nodes": 2, "user": USER, "database": DATABASE, "connections": connections}


def mysql(servers: Nursery, password: str) -> tuple[MariaDb, Json]:
    server = servers.mariadb(user=USER, password=password, database=DATABASE)
    return server, {"engine": "mysql", "user": USER, "database": DATABASE, "connections": at(server, "private_connection")}


def redis(servers: Nursery, password: str) -> tuple[Redis, Json]:
    server = servers.redis(password=password)
    return server, {"engine": "valkey", "connections": at(server, "private_connection")}


APPLICATIONS = [
    Application(
        file="application",
        reference_file="minimal",
        name="orders",
        secret="orders-db",
        start=postgresql,
        password=HOSTILE,
    ),
    Application(
        file="mysql",
        reference_file="mysql",
        name="carts",
        secret="carts-db",
        start=mysql,
        password=ASCII_HOSTILE,
    ),
    Application(
        file="redis",
        reference_file="redis",
        name="sessions",
        secret="sessions-db",
        start=redis,
        password=HOSTILE,
        success=" PONG",
    ),
]


@pytest.fixture(scope="module", autouse=True)
def operator(cluster: Cluster, first_start: Json) -> None:
    install(cluster.node)


@pytest.fixture(params=APPLICATIONS, ids=lambda one: one.name)
def application(request: pytest.FixtureRequest) -> Application:
    chosen: Application = request.param
    return chosen


def test_an_application_connects_before_and_after_its_password_is_rotated(
    cluster: Cluster, servers: Nursery, tenant: Tenant, application: Application
) -> None:
    references = references_of(application)
    uuid = references[0]["spec"]["clusterUUID"]
    server, facts = application.start(servers, application.password)
    cluster.control.create_cluster(id=uuid, name=application.name, password=application.password, ca=servers.ca, **facts)
    pods = Pods(cluster, tenant, application)
    try:
        # The application is there first: it waits for its Secret.
        apply(cluster, tenant, only(application.file, "Deployment"))
        wait_until(lambda: pods.waiting_reason() == "ContainerCreating", what="the pod waits for its Secret")
        wait_until(lambda: any("FailedMount" in one for one in pods.event_reasons()), what="the event that says so")
        with Report.timed(f"{application.name}: references applied until the application is Ready"):
            for reference in references:
                spec = {**reference["spec"], "refreshInterval": f"{REFRESH_SECONDS}s"}
                apply(cluster, tenant, {**reference, "spec": spec})
            wait_until(pods.is_ready, within=90, what="the application is Ready")
        wait_until(lambda: pods.connections("by_environment"), what="a connection by variables")
        wait_until(lambda: pods.connections("by_file"), what="a connection by the mounted file")
        before = pods.containers()
        rotate(cluster, server, application.password, uuid=uuid, pods=pods)
        # Nothing was restarted for it.
        assert pods.containers() == before
        assert [one["restartCount"] for one in before] == [0]
    finally:
        cluster.control.delete_cluster(uuid)
        server.stop()


@pytest.fixture
def restarts(cluster: Cluster) -> Iterator[None]:
    """The operator may restart workloads."""
    install(cluster.node, components=("restart-workloads",))
    yield
    install(cluster.node)


def environment_only() -> Json:
    """The sample's Deployment, which reads the environment only."""
    sample = only("application", "Deployment")
    (container,) = sample["spec"]["template"]["spec"]["containers"]
    container["command"] = ["sh", "-c", READS_THE_ENVIRONMENT]
    container["envFrom"] = [{"secretRef": {"name": "orders-db"}}]
    del container["volumeMounts"], sample["spec"]["template"]["spec"]["volumes"]
    return sample


@pytest.mark.usefixtures("restarts")
def test_a_deployment_that_reads_the_environment_connects_again_after_a_rotation(
    cluster: Cluster, servers: Nursery, tenant: Tenant
) -> None:
    pair = servers.postgresql(user=USER, password=FIRST_PASSWORD, database=DATABASE)
    connections = at(pair.primary, "private_connection", "connection")
    control, kubectl = cluster.control, cluster.node.kubectl
    uuid = control.create_cluster(
        engine="pg", user=USER, database=DATABASE, password=FIRST_PASSWORD, ca=servers.ca, connections=connections
    )["id"]
    try:
        restart = [{"kind": "Deployment", "name": "orders"}]
        tenant.ready(uuid, user=USER, database=DATABASE, refreshInterval=f"{REFRESH_SECONDS}s", restart=restart)
        kubectl("-n", tenant.namespace, "apply", "-f", "-", stdin=json.dumps(environment_only()))
        kubectl("-n", tenant.namespace, "rollout", "status", "deployment/orders", "--timeout=60s")

        def pods() -> list[Json]:
            return cluster.pods(tenant.namespace, app="orders")

        def connects() -> bool:
            return "by_environment" in kubectl("-n", tenant.namespace, "logs", "deploy/orders", "--tail=8", check=False)

        wait_until(connects, what="a connection with the first password")
        (before,) = pods()
        pair.primary.set_password(USER, NEXT_PASSWORD)
        control.rotate_password(uuid, password=NEXT_PASSWORD)
        began = time.monotonic()
        wait_until(
            lambda: [one["metadata"]["uid"] for one in pods()] not in ([], [before["metadata"]["uid"]]) and len(pods()) == 1,
            within=120,
            what="another pod in the place of the first",
        )
        wait_until(connects, within=60, what="a connection with the next password")
        Report.add(f"orders: rotation to a connection by environment, with spec.restart: {time.monotonic() - began:.1f} s")
        wait_until(lambda: tenant.status()["restarts"][0]["state"] == "Current", within=60, what="the rollout's end")
        (after,) = pods()
        time.sleep(2 * REFRESH_SECONDS)  # nothing happens any more: that is what is looked for
        assert [one["metadata"]["uid"] for one in pods()] == [after["metadata"]["uid"]]
    finally:
        control.delete_cluster(uuid)
        pair.primary.stop()


def rotate(cluster: Cluster, server: PostgreSql | MariaDb | Redis, former: str, *, uuid: str, pods: "Pods") -> None:
    name = pods.application.name
    if isinstance(server, Redis):
        server.set_password(former, NEXT_PASSWORD)
    else:
        server.set_password(USER, NEXT_PASSWORD)
    cluster.control.rotate_password(uuid, password=NEXT_PASSWORD)
    began = time.monotonic()
    secret = pods.application.secret
    wait_until(lambda: pods.tenant.data(secret).get("password") == NEXT_PASSWORD, within=60, what="the Secret has the password")
    Report.add(f"{name}: rotation to Secret: {time.monotonic() - began:.1f} s (refreshInterval {REFRESH_SECONDS}s)")
    wait_until(lambda: pods.read(f"/bindings/{secret}/password") == NEXT_PASSWORD, within=60, what="the file has the password")
    Report.add(f"{name}: rotation to mounted file: {time.monotonic() - began:.1f} s (syncFrequency 2s)")
    before = pods.connections("by_file")
    wait_until(lambda: pods.connections("by_file") > before, within=60, what="a connection with the new password")
    Report.add(f"{name}: rotation to working connection: {time.monotonic() - began:.1f} s (the sample tries every 5 s)")


class Pods:
    """What is seen of an application's pod."""

    def __init__(self, cluster: Cluster, tenant: Tenant, application: Application) -> None:
        self.cluster = cluster
        self.tenant = tenant
        self.application = application
        self._exec = ("-n", tenant.namespace, "exec", f"deploy/{application.name}", "--")

    def one(self) -> Json | None:
        pods = self.cluster.pods(self.tenant.namespace, app=self.application.name)
        return pods[0] if len(pods) == 1 else None

    def waiting_reason(self) -> str:
        pod = self.one()
        statuses = pod["status"].get("containerStatuses", []) if pod else []
        return str(statuses[0]["state"].get("waiting", {}).get("reason")) if statuses else ""

    def event_reasons(self) -> list[str]:
        return [one["reason"] for one in self.cluster.admin.get(f"/api/v1/namespaces/{self.tenant.namespace}/events")["items"]]

    def is_ready(self) -> bool:
        pod = self.one()
        conditions = pod["status"].get("conditions", []) if pod else []
        return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)

    def containers(self) -> list[Json]:
        pod = self.one()
        assert pod
        statuses = pod["status"]["containerStatuses"]
        return [{"containerID": one["containerID"], "restartCount": one["restartCount"]} for one in statuses]

    def log(self) -> str:
        return self.cluster.node.kubectl("-n", self.tenant.namespace, "logs", f"deploy/{self.application.name}", check=False)

    def connections(self, by: str) -> int:
        """How often it has connected this way: a client that fails prints no heading."""
        return self.log().count(by + self.application.success)

    def read(self, path: str) -> str:
        return self.cluster.node.kubectl(*self._exec, "cat", path, check=False)


def only(file: str, kind: str) -> Json:
    (found,) = samples(file, kind)
    return found


def references_of(application: Application) -> list[Json]:
    """The one whose Secret is mounted, and the one for variables."""
    found = [one for file in {application.reference_file, application.file} for one in samples(file, "DatabaseClusterRef")]
    assert {one["metadata"]["name"] for one in found} == {application.secret, f"{application.name}-env"}
    return found


def samples(file: str, kind: str) -> list[Json]:
    documents = yaml.safe_load_all(Path(SAMPLES / f"{file}.yaml").read_text())
    return [document for document in documents if document and document["kind"] == kind]


def apply(cluster: Cluster, tenant: Tenant, document: Json) -> None:
    cluster.node.kubectl("-n", tenant.namespace, "apply", "-f", "-", stdin=json.dumps(document))
