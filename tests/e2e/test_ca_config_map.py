"""`spec.caConfigMap` on a real API server, by an operator whose account has what the component grants, and one that has not."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.e2e.cluster import Json, Kubectl, Tenant, wait_until
from tests.e2e.components import ACCOUNT, component
from tests.e2e.conftest import StartOperator

pytestmark = pytest.mark.e2e

POLICY = "dbclusterref-own-config-maps"
FLAG = "--ca-config-maps"
MANAGED = {"app.kubernetes.io/managed-by": "dbclusterref"}


@pytest.fixture
def granted(kubectl: Kubectl, installed: Path, tmp_path: Path) -> Iterator[None]:
    """See `component`."""
    with component("ca-config-maps", policy=POLICY, kubectl=kubectl, folder=tmp_path / "component"):
        yield


def config_map(tenant: Tenant, name: str = "orders-ca") -> Json | None:
    return tenant.admin.find(f"/api/v1/namespaces/{tenant.namespace}/configmaps/{name}")


def state(tenant: Tenant) -> str:
    found = tenant.status().get("caConfigMap", {})
    return f"{found.get('name')} {found.get('state')}"


def version(tenant: Tenant) -> str:
    found = config_map(tenant)
    assert found is not None
    return str(found["metadata"]["resourceVersion"])


def name_it(tenant: Tenant, name: str | None) -> None:
    tenant.admin.patch(tenant.path(), {"spec": {"caConfigMap": name and {"name": name}}})


@pytest.mark.usefixtures("granted")
def test_the_ca_is_kept_renamed_repaired_and_removed(start_operator: StartOperator, lone: Tenant) -> None:
    operator = start_operator(FLAG)
    cluster = lone.control.create_cluster()["id"]
    lone.ready(cluster, caConfigMap={"name": "orders-ca"})
    wait_until(lambda: state(lone) == "orders-ca Current", what="the ConfigMap")
    made, secret = config_map(lone), lone.secret()
    assert made
    assert secret
    assert made["data"] == {"ca.crt": lone.data()["ca.crt"]}
    for member in ("labels", "ownerReferences"):
        assert made["metadata"][member] == secret["metadata"][member]
    assert {entry["manager"] for entry in made["metadata"]["managedFields"]} == {"dbclusterref"}
    # Nothing changed, with the same process and with another: no write.
    before = version(lone)
    lone.refresh()
    operator.stop()
    operator = start_operator(FLAG)
    lone.refresh()
    assert version(lone) == before
    # Somebody edits it, then deletes it.
    path = f"/api/v1/namespaces/{lone.namespace}/configmaps/orders-ca"
    lone.admin.patch(path, {"data": {"ca.crt": "theirs", "extra": "stays"}})
    lone.refresh()
    wait_until(lambda: (config_map(lone) or made)["data"] == {**made["data"], "extra": "stays"}, what="the repair")
    lone.admin.delete(path)
    lone.refresh()
    wait_until(lambda: config_map(lone) is not None, what="another one")
    name_it(lone, "renamed-ca")
    wait_until(lambda: state(lone) == "renamed-ca Current", what="the new name")
    assert config_map(lone) is None
    name_it(lone, None)
    wait_until(lambda: config_map(lone, "renamed-ca") is None, what="the removal")
    wait_until(lambda: "caConfigMap" not in lone.status(), what="the status without it")
    told = {"ConfigMapCreated", "ConfigMapRepaired", "ConfigMapRemoved"}
    wait_until(
        lambda: {one["reason"] for one in lone.events() if one["reason"].startswith("ConfigMap")} == told, what="the Events"
    )
    # With a last one, the resource goes.
    name_it(lone, "orders-ca")
    wait_until(lambda: config_map(lone) is not None, what="the last one")
    lone.admin.delete(lone.path())
    wait_until(lambda: config_map(lone) is None, within=60, what="the garbage collector")


@pytest.mark.usefixtures("granted")
def test_somebody_elses_config_map_is_not_changed(start_operator: StartOperator, lone: Tenant) -> None:
    """Kubernetes itself puts kube-root-ca.crt into every namespace."""
    wait_until(lambda: config_map(lone, "kube-root-ca.crt") is not None, what="Kubernetes' own")
    before = config_map(lone, "kube-root-ca.crt")
    start_operator(FLAG)
    lone.ready(lone.control.create_cluster()["id"], caConfigMap={"name": "kube-root-ca.crt"})
    wait_until(lambda: state(lone) == "kube-root-ca.crt Conflict", what="the status that says so")
    assert "was not changed" in lone.condition("Ready")["message"]
    assert config_map(lone, "kube-root-ca.crt") == before
    name_it(lone, "orders-ca")
    wait_until(lambda: state(lone) == "orders-ca Current", what="another name")
    assert config_map(lone, "kube-root-ca.crt") == before


def test_without_the_flag_and_the_right_nothing_is_written_and_both_are_said(
    start_operator: StartOperator, lone: Tenant, request: pytest.FixtureRequest
) -> None:
    operator = start_operator()
    lone.ready(lone.control.create_cluster()["id"], caConfigMap={"name": "orders-ca"})
    wait_until(lambda: state(lone) == "orders-ca Disabled", what="the status that says so")
    assert "deploy/components/ca-config-maps" in lone.condition("Ready")["message"]
    operator.stop()
    start_operator(FLAG, environ={"DBCLUSTERREF_TIMING": "after_refusal=3"})
    wait_until(lambda: state(lone) == "orders-ca Forbidden", what="the missing right")
    assert (lone.condition("Ready")["status"], config_map(lone)) == ("True", None)
    request.getfixturevalue("granted")
    wait_until(lambda: state(lone) == "orders-ca Current", within=60, what="the ConfigMap once it is allowed")


@pytest.mark.usefixtures("granted")
def test_the_account_may_write_its_own_config_maps_alone_and_nothing_into_them_but_the_ca(
    kubectl: Kubectl, lone: Tenant
) -> None:
    def attempt(name: str, data: Json, *, by: str = ACCOUNT, labels: Json | None = None, binary: Json | None = None) -> str:
        body: Json = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "labels": labels or {}}}
        body |= {"data": data, **({"binaryData": binary} if binary else {})}
        groups = [] if by == ACCOUNT else ["--as-group=system:masters"]
        arguments = ("apply", "--server-side", "--force-conflicts", "--dry-run=server", f"--as={by}", "-f", "-")
        return kubectl("-n", lone.namespace, *arguments, *groups, input=yaml.safe_dump(body), check=False).stderr

    def delete(name: str) -> str:
        arguments = ("delete", f"configmap/{name}", f"--as={ACCOUNT}", "--dry-run=server")
        return kubectl("-n", lone.namespace, *arguments, check=False).stderr

    path = f"/api/v1/namespaces/{lone.namespace}/configmaps"
    lone.admin.create(path, {"metadata": {"name": "theirs"}, "data": {"a": "b"}})
    lone.admin.create(path, {"metadata": {"name": "ours", "annotations": {"dbclusterref.io/reference-uid": "x"}}})
    own: Json = {"ca.crt": "x"}
    wait_until(lambda: POLICY in attempt("new", own), what="the policy is in force")
    refused = {
        "without its label": attempt("new", own),
        "another key": attempt("new", {**own, "other": "x"}, labels=MANAGED),
        "binary data": attempt("new", own, labels=MANAGED, binary={"other": "eA=="}),
        "somebody else's": attempt("theirs", own, labels=MANAGED),
        "Kubernetes' own": attempt("kube-root-ca.crt", own, labels=MANAGED),
        "a deletion of somebody else's": delete("theirs"),
        "a deletion of Kubernetes' own": delete("kube-root-ca.crt"),
    }
    assert [name for name, said in refused.items() if POLICY not in said] == []
    assert delete("ours") == "", "the annotation still tells whose it is where its label was stripped"
    assert attempt("new", own, labels=MANAGED) == ""
    assert attempt("theirs", {"anything": "x"}, by="somebody") == "", "nobody else is held to it"
    for verb in ("list", "watch"):
        assert (
            kubectl("auth", "can-i", verb, "configmaps", "-n", lone.namespace, f"--as={ACCOUNT}", check=False).stdout == "no\n"
        )
