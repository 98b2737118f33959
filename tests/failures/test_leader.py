"""Among several replicas one writes: shown by the history of writes that a proxy in front of the API server has seen."""

import json
import signal
import subprocess
import time
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from sandbox.faultproxy import ProxyFault, Write
from tests.e2e.cluster import ROOT, SYSTEM, WITHIN, Tenant, wait_until
from tests.e2e.running import FAST, Operator
from tests.failures.conftest import CANARY, StartOperator, World, through

pytestmark = pytest.mark.e2e

LEASE = f"/apis/coordination.k8s.io/v1/namespaces/{SYSTEM}/leases/dbclusterref"
DURATION = 4.0
TIMING = f"{FAST},lease_duration={DURATION},renew_deadline=2.5,retry_period=0.4"


class Pair:
    """Two replicas that serve one namespace, each known by the end of its token."""

    def __init__(self, world: World, tenant: Tenant, start: StartOperator, directory: object) -> None:
        self.world = world
        self.tenant = tenant
        self.start = start
        self.directory = directory
        self.peers: dict[int, str] = {}

    def add(self) -> Operator:
        path = through(self.world.proxy, self.directory / f"replica-{len(self.peers)}", sandbox=self.world.sandbox)  # type: ignore[operator]
        token = json.loads(path.read_text())["users"][0]["user"]["token"]
        operator = self.start(
            "--leader-elect", f"--namespaces={self.tenant.namespace}", timing=TIMING, kubeconfig=path, wait=False
        )
        self.peers[operator.process.pid] = token[-16:]
        return operator

    def writes(self, operator: Operator) -> list[Write]:
        """What a replica wrote, its Lease aside."""
        return [write for write in self.world.proxy.writes if write.peer.endswith(self.peers[operator.process.pid])
                and "/leases" not in write.path and "accessreviews" not in write.path]  # fmt: skip


def leads(operator: Operator) -> bool:
    return operator.metric("dbclusterref_leader") == 1


@pytest.fixture
def pair(world: World, tenant: Tenant, start: StartOperator, tmp_path: object) -> Iterator[Pair]:
    world.operator.process.send_signal(signal.SIGSTOP)
    lease = world.sandbox.admin.find(LEASE)
    if lease:
        world.sandbox.admin.delete(LEASE)
    yield Pair(world, tenant, start, tmp_path)
    world.operator.process.send_signal(signal.SIGCONT)


def start_pair(pair: Pair) -> tuple[Operator, Operator]:
    leader = pair.add().wait_until_ready()
    wait_until(lambda: leads(leader), what="the first leader")
    standby = pair.add().wait_until_ready()
    assert not leads(standby)
    reply = standby.probe("/readyz")
    assert reply is not None
    assert "standby" in reply.text
    return leader, standby


def assert_no_overlap(pair: Pair, first: Operator, second: Operator) -> None:
    """The first's last write was over before the second's first began."""
    former, later = pair.writes(first), pair.writes(second)
    assert former
    assert later
    assert max(write.ended for write in former) <= min(write.began for write in later)


def make_work(pair: Pair) -> str:
    uuid: str = pair.world.control.create_cluster(password=f"{CANARY}-first")["id"]
    pair.tenant.ready(uuid)
    return uuid


def new_password_arrives(pair: Pair, uuid: str, word: str, *, within: float) -> None:
    pair.world.control.rotate_password(uuid, password=f"{CANARY}-{word}")
    pair.tenant.refresh(within=within)
    wait_until(lambda: pair.tenant.data()["password"] == f"{CANARY}-{word}", within=within, what="the new password")


def test_the_overlay_for_two_replicas_applies_and_has_them_elect_a_leader(world: World) -> None:
    folder = str(ROOT / "deploy" / "overlays" / "highly-available")
    rendered = [item for item in yaml.safe_load_all(world.sandbox.kubectl("kustomize", folder).stdout) if item]
    (deployment,) = [item for item in rendered if item["kind"] == "Deployment"]
    environ = {one["name"]: one.get("value") for one in deployment["spec"]["template"]["spec"]["containers"][0]["env"]}
    assert (deployment["spec"]["replicas"], environ["DBCLUSTERREF_LEADER_ELECT"]) == (2, "true")
    assert deployment["spec"]["strategy"]["type"] == "RollingUpdate"
    assert "DBCLUSTERREF_TOKEN_NAMESPACES" in environ
    applied = world.sandbox.kubectl("apply", "-k", folder, "--dry-run=server").stdout
    assert "poddisruptionbudget.policy/dbclusterref created (server dry run)" in applied


def test_a_leader_that_is_told_to_stop_hands_over_at_once(pair: Pair) -> None:
    leader, standby = start_pair(pair)
    uuid = make_work(pair)
    leader.stop()
    stopped = time.monotonic()
    wait_until(lambda: leads(standby), within=DURATION, what="the handover")
    assert time.monotonic() - stopped < 1.5
    new_password_arrives(pair, uuid, "second", within=10)
    assert_no_overlap(pair, leader, standby)


def test_a_leader_that_is_killed_is_followed_within_the_lease_duration(pair: Pair) -> None:
    leader, standby = start_pair(pair)
    uuid = make_work(pair)
    leader.kill()
    killed = time.monotonic()
    wait_until(lambda: leads(standby), within=2 * DURATION, what="the takeover")
    assert time.monotonic() - killed < DURATION + 1.5
    new_password_arrives(pair, uuid, "second", within=10)
    assert_no_overlap(pair, leader, standby)


def test_a_standby_is_warm_and_writes_nothing(pair: Pair) -> None:
    leader, standby = start_pair(pair)
    make_work(pair)
    wait_until(lambda: standby.metric("dbclusterref_references_known") == 1, what="the standby's knowledge")
    assert standby.metric("dbclusterref_references") == 0
    assert pair.writes(standby) == []
    assert leads(leader)


def test_a_leader_cut_off_from_the_api_server_stops_before_another_begins(pair: Pair) -> None:
    leader, standby = start_pair(pair)
    uuid = make_work(pair)
    fault = pair.world.proxy.add(ProxyFault.HANG, agent=pair.peers[leader.process.pid])
    wait_until(lambda: leads(standby), within=3 * DURATION, what="the takeover")
    leader.process.wait(10)
    assert leader.process.returncode == 3
    assert pair.world.proxy.acted(fault) >= 1
    new_password_arrives(pair, uuid, "second", within=10)
    assert_no_overlap(pair, leader, standby)


def test_a_leader_that_was_frozen_does_not_write_when_it_wakes(pair: Pair) -> None:
    leader, standby = start_pair(pair)
    uuid = make_work(pair)
    leader.process.send_signal(signal.SIGSTOP)
    wait_until(lambda: leads(standby), within=3 * DURATION, what="the takeover")
    pair.world.control.rotate_password(uuid, password=f"{CANARY}-second")
    pair.tenant.refresh()
    leader.process.send_signal(signal.SIGCONT)
    try:
        leader.process.wait(10)
    except subprocess.TimeoutExpired:
        pytest.fail("the former leader goes on")
    assert leader.process.returncode == 3
    wait_until(lambda: pair.tenant.data()["password"] == f"{CANARY}-second", what="the new password")
    assert_no_overlap(pair, leader, standby)


def test_a_write_whose_answer_is_late_is_broken_off_when_the_lease_runs_out(pair: Pair) -> None:
    leader, standby = start_pair(pair)
    uuid = make_work(pair)
    renewal = pair.world.proxy.add(ProxyFault.HANG, path="/leases/", agent=pair.peers[leader.process.pid])
    late = pair.world.proxy.add(ProxyFault.DELAY, method="PATCH", delay=8.0, agent=pair.peers[leader.process.pid])
    pair.world.control.rotate_password(uuid, password=f"{CANARY}-second")
    pair.tenant.refresh(within=20)
    assert pair.world.proxy.acted(renewal) >= 1
    assert pair.world.proxy.acted(late) >= 1, "the former leader began a write"
    wait_until(lambda: leads(standby), within=3 * DURATION, what="the takeover")
    wait_until(lambda: pair.tenant.data()["password"] == f"{CANARY}-second", what="the new password")
    assert_no_overlap(pair, leader, standby)


# --- what a leader leaves behind -------------------------------------------------------------------------------------------


def copy_of(pair: Pair, name: str, *flags: str) -> None:
    """A copy of the Secret as a person makes one, with kubectl."""
    kubectl, namespace = pair.world.sandbox.kubectl, pair.tenant.namespace
    body = json.loads(kubectl("-n", namespace, "get", "secret", "orders-db", "-o", "json", *flags).stdout)
    body["metadata"] = {key: value for key, value in body["metadata"].items() if key not in {"uid", "resourceVersion"}}
    body["metadata"]["name"] = name
    kubectl("-n", namespace, "apply", "-f", "-", input=json.dumps(body))


def killed_before_its_status(pair: Pair, leader: Operator) -> dict[str, Any]:
    """The Secret that a leader wrote, and did not get to name in the status."""
    pair.world.proxy.add(ProxyFault.HANG, method="PATCH", path="/status", agent=pair.peers[leader.process.pid])
    uuid: str = pair.world.control.create_cluster(password=f"{CANARY}-first")["id"]
    pair.tenant.refer(uuid)
    written = wait_until(pair.tenant.secret, what="the Secret")
    leader.kill()
    assert "conditions" not in pair.tenant.status()
    return written


def assert_renamed(pair: Pair) -> None:
    pair.tenant.wait_for("Synced", within=4 * DURATION + WITHIN)
    assert pair.tenant.data("renamed")["password"] == f"{CANARY}-first"
    assert pair.tenant.secret() is None
    wait_until(lambda: "SecretRemoved" in [one["reason"] for one in pair.tenant.events()], what="the Event")


def test_a_standby_removes_what_a_killed_leader_wrote_and_no_status_names(pair: Pair) -> None:
    leader, _ = start_pair(pair)
    killed_before_its_status(pair, leader)
    pair.tenant.admin.patch(pair.tenant.path(), {"spec": {"secret": {"name": "renamed"}}})
    assert_renamed(pair)


def test_after_a_restart_what_a_killed_leader_wrote_and_no_status_names_is_removed_and_no_copy_of_it(pair: Pair) -> None:
    leader = pair.add().wait_until_ready()
    wait_until(lambda: leads(leader), what="the leader")
    written = killed_before_its_status(pair, leader)
    copy_of(pair, "copied")
    copy_of(pair, "copied-whole", "--show-managed-fields")
    pair.tenant.admin.patch(pair.tenant.path(), {"spec": {"secret": {"name": "renamed"}}})
    pair.add().wait_until_ready()
    assert_renamed(pair)
    for name in ("copied", "copied-whole"):
        copied = pair.tenant.secret(name)
        assert copied
        assert copied["data"] == written["data"]
        assert copied["metadata"]["ownerReferences"] == written["metadata"]["ownerReferences"]
