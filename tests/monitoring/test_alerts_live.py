"""A real Prometheus scrapes real operators while what the alerts are for goes wrong: each alert fires, and ends.

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
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Self

import httpx
import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from deploy.monitoring import dashboard
from sandbox.controlplane.kubeconfig import by_token, write_kubeconfig
from sandbox.faultproxy import FaultProxy, ProxyFault
from sandbox.servers import MissingProgramError, find_program
from tests.e2e.cluster import REFRESH, ROOT, SYSTEM, Json, Tenant, encoded, wait_until
from tests.e2e.running import FAST, Operator, install
from tests.e2e.sandbox import Sandbox, as_tenant, run_sandbox

pytestmark = pytest.mark.e2e


def a_ca(*, days: int) -> str:
    """A CA's certificate that expires soon, as PEM."""
    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "old CA")])
    end = datetime.now(UTC) + timedelta(days=days)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(1)
    builder = builder.not_valid_before(end - timedelta(days=400)).not_valid_after(end)
    certificate = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True).sign(key, hashes.SHA256())
    return certificate.public_bytes(Encoding.PEM).decode()


RULES = ROOT / "deploy" / "monitoring" / "alerts.yaml"
WINDOW = "8s"
IN_SECONDS = (
    (r"\[\d+[mh]\]", f"[{WINDOW}]"),
    (r"for: \d+[mh]", "for: 0s"),
    (r"dbclusterref_queue_overdue_seconds\) > 60", "dbclusterref_queue_overdue_seconds) > 1"),
    (r'intervals="10"', 'intervals="1"'),
)
NAMES = frozenset(rule["alert"] for rule in yaml.safe_load(RULES.read_text())["groups"][0]["rules"] if "alert" in rule)
LEASE = f"/apis/coordination.k8s.io/v1/namespaces/{SYSTEM}/leases"
ONE = r"/v2/databases/[^/]+$"
OLD_CA = a_ca(days=10)
FLEETS: tuple[tuple[str, int, dict[str, Any]], ...] = (
    ("rejected", 1, {}),
    ("limited", 1, {}),
    ("low", 1, {}),
    ("lost", 3, {}),
    ("old-version", 1, {}),
    ("refused", 1, {}),
    ("edited", 6, {}),
    ("old-ca", 1, {"ca": OLD_CA}),
)
"""Names, how many references, and what is special about their clusters."""


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

    def _is_ready(self) -> bool:
        assert self._process.poll() is None, (self._directory / "prometheus.log").read_text()
        try:
            return httpx.get(f"http://{self._url}/-/ready", trust_env=False).is_success
        except httpx.TransportError:
            return False

    def _get(self, what: str, **query: str) -> Json:
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


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    try:
        program = find_program("prometheus")
    except MissingProgramError as missing:
        pytest.skip(str(missing))
    directory = tmp_path_factory.mktemp("monitoring")
    with ExitStack() as stack:
        sandbox = stack.enter_context(run_sandbox(directory))
        install(sandbox.kubectl)
        admin, chance = sandbox.admin, random.Random(1).random  # noqa: S311 - no secret
        proxy = stack.enter_context(FaultProxy(server=admin.server, server_ca=admin.ca, directory=directory, chance=chance))
        prometheus = stack.enter_context(Prometheus(program, directory=directory))
        yield Stage(sandbox=sandbox, proxy=proxy, prometheus=prometheus, directory=directory, stack=stack)


def test_each_alert_fires_and_ends(stage: Stage) -> None:
    stage.wait_until_fired("DbclusterrefDown")  # nobody is there yet
    main, slow, blind, calm = stage.tenant(), stage.tenant(), stage.tenant(), stage.tenant()
    blind_account(stage, namespace=blind.namespace)
    hold_lease(stage)
    stage.start("standby", "--leader-elect", f"--namespaces={calm.namespace}", wait=False)
    stage.start("slow", f"--namespaces={slow.namespace}", wait=False)
    stage.start("blind", f"--namespaces={blind.namespace},{slow.namespace}", account="blind", wait=False)
    stage.start("main", f"--namespaces={main.namespace}", "--metrics-per-reference=50", wait=False)
    stage.wait_until_fired("DbclusterrefNoLeader")
    change_leader(stage)
    stage.wait_until_quiet("DbclusterrefDown")

    fleets = {name: Fleet.made(main, name, clusters=count, **cluster) for name, count, cluster in FLEETS}
    fleets["down"] = Fleet.made(blind, "down", clusters=2)
    for fleet in fleets.values():
        fleet.wait_until_synced()
    ends = [
        fleets["down"].meets("status", status=503),
        fleets["rejected"].meets("status", status=401),
        fleets["limited"].meets("status", status=429, headers={"retry-after": "1"}),
        fleets["low"].meets("budget", headers={"ratelimit-limit": "5000", "ratelimit-remaining": "100"}),
        fleets["lost"].meets("status", status=404),
        reach_end_of_life(fleets["old-version"]),
        refuse_writes(stage, fleets["refused"]),
        break_a_reply(stage, main),
        silence_watches(stage, slow),
        fleets["old-ca"].delete,
    ]
    edit_secrets(fleets["edited"])
    credentials = stage.proxy.add(ProxyFault.STATUS, agent=stage.tokens["standby"], status=401)
    stage.wait_until_fired(*(NAMES - {"DbclusterrefLate"}))
    references = stage.prometheus.query(
        'sum by (fresh) (dbclusterref:references:sum{job="blind", reason="UpstreamUnavailable"})'
    )
    assert [one["metric"] for one in references] == [{"fresh": "false"}], "an outage counts as one from its first failure"
    ask_every_panel(stage.prometheus, job="main")
    hang = delay_work(stage, slow)
    stage.wait_until_fired(*NAMES)

    stage.proxy.clear(hang)
    stage.proxy.clear(credentials)
    stage.proxy.cut()
    for end in ends:
        end()
    stage.start("blind", f"--namespaces={blind.namespace}")  # with all rights
    stage.wait_until_quiet()


# --- what goes wrong. What a function returns ends it


End = Callable[[], object]


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


def reach_end_of_life(fleet: Fleet) -> End:
    shown = fleet.tenant.control.get(fleet.clusters[0])
    soon = (datetime.now(UTC) + timedelta(days=10)).isoformat()
    fleet.meets("status", path=ONE, status=200, body={"database": {**shown, "version_end_of_life": soon}})
    return fleet.delete


def refuse_writes(stage: Stage, fleet: Fleet) -> End:
    rule = stage.proxy.add(ProxyFault.STATUS, path=f"/secrets/{fleet.names[0]}", method="PATCH", status=403, message="no")
    fleet.tenant.control.rotate_password(fleet.clusters[0])
    return lambda: stage.proxy.clear(rule)


def break_a_reply(stage: Stage, tenant: Tenant) -> End:
    """The answer to a write of a status is another object: what nobody expects ends as a bug, and is tried again."""
    path = f"{tenant.path('broken')}/status"
    rule = stage.proxy.add(ProxyFault.STATUS, path=path, method="PATCH", status=200, count=1)
    tenant.refer(tenant.control.create_cluster()["id"], name="broken")
    return lambda: stage.proxy.clear(rule)


def edit_secrets(fleet: Fleet) -> None:
    """Twice in a row, which is less often than what counts as contested."""
    tenant = fleet.tenant
    for text in ("one", "two"):
        for name in fleet.names:
            tenant.admin.patch(tenant.secret_path(name), {"data": {"password": encoded(text)}})
        for name in fleet.names:
            wait_until(lambda name=name: tenant.data(name)["password"] != text, what="the repair")  # type: ignore[misc]  # noqa: B023


def silence_watches(stage: Stage, tenant: Tenant) -> End:
    rule = stage.proxy.add(ProxyFault.HANG, path="databaseclusterrefs.*watch=true", agent=stage.tokens["slow"])
    stage.proxy.cut(f"{tenant.namespace}/databaseclusterrefs.*watch=true")
    wait_until(lambda: stage.proxy.acted(rule), what="the silence of the watch")
    tenant.refer(tenant.control.create_cluster()["id"], name="unheard")
    return lambda: stage.proxy.clear(rule)


def delay_work(stage: Stage, tenant: Tenant) -> int:
    """More references than workers, whose writes all hang."""
    hang = stage.proxy.add(ProxyFault.HANG, path="/secrets/late-", method="PATCH", agent=stage.tokens["slow"])
    uuid = tenant.control.create_cluster()["id"]
    for number in range(40):
        tenant.refer(uuid, name=f"late-{number}")
    return hang


def hold_lease(stage: Stage) -> None:
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    spec = {
        "holderIdentity": "somebody",
        "leaseDurationSeconds": 6,
        "renewTime": now,
        "acquireTime": now,
        "leaseTransitions": 0,
    }
    stage.sandbox.admin.create(LEASE, {"metadata": {"name": "dbclusterref"}, "spec": spec})


def change_leader(stage: Stage) -> None:
    """The Lease goes from hand to hand, and then to nobody: the standby takes it when it has not changed for a while."""
    stage.sandbox.admin.patch(f"{LEASE}/dbclusterref", {"spec": {"leaseTransitions": 9, "holderIdentity": "another"}})
    stage.wait_until_fired("DbclusterrefLeaderChangesOften")


def blind_account(stage: Stage, *, namespace: str) -> None:
    """An account with rights in one namespace, and none to list and watch Secrets."""
    kubectl = stage.sandbox.kubectl
    role = json.loads(kubectl("get", "clusterrole", "dbclusterref", "-o", "json").stdout)
    for rule in role["rules"]:
        if rule["resources"] == ["secrets"]:
            rule["verbs"] = [verb for verb in rule["verbs"] if verb not in {"list", "watch"}]
    group = "rbac.authorization.k8s.io"
    subjects = [{"kind": "ServiceAccount", "name": "blind", "namespace": SYSTEM}]
    items = [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "blind", "namespace": SYSTEM}},
        {"apiVersion": f"{group}/v1", "kind": "ClusterRole", "metadata": {"name": "blind"}, "rules": role["rules"]},
        {
            "apiVersion": f"{group}/v1", "kind": "RoleBinding", "metadata": {"name": "blind", "namespace": namespace},
            "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": "blind"}, "subjects": subjects,
        },
    ]  # fmt: skip
    kubectl("apply", "-f", "-", input=json.dumps({"apiVersion": "v1", "kind": "List", "items": items}))


# --- the dashboard


def ask_every_panel(prometheus: Prometheus, *, job: str) -> None:
    """Every query of the dashboard has an answer."""

    def answered() -> bool:
        without = [
            query.expr
            for _, row in dashboard.ROWS
            for panel in row
            for query in panel.queries
            if not prometheus.query(query.expr.replace("$job", job).replace("$__rate_interval", WINDOW))
        ]
        assert not without, f"no answer to {without}"
        return True

    wait_until(answered, what="an answer to each query")
