"""Flux's own kustomize-controller applies docs/flux.md's Kustomizations, waits, reports, and prunes.

There is no source-controller: the test hands the controller what that would have fetched from Git, as an archive over HTTP.
"""

import hashlib
import io
import os
import re
import subprocess
import tarfile
import threading
from collections.abc import Iterator, Mapping
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import yaml

from sandbox.binaries.flux import ensure_flux
from tests.e2e.cluster import ROOT, Json, Kubectl, Tenant, wait_until
from tests.e2e.conftest import Served

# The limit is for a first run, which may have to build the controller.
pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1200)]

PAGE = ROOT / "docs" / "flux.md"
SOURCES = {
    "Bucket": "buckets",
    "ExternalArtifact": "externalartifacts",
    "GitRepository": "gitrepositories",
    "OCIRepository": "ocirepositories",
}
DATABASE, APPLICATION = "orders-database", "orders"
WITHIN = 60.0


def as_source(kind: str, plural: str) -> Json:
    """A CRD of source-controller as far as kustomize-controller needs it: the kind exists, and has a status."""
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    version = {
        "name": "v1",
        "served": True,
        "storage": True,
        "subresources": {"status": {}},
        "schema": {"openAPIV3Schema": schema},
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.source.toolkit.fluxcd.io"},
        "spec": {
            "group": "source.toolkit.fluxcd.io",
            "names": {"kind": kind, "listKind": f"{kind}List", "plural": plural, "singular": kind.lower()},
            "scope": "Namespaced",
            "versions": [version],
        },
    }


class Quiet(SimpleHTTPRequestHandler):
    """Serves a folder and logs nothing."""

    def log_message(self, *_: object) -> None:
        """Says nothing."""


class Git:
    """The repository `shop` as Flux sees it, and the Kustomizations of the page that read it."""

    def __init__(self, kubectl: Kubectl, *, folder: Path, url: str, namespace: str) -> None:
        self._kubectl = kubectl
        self._folder = folder
        self._url = url
        self.namespace = namespace
        self.revision = ""

    def commit(self, files: Mapping[str, object]) -> None:
        """Make what is in the repository; source-controller would say so in the status of its GitRepository."""
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w:gz") as archive:
            for name, content in files.items():
                text = yaml.safe_dump(content).encode()
                member = tarfile.TarInfo(name)
                member.size = len(text)
                archive.addfile(member, io.BytesIO(text))
        digest = hashlib.sha256(packed.getvalue()).hexdigest()
        (self._folder / f"{digest}.tar.gz").write_bytes(packed.getvalue())
        source = {
            "apiVersion": "source.toolkit.fluxcd.io/v1",
            "kind": "GitRepository",
            "metadata": {"name": "shop", "namespace": self.namespace},
            "spec": {"interval": "1h", "url": "https://git.example.com/shop"},
        }
        self.revision = f"main@sha1:{digest[:40]}"
        artifact = {
            "path": f"{digest}.tar.gz",
            "url": f"{self._url}/{digest}.tar.gz",
            "revision": self.revision,
            "digest": f"sha256:{digest}",
            "lastUpdateTime": "2026-01-01T00:00:00Z",
            "size": len(packed.getvalue()),
        }
        self.apply(source)
        status = yaml.safe_dump({"status": {"artifact": artifact}})
        self("patch", "gitrepository", "shop", "--subresource=status", "--type=merge", "-p", status)

    def apply(self, *objects: Json) -> None:
        self._kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", input=yaml.safe_dump_all(objects))

    def __call__(self, *arguments: str) -> str:
        return self._kubectl("-n", self.namespace, *arguments).stdout

    def wait_for(self, name: str, *, status: str, words: str = "", attempted: bool = True) -> Json:
        """Wait for a Kustomization's condition Ready about the last commit; one that waits for another attempts none."""

        def seen() -> Json:
            found: Json = yaml.safe_load(self("get", "kustomization", name, "-o", "yaml")).get("status", {})
            condition: Json = next((one for one in found.get("conditions", []) if one["type"] == "Ready"), {})
            assert not attempted or found.get("lastAttemptedRevision") == self.revision, found
            assert condition.get("status") == status, condition
            assert words in condition["message"], condition
            return condition

        return wait_until(seen, within=WITHIN, what=f"Kustomization {name} Ready={status}")


@pytest.fixture(scope="module")
def controller(served: Served, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    programs, log = ensure_flux(), tmp_path_factory.mktemp("flux") / "controller.log"
    kubectl = served.sandbox.kubectl
    kubectl("apply", "--server-side", "-f", str(programs / "crds"))
    kubectl("apply", "-f", "-", input=yaml.safe_dump_all(as_source(*names) for names in SOURCES.items()))
    for crd in (
        "kustomizations.kustomize.toolkit.fluxcd.io",
        *(f"{plural}.source.toolkit.fluxcd.io" for plural in SOURCES.values()),
    ):
        kubectl.wait_for_crd(crd)
    command = [
        str(programs / "kustomize-controller"),
        *(
            "--watch-all-namespaces",
            "--metrics-addr=0",
            "--health-addr=0",
            "--requeue-dependency=1s",
            "--enable-leader-election=false",
        ),
    ]
    environ = {"PATH": os.environ["PATH"], "KUBECONFIG": str(served.sandbox.kubeconfig), "RUNTIME_NAMESPACE": "default"}
    with log.open("wb") as output, subprocess.Popen(command, stdout=output, stderr=output, env=environ) as process:
        try:
            yield
            assert process.poll() is None, log.read_text()[-2000:]
        finally:
            process.terminate()


@pytest.fixture
def git(controller: None, served: Served, tenant: Tenant, tmp_path: Path) -> Iterator[Git]:
    """With the page's two Kustomizations for an application, in the tenant's namespace."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    opened = Git(
        served.sandbox.kubectl, folder=tmp_path, url=f"http://127.0.0.1:{server.server_address[1]}", namespace=tenant.namespace
    )
    opened.apply(*kustomizations(tenant.namespace))
    yield opened
    opened("delete", "kustomization", "--all", "--wait=true")
    server.shutdown()
    server.server_close()


def kustomizations(namespace: str) -> list[Json]:
    """As the page has them, but that the operator is there already and that everything is in one namespace."""
    blocks = re.findall(r"```yaml\n(.*?)```", PAGE.read_text(), re.DOTALL)
    objects = [one for block in blocks for one in yaml.safe_load_all(block) if isinstance(one, dict)]
    chosen = [one for one in objects if one["kind"] == "Kustomization" and one["metadata"]["name"] in {DATABASE, APPLICATION}]
    assert len(chosen) == len({DATABASE, APPLICATION})
    for one in chosen:
        one["metadata"]["namespace"] = namespace
        one["spec"]["dependsOn"] = [other for other in one["spec"]["dependsOn"] if other["name"] == DATABASE]
    return chosen


def database(tenant: Tenant, cluster: str, **spec: object) -> Mapping[str, object]:
    """The repository: a reference under one folder, something that needs its Secret under the other."""
    reference = {
        "apiVersion": "dbclusterref.io/v1alpha1",
        "kind": "DatabaseClusterRef",
        "metadata": {"name": "orders-db", "namespace": tenant.namespace},
        "spec": {"clusterUUID": cluster, "apiTokenSecretRef": {"name": "do-token"}, "refreshInterval": "10s", **spec},
    }
    application = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "application", "namespace": tenant.namespace},
        "data": {"uses": "orders-db"},
    }
    return {"orders/database/reference.yaml": reference, "orders/application/application.yaml": application}


def find(tenant: Tenant, kind: str, name: str) -> Json | None:
    return tenant.admin.find(f"/api/v1/namespaces/{tenant.namespace}/{kind}/{name}")


def test_flux_applies_the_application_once_the_secret_is_there(git: Git, tenant: Tenant) -> None:
    cluster = tenant.control.create_cluster(name="orders", status="creating", addressed=False)["id"]
    git.commit(database(tenant, cluster))
    tenant.wait_for("WaitingForCluster")
    git.wait_for(APPLICATION, status="False", words="dependency", attempted=False)
    assert find(tenant, "configmaps", "application") is None

    tenant.control.update(cluster, status="online", addressed=True)
    git.wait_for(DATABASE, status="True")
    git.wait_for(APPLICATION, status="True")
    secret, application = tenant.secret(), find(tenant, "configmaps", "application")
    assert secret
    assert application
    assert int(secret["metadata"]["resourceVersion"]) < int(application["metadata"]["resourceVersion"])


def test_flux_ends_its_wait_early_and_names_the_resource(git: Git, tenant: Tenant) -> None:
    cluster = tenant.control.create_cluster(name="orders")["id"]
    git.commit(database(tenant, cluster, user="nobody"))
    condition = git.wait_for(
        DATABASE, status="False", words=f"DatabaseClusterRef/{tenant.namespace}/orders-db status: 'Failed'"
    )
    assert condition["reason"] == "HealthCheckFailed"
    assert "failed early" in condition["message"]
    assert find(tenant, "configmaps", "application") is None

    git.commit(database(tenant, cluster))
    git.wait_for(APPLICATION, status="True")


def test_flux_narrows_widens_suspends_and_prunes(git: Git, tenant: Tenant) -> None:
    cluster = tenant.control.create_cluster(name="orders")["id"]
    git.commit(database(tenant, cluster))
    git.wait_for(APPLICATION, status="True")
    assert {"host", "PGHOST"} <= tenant.data().keys()

    git.commit(database(tenant, cluster, secret={"keySets": ["Binding"]}))
    wait_until(lambda: "PGHOST" not in tenant.data(), what="a Secret without the key set Env")
    git.commit(database(tenant, cluster, secret={"keySets": ["Binding", "Env"]}))
    wait_until(lambda: "PGHOST" in tenant.data(), what="a Secret with the key set Env again")
    git.commit(database(tenant, cluster, secret={"keySets": ["Binding", "Env"]}, suspend=True))
    tenant.wait_for("Suspended", kind="Fresh")
    git.wait_for(DATABASE, status="True")

    secret = tenant.secret()
    assert secret
    git.commit(
        {
            "orders/database/nothing.yaml": {
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "metadata": {"name": "rest", "namespace": tenant.namespace},
            }
        }
    )
    wait_until(lambda: tenant.admin.find(tenant.path()) is None, what="a reference that Flux pruned")
    wait_until(lambda: tenant.secret() is None, what="the end of its Secret, which is Kubernetes' doing")
