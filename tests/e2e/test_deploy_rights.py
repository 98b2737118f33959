"""`deploy/` on a real API server: it applies as it is, and its account may do exactly its work.

Impersonation is as good as a token here: authorization and admission both judge by the user's name and groups.
"""

import base64
import json
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.e2e.sandbox import Sandbox

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).parents[2]
SYSTEM = "dbclusterref-system"
ACCOUNT = f"system:serviceaccount:{SYSTEM}:dbclusterref"
MANAGED_BY = "app.kubernetes.io/managed-by"
OURS = {MANAGED_BY: "dbclusterref"}
TYPE = "servicebinding.io/postgresql"
POLICY = "ValidatingAdmissionPolicy 'dbclusterref-own-secrets'"

Kubectl = Callable[..., subprocess.CompletedProcess[str]]
Json = dict[str, Any]


def eventually(holds: Callable[[], bool], *, within: float = 30) -> None:
    deadline = time.monotonic() + within
    while not holds():
        assert time.monotonic() < deadline, f"did not become true within {within} s"
        time.sleep(0.1)  # between two polls


def secret(name: str, *, type_: str = TYPE, labels: Json | None = None, password: str = "one", **metadata: Any) -> Json:
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": type_,
        "metadata": {"name": name, "labels": OURS if labels is None else labels, **metadata},
        "stringData": {"password": password},
    }


@pytest.fixture(scope="module", autouse=True)
def installed(kubectl: Kubectl) -> subprocess.CompletedProcess[str]:
    kubectl("apply", "-f", str(ROOT / "crds"))
    result = kubectl("apply", "-k", str(ROOT / "deploy"))
    established = ("wait", "--for=condition=Established", "crd/databaseclusterrefs.dbclusterref.io")
    eventually(lambda: kubectl(*established, check=False).returncode == 0)  # it fails where there is no condition yet

    def policy_is_active() -> bool:
        body = json.dumps(secret("probe", labels={}))
        arguments = ("-n", SYSTEM, "apply", "--server-side", f"--as={ACCOUNT}", "--dry-run=server", "-f", "-")
        return POLICY in kubectl(*arguments, input=body, check=False).stderr

    eventually(policy_is_active)
    return result


@pytest.fixture
def operator(kubectl: Kubectl, namespace: str) -> Kubectl:
    """kubectl in the test's namespace, as the operator's account."""

    def as_operator(*arguments: str, body: Json | None = None) -> subprocess.CompletedProcess[str]:
        given = json.dumps(body) if body is not None else None
        return kubectl("-n", namespace, f"--as={ACCOUNT}", *arguments, input=given, check=False)

    return as_operator


@pytest.fixture
def applies(operator: Kubectl) -> Callable[[Json], subprocess.CompletedProcess[str]]:
    """Server-side apply as the operator does it."""

    def apply(body: Json) -> subprocess.CompletedProcess[str]:
        return operator("apply", "--server-side", "--force-conflicts", "--field-manager=dbclusterref", "-f", "-", body=body)

    return apply


@pytest.fixture
def admin(kubectl: Kubectl, namespace: str) -> Kubectl:
    def as_admin(*arguments: str, body: Json | None = None) -> subprocess.CompletedProcess[str]:
        return kubectl("-n", namespace, *arguments, input=json.dumps(body) if body is not None else None)

    return as_admin


@pytest.fixture
def reference(admin: Kubectl) -> Json:
    body = {
        "apiVersion": "dbclusterref.io/v1alpha1",
        "kind": "DatabaseClusterRef",
        "metadata": {"name": "orders-db"},
        "spec": {"clusterUUID": "9cc10173-e9ea-4176-9dbc-a4cee4c4ff30"},
    }
    created: Json = json.loads(admin("create", "-f", "-", "-o", "json", body=body).stdout)
    return created


def owner(reference: Json) -> Json:
    return {
        "apiVersion": reference["apiVersion"],
        "kind": reference["kind"],
        "name": reference["metadata"]["name"],
        "uid": reference["metadata"]["uid"],
        "controller": True,
    }


# --- the installation


def test_the_installation_applies_without_a_warning(installed: subprocess.CompletedProcess[str]) -> None:
    assert installed.stderr == ""


def test_applying_it_again_changes_nothing(kubectl: Kubectl) -> None:
    lines = kubectl("apply", "-k", str(ROOT / "deploy")).stdout.splitlines()
    assert [line for line in lines if not line.endswith("unchanged")] == []


def test_the_policy_was_type_checked_without_a_warning(kubectl: Kubectl) -> None:
    def checked() -> bool:
        policy = json.loads(kubectl("get", "validatingadmissionpolicy/dbclusterref-own-secrets", "-o", "json").stdout)
        status = policy.get("status", {})
        assert status.get("typeChecking", {}).get("expressionWarnings", []) == []
        return bool(status.get("observedGeneration") == policy["metadata"]["generation"])

    eventually(checked)


def test_the_pod_passes_the_restricted_pod_security_that_its_namespace_enforces(kubectl: Kubectl) -> None:
    deployment = json.loads(kubectl("-n", SYSTEM, "get", "deployment/dbclusterref", "-o", "json").stdout)
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "probe"}, "spec": deployment["spec"]["template"]["spec"]}
    result = kubectl("-n", SYSTEM, "apply", "--dry-run=server", "-f", "-", input=json.dumps(pod))
    assert result.stderr == ""

    pod["spec"]["containers"][0]["securityContext"]["allowPrivilegeEscalation"] = True
    refused = kubectl("-n", SYSTEM, "apply", "--dry-run=server", "-f", "-", input=json.dumps(pod), check=False)
    assert 'violates PodSecurity "restricted:latest"' in refused.stderr


# --- what RBAC allows


def may(kubectl: Kubectl, verb: str, resource: str, *flags: str, account: str = ACCOUNT) -> bool:
    result = kubectl("auth", "can-i", verb, resource, *flags, f"--as={account}", "-q", check=False)
    # Only these warnings are harmless; another would mean that the question was not understood, and the "no" worth nothing.
    harmless = re.compile("is not namespace scoped|verb '(bind|escalate)' is not a known verb")  # the second by kubectl 1.31
    assert [line for line in result.stderr.splitlines() if line and not harmless.search(line)] == []
    return result.returncode == 0


@pytest.mark.parametrize(
    ("verbs", "resource", "flags"),
    [
        ("get list watch", "databaseclusterrefs.dbclusterref.io", ["-A"]),
        ("patch", "databaseclusterrefs.dbclusterref.io", ["-A", "--subresource=status"]),
        ("get list watch create patch delete", "secrets", ["-A"]),
        ("create", "events.events.k8s.io", ["-A"]),
        ("create", "leases.coordination.k8s.io", ["-n", SYSTEM]),
        ("get update", "leases.coordination.k8s.io/dbclusterref", ["-n", SYSTEM]),
    ],
)
def test_the_operator_may_do_its_work(kubectl: Kubectl, verbs: str, resource: str, flags: list[str]) -> None:
    assert [verb for verb in verbs.split() if not may(kubectl, verb, resource, *flags)] == []


@pytest.mark.parametrize(
    ("verbs", "resource", "flags"),
    [
        ("create update patch delete deletecollection", "databaseclusterrefs.dbclusterref.io", ["-n", "default"]),
        ("get update", "databaseclusterrefs.dbclusterref.io", ["-n", "default", "--subresource=status"]),
        ("update patch", "databaseclusterrefs.dbclusterref.io", ["-n", "default", "--subresource=finalizers"]),
        ("update deletecollection", "secrets", ["-n", "default"]),
        ("get list watch update patch delete", "events.events.k8s.io", ["-n", "default"]),
        ("create", "events", ["-n", "default"]),
        ("get create update patch", "leases.coordination.k8s.io", ["-n", "default"]),
        ("get update", "leases.coordination.k8s.io/other", ["-n", SYSTEM]),
        ("list watch patch delete", "leases.coordination.k8s.io", ["-n", SYSTEM]),
        ("get list watch create", "customresourcedefinitions.apiextensions.k8s.io", []),
        ("get list watch", "namespaces", []),
        ("get list create", "pods", ["-n", SYSTEM]),
        ("create", "serviceaccounts", ["-n", SYSTEM, "--subresource=token"]),
        ("get list", "configmaps", ["-n", SYSTEM]),
        ("patch delete", "validatingadmissionpolicies.admissionregistration.k8s.io", []),
        ("bind escalate create", "clusterroles.rbac.authorization.k8s.io", []),
        ("impersonate", "serviceaccounts", ["-n", SYSTEM]),
    ],
)
def test_the_operator_may_do_nothing_else(kubectl: Kubectl, verbs: str, resource: str, flags: list[str]) -> None:
    assert [verb for verb in verbs.split() if may(kubectl, verb, resource, *flags)] == []


def test_the_operators_own_token_has_these_rights_and_no_others(kubectl: Kubectl) -> None:
    token = kubectl("-n", SYSTEM, "create", "token", "dbclusterref").stdout.strip()
    claims = json.loads(base64.urlsafe_b64decode(token.split(".")[1] + "=="))
    assert claims["sub"] == ACCOUNT  # the name the tests above impersonate, and the policy judges by


# --- what the admission policy refuses


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (
            secret(
                "stolen",
                type_="kubernetes.io/service-account-token",
                annotations={"kubernetes.io/service-account.name": "default"},
            ),
            "dbclusterref writes only Secrets of a type under servicebinding.io/",
        ),
        (secret("stolen", type_="example.com/x"), "dbclusterref writes only Secrets of a type under servicebinding.io/"),
        (secret("unlabelled", labels={}), f"dbclusterref writes only Secrets with the label {MANAGED_BY}: dbclusterref"),
        (secret("disguised", labels={MANAGED_BY: "Helm"}), f"dbclusterref writes only Secrets with the label {MANAGED_BY}"),
    ],
    ids=["a token of another account", "an Opaque one", "one without label", "one with another's label"],
)
def test_the_operator_cannot_create_a_secret_that_is_not_of_its_kind(
    operator: Kubectl, applies: Callable[[Json], subprocess.CompletedProcess[str]], body: Json, message: str
) -> None:
    for refused in (applies(body), operator("create", "-f", "-", body=body)):
        assert refused.returncode == 1
        assert POLICY in refused.stderr
        assert message in refused.stderr


@pytest.fixture(params=["Opaque", TYPE])
def foreign(request: pytest.FixtureRequest, admin: Kubectl) -> Json:
    """Somebody else's Secret."""
    created: Json = json.loads(
        admin("create", "-f", "-", "-o", "json", body=secret("foreign", type_=request.param, labels={"app": "other"})).stdout
    )
    return created


def test_the_operator_cannot_change_a_foreign_secret_even_by_labelling_it(
    admin: Kubectl, applies: Callable[[Json], subprocess.CompletedProcess[str]], foreign: Json
) -> None:
    refused = applies(secret("foreign", type_=foreign["type"], password="two"))
    assert refused.returncode == 1
    assert POLICY in refused.stderr
    assert json.loads(admin("get", "secret/foreign", "-o", "json").stdout)["data"] == foreign["data"]


def test_the_operator_cannot_delete_a_foreign_secret(operator: Kubectl, foreign: Json) -> None:
    refused = operator("delete", "secret", foreign["metadata"]["name"])
    assert refused.returncode == 1
    assert f"dbclusterref deletes only Secrets with the label {MANAGED_BY}: dbclusterref" in refused.stderr


def test_the_operator_cannot_take_its_label_off(
    operator: Kubectl, applies: Callable[[Json], subprocess.CompletedProcess[str]]
) -> None:
    assert applies(secret("ours")).returncode == 0
    refused = operator("label", "secret/ours", f"{MANAGED_BY}-")
    assert refused.returncode == 1
    assert POLICY in refused.stderr


def test_the_policy_concerns_nobody_else(admin: Kubectl) -> None:
    admin("create", "-f", "-", body=secret("theirs", type_="Opaque", labels={}))
    admin("label", "secret/theirs", "team=other")
    admin("delete", "secret/theirs")


# --- what it lets the operator do


def test_the_operator_creates_changes_and_deletes_its_own_secret(
    admin: Kubectl, operator: Kubectl, applies: Callable[[Json], subprocess.CompletedProcess[str]], reference: Json
) -> None:
    for password in ("one", "two"):
        assert applies(secret("orders-db", password=password, ownerReferences=[owner(reference)])).stderr == ""
        live = json.loads(admin("get", "secret/orders-db", "-o", "json").stdout)
        assert base64.b64decode(live["data"]["password"]).decode() == password
    assert operator("delete", "secret/orders-db").stderr == ""


@pytest.mark.parametrize("keeps", ["ownerReferences", "annotations"])
def test_the_operator_repairs_a_secret_whose_label_was_stripped(
    admin: Kubectl, applies: Callable[[Json], subprocess.CompletedProcess[str]], reference: Json, keeps: str
) -> None:
    marks: Json = {
        "ownerReferences": [owner(reference)],
        "annotations": {"dbclusterref.io/reference-uid": reference["metadata"]["uid"]},
    }
    body = secret("orders-db", **{keeps: marks[keeps]})
    assert applies(body).returncode == 0
    admin("label", "secret/orders-db", f"{MANAGED_BY}-")
    assert applies(body).stderr == ""


def test_the_operator_repairs_a_secret_whose_owner_was_stripped(
    admin: Kubectl, applies: Callable[[Json], subprocess.CompletedProcess[str]], reference: Json
) -> None:
    body = secret("orders-db", ownerReferences=[owner(reference)])
    assert applies(body).returncode == 0
    admin("patch", "secret/orders-db", "--type=merge", "-p", '{"metadata": {"ownerReferences": null}}')
    assert applies(body).stderr == ""


def test_the_operator_adopts_a_secret_that_was_offered_to_it(
    admin: Kubectl, applies: Callable[[Json], subprocess.CompletedProcess[str]], reference: Json
) -> None:
    admin("create", "-f", "-", body=secret("orders-db", labels={}))
    body = secret("orders-db", password="two", ownerReferences=[owner(reference)])
    assert POLICY in applies(body).stderr
    admin("annotate", "secret/orders-db", "dbclusterref.io/adopt=orders-db")
    assert applies(body).stderr == ""


def test_the_operator_reads_a_tenants_token(admin: Kubectl, operator: Kubectl) -> None:
    admin("create", "secret", "generic", "do-token", "--from-literal=token=x")
    assert operator("get", "secret/do-token", "-o", "name").stdout.strip() == "secret/do-token"


def test_the_operator_reports_in_the_status_and_cannot_touch_the_rest(
    sandbox: Sandbox, operator: Kubectl, reference: Json
) -> None:
    metadata = reference["metadata"]
    name = f"dbref/{metadata['name']}"
    # Not by `kubectl patch`, which reads the subresource first: the operator has no need of that.
    path = f"/apis/dbclusterref.io/v1alpha1/namespaces/{metadata['namespace']}/databaseclusterrefs/{metadata['name']}/status"
    written = sandbox.admin.patch(path, {"status": {"secretRevision": 1}}, account=ACCOUNT)
    assert written["status"]["secretRevision"] == 1
    for change in ('{"spec": {"suspend": true}}', '{"metadata": {"finalizers": ["dbclusterref.io/x"]}}'):
        assert "Forbidden" in operator("patch", name, "--type=merge", "-p", change).stderr


# --- least rights: named namespaces only


@pytest.fixture
def overlay(kubectl: Kubectl) -> list[Json]:
    rendered = kubectl("kustomize", str(ROOT / "deploy" / "overlays" / "namespaced")).stdout
    return [document for document in yaml.safe_load_all(rendered) if document]


def test_the_namespaced_overlay_grants_nothing_cluster_wide(overlay: list[Json]) -> None:
    assert [document["metadata"]["name"] for document in overlay if document["kind"] == "ClusterRoleBinding"] == []
    rules = [rule for document in overlay if document["kind"] == "ClusterRole" for rule in document["rules"]]
    assert [rule for rule in rules if "secrets" in rule["resources"]] == []


def test_the_namespaced_overlay_watches_the_namespaces_it_has_rights_in(overlay: list[Json]) -> None:
    (deployment,) = [document for document in overlay if document["kind"] == "Deployment"]
    environ = {item["name"]: item.get("value") for item in deployment["spec"]["template"]["spec"]["containers"][0]["env"]}
    bound = {
        document["metadata"]["namespace"]
        for document in overlay
        if document["kind"] == "RoleBinding" and document["metadata"]["name"] == "dbclusterref"
    }
    assert set(environ["DBCLUSTERREF_NAMESPACES"].split(",")) == bound == {"shop"}


@pytest.fixture
def tenant_account(kubectl: Kubectl, namespace: str, overlay: list[Json]) -> Iterator[str]:
    """An account that has nothing but the overlay's Role, in the test's namespace."""
    role, binding = sorted(
        (one for one in overlay if one["metadata"]["name"] == "dbclusterref" and one["kind"] in {"Role", "RoleBinding"}),
        key=lambda one: str(one["kind"]),
    )
    binding["subjects"] = [{"kind": "ServiceAccount", "name": "least", "namespace": SYSTEM}]
    for document in (role, binding):
        document["metadata"]["namespace"] = namespace
        kubectl("apply", "-f", "-", input=json.dumps(document))
    yield f"system:serviceaccount:{SYSTEM}:least"
    kubectl("-n", namespace, "delete", "rolebinding/dbclusterref", "role/dbclusterref")


def test_the_overlays_binding_is_enough_in_its_namespace_and_worth_nothing_elsewhere(
    kubectl: Kubectl, namespace: str, tenant_account: str
) -> None:
    eventually(lambda: may(kubectl, "list", "secrets", "-n", namespace, account=tenant_account))
    rights = [
        *(("secrets", verb) for verb in ("get", "list", "watch", "create", "patch", "delete")),
        *(("databaseclusterrefs.dbclusterref.io", verb) for verb in ("get", "list", "watch")),
        ("events.events.k8s.io", "create"),
    ]
    assert [right for right in rights if not may(kubectl, right[1], right[0], "-n", namespace, account=tenant_account)] == []
    assert [right for right in rights if may(kubectl, right[1], right[0], "-n", "default", account=tenant_account)] == []
