"""A real Prometheus scrapes real operators while what the alerts are for goes wrong: each alert fires, and ends."""

import json
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from deploy.monitoring import dashboard
from sandbox.faultproxy import ProxyFault
from sandbox.servers import MissingProgramError
from tests.e2e.cluster import SYSTEM, Tenant, encoded, wait_until
from tests.monitoring.stage import RULES, WINDOW, End, Fleet, Prometheus, Stage, open_stage

pytestmark = pytest.mark.e2e


def a_ca(*, days: int) -> str:
    """A CA's certificate that expires soon, as PEM."""
    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "old CA")])
    end = datetime.now(UTC) + timedelta(days=days)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(1)
    builder = builder.not_valid_before(end - timedelta(days=400)).not_valid_after(end)
    certificate = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True).sign(key, hashes.SHA256())
    return certificate.public_bytes(Encoding.PEM).decode()


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


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with ExitStack() as stack:
        try:
            yield stack.enter_context(open_stage(tmp_path_factory.mktemp("monitoring")))
        except MissingProgramError as missing:
            pytest.skip(str(missing))


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
