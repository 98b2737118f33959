"""A control plane of its own, since whole installations come and go in it; cleaned for each test."""

import os
import subprocess
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from sandbox.binaries.helm import ensure_helm
from sandbox.controlplane.kubeconfig import by_token, write_kubeconfig
from tests.deploy.rendering import ROOT, SYSTEM, Json, environment
from tests.e2e.cluster import Administrator, Kubectl, Tenant, wait_until
from tests.e2e.running import Operator
from tests.e2e.sandbox import Sandbox, run_sandbox

CRD = "databaseclusterrefs.dbclusterref.io"
SAMPLE_CLUSTER = "9cc10173-e9ea-4176-9dbc-a4cee4c4ff30"
# What the operator reads from the pod or its volumes, which the tests give it by other means.
OF_THE_POD = frozenset({"DBCLUSTERREF_METRICS_ADDRESS", "DIGITALOCEAN_TOKEN_FILE"})
CLUSTER_SCOPED = (
    "clusterroles,clusterrolebindings,validatingadmissionpolicies,validatingadmissionpolicybindings"  # kubectl's list of kinds
)
BUILT_IN = frozenset({"default", "kube-system", "kube-public", "kube-node-lease"})

Helm = Callable[..., subprocess.CompletedProcess[str]]


@dataclass(frozen=True, kw_only=True)
class Site:
    """A cluster without anything of ours, the tools that install, and what stands in for the node that would run the pod."""

    sandbox: Sandbox
    helm: Helm
    environ: Mapping[str, str]
    """For a shell that types what the docs say."""
    start: Callable[..., Operator]

    @property
    def kubectl(self) -> Kubectl:
        return self.sandbox.kubectl

    @property
    def admin(self) -> Administrator:
        return self.sandbox.admin

    def tenant(self, namespace: str) -> Tenant:
        """A namespace with a token in it."""
        self.kubectl("create", "namespace", namespace)
        tenant = Tenant(namespace, admin=self.admin, control=self.sandbox.control)
        tenant.put_token()
        return tenant

    def wait_for_discovery(self) -> None:
        self.kubectl.wait_for_crd(CRD)
        wait_until(lambda: self.kubectl("get", "dbref", "-A", check=False).returncode == 0, what="discovery of the resource")

    def crd_stays(self) -> bool:
        """Return whether it is there and not about to go: Kubernetes deletes it, and what it defines, a moment later."""
        found = self.admin.find(f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{CRD}")
        return found is not None and "deletionTimestamp" not in found["metadata"]

    def workload(self, *, kind: str = "deployment", name: str = "dbclusterref", namespace: str = SYSTEM) -> Json:
        return self.admin.get(f"/apis/apps/v1/namespaces/{namespace}/{kind}s/{name}")


@pytest.fixture(scope="session")
def deploy_sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    with run_sandbox(tmp_path_factory.mktemp("deploy")) as started:
        yield started


@pytest.fixture
def site(deploy_sandbox: Sandbox, tmp_path: Path) -> Iterator[Site]:
    sandbox = deploy_sandbox
    tools = {"HELM_CACHE_HOME": "cache", "HELM_CONFIG_HOME": "config", "HELM_DATA_HOME": "data", "KUBECACHEDIR": "kubectl"}
    programs = os.pathsep.join([str(ensure_helm()), str(sandbox.assets), os.environ["PATH"]])
    environ = {
        **os.environ,
        **{name: str(tmp_path / "tools" / folder) for name, folder in tools.items()},
        "KUBECONFIG": str(sandbox.kubeconfig),
        "PATH": programs,
    }

    def helm(*arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        command = [str(ensure_helm() / "helm"), *arguments]
        result = subprocess.run(command, capture_output=True, text=True, check=False, env=environ, cwd=ROOT, timeout=120)
        assert not check or result.returncode == 0, f"helm {' '.join(arguments)}: {result.stderr}"
        return result

    running: list[Operator] = []

    def start(workload: Json, *flags: str, index: int = 0, wait: bool = True) -> Operator:
        """Runs the pod of a workload: its account, its environment and its arguments, as a process beside the cluster."""
        namespace = workload["metadata"]["namespace"]
        account = workload["spec"]["template"]["spec"]["serviceAccountName"]
        token = sandbox.kubectl("-n", namespace, "create", "token", account, "--duration=1h").stdout.strip()
        number = len(running)
        path = tmp_path / f"kubeconfig-{number}"
        admin = sandbox.admin
        kubeconfig = write_kubeconfig(path, url=admin.server, ca=admin.ca, user=by_token(token), namespace=namespace)
        (container, *_) = workload["spec"]["template"]["spec"]["containers"]
        program, *arguments = (argument.replace("$(POD_INDEX)", str(index)) for argument in container["args"])
        assert program == "run"
        given = {name: value for name, value in environment(workload).items() if name not in OF_THE_POD}
        pod = {"POD_NAME": f"{workload['metadata']['name']}-{index}", "POD_NAMESPACE": namespace}
        operator = Operator(
            *arguments,
            *flags,
            kubeconfig=kubeconfig,
            api_url=sandbox.digitalocean,
            log=tmp_path / f"operator-{number}.log",
            environ={**given, **pod},
        )
        running.append(operator)
        return operator.wait_until_ready() if wait else operator

    clean(sandbox)
    try:
        yield Site(sandbox=sandbox, helm=helm, environ=environ, start=start)
        for operator in running:
            if operator.is_running:
                operator.stop()
    finally:
        for operator in running:
            operator.kill()


def clean(sandbox: Sandbox) -> None:
    """Takes everything of ours away, tenants included."""
    kubectl = sandbox.kubectl
    kubectl("delete", "crd", CRD, "--ignore-not-found")
    kubectl("delete", CLUSTER_SCOPED, "-l", "app.kubernetes.io/name=dbclusterref")
    names = kubectl("get", "namespaces", "-o", "jsonpath={.items[*].metadata.name}").stdout.split()
    if ours := set(names) - BUILT_IN:
        kubectl("delete", "namespace", *ours)
