"""The operator as a process of its own, with its own ServiceAccount's token and nothing of the tests' environment."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import httpx

from sandbox.controlplane.kubeconfig import by_token, write_kubeconfig
from tests.e2e.cluster import ROOT, SYSTEM, Administrator, Kubectl, wait_until

STOP_WITHIN = 5.0
FAST = "resync=3,confirm_not_found=1,watch_silence=4,watch_idle=2,conflict_window=4,conflict_calm=5"
"""A DBCLUSTERREF_TIMING for tests that would otherwise wait for minutes."""


def account_kubeconfig(path: Path, *, kubectl: Kubectl, admin: Administrator) -> Path:
    """The kubeconfig of the ServiceAccount that `deploy/` makes, with exactly the rights it grants."""
    token = kubectl("-n", SYSTEM, "create", "token", "dbclusterref", "--duration=1h").stdout.strip()
    return write_kubeconfig(path, url=admin.server, ca=admin.ca, user=by_token(token), namespace=SYSTEM)


def install(kubectl: Kubectl) -> None:
    """`kubectl apply -f crds/`, `kubectl apply -k deploy`, and the moment until all of it is in force."""
    kubectl("apply", "-f", str(ROOT / "crds"))
    kubectl("apply", "-k", str(ROOT / "deploy"))
    kubectl.wait_for_crd()
    wait_until(lambda: kubectl("get", "dbref", "-A", check=False).returncode == 0, what="discovery of the resource")


class Operator:
    """One run of `python -m dbclusterref run`. What it logs goes to a file."""

    def __init__(
        self,
        *flags: str,
        kubeconfig: Path,
        api_url: str,
        log: Path,
        environ: Mapping[str, str] | None = None,
        user: int | None = None,
        source: Path | None = None,
        under: Sequence[str] = (),
    ) -> None:
        """`user` is a numeric user that it believes to be, in a user namespace of its own.

        `source` is a source root to run instead of this tree's `operator/`, `under` a command to run it by.
        """
        port = _free_port()
        self.url = f"http://127.0.0.1:{port}"
        self.log = log
        as_user = [*under] if user is None else [*under, "unshare", f"--map-user={user}", f"--map-group={user}"]
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                [*as_user, sys.executable, "-P", "-m", "dbclusterref", "run", f"--metrics-address=127.0.0.1:{port}", *flags],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=log.parent,
                env={
                    "PATH": os.environ["PATH"],
                    "HOME": str(log.parent),
                    "KUBECONFIG": str(kubeconfig),
                    "DIGITALOCEAN_API_URL": api_url,
                    **({"PYTHONPATH": str(source)} if source else {}),
                    **(environ or {}),
                },
            )

    def lines(self) -> list[str]:
        """What it has logged so far."""
        return self.log.read_text().splitlines()

    def probe(self, path: str) -> httpx.Response | None:
        """What `/healthz`, `/readyz` or `/metrics` answers; None while nobody listens."""
        assert self.process.poll() is None, f"the operator ended with {self.process.returncode}: {self.log.read_text()}"
        try:
            return httpx.get(self.url + path, trust_env=False, timeout=5)
        except httpx.TransportError:
            return None

    def answers(self, path: str, *, status: int = 200) -> bool:
        reply = self.probe(path)
        return reply is not None and reply.status_code == status

    def wait_until_ready(self) -> "Operator":
        wait_until(lambda: self.answers("/readyz"), within=30, what="the operator's readiness")
        return self

    def wait_until_logged(self, words: str, *, within: float = 15.0) -> str:
        """The first line that holds the words."""

        def found() -> str | None:
            self.answers("/healthz")  # it is still there
            return next((line for line in self.lines() if words in line), None)

        return wait_until(found, within=within, what=f"{words!r} in the log") or ""

    def metric(self, name: str, **labels: str) -> float:
        """The sum of a metric's values over the series with these labels."""
        reply = self.probe("/metrics")
        assert reply is not None, "no metrics"
        return metric_in(reply.text, name, **labels)

    def stop(self, *, exit_status: int = 0) -> float:
        """SIGTERM; returns how many seconds it took to end, well and in time."""
        began = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        try:
            status = self.process.wait(STOP_WITHIN)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"still running {STOP_WITHIN} s after SIGTERM: {self.log.read_text()}") from None
        assert status == exit_status, f"ended with {status}: {self.log.read_text()}"
        return time.monotonic() - began

    def kill(self) -> None:
        """SIGKILL; harmless where it has ended."""
        self.process.kill()
        self.process.wait()

    @property
    def is_running(self) -> bool:
        return self.process.poll() is None


def metric_in(text: str, name: str, **labels: str | Sequence[str]) -> float:
    """Sums the series of a metric in Prometheus' text format; a label's value may be any of several."""
    total = 0.0
    wanted = {label: {value} if isinstance(value, str) else set(value) for label, value in labels.items()}
    for line in text.splitlines():
        series, _, value = line.rpartition(" ")
        metric, _, rest = series.partition("{")
        if metric == name:
            found = dict(pair.split("=", 1) for pair in rest.removesuffix("}").split(",") if "=" in pair)
            if all(found.get(label, "").strip('"') in values for label, values in wanted.items()):
                total += float(value)
    return total


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
