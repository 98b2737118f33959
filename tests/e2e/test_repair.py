"""What happens to the Secret when somebody meddles with it, or when its name is not free."""

import json
import subprocess
from collections.abc import Callable
from typing import Any

import pytest

from dbclusterref.resource.objects import FIELD_MANAGER
from dbclusterref.secret.state import ABSENT
from tests.e2e.cluster import MANAGED_BY, Json, Tenant, encoded, wait_until
from tests.e2e.conftest import Served

pytestmark = pytest.mark.e2e

AT_ONCE = 5.0
POSTGRESQL = "servicebinding.io/postgresql"
Meddle = Callable[[Tenant], object]


def patch(body: Json) -> Meddle:
    return lambda tenant: tenant.admin.patch(tenant.secret_path(), body)


MEDDLING: dict[str, Meddle] = {
    "edited": patch({"data": {"password": encoded("mine")}}),
    "emptied": patch({"data": {"password": ""}}),
    "stripped of a key": patch({"data": {"host": None}}),
    "stripped of all keys": patch({"data": None}),
    "stripped of its label": patch({"metadata": {"labels": {MANAGED_BY: None}}}),
    "given another's label": patch({"metadata": {"labels": {MANAGED_BY: "Helm"}}}),
    "stripped of its annotation": patch({"metadata": {"annotations": {"dbclusterref.io/reference-uid": None}}}),
    "stripped of its owner": patch({"metadata": {"ownerReferences": None}}),
    "deleted": lambda tenant: tenant.admin.delete(tenant.secret_path()),
}


def substance(secret: Json | None) -> Json | None:
    """What must be as it was: not which object it is, nor how often it was written."""
    if secret is None:
        return None
    metadata = {key: secret["metadata"].get(key) for key in ("labels", "annotations", "ownerReferences")}
    return {"type": secret["type"], "data": secret.get("data"), **metadata}


@pytest.mark.parametrize("meddle", MEDDLING.values(), ids=MEDDLING.keys())
def test_a_secret_is_restored_at_once_and_nobody_is_asked_when_it_was(tenant: Tenant, meddle: Meddle) -> None:
    cluster = tenant.control.create_cluster(num_nodes=2)["id"]
    tenant.ready(cluster)
    before, asked = substance(tenant.secret()), len(tenant.requests(cluster))

    meddle(tenant)
    wait_until(lambda: substance(tenant.secret()) == before, within=AT_ONCE, what="the Secret as it was")
    wait_until(lambda: [one for one in tenant.events() if one["reason"] == "SecretRepaired"], what="the Event")
    assert len(tenant.requests(cluster)) == asked
    assert tenant.status()["secretRevision"] == 1  # restored is not changed


@pytest.mark.parametrize("meddle", [MEDDLING["edited"], MEDDLING["deleted"]], ids=["edited", "deleted"])
def test_a_secret_is_restored_while_upstream_is_down(tenant: Tenant, meddle: Meddle) -> None:
    cluster = tenant.control.create_cluster(num_nodes=2)["id"]
    tenant.ready(cluster)
    before = substance(tenant.secret())
    fault = tenant.control.add_fault("status", status=503, cluster=cluster)
    tenant.refresh()
    assert tenant.condition("Fresh")["reason"] == "UpstreamUnavailable"
    assert tenant.condition("Ready")["status"] == "True"

    meddle(tenant)
    wait_until(lambda: substance(tenant.secret()) == before, within=AT_ONCE, what="the Secret as it was")
    tenant.control.clear_fault(fault)


def test_what_somebody_added_beside_our_keys_is_left_alone(tenant: Tenant) -> None:
    cluster = tenant.control.create_cluster()["id"]
    tenant.ready(cluster)
    added = {"metadata": {"annotations": {"example.com/note": "mine"}}, "data": {"extra": encoded("mine")}}
    tenant.admin.patch(tenant.secret_path(), added)
    password = tenant.control.rotate_password(cluster)["private_connection"]["password"]
    tenant.refresh()
    data, secret = tenant.data(), tenant.secret()
    assert secret is not None
    assert (data["password"], data["extra"]) == (password, "mine")
    assert secret["metadata"]["annotations"]["example.com/note"] == "mine"


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ({"kind": "status", "status": 500}, "UpstreamUnavailable"),
        ({"kind": "status", "status": 403}, "Forbidden"),
        ({"kind": "status", "status": 429, "headers": {"retry-after": "3600"}}, "RateLimited"),
        ({"kind": "gateway_timeout"}, "UpstreamUnavailable"),
        ({"kind": "truncate"}, "UpstreamUnavailable"),
        ({"kind": "no_database"}, "UpstreamUnavailable"),
        ({"kind": "reset"}, "UpstreamUnavailable"),
        ({"kind": "plain_404"}, "ClusterNotFound"),
    ],
    ids=lambda value: value if isinstance(value, str) else " ".join(str(part) for part in value.values() if part),
)
def test_a_good_secret_outlives_whatever_upstream_answers(tenant: Tenant, fault: Any, reason: str) -> None:
    cluster = tenant.control.create_cluster(num_nodes=2)["id"]
    tenant.ready(cluster)
    before = tenant.secret()
    number = tenant.control.add_fault(**fault, cluster=cluster)
    tenant.ask_for_refresh()
    tenant.wait_for(reason, kind="Fresh")
    assert tenant.secret() == before
    tenant.control.clear_fault(number)


@pytest.mark.parametrize("style", ["empty", "null", "absent"])
def test_a_good_secret_outlives_hidden_passwords(tenant: Tenant, style: str) -> None:
    cluster = tenant.control.create_cluster()["id"]
    tenant.ready(cluster)
    before = tenant.secret()
    tenant.control.redact(cluster, style=style)
    tenant.refresh()
    assert tenant.condition("Stalled")["reason"] == "MissingScope"
    assert tenant.secret() == before


# --- names that are taken


def test_an_apply_that_is_to_create_leaves_alone_what_is_there(served: Served, tenant: Tenant) -> None:
    """What the first write of every Secret relies on, of the API server itself: no policy and no conflict of fields helps."""
    there = tenant.create_secret("taken", data={"mine": encoded("mine")}, type_=POSTGRESQL)

    def apply(name: str) -> subprocess.CompletedProcess[str]:
        metadata = {"name": name, "namespace": tenant.namespace, **ABSENT}
        body = {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "type": POSTGRESQL, "data": {"host": encoded("h")}}
        command = ("apply", "--server-side", f"--field-manager={FIELD_MANAGER}", "-f", "-")
        return served.sandbox.kubectl(*command, input=json.dumps(body), check=False)

    assert "the object has been modified" in apply("taken").stderr
    assert tenant.secret("taken") == there
    assert apply("free").returncode == 0
    created = tenant.secret("free")
    assert created is not None
    assert [entry["operation"] for entry in created["metadata"]["managedFields"]] == ["Apply"]
    assert "the object has been modified" in apply("free").stderr, "not even its own"


def test_a_secret_offered_to_another_resource_is_not_taken(tenant: Tenant) -> None:
    cluster = tenant.control.create_cluster()["id"]
    tenant.create_secret("orders-db", data={"mine": encoded("mine")}, type_=POSTGRESQL)
    tenant.admin.patch(tenant.secret_path(), {"metadata": {"annotations": {"dbclusterref.io/adopt": "users-db"}}})
    offered = tenant.secret()
    tenant.refer(cluster)
    tenant.wait_for("SecretConflict")
    assert tenant.secret() == offered


def test_a_foreign_secret_of_another_type_is_not_taken_even_if_it_is_offered(tenant: Tenant) -> None:
    cluster = tenant.control.create_cluster()["id"]
    tenant.create_secret("orders-db", data={"mine": encoded("mine")})
    tenant.admin.patch(tenant.secret_path(), {"metadata": {"annotations": {"dbclusterref.io/adopt": "orders-db"}}})
    offered = tenant.secret()
    tenant.refer(cluster)
    tenant.wait_for("SecretConflict")
    assert "has the immutable type Opaque, but servicebinding.io/postgresql is required" in tenant.condition("Ready")["message"]
    assert tenant.secret() == offered


def test_a_renamed_secret_is_written_before_the_former_is_removed(tenant: Tenant) -> None:
    cluster = tenant.control.create_cluster()["id"]
    tenant.ready(cluster)
    content = tenant.data()
    former = tenant.secret()
    assert former is not None
    asked = len(tenant.requests(cluster))

    tenant.admin.patch(tenant.path(), {"spec": {"secret": {"name": "orders-connection"}}})
    assert tenant.wait_for("Synced")["status"]["binding"]["name"] == "orders-connection"
    assert tenant.data("orders-connection") == content
    assert tenant.secret() is None
    assert len(tenant.requests(cluster)) <= asked + 1

    secrets = f"/api/v1/namespaces/{tenant.namespace}/secrets"
    since = former["metadata"]["resourceVersion"]
    (born, *_) = tenant.admin.history(secrets, name="orders-connection", since=since)
    *_, gone = tenant.admin.history(secrets, name="orders-db", since=since)
    assert int(born["metadata"]["resourceVersion"]) < int(gone["metadata"]["resourceVersion"])


def test_a_name_that_is_taken_leaves_the_former_secret_in_service(tenant: Tenant) -> None:
    cluster = tenant.control.create_cluster()["id"]
    tenant.ready(cluster)
    before = tenant.secret()
    foreign = tenant.create_secret("taken", data={"mine": encoded("mine")})
    tenant.admin.patch(tenant.path(), {"spec": {"secret": {"name": "taken"}}})
    tenant.wait_for("SecretConflict")
    assert (tenant.secret(), tenant.secret("taken")) == (before, foreign)


def test_of_two_resources_that_name_one_secret_the_first_keeps_it_and_the_second_inherits(tenant: Tenant) -> None:
    first, second = (tenant.control.create_cluster(name=name)["id"] for name in ("first", "second"))
    tenant.ready(first, name="first", secret={"name": "shared"})
    content = tenant.secret("shared")
    tenant.refer(second, name="second", secret={"name": "shared"})
    tenant.wait_for("SecretConflict", name="second")
    tenant.refresh(name="second")
    assert tenant.secret("shared") == content
    assert tenant.condition("Ready", "first")["status"] == "True"

    tenant.admin.delete(tenant.path("first"))
    tenant.wait_for("Synced", name="second", within=60)
    assert tenant.data("shared")["host"] == tenant.control.get(second)["private_connection"]["host"]
