"""A sandbox in a process of its own, and what tests make in it: namespaces, and tenants in them."""

import json
import secrets
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from sandbox.digitalocean import Control
from tests.e2e.cluster import ROOT, Administrator, Kubectl, Tenant


@dataclass(frozen=True, kw_only=True)
class Sandbox:
    """A control plane and a simulator of its own, both in a process of their own."""

    kubeconfig: Path
    digitalocean: str
    assets: Path
    pids: Mapping[str, int]
    """The control plane's processes by component."""
    kubectl: Kubectl = field(repr=False)
    admin: Administrator = field(repr=False)
    control: Control = field(repr=False)


@contextmanager
def run_sandbox(directory: Path) -> Iterator[Sandbox]:
    log = directory / "sandbox.log"
    with (
        log.open("wb") as errors,
        subprocess.Popen(
            [sys.executable, "-m", "sandbox", "--clusters", "0"],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        ) as process,
    ):
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line, log.read_text()
            ready = json.loads(line)
            kubeconfig, assets = Path(ready["kubeconfig"]), Path(ready["assets"])
            with closing(Administrator(kubeconfig)) as admin, Control(ready["digitalocean"]) as control:
                yield Sandbox(
                    kubeconfig=kubeconfig,
                    digitalocean=ready["digitalocean"],
                    assets=assets,
                    pids=ready["pids"],
                    kubectl=Kubectl(assets=assets, kubeconfig=kubeconfig),
                    admin=admin,
                    control=control,
                )
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(30)


@contextmanager
def fresh_namespace(sandbox: Sandbox) -> Iterator[str]:
    name = f"e2e-{secrets.token_hex(4)}"
    sandbox.admin.create("/api/v1/namespaces", {"metadata": {"name": name}})
    yield name
    if sandbox.admin.find(f"/api/v1/namespaces/{name}"):
        sandbox.admin.delete(f"/api/v1/namespaces/{name}")


@contextmanager
def as_tenant(sandbox: Sandbox) -> Iterator[Tenant]:
    """Somebody with a token in the Secret `do-token`, in a namespace of their own."""
    with fresh_namespace(sandbox) as name:
        tenant = Tenant(name, admin=sandbox.admin, control=sandbox.control)
        tenant.put_token()
        yield tenant
