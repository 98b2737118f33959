"""Where the story plays: a Kubernetes API server (the sandbox's, or one of the user's), the simulator, and the operator."""

import json
import os
import shlex
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from sandbox.binaries import ensure_assets
from sandbox.demo.screen import Screen
from sandbox.digitalocean import Control
from sandbox.tether import tethered

ROOT = Path(__file__).resolve().parents[2]
SYSTEM_NAMESPACE = "dbclusterref-system"
CRD = "databaseclusterrefs.dbclusterref.io"
CRD_FILE = "dbclusterref.io_databaseclusterrefs.yaml"
PATIENCE = 60.0
"""Seconds to wait for anything before the story is called off."""
STOP_WITHIN = 10.0

# What would run the published image: in the demo the operator runs from this folder instead, under the same ServiceAccount.
NOT_ON_A_USERS_CLUSTER = {"Deployment", "Service"}


class StoryError(Exception):
    """The story cannot go on; the message says why and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """Everything a scene needs. `log` is the operator's."""

    screen: Screen
    kubectl_path: str
    kubeconfig: Path
    digitalocean: str
    control: Control
    scratch: Path
    on_users_cluster: bool
    namespace: str
    log: Path
    _processes: dict[str, subprocess.Popen[str]] = field(default_factory=dict)

    def kubectl(self, *arguments: str, stdin: str | None = None, show: bool = True, check: bool = True) -> str:
        """Runs kubectl as the cluster's admin, shows it if asked, and returns its output."""
        if show:
            here_document = " <<'EOF'" if stdin else ""
            self.screen.command(f"kubectl {shlex.join(arguments)}{here_document}")
            self.screen.output((stdin or "").rstrip() + "\nEOF" if stdin else "")
        done = subprocess.run(
            [self.kubectl_path, "--kubeconfig", str(self.kubeconfig), *arguments],
            input=stdin, capture_output=True, text=True, cwd=ROOT, check=False,
        )  # fmt: skip
        if check and done.returncode:
            raise StoryError(f"kubectl {shlex.join(arguments)} failed: {done.stderr.strip()}")
        if show:
            self.screen.output(done.stdout + done.stderr)
        return done.stdout

    def get(self, kind: str, name: str) -> dict[str, Any] | None:
        """Reads an object of the story's namespace, None if it does not exist."""
        text = self.kubectl("-n", self.namespace, "get", kind, name, "--ignore-not-found", "-o", "json", show=False)
        return json.loads(text) if text.strip() else None

    def wait_until(self, what: str, is_so: Callable[[], bool]) -> None:
        """Waits for a condition; gives up after PATIENCE, showing the end of the operator's log."""
        give_up = time.monotonic() + PATIENCE
        while not is_so():
            operator = self._processes.get("operator")
            if operator and operator.poll() is not None:
                raise StoryError(f"the operator ended ({operator.returncode}):\n{self.tail()}")
            if time.monotonic() > give_up:
                raise StoryError(
                    f"waited {PATIENCE:.0f} s until {what}, which did not happen; the operator's log ends:\n{self.tail()}"
                )
            time.sleep(0.05)

    def tail(self, lines: int = 12) -> str:
        """The end of the operator's log."""
        return "\n".join(self.log.read_text().splitlines()[-lines:]) if self.log.exists() else ""

    def start_operator(self) -> int:
        """Starts the operator as its own ServiceAccount; returns the port of its probes."""
        kubeconfig = self._kubeconfig_of_the_service_account()
        port = _free_port()
        environment = {
            name: value for name, value in os.environ.items() if not name.startswith(("DIGITALOCEAN", "DBCLUSTERREF"))
        }
        with self.log.open("w") as log:
            self._processes["operator"] = subprocess.Popen(
                tethered([
                    sys.executable, "-P", "-m", "dbclusterref", "run",
                    "--api-url", self.digitalocean, "--metrics-address", f"127.0.0.1:{port}",
                    *(["--namespaces", self.namespace] if self.on_users_cluster else []),
                ]),
                stdout=log, stderr=log, text=True, env={**environment, "KUBECONFIG": str(kubeconfig)}, cwd=self.scratch,
            )  # fmt: skip
        return port

    def stop_operator(self) -> int:
        """Stops it as the kubelet would; returns its exit status."""
        operator = self._processes.pop("operator", None)
        return _stop(operator) if operator else 0

    def _kubeconfig_of_the_service_account(self) -> Path:
        token = self.kubectl("-n", SYSTEM_NAMESPACE, "create", "token", "dbclusterref", "--duration=2h", show=False).strip()
        config = json.loads(self.kubectl("config", "view", "--raw", "--minify", "--flatten", "-o", "json", show=False))
        config["users"][0]["user"] = {"token": token}
        path = self.scratch / "operator.kubeconfig"
        path.touch(mode=0o600)
        path.write_text(json.dumps(config))
        return path


@contextmanager
def open_stage(screen: Screen, *, context: str | None) -> Iterator[Stage]:
    """Starts the world, and takes it down again whatever happens."""
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="dbclusterref-demo-")))
        if context:
            world = _start("sandbox.digitalocean", stack=stack)
            kubectl, kubeconfig = _users_cluster(context, scratch=scratch)
        else:
            world = _start("sandbox", stack=stack)
            kubectl, kubeconfig = f"{world['assets']}/kubectl", Path(world["kubeconfig"])
        url = str(world.get("digitalocean") or world["url"])
        stage = Stage(
            screen=screen,
            kubectl_path=kubectl,
            kubeconfig=kubeconfig,
            digitalocean=url,
            control=stack.enter_context(Control(url)),
            scratch=scratch,
            on_users_cluster=bool(context),
            namespace=f"dbclusterref-demo-{os.getpid()}" if context else "shop",
            log=scratch / "operator.log",
        )
        stack.callback(stage.stop_operator)
        yield stage


def install(stage: Stage) -> ExitStack:
    """Applies CRD and deploy/; what is put on a user's cluster is taken off when the returned stack closes."""
    clean_up = ExitStack()
    if not stage.on_users_cluster:
        stage.kubectl("apply", "-f", "crds")
        stage.kubectl("apply", "-k", "deploy")
        return clean_up
    for kind, name in (("crd", CRD), ("namespace", SYSTEM_NAMESPACE)):
        if stage.kubectl("get", kind, name, "--ignore-not-found", "-o", "name", show=False).strip():
            raise StoryError(
                f"{kind} {name} is on that cluster already: the demo would disturb what is installed there. Name another "
                "context, or leave CONTEXT out."
            )
    text = "\n---\n".join([(ROOT / "crds" / CRD_FILE).read_text(), stage.kubectl("kustomize", "deploy", show=False)])
    rendered = [document for document in yaml.safe_load_all(text) if document]
    manifests = stage.scratch / "deploy.yaml"
    manifests.write_text(yaml.safe_dump_all(item for item in rendered if item["kind"] not in NOT_ON_A_USERS_CLUSTER))
    clean_up.callback(
        lambda: stage.kubectl("delete", "--ignore-not-found", "--wait=true", "-f", str(manifests), show=False, check=False)
    )
    clean_up.callback(
        lambda: stage.kubectl("delete", "namespace", stage.namespace, "--ignore-not-found", show=False, check=False)
    )
    stage.screen.command(
        "kubectl apply -f crds; kubectl kustomize deploy | kubectl apply -f -    (all of it but Deployment and Service)"
    )
    stage.screen.output(stage.kubectl("apply", "-f", str(manifests), show=False))
    return clean_up


def _start(module: str, *, stack: ExitStack) -> dict[str, Any]:
    process = subprocess.Popen([sys.executable, "-m", module], stdout=subprocess.PIPE, text=True, cwd=ROOT)
    stack.callback(_stop, process)
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        raise StoryError(f"python -m {module} did not start; it says why above.")
    world: dict[str, Any] = json.loads(line)
    return world


def _users_cluster(context: str, *, scratch: Path) -> tuple[str, Path]:
    kubectl = f"{ensure_assets()}/kubectl"
    view = subprocess.run(
        [kubectl, "config", "view", "--raw", "--minify", "--flatten", "--context", context],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if view.returncode:
        raise StoryError(
            f"no context {context!r} in your kubeconfig ({view.stderr.strip()}); `kubectl config get-contexts` lists them."
        )
    path = scratch / "admin.kubeconfig"
    path.touch(mode=0o600)
    path.write_text(view.stdout)
    return kubectl, path


def _stop(process: subprocess.Popen[str]) -> int:
    if process.poll() is None:
        process.terminate()
    try:
        return process.wait(STOP_WITHIN)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
