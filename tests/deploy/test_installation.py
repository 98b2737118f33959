"""Installed, upgraded, taken over and removed on a real API server, with the operator run as the account that was installed."""

import base64
import json
import shutil
from pathlib import Path

import pytest
import yaml

from tests.deploy.conftest import CRD, Site
from tests.deploy.rendering import (
    CHART,
    ROOT,
    SYSTEM,
    Json,
    documented_choices,
    render_choice,
    render_helm,
    write_kustomization,
)
from tests.e2e.cluster import Tenant, wait_until

pytestmark = pytest.mark.e2e

INSTALL = ("install", "dbclusterref", "charts/dbclusterref", "--namespace", SYSTEM, "--create-namespace")
UPGRADE = ("upgrade", "dbclusterref", "charts/dbclusterref", "--namespace", SYSTEM, "--reset-then-reuse-values")
CHOICES = documented_choices()


def secrets_of(tenant: Tenant) -> dict[str, tuple[str, str]]:
    """Name, UID and content's version of every Secret in the namespace."""
    items = tenant.admin.get(f"/api/v1/namespaces/{tenant.namespace}/secrets")["items"]
    return {item["metadata"]["name"]: (item["metadata"]["uid"], item["metadata"]["resourceVersion"]) for item in items}


def install_by_kustomize(site: Site, folder: str = "deploy") -> None:
    site.kubectl("apply", "-f", str(ROOT / "crds"))
    site.kubectl("apply", "-k", str(ROOT / folder))
    site.wait_for_discovery()


def hand_over_to_helm(site: Site, *what: str) -> None:
    """What kubectl set becomes Helm's: otherwise both own it, and each upgrade that changes it is a conflict."""
    site.kubectl("apply", "--server-side", "--field-manager=helm", *what)


def install_by_helm(site: Site, *flags: str) -> None:
    site.helm(*INSTALL, *flags)
    site.wait_for_discovery()


# --- what is rendered is valid


@pytest.mark.parametrize("by", ["kustomize", "helm"])
def test_the_api_server_accepts_every_documented_choice(site: Site, tmp_path: Path, by: str) -> None:
    """By the strict validation of a real API server, which knows every field and every value, defaults and limits included."""
    site.kubectl("apply", "--server-side", "-f", str(ROOT / "crds"))
    for namespace in ("shop", SYSTEM, "databases"):
        site.kubectl("create", "namespace", namespace)
    for choice in CHOICES:
        objects = render_choice(choice, within=tmp_path) if by == "kustomize" else render_helm(*choice.helm)
        known = [one for one in objects if one["apiVersion"] != "monitoring.coreos.com/v1"]
        result = site.kubectl(
            "apply", "--server-side", "--dry-run=server", "--validate=strict", "-f", "-", input=yaml.safe_dump_all(known)
        )
        assert (len(result.stdout.splitlines()), result.stderr) == (len(known), ""), choice


def test_a_misspelt_field_would_be_found(site: Site) -> None:
    objects = render_helm()
    (deployment,) = [one for one in objects if one["kind"] == "Deployment"]
    deployment["spec"]["template"]["spec"]["terminationGraceSeconds"] = 1
    site.kubectl("create", "namespace", SYSTEM)
    refused = site.kubectl(
        "apply", "--server-side", "--dry-run=server", "--validate=strict", "-f", "-", input=json.dumps(deployment), check=False
    )
    assert "terminationGraceSeconds" in refused.stderr


def test_every_pod_passes_the_restricted_pod_security_standard(site: Site, tmp_path: Path) -> None:
    site.kubectl("apply", "-f", str(ROOT / "deploy" / "base" / "namespace.yaml"))
    account = f"/api/v1/namespaces/{SYSTEM}/serviceaccounts/default"
    wait_until(lambda: site.admin.find(account), what="the account that each namespace gets a moment after it was made")
    pods = {}
    for choice in CHOICES:
        for by, objects in (("kustomize", render_choice(choice, within=tmp_path)), ("helm", render_helm(*choice.helm))):
            (pod,) = [one["spec"]["template"]["spec"] for one in objects if one["kind"] in {"Deployment", "StatefulSet"}]
            name = f"{by}-{choice.kustomize.replace('/', '-')}"
            pods[name] = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": SYSTEM}, "spec": pod}
            pod["serviceAccountName"] = "default"  # the operator's own is in none of these installations
    dry_run = ("apply", "--dry-run=server", "-f", "-")
    admitted = site.kubectl(*dry_run, input=yaml.safe_dump_all(pods.values())).stdout.splitlines()
    assert admitted == [f"pod/{name} created (server dry run)" for name in pods]
    for pod in pods.values():
        pod["spec"]["containers"][0]["securityContext"]["allowPrivilegeEscalation"] = True
    refused = site.kubectl(*dry_run, input=yaml.safe_dump_all(pods.values()), check=False).stderr
    assert refused.count('violates PodSecurity "restricted:latest"') == len(pods)


@pytest.mark.parametrize("folder", ["deploy", "deploy/overlays/highly-available", "deploy/overlays/other-namespace"])
def test_server_side_apply_over_a_client_side_installation_has_no_conflict(site: Site, folder: str) -> None:
    install_by_kustomize(site, folder)
    site.kubectl("apply", "--server-side", "-f", str(ROOT / "crds"))
    applied = site.kubectl("apply", "--server-side", "-k", str(ROOT / folder)).stdout.splitlines()
    assert [line for line in applied if not line.endswith("serverside-applied")] == []


# --- ways in and out


def test_kubectl_delete_leaves_every_secret_in_place(site: Site) -> None:
    install_by_kustomize(site)
    tenant = site.tenant("shop")
    tenant.create_secret("somebody-elses", data={})
    operator = site.start(site.workload())
    cluster = site.sandbox.control.create_cluster()["id"]
    tenant.ready(cluster)
    operator.stop()
    before = secrets_of(tenant)
    assert before.keys() == {"do-token", "orders-db", "somebody-elses"}

    site.kubectl("delete", "-k", str(ROOT / "deploy"))
    assert site.crd_stays()
    assert site.admin.find(f"/api/v1/namespaces/{SYSTEM}") is None
    assert tenant.reference()["spec"]["clusterUUID"] == cluster
    assert secrets_of(tenant) == before

    site.kubectl("apply", "-k", str(ROOT / "deploy"))
    site.start(site.workload())
    tenant.refresh()
    assert secrets_of(tenant) == before


def test_helm_upgrades_the_crd_and_its_uninstallation_leaves_every_secret_in_place(site: Site, tmp_path: Path) -> None:
    install_by_helm(site)
    tenant = site.tenant("shop")
    operator = site.start(site.workload())
    tenant.ready(site.sandbox.control.create_cluster()["id"])
    operator.stop()
    before = secrets_of(tenant)

    newer = shutil.copytree(CHART, tmp_path / "newer")
    crd = yaml.safe_load((newer / "files" / "crd.yaml").read_text())
    schema = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    schema["properties"]["spec"]["properties"]["later"] = {"type": "string", "description": "A later field."}
    (newer / "files" / "crd.yaml").write_text(yaml.safe_dump(crd))
    site.helm("upgrade", "dbclusterref", str(newer), "--namespace", SYSTEM)
    assert later_field_is_known(site)
    assert secrets_of(tenant) == before

    site.helm("uninstall", "dbclusterref", "--namespace", SYSTEM)
    assert site.crd_stays()
    gone = f"/apis/apps/v1/namespaces/{SYSTEM}/deployments/dbclusterref"
    assert wait_until(lambda: site.admin.find(gone) is None, what="the end of the Deployment")
    assert tenant.reference()
    assert secrets_of(tenant) == before

    install_by_helm(site)
    site.start(site.workload())
    tenant.refresh()
    assert secrets_of(tenant) == before


def test_helm_rolls_back_with_or_without_the_crd(site: Site, tmp_path: Path) -> None:
    """docs/upgrade.md advises against `helm rollback`, and gives another way: both do what it says."""
    install_by_helm(site)
    newer = shutil.copytree(CHART, tmp_path / "newer")
    crd = yaml.safe_load((newer / "files" / "crd.yaml").read_text())
    crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]["later"] = {"type": "string"}
    (newer / "files" / "crd.yaml").write_text(yaml.safe_dump(crd))
    upgrade = ("upgrade", "dbclusterref", "--namespace", SYSTEM)
    site.helm(*upgrade, str(newer))
    site.helm(*upgrade, str(CHART), "--set", "crds.install=false")
    assert later_field_is_known(site)

    site.helm(*upgrade, str(newer), "--set", "crds.install=true")
    site.helm("rollback", "dbclusterref", "--namespace", SYSTEM, "1")
    assert not later_field_is_known(site)


def later_field_is_known(site: Site) -> bool:
    crd = site.admin.get(f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{CRD}")
    return "later" in crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]


def test_helm_takes_an_installation_by_kubectl_over_as_it_is(site: Site) -> None:
    install_by_kustomize(site)
    tenant = site.tenant("shop")
    operator = site.start(site.workload())
    tenant.ready(site.sandbox.control.create_cluster()["id"])
    operator.stop()
    before, deployment = secrets_of(tenant), site.workload()["metadata"]["uid"]

    assert "cannot be imported into the current release" in site.helm(*INSTALL, check=False).stderr
    hand_over_to_helm(site, "-f", str(ROOT / "crds"))
    hand_over_to_helm(site, "-k", str(ROOT / "deploy"))
    site.helm(*INSTALL, "--take-ownership")
    assert site.workload()["metadata"]["uid"] == deployment
    # The next upgrade changes fields that kubectl had set.
    site.helm(*UPGRADE, "--set", "image.tag=v9.9.9", "--set", "restartWorkloads=true")
    (container,) = site.workload()["spec"]["template"]["spec"]["containers"]
    assert container["image"].endswith(":v9.9.9")
    site.helm(*UPGRADE, "--set", "image.tag=", "--set", "restartWorkloads=false")
    site.start(site.workload())
    tenant.refresh()
    assert secrets_of(tenant) == before
    site.helm("uninstall", "dbclusterref", "--namespace", SYSTEM)
    assert site.crd_stays()
    assert secrets_of(tenant) == before


def test_helm_installs_again_after_kubectl_has_left_the_crd(site: Site) -> None:
    install_by_kustomize(site)
    site.kubectl("delete", "-k", str(ROOT / "deploy"))
    assert "cannot be imported into the current release" in site.helm(*INSTALL, check=False).stderr
    hand_over_to_helm(site, "-f", str(ROOT / "crds"))
    site.helm(*INSTALL, "--take-ownership")
    assert site.workload()
    assert site.crd_stays()


def test_a_second_release_beside_the_first_serves_its_own_namespaces(site: Site) -> None:
    one, other = site.tenant("one"), site.tenant("other")
    scope = "--set=rbac.scope=namespaces"
    install_by_helm(site, scope, "--set=namespaces={one}")
    second = (
        "install",
        "blue",
        "charts/dbclusterref",
        "--namespace",
        "blue",
        "--create-namespace",
        scope,
        "--set=namespaces={other}",
    )
    assert "cannot be imported into the current release" in site.helm(*second, check=False).stderr
    site.helm(*second, "--set=crds.install=false")
    site.start(site.workload())
    site.start(site.workload(name="blue-dbclusterref", namespace="blue"))
    for tenant in (one, other):
        tenant.ready(site.sandbox.control.create_cluster()["id"])


# --- rights, three sizes, each run as the account that has them


def test_rights_in_every_namespace(site: Site) -> None:
    install_by_helm(site)
    site.start(site.workload())
    for namespace in ("shop", "other"):
        site.tenant(namespace).ready(site.sandbox.control.create_cluster()["id"])


@pytest.mark.parametrize("by", ["kustomize", "helm"])
def test_rights_in_named_namespaces(site: Site, by: str) -> None:
    shop, other = site.tenant("shop"), site.tenant("other")
    if by == "kustomize":
        install_by_kustomize(site, "deploy/overlays/namespaced")
    else:
        install_by_helm(site, "--set=rbac.scope=namespaces", "--set=namespaces={shop}")
    site.start(site.workload())
    clusters = [site.sandbox.control.create_cluster()["id"] for _ in range(2)]
    other.refer(clusters[1])
    shop.ready(clusters[0])
    assert "conditions" not in other.status()
    assert secrets_of(other).keys() == {"do-token"}
    roles = json.loads(site.kubectl("get", "clusterroles", "-l", "app.kubernetes.io/name=dbclusterref", "-o", "json").stdout)
    assert [
        role["metadata"]["name"] for role in roles["items"] for rule in role["rules"] if "secrets" in rule["resources"]
    ] == []
    assert not may(site, "get", "secrets", namespace="other")


@pytest.mark.parametrize("by", ["kustomize", "helm"])
def test_rights_on_named_secrets(site: Site, by: str) -> None:
    shop = site.tenant("shop")
    shop.create_secret("somebody-elses", data={})
    if by == "kustomize":
        install_by_kustomize(site, "deploy/overlays/named-secrets")
    else:
        install_by_helm(site, "--set=rbac.scope=names", "--set=namespaces={shop}", "--set=rbac.secretNames={orders-db}")
    operator = site.start(site.workload())
    cluster = site.sandbox.control.create_cluster()["id"]
    shop.ready(cluster)
    shop.refer(cluster, name="unnamed")
    shop.wait_for("SecretRefused", name="unnamed")
    assert shop.secret("unnamed") is None

    # Without a watch a deleted Secret is restored at the next refresh.
    site.admin.delete(shop.secret_path())
    shop.refresh()
    assert shop.data()["password"]
    for verb, name in (("list", ""), ("watch", ""), ("get", "somebody-elses"), ("delete", "do-token"), ("create", "unnamed")):
        assert not may(site, verb, "secrets", name=name), (verb, name)
    assert "Traceback" not in operator.log.read_text()


def may(site: Site, verb: str, resource: str, *, name: str = "", namespace: str = "shop") -> bool:
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SubjectAccessReview",
        "spec": {
            "user": f"system:serviceaccount:{SYSTEM}:dbclusterref",
            "groups": ["system:serviceaccounts", f"system:serviceaccounts:{SYSTEM}", "system:authenticated"],
            "resourceAttributes": {"verb": verb, "resource": resource, "name": name, "namespace": namespace},
        },
    }
    answer: Json = site.admin.create("/apis/authorization.k8s.io/v1/subjectaccessreviews", review)
    return bool(answer["status"]["allowed"])


# --- other shapes


@pytest.mark.parametrize("by", ["kustomize", "helm"])
def test_two_shards_share_the_resources(site: Site, tmp_path: Path, by: str) -> None:
    if by == "kustomize":
        # As the component says: copy it, and write another number in all four places.
        component = shutil.copytree(ROOT / "deploy" / "components" / "shards", tmp_path / "shards")
        text = (component / "kustomization.yaml").read_text()
        text = text.replace("value: 3}", "value: 2}").replace("(POD_INDEX)/3", "(POD_INDEX)/2")
        text = text.replace(
            "[dbclusterref-0-of-3, dbclusterref-1-of-3, dbclusterref-2-of-3]", "[dbclusterref-0-of-2, dbclusterref-1-of-2]"
        )
        (component / "kustomization.yaml").write_text(text)
        folder = write_kustomization(tmp_path, resources=["deploy/base"], components=[component.name])
        site.kubectl("apply", "-f", str(ROOT / "crds"))
        site.kubectl("apply", "-k", str(folder))
        site.wait_for_discovery()
    else:
        install_by_helm(site, "--set=shards=2")
    workload = site.workload(kind="statefulset")
    assert workload["spec"]["replicas"] == 2
    tenant = site.tenant("shop")
    shards = [site.start(workload, index=index) for index in range(2)]
    names = [f"orders-{number}" for number in range(8)]
    for name in names:
        tenant.refer(site.sandbox.control.create_cluster()["id"], name=name)
    for name in names:
        tenant.wait_for("Synced", name=name)
    leases = site.admin.get(f"/apis/coordination.k8s.io/v1/namespaces/{SYSTEM}/leases")["items"]
    assert {lease["metadata"]["name"] for lease in leases} == {"dbclusterref-0-of-2", "dbclusterref-1-of-2"}
    served = [shard.metric("dbclusterref_references") for shard in shards]
    assert sum(served) == len(names)
    assert min(served) > 0, "chance alone would leave one without any in one of 128 runs"


def test_the_admission_policy_holds_in_another_namespace(site: Site) -> None:
    install_by_kustomize(site, "deploy/overlays/other-namespace")
    tenant = site.tenant("shop")
    site.start(site.workload(namespace="databases"))
    tenant.ready(site.sandbox.control.create_cluster()["id"])
    stolen = {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": "kubernetes.io/service-account-token",
        "metadata": {
            "name": "stolen",
            "labels": {"app.kubernetes.io/managed-by": "dbclusterref"},
            "annotations": {"kubernetes.io/service-account.name": "default"},
        },
        "data": {"x": base64.b64encode(b"x").decode()},
    }

    def refused() -> bool:
        account = "system:serviceaccount:databases:dbclusterref"
        result = site.kubectl(
            *("-n", "shop", f"--as={account}", "apply", "--server-side", "--dry-run=server", "-f", "-"),
            input=json.dumps(stolen),
            check=False,
        )
        return "ValidatingAdmissionPolicy 'dbclusterref-own-secrets'" in result.stderr

    assert wait_until(refused, what="the policy's refusal")
