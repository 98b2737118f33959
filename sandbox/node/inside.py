"""The first process of a node's namespaces: `python -m sandbox.node.inside PLAN`, under `unshare`.

It makes the mounts and the network, starts containerd, the control plane, the DigitalOcean simulator, the kubelet and the
scheduler, and writes where they are. When it ends, the kernel ends everything else in the namespaces.
"""

import asyncio
import contextlib
import json
import os
import socket
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from sandbox.controlplane import ControlPlane, KubectlError, NodeLink
from sandbox.controlplane.components import APISERVER_SERVICE, SERVICE_ADDRESSES
from sandbox.controlplane.process import Process
from sandbox.digitalocean import start_simulator
from sandbox.node import cgroups
from sandbox.node.link import INSIDE_NAME
from sandbox.node.machine import SEARCH_PATH, program
from sandbox.node.runtime import (
    SOCKET,
    containerd_configuration,
    kubelet_command,
    kubelet_configuration,
    network_configuration,
    scheduler_command,
)

NODE = "node-1"
READY_WITHIN = 90.0
POLL_SECONDS = 0.05
# The kubelet wants these values. The machine's are not ours to change, so it is shown files that say so, and writes nothing.
SYSCTLS = {
    "kernel/panic": 10,
    "kernel/panic_on_oops": 1,
    "vm/overcommit_memory": 1,
    "vm/panic_on_oom": 0,
    "kernel/keys/root_maxkeys": 1000000,
    "kernel/keys/root_maxbytes": 25000000,
}
# One rule instead of kube-proxy: the API server's Service, which is all that pods here need.
ONE_SERVICE = """
table ip services {{
  chain pre {{ type nat hook prerouting priority dstnat; ip daddr {service} tcp dport 443 dnat to {address}:{port}; }}
  chain out {{ type nat hook output priority -100; ip daddr {service} tcp dport 443 dnat to {address}:{port}; }}
}}
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What the owner decides. `directory` is the node's own; `assets` and `programs` hold the binaries."""

    directory: str
    address: str
    assets: str
    programs: str
    sync_seconds: int

    def write(self, path: Path) -> None:
        """For the process in the namespaces."""
        path.write_text(json.dumps(asdict(self)))


def main(plan_file: str) -> int:
    """As the first process it also buries the orphans; its status is that of the process which does the work."""
    worker = os.fork()
    if worker == 0:
        plan = Plan(**json.loads(Path(plan_file).read_text()))
        asyncio.run(_serve(plan))
        return 0
    while True:
        pid, status = os.wait()
        if pid == worker:
            return abs(os.waitstatus_to_exitcode(status))


async def _serve(plan: Plan) -> None:
    directory = Path(plan.directory)
    _mount(directory)
    cgroups.make_leaf()
    node = NodeLink(name=NODE, address=plan.address)
    await asyncio.to_thread(sys.stdin.readline)  # the owner has handed the link over
    _bring_up_network(node)
    environ = {"PATH": SEARCH_PATH}
    (directory / "containerd.toml").write_text(containerd_configuration(directory))
    (directory / "cni").mkdir()
    (directory / "cni" / "10-pods.conflist").write_text(network_configuration())
    containerd = Process(
        name="containerd",
        command=[program("containerd"), "--config", str(directory / "containerd.toml")],
        log=directory / "containerd.log",
        environ=environ,
    )
    containerd.start()
    async with ControlPlane(assets=Path(plan.assets), node=node) as plane, start_simulator(host="0.0.0.0") as simulator:  # noqa: S104
        layout = plane.layout
        rules = ONE_SERVICE.format(service=APISERVER_SERVICE, address=node.address, port=layout.apiserver_port)
        _run("nft", "-f", "-", text=rules)
        (directory / "kubelet.json").write_text(kubelet_configuration(layout, sync_seconds=plan.sync_seconds))
        programs = Path(plan.programs)
        commands = {
            "kubelet": kubelet_command(programs / "kubelet", directory=directory, layout=layout, node=node),
            "kube-scheduler": scheduler_command(programs / "kube-scheduler", layout=layout),
        }
        await _until_it_listens(containerd)
        parts = [containerd]
        for name, command in commands.items():
            parts.append(Process(name=name, command=command, log=directory / f"{name}.log", environ=environ))
            parts[-1].start()
        await _until_ready(plane, parts)
        ready = {
            "kubeconfig": str(plane.kubeconfig),
            "assets": plan.assets,
            "digitalocean": f"http://{node.address}:{simulator.url.rpartition(':')[2]}",
        }
        unfinished = directory / "ready.unfinished"
        unfinished.write_text(json.dumps(ready))
        unfinished.rename(directory / "ready.json")
        while True:
            plane.check()
            for part in parts:
                part.check()
            await asyncio.sleep(POLL_SECONDS * 4)


def _mount(directory: Path) -> None:
    hierarchies = cgroups.this_machines()
    _run("mount", "--make-rshared", "/")  # pods' volumes are mounted through
    socket.sethostname(NODE)
    _run("mount", "-t", "sysfs", "sysfs", "/sys")
    if any(hierarchy.root != Path("/sys/fs/cgroup") for hierarchy in hierarchies):
        _run("mount", "-t", "tmpfs", "tmpfs", "/sys/fs/cgroup")
    for hierarchy in hierarchies:
        hierarchy.root.mkdir(parents=True, exist_ok=True)
        kind = "cgroup" if hierarchy.version == 1 else "cgroup2"
        options = ["-o", hierarchy.options] if hierarchy.options else []
        _run("mount", "-t", kind, *options, "cgroup", str(hierarchy.root))
    for name, value in SYSCTLS.items():
        shown = directory / f"sysctl-{name.replace('/', '-')}"
        shown.write_text(f"{value}\n")
        _run("mount", "--bind", str(shown), f"/proc/sys/{name}")
    for path in ("/run", "/var/log"):
        _run("mount", "-t", "tmpfs", "tmpfs", path)
    # kubelet and containerd have paths below /var/lib that no flag moves: what they write there goes with the node.
    upper = directory / "var-lib"
    upper.mkdir()
    _run("mount", "-t", "tmpfs", "tmpfs", str(upper))
    for part in ("changes", "work"):
        (upper / part).mkdir()
    layers = f"lowerdir=/var/lib,upperdir={upper}/changes,workdir={upper}/work"
    _run("mount", "-t", "overlay", "overlay", "-o", layers, "/var/lib")


def _bring_up_network(node: NodeLink) -> None:
    _run("ip", "link", "set", "lo", "up")
    _run("ip", "address", "add", f"{node.address}/30", "dev", INSIDE_NAME)
    _run("ip", "link", "set", INSIDE_NAME, "up")
    _run("ip", "route", "add", SERVICE_ADDRESSES, "dev", INSIDE_NAME)  # so that the node itself reaches Services
    Path("/proc/sys/net/ipv4/ip_forward").write_text("1")


async def _until_it_listens(containerd: Process) -> None:
    deadline = time.monotonic() + READY_WITHIN
    while not SOCKET.exists():
        containerd.check()
        if time.monotonic() > deadline:
            raise TimeoutError(f"containerd does not listen. {containerd.last_words()}")
        await asyncio.sleep(POLL_SECONDS)


async def _until_ready(plane: ControlPlane, parts: list[Process]) -> None:
    deadline = time.monotonic() + READY_WITHIN
    while True:
        try:
            await plane.kubectl("wait", "--for=condition=Ready", f"node/{NODE}", "--timeout=5s")
        except KubectlError as error:  # not registered yet, or not ready yet
            for part in parts:
                part.check()
            if time.monotonic() > deadline:
                raise TimeoutError(f"{NODE} is not Ready: {error}. {parts[1].last_words()}") from None
            await asyncio.sleep(POLL_SECONDS)
        else:
            return


def _run(name: str, *arguments: str, text: str = "") -> None:
    done = subprocess.run([program(name), *arguments], input=text, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{name} {' '.join(arguments)}: {done.stderr.strip()}")


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        sys.exit(main(sys.argv[1]))
