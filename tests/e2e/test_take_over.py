"""docs/take-over.md, step by step, with a Secret as do-operator makes it and a real owner that can be deleted."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.e2e.cluster import Json, Kubectl, Tenant, encoded, wait_until
from tests.e2e.conftest import Served

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "take-over.md").read_text()
SAMPLE = ROOT / "deploy" / "samples" / "do-operator-keys.yaml"
NAME = "orders-default-credentials"
FORMER = "/apis/databases.digitalocean.com/v1alpha1"


@pytest.fixture
def kubectl(served: Served) -> Iterator[Kubectl]:
    """With do-operator's kind of owner installed."""
    names = {"kind": "DatabaseClusterReference", "plural": "databaseclusterreferences", "singular": "databaseclusterreference"}
    schema = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
    crd = {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "databaseclusterreferences.databases.digitalocean.com"},
        "spec": {
            "group": "databases.digitalocean.com",
            "scope": "Namespaced",
            "names": names,
            "versions": [{"name": "v1alpha1", "served": True, "storage": True, "schema": schema}],
        },
    }
    kubectl = served.sandbox.kubectl
    kubectl("apply", "-f", "-", input=yaml.safe_dump(crd))
    kubectl.wait_for_crd(crd["metadata"]["name"])  # type: ignore[index]
    yield kubectl
    kubectl("delete", "crd", "databaseclusterreferences.databases.digitalocean.com")


def command(beginning: str, tenant: Tenant) -> list[str]:
    """A command of the text, for the tenant's namespace."""
    (line,) = re.findall(rf"^ *kubectl (-n shop {beginning}.*)$", TEXT, re.MULTILINE)
    words = re.findall(r"'[^']*'|\S+", line.replace("-n shop", f"-n {tenant.namespace}"))
    return [word.strip("'") for word in words]


def former_owner(tenant: Tenant) -> Json:
    path = f"{FORMER}/namespaces/{tenant.namespace}/databaseclusterreferences"
    body = {
        "apiVersion": "databases.digitalocean.com/v1alpha1",
        "kind": "DatabaseClusterReference",
        "metadata": {"name": "orders"},
    }
    return wait_until(lambda: tenant.admin.create(path, body), within=20, what="the former owner's kind is served")


def as_do_operator_writes_it(tenant: Tenant, owner: Json, cluster: Json) -> None:
    public, private = cluster["connection"], cluster["private_connection"]
    values = {
        "username": public["user"],
        "password": public["password"],
        "uri": public["uri"],
        "private_uri": private["uri"],
        "ca.crt": "-----BEGIN CERTIFICATE-----\nformer\n-----END CERTIFICATE-----\n",
        "left": "of another version",
    }
    manifest = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": NAME,
            "namespace": tenant.namespace,
            "ownerReferences": [
                {
                    "apiVersion": owner["apiVersion"],
                    "kind": owner["kind"],
                    "name": "orders",
                    "uid": owner["metadata"]["uid"],
                    "controller": True,
                    "blockOwnerDeletion": True,
                }
            ],
        },
        "data": {key: encoded(value) for key, value in values.items()},
    }
    tenant.admin.create(f"/api/v1/namespaces/{tenant.namespace}/secrets?fieldManager=do-operator", manifest)


def test_a_secret_of_do_operator_is_taken_over_in_place(tenant: Tenant, kubectl: Kubectl) -> None:
    uuid = tenant.control.create_cluster(num_nodes=2)["id"]
    cluster = tenant.control.get(uuid)
    owner = former_owner(tenant)
    as_do_operator_writes_it(tenant, owner, cluster)
    before = tenant.secret(NAME)
    assert before is not None
    was = tenant.data(NAME)
    sample = SAMPLE.read_text().replace("9cc10173-e9ea-4176-9dbc-a4cee4c4ff30", uuid)

    # With its owner still there, the message names that first: an annotation alone would be refused.
    kubectl("-n", tenant.namespace, "apply", "-f", "-", input=sample)
    tenant.wait_for("SecretConflict")
    assert "Its owner is DatabaseClusterReference/orders" in tenant.condition("Ready")["message"]

    kubectl(*command(f"patch secret {NAME} .*ownerReferences", tenant))
    offered = wait_until(
        lambda: condition if "Its owner is" not in (condition := tenant.condition("Ready"))["message"] else None,
        within=45,
        what="the offer",
    )
    given = re.search(r"kubectl (annotate \S+ .*?adopt=\S+|.*annotate secret .*adopt=\S+)", offered["message"])
    assert given, offered["message"]
    kubectl(*given[1].split())
    tenant.wait_for("Synced", within=45)

    after = tenant.secret(NAME)
    assert after is not None
    assert after["metadata"]["uid"] == before["metadata"]["uid"], "never deleted"
    now = tenant.data(NAME)
    assert {key: now[key] for key in ("username", "password")} == {key: was[key] for key in ("username", "password")}
    assert now["private_uri"].partition("?")[0] == was["private_uri"].partition("?")[0]
    assert now["uri"].partition("?")[0] == was["uri"].partition("?")[0]
    assert now["ca.crt"] == now["certificates"] != was["ca.crt"]
    assert now["left"] == "of another version"

    # The former owner may go now, and its Secret stays.
    tenant.admin.delete(f"{FORMER}/namespaces/{tenant.namespace}/databaseclusterreferences/orders")
    kubectl(*command(f"patch secret {NAME} .*data/KEY", tenant)[:-1], '[{"op": "remove", "path": "/data/left"}]')
    assert "left" not in tenant.data(NAME)
    tenant.refresh()
    final = tenant.secret(NAME)
    assert final is not None
    assert final["metadata"]["uid"] == before["metadata"]["uid"]


def test_the_commands_of_the_text_are_those_that_messages_show(tenant: Tenant) -> None:
    assert command("annotate secret", tenant)[-1] == "dbclusterref.io/adopt=orders-db"
    assert yaml.safe_load(SAMPLE.read_text())["metadata"]["name"] == "orders-db"


def test_a_mongodb_password_comes_from_the_secret_beside_it(tenant: Tenant) -> None:
    uuid = tenant.control.create_cluster(engine="mongodb")["id"]
    tenant.refer(uuid, refreshInterval="10s", passwordSecretRef={"name": "orders-password"})
    tenant.wait_for("PasswordMissing")
    assert tenant.condition("Stalled")["status"] == "True"
    assert tenant.secret() is None
    tenant.create_secret("orders-password", data={"password": encoded("p@ss\n")})
    tenant.refresh()
    tenant.wait_for("Synced")
    assert tenant.data()["password"] == "p@ss"
    assert ":p%40ss@" in tenant.data()["uri"]

    tenant.admin.patch(tenant.secret_path("orders-password"), {"data": {"password": encoded("another")}})
    wait_until(lambda: tenant.data()["password"] == "another", within=30, what="the changed password")
