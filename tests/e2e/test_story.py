"""The main job as a user meets it: apply, wait, read, rotate, fail over, delete."""

import base64
import re
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.cluster import Tenant, wait_until
from tests.e2e.conftest import Served

pytestmark = pytest.mark.e2e

STANDBY_KEYS = {
    "standby-host",
    "standby-port",
    "standby-database",
    "standby-uri",
    "standby-jdbc-url",
    "ha-uri",
    "ro-uri",
    "DATABASE_REPLICA_URL",
}
Cluster = dict[str, Any]


@pytest.fixture
def cluster(tenant: Tenant) -> Cluster:
    """A PostgreSQL cluster with a private standby."""
    return tenant.control.create_cluster(name=f"orders-{tenant.namespace}", num_nodes=2)


def test_applied_it_becomes_ready_and_the_secret_holds_what_upstream_says(
    served: Served, tenant: Tenant, cluster: Cluster
) -> None:
    kubectl = served.sandbox.kubectl
    manifest = f"""
apiVersion: dbclusterref.io/v1alpha1
kind: DatabaseClusterRef
metadata: {{name: orders-db, namespace: {tenant.namespace}}}
spec:
  clusterUUID: {cluster["id"]}
  apiTokenSecretRef: {{name: do-token}}
"""
    kubectl("apply", "-f", "-", input=manifest)
    kubectl("-n", tenant.namespace, "wait", "--for=condition=Ready", "dbref/orders-db", "--timeout=20s")

    private, standby = cluster["private_connection"], cluster["standby_private_connection"]
    data = tenant.data()
    expected = {
        "type": "postgresql",
        "provider": "digitalocean",
        "engine": "pg",
        "host": private["host"],
        "port": str(private["port"]),
        "username": private["user"],
        "password": private["password"],
        "database": private["database"],
        "ca.crt": tenant.control.ca(cluster["id"]),
        "certificates": tenant.control.ca(cluster["id"]),
        "standby-host": standby["host"],
        "standby-port": str(standby["port"]),
        "PGHOST": private["host"],
        "PGPORT": str(private["port"]),
        "PGUSER": private["user"],
        "PGPASSWORD": private["password"],
        "PGDATABASE": private["database"],
    }
    assert {key: data.get(key) for key in expected} == expected
    assert data.keys() >= STANDBY_KEYS
    for key, connection in (("uri", private), ("standby-uri", standby), ("DATABASE_URL", private)):
        assert data[key].startswith(f"postgresql://{connection['user']}:{connection['password']}@{connection['host']}:")


def test_kubectl_waits_until_it_is_ready(served: Served, tenant: Tenant, cluster: Cluster) -> None:
    tenant.refer(cluster["id"])
    served.sandbox.kubectl("-n", tenant.namespace, "wait", "--for=condition=Ready", "dbref/orders-db", "--timeout=20s")
    assert tenant.secret() is not None


def test_the_public_addresses_are_only_there_where_they_are_asked_for(tenant: Tenant, cluster: Cluster) -> None:
    tenant.ready(cluster["id"])
    tenant.ready(cluster["id"], name="public-db", secret={"endpoints": ["Private", "Public"]})
    assert [key for key in tenant.data() if key.startswith("public-")] == []
    assert tenant.data("public-db")["public-host"] == cluster["connection"]["host"]


def test_the_status_tells_about_the_cluster_and_names_the_secret(tenant: Tenant, cluster: Cluster) -> None:
    status = tenant.ready(cluster["id"])["status"]
    assert {key: status["cluster"][key] for key in ("name", "engine", "version", "region", "status", "nodes", "size")} == {
        "name": cluster["name"],
        "engine": cluster["engine"],
        "version": cluster["version"],
        "region": cluster["region"],
        "status": "online",
        "nodes": 2,
        "size": cluster["size"],
    }
    assert status["binding"] == {"name": "orders-db"}
    assert status["endpoints"]["private"] == "{host}:{port}".format(**cluster["private_connection"])
    assert {one["type"]: one["status"] for one in status["conditions"]} == {
        "Ready": "True",
        "Fresh": "True",
        "Stalled": "False",
        "Reconciling": "False",
    }


def test_kubectl_get_prints_the_columns(served: Served, tenant: Tenant, cluster: Cluster) -> None:
    tenant.ready(cluster["id"])
    table = served.sandbox.kubectl("-n", tenant.namespace, "get", "dbref", "-o", "wide").stdout
    header, row = (re.split(r"\s{2,}", line.strip()) for line in table.splitlines())
    shown = dict(zip(header, row, strict=True))
    age = re.compile(r"\d+s")
    assert age.fullmatch(shown.pop("AGE"))
    assert shown == {
        "NAME": "orders-db",
        "READY": "True",
        "REASON": "Synced",
        "ENGINE": "pg",
        "CLUSTER": cluster["name"],
        "SECRET": "orders-db",
        "FRESH": "True",
        "REGION": cluster["region"],
        "HOST": "{host}:{port}".format(**cluster["private_connection"]),
        "NODES": "2",
        "STATUS": "online",
        "MESSAGE": tenant.condition("Ready")["message"],
    }


def test_kubectl_describe_tells_what_happened(served: Served, tenant: Tenant, cluster: Cluster) -> None:
    tenant.ready(cluster["id"])
    wait_until(tenant.events, what="the Event")

    described = served.sandbox.kubectl("-n", tenant.namespace, "describe", "dbref/orders-db").stdout
    (line,) = [line for line in described.splitlines() if "SecretCreated" in line]
    assert line.split()[0] == "Normal"
    assert "dbclusterref.io/operator" in line
    assert line.endswith("Created Secret orders-db (revision 1).")


def test_a_requested_refresh_is_done_at_once_and_acknowledged(tenant: Tenant, cluster: Cluster) -> None:
    tenant.ready(cluster["id"], refreshInterval="24h")
    rotated = tenant.control.rotate_password(cluster["id"])["private_connection"]["password"]
    before = len(tenant.requests(cluster["id"]))
    tenant.refresh(within=5)
    assert tenant.data()["password"] == rotated
    assert [entry.kind for entry in tenant.requests(cluster["id"])[before:]] == ["cluster", "ca"]


def test_a_standby_that_is_lost_leaves_the_secret_and_comes_back(tenant: Tenant, cluster: Cluster) -> None:
    status = tenant.ready(cluster["id"])["status"]
    before = tenant.data()
    assert status["endpoints"]["standby"]

    tenant.control.fail_over(cluster["id"])
    status = tenant.refresh()
    assert before.keys() - tenant.data().keys() == STANDBY_KEYS
    assert "standby" not in status["endpoints"]
    assert tenant.condition("Ready")["status"] == "True"

    tenant.control.restore_standby(cluster["id"])
    assert tenant.refresh()["secretRevision"] == 3
    assert tenant.data() == before


def test_read_only_replicas_are_in_the_secret_and_never_in_the_primarys_way(tenant: Tenant, cluster: Cluster) -> None:
    control, uuid = tenant.control, cluster["id"]
    for name in ("read-2", "read-1"):
        control.add_replica(uuid, name)
    secret = {"endpoints": ["Private", "Standby", "Replicas"]}
    status = tenant.ready(uuid, refreshInterval="10s", secret=secret)["status"]
    first, second = (f"private-{name}-{cluster['connection']['host']}:25060" for name in ("read-1", "read-2"))
    assert tenant.data()["replica-hosts"] == status["endpoints"]["replicas"] == f"{first},{second}"

    fault = control.add_fault("status", path=r"/replicas$", cluster=uuid, status=500)
    control.rotate_password(uuid, password="rotated")
    wait_until(lambda: tenant.data()["password"] == "rotated", within=30, what="the rotation")
    tenant.wait_for("UpstreamUnavailable", kind="Fresh")
    assert tenant.data()["replica-uri"] == f"postgresql://doadmin:rotated@{first}/defaultdb?sslmode=require"
    assert tenant.condition("Ready")["status"] == "True"

    control.clear_fault(fault)
    control.remove_replica(uuid, "read-1")
    status = tenant.refresh()
    assert tenant.data()["replica-hosts"] == status["endpoints"]["replicas"] == second


def test_a_database_that_does_not_exist_is_found_out_and_the_former_secret_stays(tenant: Tenant, cluster: Cluster) -> None:
    tenant.control.add_database(cluster["id"], "orders")
    tenant.ready(cluster["id"], database="orders")
    before = tenant.data()
    assert before["database"] == "orders"
    assert "db" not in {entry.kind for entry in tenant.requests(cluster["id"])}, "the cluster lists it"
    tenant.admin.patch(tenant.path(), {"spec": {"database": "order"}})
    tenant.wait_for("DatabaseNotFound", kind="Stalled")
    message = tenant.condition("Ready")["message"]
    assert "has no database order. It has defaultdb, orders. Correct spec.database" in message
    assert tenant.data() == before
    tenant.control.add_database(cluster["id"], "order")
    tenant.ask_for_refresh()
    tenant.wait_for("Synced")
    assert tenant.data()["database"] == "order"


@pytest.mark.parametrize(
    ("change", "shown"),
    [
        ({"size": "db-s-4vcpu-8gb"}, {"size": "db-s-4vcpu-8gb"}),
        ({"num_nodes": 3}, {"nodes": 3}),
        ({"status": "resizing"}, {"status": "resizing"}),
        ({"version": "18"}, {"version": "18"}),
        ({"members": {"maintenance_window": None}}, {"maintenanceWindow": None}),
    ],
    ids=["its size", "its number of nodes", "its status", "its version", "the loss of its maintenance window"],
)
def test_a_change_of_the_cluster_refreshes_the_status(
    tenant: Tenant, cluster: Cluster, change: Any, shown: dict[str, object]
) -> None:
    tenant.ready(cluster["id"])
    tenant.control.update(cluster["id"], **change)
    facts = tenant.refresh()["cluster"]
    assert {key: facts.get(key) for key in shown} == shown


def test_a_resource_deleted_and_made_again_gets_its_secret_again(tenant: Tenant, cluster: Cluster) -> None:
    first = tenant.ready(cluster["id"])
    tenant.admin.delete(tenant.path())
    tenant.refer(cluster["id"])
    second = tenant.wait_for("Synced", within=60)

    def is_the_seconds() -> bool:
        owners = (tenant.secret() or {"metadata": {}})["metadata"].get("ownerReferences", [])
        return [owner["uid"] for owner in owners] == [second["metadata"]["uid"]]

    assert first["metadata"]["uid"] != second["metadata"]["uid"]
    wait_until(is_the_seconds, within=60, what="a Secret of the second resource")


def test_the_uuid_can_never_be_changed(tenant: Tenant, cluster: Cluster) -> None:
    tenant.ready(cluster["id"])
    other = tenant.control.create_cluster(name="other")["id"]
    assert "is immutable" in tenant.admin.refusal(tenant.path(), {"spec": {"clusterUUID": other}})
    assert tenant.reference()["spec"]["clusterUUID"] == cluster["id"]


def test_every_key_is_a_valid_file_and_every_capital_one_a_valid_variable(
    tenant: Tenant, cluster: Cluster, tmp_path: Path
) -> None:
    tenant.ready(
        cluster["id"], secret={"template": {"SQLALCHEMY_URL": "postgresql+psycopg://{userinfo}@{hostport}/{database}"}}
    )
    for key, value in tenant.data().items():
        (tmp_path / key).write_text(value)
    variables = {file.name: file.read_text() for file in tmp_path.iterdir() if re.fullmatch(r"[A-Z_][A-Z0-9_]*", file.name)}

    assert all(re.fullmatch(r"[a-z][-a-zA-Z0-9.]*", file.name) for file in tmp_path.iterdir() if file.name not in variables)
    assert variables.keys() >= {"PGHOST", "PGPASSWORD", "DATABASE_URL", "SQLALCHEMY_URL"}
    assert all(value and "\n" not in value and "\0" not in value for value in variables.values())
    assert (tmp_path / "ca.crt").read_text().startswith("-----BEGIN CERTIFICATE-----")
    assert (tmp_path / "password").read_text() == cluster["private_connection"]["password"]


def test_a_bindings_reader_finds_type_and_provider(tenant: Tenant, cluster: Cluster) -> None:
    name = tenant.ready(cluster["id"])["status"]["binding"]["name"]
    secret = tenant.secret(name)
    assert secret is not None
    assert secret["type"] == "servicebinding.io/postgresql"
    assert base64.b64decode(secret["data"]["type"]) == b"postgresql"
    assert base64.b64decode(secret["data"]["provider"]) == b"digitalocean"
