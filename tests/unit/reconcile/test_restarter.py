"""When a workload is restarted, and above all when it is not."""

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest

from dbclusterref.errors import KubernetesError, UpstreamUnavailable
from dbclusterref.reconcile.restart_line import AT_ONCE, FRONT
from dbclusterref.reconcile.restarter import FAR_LOOK, LOOK
from dbclusterref.resource.objects import REFRESH_REQUESTED_AT, ObjectKey
from dbclusterref.resource.restart import WorkloadKind, annotation_of
from dbclusterref.resource.status import ConditionType
from dbclusterref.secret.state import REVISION
from tests.support.bench import TOKEN_SECRET, Bench, a_bench, change_spec, changed
from tests.support.builders import KEY, TOKEN, UUID, Body, a_cluster, reference_body, secret_body
from tests.support.fake_time import settle

ANNOTATION = annotation_of(KEY.name)
APP, WORKER = ({"kind": "Deployment", "name": name} for name in ("app", "worker"))


@pytest.fixture
async def bench() -> Bench:
    """`app` and `worker` follow a Secret that was published once."""
    bench = a_bench()
    for name in ("app", "worker"):
        bench.kubernetes.put_workload(name)
    change_spec(bench, restart=[APP, WORKER])
    await bench.reconcile()
    return bench


def restarted(bench: Bench, name: str = "app", *, annotation: str = ANNOTATION) -> str | None:
    """The revision in the annotation."""
    template = bench.kubernetes.workloads[f"Deployment {name}"]["spec"]["template"]
    value: str | None = template["metadata"]["annotations"].get(annotation)
    return value and value.partition(".")[0]


def states(bench: Bench) -> Mapping[str, str]:
    return {item.workload.name: f"{item.state} {item.revision}" for item in bench.status().restarts}


def rollouts(bench: Bench) -> list[str]:
    return [write for write in bench.kubernetes.writes if write.startswith("Deployment")]


async def add(bench: Bench, key: ObjectKey, *workloads: str, **spec: Any) -> None:
    """One more resource with a published Secret, and the Deployments that follow it: the one of its own name."""
    named = workloads or (key.name,)
    for name in named:
        bench.kubernetes.put_workload(name)
    bench.kubernetes.put_secret(secret_body({"token": TOKEN}, key=ObjectKey(key.namespace, TOKEN_SECRET.name)))
    restart = [{"kind": "Deployment", "name": name} for name in named]
    bench.kubernetes.put_reference(reference_body(key=key, uid=f"uid-{key.namespace}-{key.name}", restart=restart, **spec))
    await bench.reconcile(key)


def follows(bench: Bench, key: ObjectKey) -> bool:
    return restarted(bench, key.name, annotation=annotation_of(key.name)) is not None


def lose_the_answer(bench: Bench, *, to: str, status: int, arrives: bool = True) -> None:
    annotate = bench.kubernetes.annotate_pods

    async def lost(kind: WorkloadKind, key: ObjectKey, **arguments: str) -> Body:
        body = await annotate(kind, key, **arguments) if arrives or key.name != to else {}
        if key.name == to:
            raise KubernetesError("timed out", status=status)
        return body

    bench.kubernetes.annotate_pods = lost  # type: ignore[method-assign]


async def rotated(bench: Bench, password: str = "pw-2") -> None:
    """The Secret has changed, and was left alone for the debounce period."""
    bench.rotate(password)
    await bench.refresh()
    await bench.refresh(after=10)


async def test_a_first_secret_restarts_nothing(bench: Bench) -> None:
    for _ in range(3):
        await bench.refresh()
    assert rollouts(bench) == []
    assert states(bench) == {"app": "Current 1", "worker": "Current 1"}


async def test_a_workload_that_is_newly_named_is_not_restarted_for_what_is_in_the_secret_already(bench: Bench) -> None:
    change_spec(bench, restart=[APP])
    await bench.reconcile()
    bench.rotate("pw-2")
    await bench.refresh()
    change_spec(bench, restart=[APP, WORKER])
    for _ in range(3):
        await bench.refresh(after=10)
        bench.kubernetes.finish_rollout("app")
    assert rollouts(bench) == ["Deployment app"]
    assert states(bench) == {"app": "Current 2", "worker": "Current 2"}


async def test_a_change_restarts_one_workload_after_the_other(bench: Bench) -> None:
    await rotated(bench)
    assert (restarted(bench), restarted(bench, "worker")) == ("2", None)
    assert states(bench) == {"app": "RollingOut 2", "worker": "Pending 1"}
    assert await bench.refresh(after=5) == 5.0
    assert restarted(bench, "worker") is None, "the rollout of the first is not over"
    bench.kubernetes.finish_rollout("app")
    await bench.refresh(after=5)
    assert restarted(bench, "worker") == "2"
    bench.kubernetes.finish_rollout("worker")
    await bench.refresh(after=5)
    assert states(bench) == {"app": "Current 2", "worker": "Current 2"}
    assert bench.event_reasons == ["SecretCreated", "SecretUpdated", "WorkloadRestarted", "WorkloadRestarted"]


async def test_a_recreated_resource_restarts_although_its_predecessor_left_a_higher_revision(bench: Bench) -> None:
    await rotated(bench)
    bench.kubernetes.remove_reference(KEY)
    bench.kubernetes.remove_secret(KEY)
    await settle()
    bench.kubernetes.finish_rollout("app")
    bench.kubernetes.put_reference(reference_body(uid="its-successor", restart=[APP]))
    await bench.reconcile()
    assert (states(bench), bench.status().secret_revision) == ({"app": "Current 1"}, 1)
    bench.forget_writes()
    await rotated(bench, "pw-3")
    assert rollouts(bench) == ["Deployment app"]
    assert states(bench) == {"app": "RollingOut 2"}


async def test_nothing_is_written_where_the_secret_has_not_changed(bench: Bench) -> None:
    bench.forget_writes()
    for _ in range(5):
        await bench.refresh()
    assert bench.kubernetes.writes == []
    assert "get_workload" not in bench.kubernetes.calls


async def test_several_changes_within_seconds_are_one_restart(bench: Bench) -> None:
    change_spec(bench, refreshInterval="10s")
    for number in range(2, 5):
        bench.rotate(f"pw-{number}")
        bench.look(KEY)
        await bench.refresh(after=5)
    assert rollouts(bench) == []
    await bench.refresh(after=10)
    assert rollouts(bench) == ["Deployment app"]
    assert restarted(bench) == "4"


async def test_a_secret_that_keeps_changing_delays_the_restart_by_a_minute_at_most(bench: Bench) -> None:
    change_spec(bench, refreshInterval="10s")
    await bench.reconcile()
    for number in range(2, 14):
        bench.rotate(f"pw-{number}")
        bench.look(KEY)
        await bench.refresh(after=6)
    assert bench.status().secret_revision == 13
    assert rollouts(bench) == ["Deployment app"]


async def test_a_change_during_a_rollout_waits_for_its_end(bench: Bench) -> None:
    await rotated(bench)
    bench.rotate("pw-3")
    await bench.refresh()
    await bench.refresh(after=15)
    assert states(bench) == {"app": "RollingOut 2", "worker": "Pending 1"}
    for name in ("app", "worker"):
        bench.kubernetes.finish_rollout(name)
        await bench.refresh(after=5)
    assert states(bench) == {"app": "RollingOut 3", "worker": "Current 3"}
    assert rollouts(bench) == ["Deployment app", "Deployment worker", "Deployment app"], "the worker skipped a revision"


@pytest.mark.parametrize("crash", [False, True])
async def test_no_revision_restarts_twice_although_its_annotation_is_taken_away(bench: Bench, *, crash: bool) -> None:
    change_spec(bench, restart=[APP])
    await rotated(bench)
    bench.kubernetes.finish_rollout("app")
    await bench.refresh(after=5)
    for _ in range(3):
        bench.kubernetes.workloads["Deployment app"]["spec"]["template"]["metadata"]["annotations"].clear()
        bench = bench.restarted() if crash else bench
        for _ in range(3):
            await bench.refresh(after=15)
    assert rollouts(bench) == ["Deployment app"]


async def test_a_crash_between_the_restart_and_the_status_restarts_nothing_twice(bench: Bench) -> None:
    bench.rotate("pw-2")
    await bench.refresh()
    bench.clock.advance(10)
    bench.kubernetes.trouble["patch_status"] = KubernetesError("down", status=503)
    with pytest.raises(KubernetesError):
        await bench.reconcile()
    bench.kubernetes.trouble.clear()
    assert rollouts(bench) == ["Deployment app"]
    bench = bench.restarted()
    await bench.reconcile()
    await bench.refresh(after=10)
    assert rollouts(bench) == ["Deployment app"]
    assert states(bench) == {"app": "RollingOut 2", "worker": "Pending 1"}


async def test_what_changed_while_no_operator_ran_is_followed(bench: Bench) -> None:
    bench.rotate("pw-2")
    bench = bench.restarted()
    await bench.refresh()
    await bench.refresh(after=10)
    assert restarted(bench) == "2"


async def test_a_repair_restarts_nothing(bench: Bench) -> None:
    bench.kubernetes.edit_secret(KEY, lambda body: body["data"].pop("password"))
    await bench.reconcile()
    bench.kubernetes.remove_secret(KEY)
    await bench.reconcile()
    await bench.refresh(after=10)
    assert rollouts(bench) == []


@pytest.mark.parametrize("with_data", [False, True])
async def test_who_may_edit_the_secret_alone_restarts_nothing(bench: Bench, *, with_data: bool) -> None:
    def edit(body: Body) -> None:
        body["metadata"]["annotations"][REVISION] = "100"
        if with_data:
            body["data"].pop("password")

    for _ in range(3):
        bench.kubernetes.edit_secret(KEY, edit)
        await bench.refresh()
        await bench.refresh(after=61)
    assert rollouts(bench) == []
    assert bench.status().secret_revision == 1
    assert bench.kubernetes.secrets[KEY]["metadata"]["annotations"][REVISION] == "1"


async def test_an_edited_revision_restarts_once_at_most_after_the_operators_own_restart(bench: Bench) -> None:
    def edit(body: Body) -> None:
        body["metadata"]["annotations"][REVISION] = "100"

    bench.kubernetes.edit_secret(KEY, edit)
    bench = bench.restarted()
    for _ in range(3):
        await bench.refresh()
    assert bench.status().secret_revision == 2
    assert bench.kubernetes.secrets[KEY]["metadata"]["annotations"][REVISION] == "2"
    bench = bench.restarted()
    await bench.refresh()
    assert bench.status().secret_revision == 2


async def test_a_change_whose_status_was_not_written_is_followed_by_the_next_process(bench: Bench) -> None:
    bench.rotate("pw-2")
    bench.kubernetes.trouble["patch_status"] = KubernetesError("down", status=503)
    with pytest.raises(KubernetesError):
        await bench.refresh()
    bench.kubernetes.trouble.clear()
    assert bench.status().secret_revision == 1
    bench = bench.restarted()
    await bench.refresh()
    await bench.refresh(after=10)
    assert bench.status().secret_revision == 2
    assert restarted(bench) == "2"


async def test_a_change_after_another_process_unreported_one_has_a_revision_of_its_own(bench: Bench) -> None:
    other = bench.restarted()
    await other.reconcile()
    other.rotate("pw-2")
    bench.kubernetes.trouble["patch_status"] = KubernetesError("down", status=503)
    with pytest.raises(KubernetesError):
        await other.refresh()
    bench.kubernetes.trouble.clear()
    assert bench.kubernetes.secrets[KEY]["metadata"]["annotations"][REVISION] == "2"
    bench.see("Secret", bench.kubernetes.secrets[KEY], gone=False)
    bench.rotate("pw-3")
    await bench.refresh()
    assert bench.status().secret_revision == 3, "its workloads may have been restarted for 2 already"


async def test_a_restart_goes_on_while_digitalocean_is_down(bench: Bench) -> None:
    bench.rotate("pw-2")
    await bench.refresh()
    bench.upstream.trouble["*"] = UpstreamUnavailable("down")
    await bench.refresh(after=10)
    assert rollouts(bench) == ["Deployment app"]


async def test_a_rollout_that_does_not_end_is_said_and_the_next_one_begins(bench: Bench) -> None:
    await rotated(bench)
    for _ in range(12):
        await bench.refresh(after=60)
    assert states(bench) == {"app": "TimedOut 2", "worker": "RollingOut 2"}
    assert bench.event_reasons.count("RestartTimedOut") == 1
    assert "kubectl rollout status -n shop deployment/app" in bench.status().conditions[ConditionType.READY].message


async def test_a_workload_that_does_not_exist_is_said_once_and_stops_nobody(bench: Bench) -> None:
    del bench.kubernetes.workloads["Deployment app"]
    await rotated(bench)
    for _ in range(4):
        await bench.refresh(after=5)
    assert states(bench) == {"app": "NotFound 2", "worker": "RollingOut 2"}
    assert bench.event_reasons.count("RestartNotFound") == 1


async def test_without_the_right_the_status_says_what_to_grant_and_the_restart_follows_the_grant(bench: Bench) -> None:
    change_spec(bench, restart=[APP])
    await bench.reconcile()
    said = 'deployments.apps "app" is forbidden: User "a" cannot get resource "deployments" in API group "apps"'
    bench.kubernetes.trouble["get_workload"] = KubernetesError(said, status=403)
    await rotated(bench)
    for _ in range(3):
        await bench.refresh(after=30)
    assert states(bench) == {"app": "Forbidden 1"}
    assert bench.ready == (True, "Synced")
    assert "components/restart-workloads" in bench.status().conditions[ConditionType.READY].message
    assert bench.event_reasons.count("RestartForbidden") == 1
    bench.kubernetes.trouble.clear()
    await bench.refresh(after=30)
    assert states(bench) == {"app": "RollingOut 2"}


async def test_what_a_policy_refuses_is_no_missing_right(bench: Bench) -> None:
    said = "deployments.apps \"app\" is forbidden: ValidatingAdmissionPolicy 'frozen' denied request: not today"
    bench.kubernetes.trouble["annotate_pods"] = KubernetesError(said, status=403)
    change_spec(bench, restart=[APP])
    await rotated(bench)
    await bench.refresh(after=30)
    assert states(bench) == {"app": "Failed 1"}
    ready = bench.status().conditions[ConditionType.READY].message
    assert said in ready
    assert "Grant" not in ready


async def test_a_refused_restart_keeps_no_other_from_its_own(bench: Bench) -> None:
    annotate = bench.kubernetes.annotate_pods

    async def refuse_app(kind: object, key: ObjectKey, **arguments: str) -> Body:
        if key.name == "app":
            raise KubernetesError("a policy says no", status=422)
        return await annotate(kind, key, **arguments)  # type: ignore[arg-type]

    bench.kubernetes.annotate_pods = refuse_app  # type: ignore[method-assign]
    await rotated(bench)
    await bench.refresh(after=5)
    assert states(bench) == {"app": "Failed 1", "worker": "RollingOut 2"}
    assert "a policy says no" in bench.status().conditions[ConditionType.READY].message


async def test_without_the_flag_the_status_says_so_and_setting_it_restarts_nothing_at_once(bench: Bench) -> None:
    bench = bench.restarted(restarts=False)
    await rotated(bench)
    assert states(bench) == {"app": "Disabled 2", "worker": "Disabled 2"}
    assert "--restart-workloads" in bench.status().conditions[ConditionType.READY].message
    assert bench.event_reasons.count("RestartDisabled") == 1
    bench = bench.restarted()
    await bench.refresh()
    await bench.refresh(after=10)
    assert rollouts(bench) == []
    assert states(bench) == {"app": "Current 2", "worker": "Current 2"}


async def test_never_are_more_workloads_restarted_at_once_than_allowed_across_all_resources(bench: Bench) -> None:
    keys = [ObjectKey(("shop", "team")[number % 2], f"db-{number}") for number in range(AT_ONCE + 2)]
    for key in keys:
        await add(bench, key)
    bench.rotate("pw-2")

    async def all_of_them(*, after: float) -> int:
        bench.clock.advance(after)
        for key in keys:
            await bench.reconcile(key)
        return sum(restarted(bench, key.name, annotation=annotation_of(key.name)) == "2" for key in keys)

    assert await all_of_them(after=60) == 0
    assert await all_of_them(after=10) == AT_ONCE
    assert await all_of_them(after=5) == AT_ONCE
    bench.kubernetes.finish_rollout(keys[0].name)
    assert await all_of_them(after=5) == AT_ONCE + 1


async def test_the_limit_holds_for_resources_that_are_worked_on_side_by_side(bench: Bench) -> None:
    keys = [ObjectKey(("shop", "team")[number % 2], f"db-{number}") for number in range(AT_ONCE + 2)]
    for key in keys:
        await add(bench, key)
    bench.rotate("pw-2")
    for key in keys:
        await bench.refresh(key)
    annotate = bench.kubernetes.annotate_pods

    async def annotate_late(kind: WorkloadKind, key: ObjectKey, **arguments: str) -> Body:
        await asyncio.sleep(0.01)
        return await annotate(kind, key, **arguments)

    bench.kubernetes.annotate_pods = annotate_late  # type: ignore[method-assign]
    bench.clock.advance(10)
    await asyncio.gather(*(bench.bring_in_line(key) for key in keys))
    assert len(rollouts(bench)) == AT_ONCE


async def test_a_refused_restart_takes_no_place_and_is_written_once(bench: Bench) -> None:
    bench.kubernetes.trouble["annotate_pods"] = KubernetesError("a policy says no", status=422)
    await rotated(bench)
    for _ in range(3):
        await bench.refresh(after=5)
    assert states(bench) == {"app": "Failed 1", "worker": "Failed 1"}
    bench.kubernetes.writes.clear()
    for _ in range(20):
        await bench.refresh(after=5)
    assert bench.kubernetes.writes == [], "the status says the same, in the same order"
    bench.kubernetes.trouble.clear()
    await bench.refresh(after=30)
    assert len(rollouts(bench)) == 1


async def test_two_resources_that_restart_one_workload_have_an_annotation_each(bench: Bench) -> None:
    other = ObjectKey("shop", "cache")
    change_spec(bench, restart=[APP])
    await bench.reconcile()
    bench.kubernetes.put_reference(reference_body(key=other, uid="uid-cache", restart=[APP]))
    await bench.reconcile(other)
    bench.rotate("pw-2")
    for _ in range(4):
        for key in (KEY, other):
            await bench.refresh(key, after=30)
        bench.kubernetes.finish_rollout("app")
    assert restarted(bench) == restarted(bench, annotation=annotation_of("cache")) == "2"
    assert rollouts(bench) == ["Deployment app", "Deployment app"]


async def test_a_standby_restarts_nothing(bench: Bench) -> None:
    bench.rotate("pw-2")
    await bench.refresh()
    bench.leading = False
    bench.clock.advance(10)
    with pytest.raises(KubernetesError, match="Not the leader"):
        await bench.reconcile()
    assert rollouts(bench) == []


async def test_a_workload_that_is_no_longer_named_is_forgotten(bench: Bench) -> None:
    change_spec(bench, restart=[])
    await bench.reconcile()
    await rotated(bench)
    assert bench.status().restarts == ()
    assert rollouts(bench) == []


async def test_each_restart_is_counted(bench: Bench) -> None:
    await rotated(bench)
    assert bench.metrics.registry.get_sample_value("dbclusterref_workload_restarts_total", {"result": "restarted"}) == 1


async def test_a_requested_refresh_restarts_nothing(bench: Bench) -> None:
    body = bench.kubernetes.references[KEY]
    bench.kubernetes.put_reference({**body, "metadata": {**body["metadata"], "annotations": {REFRESH_REQUESTED_AT: "now"}}})
    await bench.reconcile()
    await bench.refresh(after=10)
    assert rollouts(bench) == []


@pytest.mark.parametrize("restart", [True, False], ids=["after a restart of the operator", "with the same process"])
async def test_a_rollout_that_ends_late_is_no_longer_said_not_to_have_ended(bench: Bench, *, restart: bool) -> None:
    change_spec(bench, restart=[APP])
    await rotated(bench)
    await bench.refresh(after=601)
    assert states(bench) == {"app": "TimedOut 2"}
    assert "has not finished its rollout" in bench.status().conditions[ConditionType.READY].message
    bench.forget_writes()
    bench.kubernetes.calls.clear()
    for _ in range(60):
        await bench.refresh(after=5)
    assert (bench.kubernetes.calls.count("get_workload"), bench.kubernetes.writes) == (5, [])
    bench.kubernetes.finish_rollout("app")
    after = bench.restarted() if restart else bench
    assert await after.refresh(after=60) is not None
    assert states(after) == {"app": "Current 2"}
    assert "rollout" not in after.status().conditions[ConditionType.READY].message
    after.kubernetes.calls.clear()
    await after.refresh(after=60)
    assert "get_workload" not in after.kubernetes.calls
    assert after.event_reasons == []


async def test_a_look_that_fails_has_not_seen_the_end_of_a_daemon_sets_rollout() -> None:
    bench = a_bench()
    bench.kubernetes.put_workload("agent", kind="DaemonSet")
    change_spec(bench, restart=[{"kind": "DaemonSet", "name": "agent"}])
    await bench.reconcile()
    await rotated(bench)
    bench.kubernetes.trouble["get_workload"] = KubernetesError("timed out", status=504)
    await bench.refresh(after=5)
    assert states(bench) == {"agent": "RollingOut 2"}
    for _ in range(11):
        await bench.refresh(after=60)
    assert states(bench) == {"agent": "TimedOut 2"}


@pytest.mark.parametrize("status", [0, 408, 504])
async def test_a_restart_whose_answer_was_lost_keeps_its_place(bench: Bench, status: int) -> None:
    lose_the_answer(bench, to="app", status=status)
    await rotated(bench)
    assert states(bench) == {"app": "Failed 1", "worker": "Pending 1"}
    await bench.refresh(after=5)
    assert states(bench) == {"app": "RollingOut 2", "worker": "Pending 1"}
    bench.kubernetes.finish_rollout("app")
    await bench.refresh(after=5)
    assert rollouts(bench) == ["Deployment app", "Deployment worker"]


@pytest.mark.parametrize("looks_fail", [False, True])
async def test_a_restart_that_did_not_arrive_gives_its_place_back_after_a_while(bench: Bench, *, looks_fail: bool) -> None:
    lose_the_answer(bench, to="app", status=500, arrives=False)
    await rotated(bench)
    if looks_fail:
        bench.kubernetes.trouble["get_workload"] = KubernetesError("timed out", status=504)
    await bench.refresh(after=25)
    assert rollouts(bench) == [], "it may be on its way"
    bench.kubernetes.trouble.clear()
    await bench.refresh(after=5)
    assert rollouts(bench) == ["Deployment worker"]


@pytest.mark.parametrize("end", ["deleted", "suspended", "recreated"])
async def test_a_resource_that_has_ended_gives_its_places_back(end: str) -> None:
    bench = a_bench()
    keys = [ObjectKey(("shop", "team")[number % 2], f"db-{number}") for number in range(AT_ONCE)]
    mine = ObjectKey("shop", "mine")
    for key in (*keys, mine):
        await add(bench, key)
    bench.rotate("pw-2")
    for key in keys:
        await bench.refresh(key)
    bench.clock.advance(10)
    for key in keys:
        await bench.reconcile(key)
    await bench.refresh(mine, after=10)
    await bench.refresh(mine, after=10)
    assert [follows(bench, key) for key in (*keys, mine)] == [True] * AT_ONCE + [False]
    body = bench.kubernetes.references[keys[0]]
    if end == "suspended":
        bench.kubernetes.put_reference(changed(body, suspend=True))
    else:
        bench.kubernetes.remove_reference(keys[0])
    if end == "recreated":
        bench.kubernetes.put_reference(reference_body(key=keys[0], uid="another"))
    await bench.refresh(mine, after=5)
    assert follows(bench, mine)


async def test_a_workload_that_is_no_longer_named_gives_its_place_back(bench: Bench) -> None:
    await rotated(bench)
    change_spec(bench, restart=[WORKER])
    await bench.refresh(after=5)
    assert rollouts(bench) == ["Deployment app", "Deployment worker"]
    assert states(bench) == {"worker": "RollingOut 2"}


async def test_the_rollouts_of_an_earlier_process_count_although_their_resources_cannot_be_read() -> None:
    bench, other = a_bench(), "00000000-0000-4000-8000-000000000002"
    bench.upstream.clusters[other] = a_cluster(uuid=other)
    first = [ObjectKey(("shop", "team")[number % 2], f"a-{number}") for number in range(AT_ONCE)]
    mine = ObjectKey("shop", "mine")
    for key in first:
        await add(bench, key)
    await add(bench, mine, clusterUUID=other)
    bench.rotate("pw-2")
    for key in first:
        await bench.refresh(key)
    bench.clock.advance(10)
    for key in first:
        await bench.reconcile(key)
    assert len(rollouts(bench)) == AT_ONCE
    bench.upstream.clusters[other] = a_cluster(uuid=other, password="pw-2")
    bench = bench.restarted()
    del bench.upstream.clusters[UUID]
    for _ in range(3):
        for key in (*first, mine):
            await bench.refresh(key, after=15)
    assert not follows(bench, mine)
    for _ in range(11):
        await bench.refresh(mine, after=60)
    assert follows(bench, mine), "they are waited for as long as any rollout"


async def test_rollouts_that_never_end_leave_another_namespace_a_place_and_each_resource_its_turn() -> None:
    bench = a_bench()
    bad = [ObjectKey("shop", f"bad-{number}") for number in range(AT_ONCE)]
    theirs, mine = ObjectKey("team", "theirs"), ObjectKey("shop", "mine")
    for key in bad:
        await add(bench, key, *(f"{key.name}-{number}" for number in range(4)))
    for key in (theirs, mine):
        await add(bench, key)
    bench.rotate("pw-2")
    for after in (60, 10):
        bench.clock.advance(after)
        for key in (*bad, mine, theirs):
            await bench.reconcile(key)
    assert follows(bench, theirs), "although all of the others came first"
    assert len(rollouts(bench)) == AT_ONCE
    assert not follows(bench, mine)
    for _ in range(21):
        bench.clock.advance(30)
        for key in (*bad, mine):
            await bench.reconcile(key)
    assert follows(bench, mine), "before the second workload of those that came before it"


async def test_those_far_behind_in_the_line_look_rarely() -> None:
    bench = a_bench()
    keys = [ObjectKey("shop", f"db-{number}") for number in range(FRONT + 4)]
    for key in keys:
        await add(bench, key)
    bench.rotate("pw-2")
    bench.clock.advance(60)
    for key in keys:
        await bench.reconcile(key)
    bench.clock.advance(10)
    waits = [await bench.reconcile(key) for key in keys]
    assert set(waits[:FRONT]) == {LOOK}
    assert all(wait is not None and LOOK < wait <= FAR_LOOK for wait in waits[FRONT + 2 :])


async def test_no_revision_restarts_twice_while_the_status_cannot_be_written(bench: Bench) -> None:
    change_spec(bench, restart=[APP])
    await bench.reconcile()
    bench.rotate("pw-2")
    await bench.refresh()
    bench.kubernetes.trouble["patch_status"] = KubernetesError("too busy", status=500)
    for _ in range(6):
        with pytest.raises(KubernetesError):
            await bench.refresh(after=15)
        bench.kubernetes.finish_rollout("app")
        bench.kubernetes.workloads["Deployment app"]["spec"]["template"]["metadata"]["annotations"].clear()
    bench.kubernetes.trouble.clear()
    await bench.refresh(after=15)
    assert rollouts(bench) == ["Deployment app"]
    assert states(bench) == {"app": "Current 2"}


@pytest.mark.parametrize("status", [422, 500])
async def test_a_refusal_in_other_words_each_time_is_written_once(bench: Bench, status: int) -> None:
    change_spec(bench, restart=[APP])
    await bench.reconcile()
    tries = 0

    async def refuse(*_: object, **__: str) -> Body:
        nonlocal tries
        tries += 1
        raise KubernetesError(f"denied (request {tries})", status=status)

    bench.kubernetes.annotate_pods = refuse  # type: ignore[method-assign,assignment]
    await rotated(bench)
    bench.forget_writes()
    for _ in range(8):
        await bench.refresh(after=31)
    assert tries > 3
    assert bench.kubernetes.writes == []
    assert bench.event_reasons == []
