"""The node as one thing: start here."""

import json
import os
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from sandbox.binaries import ensure_assets, ensure_node_programs
from sandbox.node import cgroups
from sandbox.node.images import Images
from sandbox.node.inside import Plan
from sandbox.node.link import Link, take_link
from sandbox.node.machine import program
from sandbox.servers import Place
from sandbox.tether import tethered

ROOT = Path(__file__).resolve().parents[2]
START_SECONDS = 120.0
POLL_SECONDS = 0.05
SYNC_SECONDS = 60
"""The kubelet's own default."""
# The shell's own number goes into every group before the shell becomes the program.
_ENTER_GROUPS = 'while [ "$1" != -- ]; do printf %s $$ >"$1"; shift; done; shift; exec "$@"'
_NAMESPACES = ("--mount", "--net", "--pid", "--ipc", "--uts", "--cgroup")


class NodeError(Exception):
    """The node did not come up or is gone; the message holds the end of its log."""


class Node:
    """One Kubernetes node with the control plane it belongs to, in namespaces of its own.

    A context manager. It is reached from this machine at `address`: the API server by `kubeconfig`, DigitalOcean's simulated
    API at `digitalocean`. `sync_seconds` is the kubelet's syncFrequency, which decides when a mounted Secret follows.
    """

    def __init__(self, *, images: Images, sync_seconds: int = SYNC_SECONDS) -> None:
        self._images = images
        self._sync_seconds = sync_seconds
        self._process: subprocess.Popen[bytes] | None = None
        self._sweeper: subprocess.Popen[bytes] | None = None
        self._ready: Mapping[str, str] = {}
        self._link: Link | None = None
        self.directory = Path()

    @property
    def kubeconfig(self) -> Path:
        """The administrator's, good on this machine."""
        return Path(self._ready["kubeconfig"])

    @property
    def assets(self) -> Path:
        """The directory that holds kubectl."""
        return Path(self._ready["assets"])

    @property
    def digitalocean(self) -> str:
        """The simulated API's URL, for pods and for this machine."""
        return self._ready["digitalocean"]

    @property
    def address(self) -> str:
        """The node's, for pods and for this machine."""
        assert self._link
        return self._link.node_address

    @property
    def pid(self) -> int:
        """The process whose end is the node's."""
        assert self._process
        return self._process.pid

    @property
    def first_process(self) -> int:
        """The first one in the namespaces, as this machine counts."""
        children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
        if not children:
            raise NodeError(f"the node is gone.\n{self.last_words()}")
        return int(children[0])

    @property
    def place(self) -> Place:
        """Where servers have to listen so that pods reach them."""
        return Place(address=self.address, prefix=(program("nsenter"), f"--net=/proc/{self.first_process}/ns/net"))

    def start(self) -> None:
        """Returns when the node is Ready; takes everything away again on failure."""
        assets, programs = ensure_assets(), ensure_node_programs()
        runs = self._images.store.parents[1] / "runs"
        runs.mkdir(exist_ok=True)
        self.directory = Path(tempfile.mkdtemp(dir=runs))
        name = f"dbclusterref-{self.directory.name}"
        self._link = take_link()
        entrances = list(cgroups.create(name))
        self._sweeper = self._start_sweeper(groups=[str(entrance.parent) for entrance in entrances])
        try:
            _copy_store(self._images.store, self.directory / "containerd")
            (self.directory / "tmp").mkdir(mode=0o1777)
            plan = Plan(
                directory=str(self.directory),
                address=self.address,
                assets=str(assets),
                programs=str(programs),
                sync_seconds=self._sync_seconds,
            )
            plan.write(self.directory / "plan.json")
            self._process = self._start_inside(entrances)
            self._wait_until(self._has_own_network, what="its namespaces")
            cgroups.move_out(self.pid, name=name)
            self._link.hand_over(self.first_process)
            assert self._process.stdin
            self._process.stdin.write(b"go\n")
            self._process.stdin.flush()
            ready = self.directory / "ready.json"
            self._wait_until(ready.exists, what="the node to be Ready")
            self._ready = json.loads(ready.read_text())
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """One SIGKILL, and the wait until nothing is left."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            assert self._process.stdin
            self._process.stdin.close()
            self._process = None
        if self._sweeper is not None:
            assert self._sweeper.stdin
            self._sweeper.stdin.close()
            self._sweeper.wait()
            self._sweeper = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self.stop()

    def check(self) -> None:
        """Raise `NodeError` if the node is gone."""
        if self._process is None or self._process.poll() is not None:
            raise NodeError(f"the node is gone.\n{self.last_words()}")

    def run(self, *command: str, check: bool = True) -> str:
        """Runs a program in the node's namespaces (as `kubectl debug node` would); returns what it printed."""
        spaces = [f"--{kind}" for kind in ("mount", "net", "pid", "ipc", "uts", "cgroup")]
        done = subprocess.run(
            [program("nsenter"), "--target", str(self.first_process), *spaces, "--wd=/", "--", *command],
            capture_output=True,
            text=True,
            check=False,
        )
        if check and done.returncode:
            raise NodeError(f"{shlex.join(command)}: {done.stderr.strip()}")
        return done.stdout

    def kubectl(self, *arguments: str, stdin: str | None = None, check: bool = True) -> str:
        """As the administrator; returns what it printed."""
        done = subprocess.run(
            [self.assets / "kubectl", *arguments],
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "KUBECONFIG": str(self.kubeconfig), "KUBECACHEDIR": str(self.directory / "kubectl")},
        )
        if check and done.returncode:
            raise NodeError(f"kubectl {shlex.join(arguments)}: {done.stderr.strip()}")
        return done.stdout

    def last_words(self) -> str:
        """The end of its log."""
        log = self.directory / "node.log"
        return "\n".join(log.read_text(errors="replace").splitlines()[-20:]) if log.exists() else ""

    def _start_sweeper(self, *, groups: list[str]) -> subprocess.Popen[bytes]:
        assert self._link
        script = Path(__file__).with_name("sweeper.py")
        command = [sys.executable, "-I", "-S", str(script), str(self.directory), self._link.name, *groups]
        return subprocess.Popen(command, stdin=subprocess.PIPE, cwd="/")

    def _start_inside(self, entrances: list[Path]) -> subprocess.Popen[bytes]:
        inside = [sys.executable, "-m", "sandbox.node.inside", str(self.directory / "plan.json")]
        options = [*_NAMESPACES, "--fork", "--kill-child", "--mount-proc", "--propagation", "private"]
        unshare = [program("unshare"), *options, "--", *inside]
        with (self.directory / "node.log").open("wb") as log:
            return subprocess.Popen(
                tethered(["/bin/sh", "-c", _ENTER_GROUPS, "sh", *map(str, entrances), "--", *unshare]),
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                cwd=ROOT,
                # its temporary files are gone with the directory
                env={**os.environ, "TMPDIR": str(self.directory / "tmp")},
                start_new_session=True,
            )

    def _has_own_network(self) -> bool:
        children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
        if not children:
            return False
        return Path(f"/proc/{children[0]}/ns/net").readlink() != Path("/proc/self/ns/net").readlink()

    def _wait_until(self, is_so: Callable[[], bool], *, what: str) -> None:
        deadline = time.monotonic() + START_SECONDS
        while not is_so():
            self.check()
            if time.monotonic() > deadline:
                load = f"the machine's load is {os.getloadavg()[0]:.0f} on {os.cpu_count()} processors"
                raise NodeError(f"Waited {START_SECONDS:.0f} s for {what} without success ({load}).\n{self.last_words()}")
            time.sleep(POLL_SECONDS)


def _copy_store(store: Path, to: Path) -> None:
    """Layers and blobs never change once they are there, so they are linked; containerd's own records are copied."""
    subprocess.run(["cp", "--archive", "--link", str(store), str(to)], check=True)
    for records in to.glob("*/*.db"):
        content = records.read_bytes()
        records.unlink()
        records.write_bytes(content)
