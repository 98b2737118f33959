"""`spec.restart` on a real API server, by an operator whose account has what the component grants, and one that has not."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from dbclusterref.resource.restart import annotation_of
from tests.e2e.cluster import Json, Kubectl, Tenant, wait_until
from tests.e2e.components import ACCOUNT, component
from tests.e2e.conftest import StartOperator

pytestmark = pytest.mark.e2e

KINDS = {"Deployment": "deployments", "StatefulSet": "statefulsets", "DaemonSet": "daemonsets"}
ANNOTATION = annotation_of("orders-db")
POLICY = "dbclusterref-restarts-only"
IN_SECONDS = {"DBCLUSTERREF_TIMING": "restart_debounce=1,after_refusal=3"}


@pytest.fixture
def granted(kubectl: Kubectl, installed: Path, tmp_path: Path) -> Iterator[None]:
    """See `component`."""
    with component("restart-workloads", policy=POLICY, kubectl=kubectl, folder=tmp_path / "component"):
        yield


class Workloads:
    """Workloads of a tenant without anybody who rolls them out: the tests say when that is done."""

    def __init__(self, tenant: Tenant) -> None:
        self.tenant = tenant
        self.base = f"/apis/apps/v1/namespaces/{tenant.namespace}"

    def create(self, name: str, *, kind: str = "Deployment") -> None:
        labels = {"app": name}
        template = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "app", "image": "example.com/app"}]}}
        spec: Json = {"selector": {"matchLabels": labels}, "template": template}
        if kind != "DaemonSet":
            spec["replicas"] = 0
        body = {"apiVersion": "apps/v1", "kind": kind, "metadata": {"name": name}, "spec": spec}
        self.tenant.admin.create(f"{self.base}/{KINDS[kind]}", body)

    def get(self, name: str, *, kind: str = "Deployment") -> Json:
        return self.tenant.admin.get(f"{self.base}/{KINDS[kind]}/{name}")

    def revision(self, name: str, *, kind: str = "Deployment") -> str | None:
        value: str | None = self.get(name, kind=kind)["spec"]["template"]["metadata"].get("annotations", {}).get(ANNOTATION)
        return value and value.partition(".")[0]

    def finish(self, name: str, *, kind: str = "Deployment") -> None:
        generation = self.get(name, kind=kind)["metadata"]["generation"]
        numbers = ("currentNumberScheduled", "numberMisscheduled", "desiredNumberScheduled", "numberReady")
        status = {"observedGeneration": generation, **(dict.fromkeys(numbers, 0) if kind == "DaemonSet" else {"replicas": 0})}
        self.tenant.admin.patch(f"{self.base}/{KINDS[kind]}/{name}/status", {"status": status})


def states(tenant: Tenant) -> dict[str, str]:
    return {item["name"]: f"{item['state']} {item['revision']}" for item in tenant.status().get("restarts", [])}


def reasons(tenant: Tenant) -> list[str]:
    return [one["reason"] for one in tenant.events()]


def rotate(tenant: Tenant, cluster: str) -> None:
    tenant.control.rotate_password(cluster)
    tenant.refresh()


@pytest.mark.usefixtures("granted")
def test_workloads_of_each_kind_follow_a_rotation_one_after_the_other_and_once(
    start_operator: StartOperator, lone: Tenant
) -> None:
    workloads = Workloads(lone)
    for kind in KINDS:
        workloads.create(kind.lower(), kind=kind)
    operator = start_operator("--restart-workloads", environ=IN_SECONDS)
    cluster = lone.control.create_cluster()["id"]
    lone.ready(cluster, restart=[{"kind": kind, "name": kind.lower()} for kind in KINDS])
    before = {kind: workloads.get(kind.lower(), kind=kind)["metadata"]["resourceVersion"] for kind in KINDS}
    rotate(lone, cluster)
    for kind in KINDS:
        name = kind.lower()
        wait_until(lambda name=name: states(lone)[name] == "RollingOut 2", what=f"the restart of {kind}")  # type: ignore[misc]
        assert workloads.revision(name, kind=kind) == "2"
        waiting = [one for one, state in states(lone).items() if state == "Pending 1"]
        for other in waiting:
            found = next(one for one in KINDS if one.lower() == other)
            assert workloads.get(other, kind=found)["metadata"]["resourceVersion"] == before[found]
        workloads.finish(name, kind=kind)
    wait_until(lambda: set(states(lone).values()) == {"Current 2"}, what="the last rollout's end")
    assert reasons(lone).count("WorkloadRestarted") == len(KINDS)
    assert operator.metric("dbclusterref_workload_restarts_total", result="restarted") == len(KINDS)
    # A GitOps tool takes the annotation away, and the operator restarts: neither is a reason.
    path = f"{workloads.base}/deployments/deployment"
    lone.admin.patch(path, {"spec": {"template": {"metadata": {"annotations": {ANNOTATION: None}}}}})
    operator.stop()
    start_operator("--restart-workloads", environ=IN_SECONDS)
    lone.refresh()
    assert workloads.revision("deployment") is None
    rotate(lone, cluster)
    wait_until(lambda: workloads.revision("deployment") == "3", what="the next rotation's restart")


BEYOND_ITS_ANNOTATION: dict[str, Json] = {
    "image": {"spec": {"containers": [{"name": "app", "image": "example.com/other"}]}},
    "account": {"spec": {"serviceAccountName": "builder"}},
    "label": {"metadata": {"labels": {"team": "a"}}},
    "another annotation": {"metadata": {"annotations": {"example.com/note": "changed"}}},
    "a new annotation": {"metadata": {"annotations": {"example.com/new": "x"}}},
    "without an annotation": {"metadata": {"annotations": {"example.com/note": None}}},
}


@pytest.mark.usefixtures("granted")
def test_the_account_may_change_its_annotation_and_nothing_else_of_a_pod_template(kubectl: Kubectl, lone: Tenant) -> None:
    workloads = Workloads(lone)
    workloads.create("app")
    note = {"metadata": {"annotations": {"example.com/note": "theirs"}}}
    lone.admin.patch(f"{workloads.base}/deployments/app", {"spec": {"template": note}})

    def attempt(template: Json, *, by: str = ACCOUNT) -> str:
        patch = json.dumps({"spec": {"template": template}})
        arguments = ("patch", "deployment/app", "--type=merge", "--dry-run=server", f"--as={by}", "-p", patch)
        groups = [] if by == ACCOUNT else ["--as-group=system:masters"]
        return kubectl("-n", lone.namespace, *arguments, *groups, check=False).stderr

    image = BEYOND_ITS_ANNOTATION["image"]
    wait_until(lambda: POLICY in attempt(image), what="the policy is in force")
    refused = {name: POLICY in attempt(template) for name, template in BEYOND_ITS_ANNOTATION.items()}
    assert refused == dict.fromkeys(BEYOND_ITS_ANNOTATION, True)
    assert attempt({"metadata": {"annotations": {ANNOTATION: "2"}}}) == ""
    assert attempt(image, by="somebody") == "", "nobody else is held to it"


def test_without_the_right_the_restart_is_said_and_made_once_it_is_granted(
    start_operator: StartOperator, lone: Tenant, request: pytest.FixtureRequest
) -> None:
    workloads = Workloads(lone)
    workloads.create("app")
    start_operator("--restart-workloads", environ=IN_SECONDS)
    cluster = lone.control.create_cluster()["id"]
    lone.ready(cluster, restart=[{"kind": "Deployment", "name": "app"}])
    rotate(lone, cluster)
    wait_until(lambda: states(lone)["app"] == "Forbidden 1", what="the status that says so")
    condition = lone.condition("Ready")
    assert condition["status"] == "True"
    assert "deploy/components/restart-workloads" in condition["message"]
    wait_until(lambda: "RestartForbidden" in reasons(lone), what="the Event")
    request.getfixturevalue("granted")
    wait_until(lambda: workloads.revision("app") == "2", within=60, what="the restart")


def test_without_the_flag_the_status_says_so(start_operator: StartOperator, lone: Tenant) -> None:
    start_operator()
    cluster = lone.control.create_cluster()["id"]
    lone.ready(cluster, restart=[{"kind": "Deployment", "name": "app"}])
    assert states(lone) == {"app": "Disabled 1"}
    assert "--restart-workloads" in lone.condition("Ready")["message"]
    wait_until(lambda: "RestartDisabled" in reasons(lone), what="the Event")


MATCH = {"reloader.stakater.com/match": "true"}


def annotations(tenant: Tenant) -> Json:
    secret = tenant.secret()
    assert secret is not None
    found: Json = secret["metadata"]["annotations"]
    return found


def test_the_annotation_that_reloader_looks_for_is_set_and_kept_and_a_refresh_writes_nothing(tenant: Tenant) -> None:
    cluster = tenant.control.create_cluster()["id"]
    tenant.ready(cluster, secret={"annotations": MATCH})
    assert MATCH.items() <= annotations(tenant).items()
    before = tenant.secret()
    tenant.refresh()
    assert tenant.secret() == before, "Reloader hears of nothing"
    tenant.admin.patch(tenant.secret_path(), {"metadata": {"annotations": dict.fromkeys(MATCH)}})
    wait_until(lambda: MATCH.items() <= annotations(tenant).items(), what="the annotation is back")
    rotate(tenant, cluster)
    assert MATCH.items() <= annotations(tenant).items()


@pytest.mark.usefixtures("granted")
def test_what_reloader_sets_on_a_workload_stays(start_operator: StartOperator, lone: Tenant) -> None:
    workloads = Workloads(lone)
    workloads.create("app")
    theirs = {"annotations": {"reloader.stakater.com/last-reloaded-from": "{}"}}
    environment = {"name": "STAKATER_ORDERS_DB_SECRET", "value": "1f0e"}
    container = {"name": "app", "image": "example.com/app", "env": [environment]}
    change = {"spec": {"template": {"metadata": theirs, "spec": {"containers": [container]}}}}
    lone.admin.patch(f"{workloads.base}/deployments/app", change)
    start_operator("--restart-workloads", environ=IN_SECONDS)
    cluster = lone.control.create_cluster()["id"]
    lone.ready(cluster, restart=[{"kind": "Deployment", "name": "app"}])
    rotate(lone, cluster)
    wait_until(lambda: workloads.revision("app") == "2", what="the restart")
    template = workloads.get("app")["spec"]["template"]
    assert template["metadata"]["annotations"] == {
        **theirs["annotations"],
        ANNOTATION: f"2.{lone.admin.get(lone.path())['metadata']['uid']}",
    }
    assert template["spec"]["containers"][0]["env"] == [environment]
