"""A program under measurement, in a process of its own: what it used of memory and processor."""

import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from benchmarks.world import ROOT, World, cpu_seconds


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A running program. `url` serves its metrics, where it has any."""

    process: subprocess.Popen[bytes]
    url: str

    @property
    def peak_mib(self) -> float:
        """The most memory it ever had resident."""
        found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{self.process.pid}/status").read_text())
        return int(found[1]) / 1024 if found else 0.0

    @property
    def cpu_seconds(self) -> float:
        """Processor time so far, its own and the kernel's for it."""
        return cpu_seconds(self.process.pid)

    async def metric(self, name: str, *, having: str = "") -> float:
        """The sum of a metric's series that hold the words; 0 while nobody answers."""
        try:
            async with aiohttp.ClientSession() as session, session.get(f"{self.url}/metrics") as reply:
                text = await reply.text()
        except aiohttp.ClientError:
            return 0.0
        lines = [line for line in text.splitlines() if re.match(rf"{name}[ {{]", line) and having in line]
        return sum(float(line.rpartition(" ")[2]) for line in lines)

    def stop(self) -> None:
        """Ends it."""
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def start_operator(world: World, namespace: str, token: str, *, under: Sequence[str] = ()) -> Subject:
    """The operator, watching one namespace with one token; `under` goes before its module (a profiler)."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    flags = [
        f"--metrics-address=127.0.0.1:{port}",
        f"--namespaces={namespace}",
        "--token-namespaces=*",
        "--max-per-namespace=0",
        "--log-level=warning",
    ]
    return _start([sys.executable, *under, "-m", "dbclusterref", "run", *flags], world, token, url=f"http://127.0.0.1:{port}")


def start_idiom(world: World, namespace: str, token: str) -> Subject:
    """The baseline, watching one namespace."""
    command = [sys.executable, "-m", "kopf", "run", "-q", "-n", namespace, "-m", "benchmarks.idiom"]
    return _start(command, world, token, url="http://127.0.0.1:1")


def _start(command: list[str], world: World, token: str, *, url: str) -> Subject:
    log = Path(tempfile.gettempdir()) / f"bench-{os.getpid()}.log"
    with log.open("ab") as output:
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env={
                "PATH": os.environ["PATH"],
                "HOME": str(log.parent),
                "KUBECONFIG": str(world.kubeconfig),
                "DIGITALOCEAN_API_URL": world.digitalocean,
                "DIGITALOCEAN_TOKEN": token,
                "PYTHONPATH": str(ROOT),
            },
        )
    return Subject(process=process, url=url)
