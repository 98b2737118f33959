"""What spec.restart may name, and when a rollout is over."""

from typing import Any

import pytest

from dbclusterref.errors import InvalidSpec
from dbclusterref.resource.restart import (
    Restart,
    RestartState,
    Workload,
    WorkloadKind,
    annotation_of,
    is_rolled_out,
    read_restarts,
    restart_mark,
    restarted_for,
    why_it_stays,
)
from tests.support.builders import a_reference

APP = Workload(kind=WorkloadKind.DEPLOYMENT, name="app")


def test_workloads_are_read_in_their_order_and_each_once() -> None:
    named = [{"kind": kind, "name": "app"} for kind in ("Deployment", "StatefulSet", "Deployment")]
    found = a_reference({"restart": named}).restart
    assert found == (APP, Workload(kind=WorkloadKind.STATEFUL_SET, name="app"))
    assert a_reference({"restart": None}).restart == ()


@pytest.mark.parametrize(
    ("named", "place"),
    [
        ([{"kind": "Pod", "name": "app"}], r"spec\.restart\[0\]\.kind"),
        ([{"kind": "Deployment", "name": "app"}, {"kind": "Deployment", "name": "../app"}], r"spec\.restart\[1\]\.name"),
        ([{"kind": "Deployment"}], r"spec\.restart\[0\]\.name"),
        ([{"kind": "Deployment", "name": f"app-{number}"} for number in range(17)], "17 workloads"),
        ("app", r"spec\.restart must be a list"),
    ],
)
def test_what_no_workload_can_be_is_refused_by_its_place(named: object, place: str) -> None:
    with pytest.raises(InvalidSpec, match=place):
        a_reference({"restart": named})


def test_the_status_is_read_as_it_is_written_and_what_cannot_be_read_is_left_out() -> None:
    one = Restart(workload=APP, revision=7, state=RestartState.FORBIDDEN, message="no")
    bad: list[object] = [{}, None, {**one.to_body(), "state": "Unknown"}, {**one.to_body(), "revision": "7"}]
    assert read_restarts([one.to_body(), *bad]) == (one,)
    assert read_restarts(None) == ()


def test_a_long_name_has_an_annotation_that_the_api_server_takes_and_no_other_name_has() -> None:
    names = ["orders-db", "a" * 63, "a" * 64, "a" * 65, "a." * 60 + "b"]
    found = [annotation_of(name).removeprefix("restart.dbclusterref.io/") for name in names]
    assert found[:2] == names[:2]
    assert len(set(found)) == len(names)
    assert all(len(name) <= 63 and name[-1].isalnum() for name in found)


def test_only_a_number_of_this_very_resource_in_the_annotation_counts() -> None:
    def body(value: object) -> dict[str, Any]:
        return {"spec": {"template": {"metadata": {"annotations": {"x": value}}}}}

    def count(value: object) -> int:
        return restarted_for(body(value), "x", uid="me")

    assert count(restart_mark(7, uid="me")) == 7
    wrong = (restart_mark(7, uid="another"), "7", "7.", "seven.me", "-1.me", ".me", "9" * 5000 + ".me", 7, None)
    assert [count(value) for value in wrong] == [0] * len(wrong)
    assert restarted_for({"spec": {"template": {}}}, "x", uid="me") == 0


DONE = {"observedGeneration": 2, "replicas": 3, "updatedReplicas": 3, "availableReplicas": 3, "readyReplicas": 3}
SCHEDULED = {"observedGeneration": 2, "desiredNumberScheduled": 3, "updatedNumberScheduled": 3, "numberAvailable": 3}


@pytest.mark.parametrize(
    ("kind", "status", "done"),
    [
        ("Deployment", DONE, True),
        ("Deployment", {}, False),
        ("Deployment", {**DONE, "observedGeneration": 1}, False),
        ("Deployment", {**DONE, "updatedReplicas": 2}, False),
        ("Deployment", {**DONE, "replicas": 4}, False),
        ("Deployment", {**DONE, "availableReplicas": 2}, False),
        ("StatefulSet", DONE, True),
        ("StatefulSet", {**DONE, "updatedReplicas": 2}, False),
        ("StatefulSet", {**DONE, "readyReplicas": 2}, False),
        ("DaemonSet", SCHEDULED, True),
        ("DaemonSet", {**SCHEDULED, "updatedNumberScheduled": 2}, False),
        ("DaemonSet", {**SCHEDULED, "numberAvailable": 2}, False),
        ("DaemonSet", {**SCHEDULED, "observedGeneration": 1}, False),
    ],
)
def test_a_rollout_is_over_when_every_pod_is_new_and_available(kind: str, status: dict[str, int], *, done: bool) -> None:
    body = {"metadata": {"generation": 2}, "spec": {"replicas": 3}, "status": status}
    assert is_rolled_out(WorkloadKind(kind), body) is done


def test_a_partitioned_stateful_set_is_rolled_out_beyond_its_partition() -> None:
    spec = {"replicas": 3, "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 2}}}
    body = {"metadata": {"generation": 2}, "spec": spec, "status": {**DONE, "updatedReplicas": 1}}
    assert is_rolled_out(WorkloadKind.STATEFUL_SET, body)


def test_a_workload_that_replaces_no_pod_says_why() -> None:
    manual = {"spec": {"updateStrategy": {"type": "OnDelete"}}}
    assert "OnDelete" in why_it_stays(WorkloadKind.STATEFUL_SET, manual)
    assert "OnDelete" in why_it_stays(WorkloadKind.DAEMON_SET, manual)
    assert "paused" in why_it_stays(WorkloadKind.DEPLOYMENT, {"spec": {"paused": True}})
    assert why_it_stays(WorkloadKind.DEPLOYMENT, {"spec": {}}) == ""
