"""A real Prometheus that scrapes real operators behind a proxy, and what goes wrong for their references.

Windows, delays and two thresholds of the rules are cut to seconds; nothing else of them is changed.
"""

import json
import random
import re
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import httpx
import yaml

from sandbox.controlplane.kubeconfig import by_token, write_kubeconfig
from sandbox.faultproxy import FaultProxy
from sandbox.servers import find_program
from tests.e2e.cluster import REFRESH, ROOT, SYSTEM, Json, Tenant, wait_until
from tests.e2e.running import FAST, Operator, install
from tests.e2e.sandbox import Sandbox, as_tenant, run_sandbox

RULES = ROOT / "deploy" / "monitoring" / "alerts.yaml"
WINDOW = "8s"
IN_SECONDS = (
    (r"\[\d+[mh]\]", f"[{WINDOW}]"),
    (r"for: \d+[mh]", "for: 0s"),
    (r"dbclusterref_queue_overdue_seconds\) > 60", "dbclusterref_queue_overdue_seconds) > 1"),
    (r'intervals="10"', 'intervals="1"'),
)


End = Callable[[], object]
"""What ends a fault."""


class Prometheus:
    """Debian's Prometheus, scraping and evaluating twice a second."""

    def __init__(self, program: Path, *, directory: Path) -> None:
        self._program = program
        self._directory = directory
        self._targets = directory / "targets.json"
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._url = f"127.0.0.1:{probe.getsockname()[1]}"
        rules = RULES.read_text()
        for pattern, short in IN_SECONDS:
            rules, count = re.subn(pattern, short, rules)
            assert count, f"no rule has {pattern}"
        (directory / "alerts.yaml").write_text(rules)
        config = {
            "global": {"scrape_interval": "500ms", "scrape_timeout": "450ms", "evaluation_interval": "500ms"},
            "rule_files": ["alerts.yaml"],
            "scrape_configs": [
                {"job_name": "files", "file_sd_configs": [{"files": [self._targets.name], "refresh_interval": "1s"}]}
            ],
        }
        (directory / "prometheus.yml").write_text(yaml.safe_dump(config))
        self.scrape({})

    def __enter__(self) -> Self:
        with (self._directory / "prometheus.log").open("wb") as log:
            self._process = subprocess.Popen(
                [
                    self._program, f"--config.file={self._directory / 'prometheus.yml'}", f"--web.listen-address={self._url}",
                    f"--storage.tsdb.path={self._directory / 'data'}",
                ],
                stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, cwd=self._directory,
            )  # fmt: skip
        wait_until(self._is_ready, what="Prometheus")
        return self

    def __exit__(self, *_: object) -> None:
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(30)

    def scrape(self, jobs: dict[str, Operator]) -> None:
        """Has these operators scraped, each under its job, and no others."""
        targets = [{"targets": [one.url.removeprefix("http://")], "labels": {"job": job}} for job, one in jobs.items()]
        new = self._targets.with_suffix(".new")
        new.write_text(json.dumps(targets))
        new.replace(self._targets)

    def firing(self) -> list[dict[str, str]]:
        """The labels of the alerts that fire now."""
        return [alert["labels"] for alert in self._get("alerts")["alerts"] if alert["state"] == "firing"]

    def query(self, expression: str) -> list[Json]:
        result: list[Json] = self._get("query", query=expression)["result"]
        return result

    def series(self, expression: str, *, start: float, end: float, step: float) -> list[Json]:
        """What an expression was over time, as Prometheus returns it."""
        result: list[Json] = self._get("query_range", query=expression, start=start, end=end, step=step)["result"]
        return result

    def _is_ready(self) -> bool:
        assert self._process.poll() is None, (self._directory / "prometheus.log").read_text()
        try:
            return httpx.get(f"http://{self._url}/-/ready", trust_env=False).is_success
        except httpx.TransportError:
            return False

    def _get(self, what: str, **query: str | float) -> Json:
        reply = httpx.get(f"http://{self._url}/api/v1/{what}", params=query, trust_env=False, timeout=10)
        assert reply.status_code == httpx.codes.OK, reply.text
        data: Json = reply.json()["data"]
        return data


@dataclass(kw_only=True)
class Stage:
    """A sandbox, a proxy before its API server, a Prometheus, and operators by job, each with a tenant's namespace."""

    sandbox: Sandbox
    proxy: FaultProxy = field(repr=False)
    prometheus: Prometheus
    directory: Path
    stack: ExitStack
    jobs: dict[str, Operator] = field(default_factory=dict)
    tokens: dict[str, str] = field(default_factory=dict, repr=False)
    seen: set[str] = field(default_factory=set)

    def tenant(self) -> Tenant:
        return self.stack.enter_context(as_tenant(self.sandbox))

    def start(self, job: str, *flags: str, account: str = "dbclusterref", wait: bool = True) -> Operator:
        """Starts an operator behind the proxy and has it scraped."""
        token = self.sandbox.kubectl("-n", SYSTEM, "create", "token", account, "--duration=1h").stdout.strip()
        kubeconfig = self.directory / f"{job}-{len(self.jobs)}-{account}"
        write_kubeconfig(kubeconfig, url=self.proxy.url, ca=self.proxy.ca, user=by_token(token), namespace=SYSTEM)
        operator = Operator(
            *flags,
            kubeconfig=kubeconfig,
            api_url=self.sandbox.digitalocean,
            log=self.directory / f"{kubeconfig.name}.log",
            environ={"DBCLUSTERREF_TIMING": f"{FAST},lease_duration=6,renew_deadline=4,retry_period=1"},
        )
        self.stack.callback(operator.kill)
        self.jobs[job], self.tokens[job] = operator, token
        if wait:
            operator.wait_until_ready()
        self.prometheus.scrape(self.jobs)
        return operator

    def wait_until_fired(self, *alerts: str, within: float = 45.0) -> None:
        """Waits until each alert has fired, whether it still does or not."""

        def fired() -> bool:
            self.seen |= {labels["alertname"] for labels in self.prometheus.firing()}
            missing = set(alerts) - self.seen
            assert not missing, f"not fired: {sorted(missing)}"
            return True

        wait_until(fired, within=within, what="the alerts")

    def wait_until_quiet(self, *alerts: str, within: float = 45.0) -> None:
        """Waits until none of the alerts fires; of all where none is named."""

        def ended() -> bool:
            firing = [labels for labels in self.prometheus.firing() if not alerts or labels["alertname"] in alerts]
            assert not firing, f"still firing: {firing}"
            return True

        wait_until(ended, within=within, what="the end of the alerts")


@contextmanager
def open_stage(directory: Path) -> Iterator[Stage]:
    """Raises MissingProgramError where there is no Prometheus."""
    program = find_program("prometheus")
    with ExitStack() as stack:
        sandbox = stack.enter_context(run_sandbox(directory))
        install(sandbox.kubectl)
        admin, chance = sandbox.admin, random.Random(1).random  # noqa: S311 - no secret
        proxy = stack.enter_context(FaultProxy(server=admin.server, server_ca=admin.ca, directory=directory, chance=chance))
        prometheus = stack.enter_context(Prometheus(program, directory=directory))
        yield Stage(sandbox=sandbox, proxy=proxy, prometheus=prometheus, directory=directory, stack=stack)


@dataclass(frozen=True, kw_only=True)
class Fleet:
    """References that share a token and an interval of ten seconds, each to a cluster of its own."""

    tenant: Tenant
    token: str = field(repr=False)
    names: list[str]
    clusters: list[str]

    @classmethod
    def made(cls, tenant: Tenant, name: str, *, clusters: int, **cluster: Any) -> Self:
        token = f"{tenant.token}-{name}"
        tenant.control.set_token(token)
        tenant.put_token(token, name=f"{name}-token")
        names = [f"{name}-{number}" for number in range(clusters)]
        uuids = [str(tenant.control.create_cluster(**cluster)["id"]) for _ in names]
        for one, uuid in zip(names, uuids, strict=True):
            tenant.refer(uuid, name=one, refreshInterval="10s", own_token=False, apiTokenSecretRef={"name": f"{name}-token"})
        return cls(tenant=tenant, token=token, names=names, clusters=uuids)

    def wait_until_synced(self) -> None:
        for name in self.names:
            self.tenant.wait_for("Synced", name=name)

    def meets(self, kind: str, **rule: Any) -> End:
        """Puts a fault in force and has the references read; what is returned clears it and has them read again."""
        number = self.tenant.control.add_fault(kind, token=self.token, **rule)
        self.ask()

        def end() -> None:
            self.tenant.control.clear_fault(number)
            self.ask()

        return end

    def ask(self) -> None:
        """Asks for reads, without waiting for them."""
        for name in self.names:
            self.tenant.admin.patch(self.tenant.path(name), {"metadata": {"annotations": {REFRESH: f"{time.time_ns()}"}}})

    def delete(self) -> None:
        for name in self.names:
            self.tenant.admin.delete(self.tenant.path(name))
