"""Types what README.md and the pages of docs/ say, block by block, and looks whether it does what they promise.

What stands for the outside world: a release's files and chart are made from this checkout, its repository is a clone of it with
a tag, and buildah and doctl are played by recorders. The operator runs as the account that was installed: no node runs its pod.
"""

import base64
import os
import re
import shutil
import subprocess
import sysconfig
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import yaml

from tests.deploy import argo
from tests.deploy.conftest import CRD, SAMPLE_CLUSTER, Site, clean
from tests.deploy.rendering import ROOT, SYSTEM
from tests.e2e.cluster import Tenant, wait_until

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

RELEASES = "https://github.com/dbclusterref/dbclusterref/releases/download/v0.1.0"
REPOSITORY = "https://github.com/dbclusterref/dbclusterref"
PLACEHOLDER = re.compile(r"(?<=/v)(?:NEW|FORMER)\b|(?<=--version )(?:NEW|FORMER)\b")
OCI = re.compile(r"oci://ghcr\.io/dbclusterref/charts/dbclusterref --version 0\.1\.0")


@dataclass(kw_only=True)
class Reader:
    """Somebody with a shell in a checkout, who types a page's blocks."""

    site: Site
    scratch: Path
    tenant: Tenant | None = None
    secrets: dict[str, str] = field(default_factory=dict)

    def type(self, block: str) -> str:
        text = OCI.sub(str(self._packed_chart()), PLACEHOLDER.sub("0.1.0", block))
        text = text.replace(RELEASES, str(self._released_manifests()))
        text = text.replace(f"{REPOSITORY}//", f"file://{self._clone()}//")
        assert "github.com" not in text
        assert "oci://" not in text
        bin_folder = self.scratch / "bin"
        bin_folder.mkdir(exist_ok=True)
        for program in ("buildah", "doctl"):
            recorder = bin_folder / program
            recorder.write_text(f'#!/bin/sh\necho "$*" >>"{self.scratch}/{program}-calls"\n')
            recorder.chmod(0o755)
        path = os.pathsep.join([str(bin_folder), sysconfig.get_path("scripts"), self.site.environ["PATH"]])
        environ = {**self.site.environ, "PATH": path}
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", text],
            input="token-of-shop", env=environ, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120,
        )  # fmt: skip
        assert done.returncode == 0, f"{text}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def _released_manifests(self) -> Path:
        folder = self.scratch / "release"
        if not folder.exists():
            subprocess.run(["make", "--silent", "manifests", f"DIST={folder}"], cwd=ROOT, check=True, capture_output=True)
        return folder

    def _packed_chart(self) -> Path:
        folder = self.scratch / "charts"
        if not folder.exists():
            self.site.helm("package", "charts/dbclusterref", "--destination", str(folder))
        (packed,) = folder.iterdir()
        return packed

    def _clone(self) -> Path:
        """The checkout as it is now, as a repository with the release's tag."""
        folder = self.scratch / "repository"
        if not folder.exists():
            for name in ("crds", "deploy"):
                shutil.copytree(ROOT / name, folder / name)
            git = ["git", "-C", str(folder), "-c", "user.name=x", "-c", "user.email=x@example.com"]
            for command in (["init", "--quiet"], ["add", "."], ["commit", "--quiet", "-m", "x"], ["tag", "v0.1.0"]):
                subprocess.run([*git, *command], check=True, capture_output=True)
        return folder

    # What a page takes for granted, and what is looked at afterwards.

    def on_a_fresh_cluster(self) -> None:
        clean(self.site.sandbox)

    def with_an_installation(self, *, by: str = "kubectl") -> None:
        """And with an application's Secret, written by the operator, that nothing which follows may touch."""
        self.on_a_fresh_cluster()
        if by == "helm":
            self.site.helm("install", "dbclusterref", "charts/dbclusterref", "-n", SYSTEM, "--create-namespace")
        else:
            self.site.kubectl("apply", "-f", str(ROOT / "crds"))
            self.site.kubectl("apply", "-k", str(ROOT / "deploy"))
        self.site.wait_for_discovery()
        self.tenant = self.site.tenant("shop")
        operator = self.site.start(self.site.workload())
        self.tenant.ready(self.site.sandbox.control.create_cluster()["id"])
        operator.stop()
        self.secrets = self._found_secrets()
        assert self.secrets.keys() == {"do-token", "orders-db"}

    def with_helm(self) -> None:
        self.with_an_installation(by="helm")

    def with_the_operator_running(self) -> None:
        self.site.wait_for_discovery()
        self.site.start(self.site.workload())

    def is_installed(self) -> None:
        assert self.site.workload()
        self.site.wait_for_discovery()

    def is_untouched(self) -> None:
        assert self._found_secrets() == self.secrets

    def is_removed(self) -> None:
        path = f"/apis/apps/v1/namespaces/{SYSTEM}/deployments/dbclusterref"
        wait_until(lambda: self.site.admin.find(path) is None, what="the end of the Deployment")
        assert self.site.crd_stays()
        assert self.tenant
        assert self.tenant.reference()
        self.is_untouched()

    def _found_secrets(self) -> dict[str, str]:
        items = self.site.admin.get("/api/v1/namespaces/shop/secrets")["items"]
        return {item["metadata"]["name"]: item["metadata"]["resourceVersion"] for item in items}


@pytest.fixture
def reader(site: Site, tmp_path: Path) -> Reader:
    return Reader(site=site, scratch=tmp_path)


Hook = Callable[[Reader], None]


def nothing(_reader: Reader) -> None:
    pass


def a_reference(reader: Reader) -> None:
    """The sandbox's account has the cluster that the page names."""
    reader.site.sandbox.control.set_token("token-of-shop")
    if SAMPLE_CLUSTER not in reader.site.sandbox.control.cluster_ids():
        reader.site.sandbox.control.create_cluster(id=SAMPLE_CLUSTER)
    reader.with_the_operator_running()


def the_reference_is_ready(reader: Reader) -> None:
    assert "password" in reader.site.admin.get("/api/v1/namespaces/shop/secrets/orders-db")["data"]


def the_image_was_pushed_and_is_used(reader: Reader) -> None:
    reader.is_installed()
    calls = (reader.scratch / "buildah-calls").read_text().splitlines()
    assert calls[-1] == "push registry.example/dbclusterref:v0.1.0"
    (container,) = reader.site.workload()["spec"]["template"]["spec"]["containers"]
    assert container["image"] == "registry.example/dbclusterref:v0.1.0"


def the_operators_token_is_there(reader: Reader) -> None:
    assert reader.site.admin.get(f"/api/v1/namespaces/{SYSTEM}/secrets/dbclusterref-token")["data"].keys() == {"token"}


def rights_are_in_shop_alone(reader: Reader) -> None:
    names = reader.site.kubectl("get", "clusterrolebindings,clusterroles", "-o", "name").stdout.split()
    assert [name for name in names if name.endswith("/dbclusterref")] == []
    assert reader.site.admin.get("/apis/rbac.authorization.k8s.io/v1/namespaces/shop/rolebindings/dbclusterref")
    reader.is_untouched()


def it_is_sharded(reader: Reader) -> None:
    assert reader.site.workload(kind="statefulset")["spec"]["replicas"] == 3
    assert reader.site.admin.find(f"/apis/apps/v1/namespaces/{SYSTEM}/deployments/dbclusterref") is None
    reader.is_untouched()


def with_the_operator(reader: Reader) -> None:
    reader.with_an_installation()
    reader.with_the_operator_running()


def with_a_suspended_reference(reader: Reader) -> None:
    with_the_operator(reader)
    assert reader.tenant
    reader.tenant.ready(reader.site.sandbox.control.create_cluster()["id"], name="held")
    reader.tenant.admin.patch(reader.tenant.path("held"), {"spec": {"suspend": True}})
    reader.tenant.wait_for("Suspended", name="held")


def secrets_were_released(reader: Reader) -> None:
    assert reader.tenant
    tenant = reader.tenant
    for name in ("orders-db", "held"):
        wait_until(lambda: not (tenant.secret(name) or {})["metadata"].get("ownerReferences"), what="the release")  # noqa: B023


def references_are_gone_and_secrets_stay(reader: Reader) -> None:
    assert reader.tenant
    assert reader.site.admin.get(reader.tenant.references_path)["items"] == []
    assert reader.tenant.data()["password"]


def references_are_gone(reader: Reader) -> None:
    assert reader.tenant
    tenant = reader.tenant
    assert reader.site.admin.get(tenant.references_path)["items"] == []
    wait_until(lambda: tenant.secret() is None, what="the end of the Secret")


def no_secret_is_left(reader: Reader) -> None:
    assert (
        "orders-db" not in reader.site.kubectl("get", "secrets", "-A", "-l", "app.kubernetes.io/managed-by=dbclusterref").stdout
    )
    assert reader.tenant
    assert reader.tenant.secret("do-token")


def the_crd_is_gone(reader: Reader) -> None:
    assert reader.site.admin.find(f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{CRD}") is None


def with_a_crd_by_kubectl(reader: Reader) -> None:
    reader.on_a_fresh_cluster()
    reader.site.kubectl("apply", "-f", str(ROOT / "crds"))


def with_references_without_a_token(reader: Reader) -> None:
    """As a build from before the tags left them: one with a Secret, and one that never had any. No operator runs."""
    reader.on_a_fresh_cluster()
    reader.site.kubectl("apply", "-f", str(ROOT / "crds"))
    reader.site.wait_for_discovery()
    reader.tenant = reader.site.tenant("shop")
    reader.tenant.refer(SAMPLE_CLUSTER, name="by-operator", own_token=False)
    reader.tenant.refer("00000000-0000-4000-8000-000000000002", name="never-served", own_token=False)
    reader.tenant.refer("00000000-0000-4000-8000-000000000001", name="by-tenant")
    for name in ("by-operator", "by-tenant"):
        reader.site.admin.patch(f"{reader.tenant.path(name)}/status", {"status": {"binding": {"name": name}}})


def the_cluster_is_tagged(reader: Reader) -> None:
    calls = (reader.scratch / "doctl-calls").read_text().splitlines()
    tag = "k8s-namespace:shop"
    assert calls == [f"compute tag create {tag}", f"compute tag apply {tag} --resource=do:dbaas:{SAMPLE_CLUSTER}"]


def with_a_mounted_secret(reader: Reader) -> None:
    with_a_token(reader)
    assert reader.tenant
    reader.tenant.ready(SAMPLE_CLUSTER, secret={"mountPath": "/bindings/orders-db"})
    assert "sslmode=verify-ca" in reader.tenant.data()["uri"]


def its_keys_ask_for_encryption_alone(reader: Reader) -> None:
    assert reader.tenant
    tenant = reader.tenant
    wait_until(lambda: tenant.data()["uri"].endswith("sslmode=require"), what="the former keys")


def with_a_token(reader: Reader) -> None:
    """The operator runs, and the namespace of the page has a token for the cluster that the samples name."""
    reader.on_a_fresh_cluster()
    reader.site.kubectl("apply", "-f", str(ROOT / "crds"))
    reader.site.kubectl("apply", "-k", str(ROOT / "deploy"))
    reader.tenant = reader.site.tenant("shop")
    reader.site.sandbox.control.set_token(reader.tenant.token)
    if SAMPLE_CLUSTER not in reader.site.sandbox.control.cluster_ids():
        reader.site.sandbox.control.create_cluster(id=SAMPLE_CLUSTER)
    reader.with_the_operator_running()


def with_a_token_secret(reader: Reader) -> None:
    reader.on_a_fresh_cluster()
    reader.tenant = reader.site.tenant("shop")


def the_token_is_another_one_and_nowhere_else(reader: Reader) -> None:
    assert reader.tenant
    secret = reader.tenant.secret("do-token")
    assert secret
    assert base64.b64decode(secret["data"]["token"]).decode() == "token-of-shop"
    assert "annotations" not in secret["metadata"]


def with_argo_cd(reader: Reader) -> None:
    """What Argo CD's installation brings of what the page changes."""
    with_the_operator(reader)
    reader.site.kubectl("create", "namespace", "argocd")
    reader.site.kubectl("-n", "argocd", "create", "configmap", "argocd-cm", "--from-literal=url=https://argocd.example")


def argo_cds_actions_are_acted_on(reader: Reader) -> None:
    """Argo CD is played by a Lua of its version, and by the update that it makes of an action's result."""
    data = reader.site.admin.get("/api/v1/namespaces/argocd/configmaps/argocd-cm")["data"]
    kind = "dbclusterref.io_DatabaseClusterRef"
    assert data[f"resource.customizations.health.{kind}"] == (ROOT / "deploy" / "argocd" / "health.lua").read_text()
    assert data["url"]
    actions = data[f"resource.customizations.actions.{kind}"]
    assert reader.tenant
    tenant = reader.tenant
    for action, reason in (("refresh", "Synced"), ("suspend", "Suspended"), ("resume", "Synced")):
        changed = argo.act(actions, action, tenant.reference())
        patch = {"metadata": {"annotations": changed["metadata"].get("annotations")}, "spec": changed["spec"]}
        tenant.admin.patch(tenant.path(), patch)
        tenant.wait_for(reason)
        assert argo.run(data[f"resource.customizations.health.{kind}"], tenant.reference())["status"] == "Healthy"
        if action == "refresh":
            asked = changed["metadata"]["annotations"]["dbclusterref.io/refresh-requested-at"]
            wait_until(lambda: tenant.status().get("lastHandledRefreshAt") == asked, what="the refresh")  # noqa: B023


def with_do_operators_secret(reader: Reader) -> None:
    with_a_token(reader)
    owner = reader.site.admin.get("/api/v1/namespaces/shop/secrets/do-token")["metadata"]
    body = {
        "metadata": {
            "name": "orders-default-credentials",
            "ownerReferences": [{"apiVersion": "v1", "kind": "Secret", "name": "do-token", "uid": owner["uid"]}],
        },
        "type": "Opaque",
        "data": {name: base64.b64encode(b"former").decode() for name in ("username", "password", "uri", "private_uri", "KEY")},
    }
    reader.site.admin.create(SECRETS, body)


def taken_over(reader: Reader) -> dict[str, str]:
    return reader.tenant.data("orders-default-credentials") if reader.tenant else {}


def it_has_no_owner(reader: Reader) -> None:
    assert "ownerReferences" not in reader.site.admin.get(f"{SECRETS}/orders-default-credentials")["metadata"]


def it_is_in_the_way(reader: Reader) -> None:
    assert reader.tenant
    reader.tenant.wait_for("SecretConflict")
    assert taken_over(reader)["password"] == "former"


def it_is_the_operators(reader: Reader) -> None:
    assert taken_over(reader)["password"] != "former"
    assert taken_over(reader)["KEY"] == "former"


def the_key_is_gone(reader: Reader) -> None:
    assert "KEY" not in taken_over(reader)


def it_outlives_its_reference(reader: Reader) -> None:
    assert reader.tenant
    assert reader.site.admin.get(reader.tenant.references_path)["items"] == []
    assert taken_over(reader)["username"]


SECRETS = "/api/v1/namespaces/shop/secrets"
INSTALLS = [
    (Reader.on_a_fresh_cluster, Reader.is_installed),
    (Reader.on_a_fresh_cluster, Reader.is_installed),
    (Reader.on_a_fresh_cluster, Reader.is_installed),
    (Reader.on_a_fresh_cluster, Reader.is_installed),
]
# For each block of a page: what comes before it, and what must be true after it.
PAGES: dict[str, list[tuple[Hook, Hook]]] = {
    "README.md": [
        (Reader.on_a_fresh_cluster, Reader.is_installed),
        (a_reference, the_reference_is_ready),
        (nothing, nothing),
    ],
    "docs/argo-cd.md": [(with_argo_cd, argo_cds_actions_are_acted_on)],
    "docs/command-line.md": [(with_the_operator, nothing), (nothing, nothing)],
    "docs/conditions.md": [(with_the_operator, nothing)],
    "docs/failures.md": [(with_the_operator, nothing)],
    "docs/flux.md": [(with_a_token, the_reference_is_ready)],
    "docs/install.md": [
        *INSTALLS,
        (Reader.on_a_fresh_cluster, the_image_was_pushed_and_is_used),
        (a_reference, the_reference_is_ready),
        (nothing, the_operators_token_is_there),
        (nothing, the_cluster_is_tagged),
    ],
    "docs/operations.md": [(with_a_token_secret, the_token_is_another_one_and_nowhere_else)],
    "docs/take-over.md": [
        (with_do_operators_secret, it_has_no_owner),
        (nothing, it_is_in_the_way),
        (nothing, it_is_the_operators),
        (nothing, the_key_is_gone),
        (nothing, it_has_no_owner),
        (nothing, it_outlives_its_reference),
    ],
    "docs/troubleshooting.md": [(with_the_operator, nothing)],
    "docs/upgrade.md": [
        (Reader.with_an_installation, Reader.is_untouched),
        (Reader.with_helm, Reader.is_untouched),
        (with_references_without_a_token, nothing),
        (nothing, the_cluster_is_tagged),
        (with_a_mounted_secret, nothing),
        (nothing, its_keys_ask_for_encryption_alone),
        (Reader.with_an_installation, Reader.is_untouched),
        (Reader.with_helm, Reader.is_untouched),
        (Reader.with_an_installation, Reader.is_untouched),
        (Reader.with_an_installation, Reader.is_untouched),
        (Reader.with_an_installation, rights_are_in_shop_alone),
        (Reader.with_helm, it_is_sharded),
    ],
    "docs/uninstall.md": [
        (Reader.with_an_installation, Reader.is_removed),
        (Reader.with_an_installation, Reader.is_removed),
        (Reader.with_helm, Reader.is_removed),
        (with_a_crd_by_kubectl, Reader.is_installed),
        (with_a_suspended_reference, secrets_were_released),
        (nothing, secrets_were_released),
        (nothing, references_are_gone_and_secrets_stay),
        (Reader.with_an_installation, references_are_gone),
        (nothing, no_secret_is_left),
        (nothing, the_crd_is_gone),
    ],
}  # fmt: skip


# Blocks that are not typed here, by their first line, and why.
OF_A_RELEASE = "docs/install.md has the same block, where it is typed"
UNTYPED = {
    ("README.md", "kubectl apply -f https://"): OF_A_RELEASE,
    ("README.md", "helm install"): OF_A_RELEASE,
    ("README.md", "make demo"): "make recording runs it; tests/tools/test_recording.py holds its recording to its steps",
    ("docs/failures.md", "kubectl -n dbclusterref-system logs"): "no node runs the pod here; tests/node reads its log",
    ("docs/troubleshooting.md", "kubectl -n dbclusterref-system logs"): "no node runs the pod here; tests/node reads its log",
}
# Pages about this checkout itself, whose commands are not typed here, and why.
OF_THE_CHECKOUT = {
    "docs/demo.md": "tests/tools/test_recording.py reads the recording",
    "docs/node.md": "tests/node does what they say, with buildah in the place of docker",
}
_BLOCK = re.compile(r"^( *)```(\w+)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)


def blocks_of(page: str, *, language: str = "sh") -> list[str]:
    found = _BLOCK.findall((ROOT / page).read_text())
    return [textwrap.dedent(text) for _, name, text in found if name == language]


def why_untyped(page: str, block: str) -> str:
    return next((why for (one, start), why in UNTYPED.items() if one == page and block.startswith(start)), "")


@pytest.mark.parametrize("page", PAGES)
def test_every_command_of_the_page_works_as_typed(reader: Reader, page: str) -> None:
    blocks = [block for block in blocks_of(page) if not why_untyped(page, block)]
    assert len(blocks) == len(PAGES[page]), "a block came or went: say what comes before it and what must be true after it"
    for block, (before, after) in zip(blocks, PAGES[page], strict=True):
        before(reader)
        reader.type(block)
        after(reader)


def all_pages() -> list[str]:
    return ["README.md", *(path.relative_to(ROOT).as_posix() for path in sorted((ROOT / "docs").rglob("*.md")))]


def test_no_page_has_commands_that_nothing_types() -> None:
    with_commands = {page for page in all_pages() if blocks_of(page)}
    assert with_commands == PAGES.keys() | OF_THE_CHECKOUT.keys()
    left_over = {key for key in UNTYPED if not any(block.startswith(key[1]) for block in blocks_of(key[0]))}
    assert not left_over, "a reason without its block"


def test_what_readme_says_of_a_release_is_what_the_page_about_installing_says() -> None:
    repeated = [block for block in blocks_of("README.md") if why_untyped("README.md", block) == OF_A_RELEASE]
    assert len(repeated) == 3
    on_the_page = "".join(blocks_of("docs/install.md"))
    assert all(block in on_the_page for block in repeated)


KINDS_OF_OTHERS = frozenset({"Application", "GitRepository", "Kustomization"})
"""Argo CD's, Flux's and kustomize's, which no API server here knows."""


def objects_of_the_pages() -> Iterator[tuple[str, dict[str, object]]]:
    for page in all_pages():
        for block in blocks_of(page, language="yaml"):
            for document in yaml.safe_load_all(block):
                if isinstance(document, dict) and "kind" in document and document["kind"] not in KINDS_OF_OTHERS:
                    yield page, document


def test_every_object_of_a_page_is_accepted_by_the_api_server(site: Site) -> None:
    site.kubectl("apply", "-f", str(ROOT / "crds"))
    site.wait_for_discovery()
    objects = list(objects_of_the_pages())
    assert {"README.md", "docs/applications.md", "docs/argo-cd.md"} <= {page for page, _ in objects}
    site.kubectl("create", "namespace", "shop")
    whole = yaml.safe_dump_all(document for _, document in objects)
    site.kubectl("apply", "--dry-run=server", "--validate=strict", "-n", "shop", "-f", "-", input=whole)
