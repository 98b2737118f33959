"""Ready=True for a generation: the Secret of that generation exists, and holds what upstream last said for that spec."""

import asyncio
from base64 import b64encode
from typing import Any

import pytest

from dbclusterref.digitalocean.demand import Routine
from dbclusterref.errors import (
    DatabaseNotFound,
    Forbidden,
    KubernetesError,
    MissingScope,
    PoolNotFound,
    RateLimited,
    TokenInvalid,
    UpstreamUnavailable,
    UserNotFound,
)
from dbclusterref.resource.objects import ObjectKey
from dbclusterref.resource.status import ConditionType
from dbclusterref.secret.state import REVISION
from tests.support.bench import RENAMED, Bench, a_bench, change_spec, request_refresh, set_value
from tests.support.builders import KEY, PEM, TOKEN_SECRET, UUID, a_cluster, a_pool, reference_body, secret_body
from tests.support.fake_time import settle

READY, FRESH, STALLED, RECONCILING = ConditionType
DOWN = UpstreamUnavailable("DigitalOcean answered 503.")


@pytest.fixture
def bench() -> Bench:
    return a_bench()


def message(bench: Bench, kind: ConditionType = READY) -> str:
    return bench.status().conditions[kind].message


def is_down(bench: Bench, trouble: Exception = DOWN) -> None:
    bench.upstream.trouble["*"] = trouble


# --- only for the generation that is in the Secret -------------------------------------------------------------------------


@pytest.mark.parametrize("trouble", [DOWN, RateLimited("slow down")], ids=["500", "429"])
@pytest.mark.parametrize(
    "spec",
    [{"user": "app"}, {"database": "shop"}, {"pool": "orders-pool"}, {"apiTokenSecretRef": {"name": "other-token"}}],
    ids=lambda s: next(iter(s)),
)
async def test_a_change_that_needs_an_answer_is_not_ready_until_it_has_one(
    bench: Bench, spec: dict[str, Any], trouble: Exception
) -> None:
    bench.kubernetes.put_secret(secret_body({"token": "dop_v1_other"}, key=ObjectKey("shop", "other-token")))
    bench.upstream.pools["orders-pool"] = a_pool()
    bench.upstream.databases.add("shop")
    await bench.reconcile()
    before = bench.kubernetes.data()
    is_down(bench, trouble)
    change_spec(bench, **spec)
    await bench.refresh()
    reason = trouble.reason  # type: ignore[attr-defined]
    assert bench.status().observed_generation == 2
    assert (bench.ready, bench.says(RECONCILING)) == ((False, reason), (True, reason))
    assert "Secret orders-db still holds what an earlier version of the spec asked for." in message(bench)
    assert bench.kubernetes.data() == before
    bench.forget_writes()
    await bench.restarted().refresh()
    assert bench.ready == (False, reason), "a restarted process knows"
    assert bench.kubernetes.writes == []
    bench.upstream.trouble.clear()
    await bench.refresh()
    assert bench.ready == (True, "Synced")


@pytest.mark.parametrize(
    ("spec", "reason"),
    [({"user": "ghost"}, "UserNotFound"), ({"pool": "ghost"}, "PoolNotFound"), ({"database": "ghost"}, "DatabaseNotFound")],
)
async def test_a_name_that_does_not_exist_is_never_in_the_secret(bench: Bench, spec: dict[str, Any], reason: str) -> None:
    await bench.reconcile()
    before = bench.kubernetes.data()
    bench.forget_writes()
    change_spec(bench, **spec)
    await bench.refresh()
    assert (bench.ready, bench.says(STALLED)) == ((False, reason), (True, reason))
    assert bench.kubernetes.data() == before
    assert bench.kubernetes.writes == [f"Status {KEY}"], "the Secret was not touched"


@pytest.mark.parametrize("spec", [{}, {"user": "app"}, {"pool": "orders-pool"}, {"database": "orders"}], ids=str)
async def test_a_cluster_that_is_being_created_is_waited_for_whatever_it_is_to_have(bench: Bench, spec: dict[str, Any]) -> None:
    change_spec(bench, **spec)
    bench.rotate("pw-1", status="creating", private_connection=None, db_names=None, users=None)
    await bench.reconcile()
    assert (bench.ready, bench.says(STALLED)) == ((False, "WaitingForCluster"), (False, "WaitingForCluster"))


async def test_a_change_that_needs_no_answer_stays_ready_while_upstream_is_down(bench: Bench) -> None:
    await bench.reconcile()
    is_down(bench)
    change_spec(bench, refreshInterval="2m", secret={"labels": {"team": "a"}})
    await bench.refresh()
    assert bench.kubernetes.secrets[KEY]["metadata"]["labels"]["team"] == "a"
    assert (bench.ready, bench.fresh) == ((True, "Synced"), (False, "UpstreamUnavailable"))
    await bench.restarted().refresh()
    assert bench.ready == (True, "Synced")


async def test_a_change_that_is_taken_back_while_upstream_is_down_is_ready_again(bench: Bench) -> None:
    await bench.reconcile()
    is_down(bench)
    change_spec(bench, user="app")
    await bench.refresh()
    assert not bench.ready[0]
    change_spec(bench, user="")
    await bench.refresh()
    assert (bench.ready, bench.fresh) == ((True, "Synced"), (False, "UpstreamUnavailable"))


async def test_a_secret_of_the_former_spec_is_still_repaired(bench: Bench) -> None:
    await bench.reconcile()
    before = bench.kubernetes.data()
    is_down(bench)
    change_spec(bench, user="app")
    await bench.refresh()
    bench.kubernetes.remove_secret(KEY)
    await bench.reconcile()
    assert bench.kubernetes.data() == before
    assert bench.ready == (False, "UpstreamUnavailable")


async def test_a_secret_that_is_missing_after_a_restart_is_not_called_ready(bench: Bench) -> None:
    await bench.reconcile()
    is_down(bench)
    bench.kubernetes.remove_secret(KEY)
    await bench.restarted().refresh()
    assert (bench.ready, bench.says(RECONCILING)) == ((False, "UpstreamUnavailable"), (True, "UpstreamUnavailable"))
    assert "Secret orders-db does not exist." in message(bench)


# --- contested -------------------------------------------------------------------------------------------------------------


async def test_a_contested_secret_is_stalled_and_one_that_was_deleted_is_restored_at_once(bench: Bench) -> None:
    await bench.reconcile()
    for number in range(12):
        bench.kubernetes.edit_secret(KEY, set_value("password", b64encode(f"hacked-{number}".encode()).decode()))
        await bench.refresh(after=0.8)
    assert bench.password != "pw-1", "left as it is for a while"
    assert (bench.ready, bench.says(STALLED)) == ((False, "SecretContested"), (True, "SecretContested"))
    assert "kubectl get secret -n shop orders-db" in message(bench)
    bench.kubernetes.remove_secret(KEY)
    await bench.refresh(after=0.8)
    assert bench.password == "pw-1", "to create where nothing is contests nothing"
    assert bench.kubernetes.secrets[KEY]
    await bench.refresh(after=301)
    assert bench.ready == (True, "Synced")


async def test_a_secret_that_was_just_repaired_is_called_contested_before_the_next_repair_has_to_wait(bench: Bench) -> None:
    await bench.reconcile()
    for number in range(5):
        bench.kubernetes.edit_secret(KEY, set_value("password", b64encode(f"hacked-{number}".encode()).decode()))
        await bench.refresh(after=0.8)
    assert bench.password == "pw-1"
    assert (bench.ready, bench.says(STALLED)) == ((False, "SecretContested"), (True, "SecretContested"))


async def test_rotations_in_a_row_are_no_contest(bench: Bench) -> None:
    await bench.reconcile()
    for number in range(8):
        bench.rotate(f"rotated-{number}")
        bench.entry().reads.due_now()
        await bench.refresh(after=1)
        bench.upstream.requests.clear()
        change_spec(bench, secret={"labels": {"turn": str(number)}})
        await bench.refresh(after=31)
    assert bench.ready == (True, "Synced")
    assert "SecretRepaired" not in bench.event_reasons


async def test_the_next_look_at_a_contested_secret_is_when_it_may_be_repaired(bench: Bench) -> None:
    change_spec(bench, refreshInterval="1h")
    await bench.reconcile()
    wait: float | None = None
    for number in range(6):
        bench.kubernetes.edit_secret(KEY, set_value("password", b64encode(f"hacked-{number}".encode()).decode()))
        wait = await bench.refresh(after=1)
    assert wait is not None
    assert 50 < wait <= 60
    await bench.refresh(after=wait)
    assert bench.password == "pw-1"


# --- suspended -------------------------------------------------------------------------------------------------------------


async def test_a_suspended_resource_whose_secret_is_deleted_says_so(bench: Bench) -> None:
    await bench.reconcile()
    change_spec(bench, suspend=True)
    await bench.reconcile()
    assert (bench.ready, bench.says(STALLED)) == ((True, "Suspended"), (False, "Suspended"))
    bench.kubernetes.remove_secret(KEY)
    await settle()
    assert bench.marked == {KEY}
    await bench.reconcile()
    assert (bench.ready, bench.says(STALLED)) == ((False, "Suspended"), (True, "Suspended"))
    assert "Secret orders-db does not exist" in message(bench)
    assert KEY not in bench.kubernetes.secrets


async def test_a_suspended_resource_whose_secret_is_edited_or_of_another_spec_is_not_ready(bench: Bench) -> None:
    await bench.reconcile()
    change_spec(bench, suspend=True, user="app")
    await bench.reconcile()
    assert (bench.ready, bench.says(STALLED)) == ((False, "Suspended"), (True, "Suspended"))
    change_spec(bench, user="")
    await bench.reconcile()
    assert bench.ready == (True, "Suspended")
    bench.kubernetes.edit_secret(KEY, set_value("password", "aGFja2Vk"))
    await bench.reconcile()
    assert "was changed by another client" in message(bench)
    assert bench.says(STALLED) == (True, "Suspended")


@pytest.mark.parametrize("suspended", [True, False], ids=["suspended", "upstream down"])
async def test_a_secret_that_was_edited_while_no_operator_ran_is_not_ready(bench: Bench, suspended: bool) -> None:  # noqa: FBT001
    await bench.reconcile()
    change_spec(bench, suspend=suspended)
    await bench.reconcile()
    assert bench.ready[0]
    bench.kubernetes.edit_secret(KEY, set_value("password", "aGFja2Vk"))
    bench = bench.restarted()
    bench.upstream.trouble["*"] = UpstreamUnavailable("down")
    await bench.reconcile()
    assert not bench.ready[0]
    assert "was changed by another client" in message(bench)


@pytest.mark.parametrize("trouble", [DOWN, RateLimited("slow down")], ids=["500", "429"])
async def test_a_template_key_that_the_spec_lost_while_no_operator_ran_is_not_ready_until_it_is_gone(
    bench: Bench, trouble: Exception
) -> None:
    change_spec(bench, secret={"template": {"kept": "{host}", "lost": "{port}"}})
    await bench.reconcile()
    change_spec(bench, secret={"template": {"kept": "{host}"}})
    bench = bench.restarted()
    is_down(bench, trouble)
    await bench.reconcile()
    assert not bench.ready[0]
    assert "Secret orders-db still holds what an earlier version of the spec asked for." in message(bench)
    bench.upstream.trouble.clear()
    await bench.refresh()
    assert bench.ready == (True, "Synced")
    assert "lost" not in bench.kubernetes.data()


async def test_a_key_that_another_client_added_does_not_make_a_secret_an_edited_one(bench: Bench) -> None:
    await bench.reconcile()
    for key in ("extra", "KAFKA_SASL_PASSWORD"):
        bench.kubernetes.edit_secret(KEY, set_value(key, "eA=="))
    bench = bench.restarted()
    bench.upstream.trouble["*"] = UpstreamUnavailable("down")
    await bench.reconcile()
    assert bench.ready == (True, "Synced")


async def test_a_resource_that_is_suspended_before_its_first_read_is_stalled(bench: Bench) -> None:
    change_spec(bench, suspend=True)
    assert await bench.reconcile() is None
    assert (bench.ready, bench.says(STALLED)) == ((False, "Suspended"), (True, "Suspended"))
    bench.forget_writes()
    await bench.restarted().reconcile()
    assert bench.kubernetes.writes == []


async def test_a_suspended_resource_acknowledges_no_refresh(bench: Bench) -> None:
    change_spec(bench, suspend=True)
    request_refresh(bench)
    await bench.reconcile()
    assert bench.status().last_handled_refresh_at == ""


# --- a cause that waits for a person ---------------------------------------------------------------------------------------

BY_ANSWER = [
    (TokenInvalid("No."), {}),
    (Forbidden("No."), {}),
    (UserNotFound("No."), {"user": "ghost"}),
    (PoolNotFound("No."), {"pool": "ghost"}),
    (DatabaseNotFound("No."), {"database": "ghost"}),
]


@pytest.mark.parametrize(("cause", "spec"), BY_ANSWER, ids=lambda value: type(value).__name__)
async def test_a_stalled_cause_is_not_replaced_by_a_transient_one(bench: Bench, cause: Exception, spec: dict[str, Any]) -> None:
    change_spec(bench, **spec)
    is_down(bench, cause)
    await bench.reconcile()
    stalled = (True, cause.reason)  # type: ignore[attr-defined]
    assert bench.says(STALLED) == stalled
    bench.forget_writes()
    is_down(bench)
    for _ in range(5):
        await bench.refresh()
    assert bench.says(STALLED) == stalled
    await bench.restarted().refresh()
    assert bench.says(STALLED) == stalled
    assert bench.kubernetes.writes == [], "nor by a restart"
    bench.upstream.trouble.clear()
    bench.upstream.pools["ghost"] = a_pool("ghost")
    bench.upstream.databases.add("ghost")
    bench.rotate("pw-1", users=[{"name": "ghost", "role": "normal", "password": "x"}])
    await bench.refresh(after=400)
    assert bench.ready == (True, "Synced")


async def test_a_new_token_ends_what_the_former_one_caused_also_while_upstream_is_down(bench: Bench) -> None:
    is_down(bench, TokenInvalid("No."))
    await bench.reconcile()
    is_down(bench)
    bench.kubernetes.put_secret(secret_body({"token": "dop_v1_new"}, key=TOKEN_SECRET))
    await bench.refresh(after=400)
    assert bench.says(STALLED) == (False, "UpstreamUnavailable")


@pytest.mark.parametrize("cause", [TokenInvalid("No."), Forbidden("No."), MissingScope("No.")], ids=lambda cause: cause.reason)
async def test_a_corrected_token_is_picked_up_within_half_a_minute_and_a_wrong_one_is_rarely_tried(
    bench: Bench, cause: Exception
) -> None:
    is_down(bench, cause)
    for _ in range(12):
        await bench.refresh(after=400)
    asked = len(bench.upstream.requests)
    waited = 0.0
    while waited < 250:
        wait = await bench.reconcile()
        assert wait is not None
        assert 0 < wait <= 30
        bench.clock.advance(wait)
        waited += wait
    assert len(bench.upstream.requests) <= asked + 1
    bench.upstream.trouble.clear()
    bench.kubernetes.put_secret(secret_body({"token": "dop_v1_new"}, key=TOKEN_SECRET))
    await bench.reconcile()
    assert bench.ready == (True, "Synced")
    assert bench.upstream.tokens[-1] == "dop_v1_new"


async def test_a_token_secret_that_appears_ends_its_absence_also_while_upstream_is_down(bench: Bench) -> None:
    bench.kubernetes.remove_secret(TOKEN_SECRET)
    await bench.reconcile()
    assert bench.says(STALLED) == (True, "TokenSecretMissing")
    is_down(bench)
    bench.kubernetes.put_secret(secret_body({"token": "dop_v1_new"}, key=TOKEN_SECRET))
    await bench.refresh(after=400)
    assert bench.says(STALLED) == (False, "UpstreamUnavailable")


async def test_a_template_is_judged_before_anything_is_read_and_never_again(bench: Bench) -> None:
    change_spec(bench, secret={"template": {"URL": "{hots}"}})
    assert await bench.reconcile() is None
    assert bench.says(STALLED) == (True, "InvalidSpec")
    assert bench.upstream.requests == []


async def test_a_secret_that_is_deleted_while_the_template_is_wrong_is_restored_from_the_last_good_spec(bench: Bench) -> None:
    await bench.reconcile()
    before = bench.kubernetes.data()
    change_spec(bench, secret={"template": {"URL": "{hots}"}})
    await bench.reconcile()
    assert bench.ready == (False, "InvalidSpec")
    bench.kubernetes.remove_secret(KEY)
    await settle()
    assert bench.marked == {KEY}
    assert await bench.reconcile() is None
    assert bench.kubernetes.data() == before
    assert bench.ready == (False, "InvalidSpec")


async def test_a_spec_that_suits_no_key_of_the_engine_is_not_tried_again(bench: Bench) -> None:
    bench.rotate("pw-1", engine="scylla")
    change_spec(bench, secret={"keySets": ["Env"]})
    assert await bench.reconcile() is None
    assert bench.says(STALLED) == (True, "InvalidSpec")
    bench.upstream.requests.clear()
    await bench.refresh(after=4000)
    assert bench.upstream.requests == []


async def test_a_secret_of_files_alone_is_written_and_follows_its_cluster(bench: Bench) -> None:
    change_spec(bench, secret={"keySets": ["Files"], "mountPath": "/etc/db"})
    await bench.reconcile()
    assert (bench.ready, bench.status().secret_revision) == ((True, "Synced"), 1)
    bench.rotate("pw-2")
    await bench.refresh()
    assert (bench.ready, bench.status().secret_revision) == ((True, "Synced"), 2)
    data = bench.kubernetes.data()
    assert set(data) == {"ca.crt", "pg_service.conf"}
    assert "pw-2" in data["pg_service.conf"]


async def test_a_secret_of_files_alone_is_written_once_the_cluster_has_its_ca(bench: Bench) -> None:
    bench.upstream.cas[UUID] = b""
    change_spec(bench, secret={"keySets": ["Files"], "mountPath": "/etc/db"})
    await bench.reconcile()
    assert (bench.ready, bench.says(STALLED)) == ((False, "IncompleteCredentials"), (False, "IncompleteCredentials"))
    assert "pg_service.conf" in bench.status().conditions[ConditionType.READY].message
    bench.upstream.cas[UUID] = PEM
    bench.clock.advance(1)
    assert await bench.account._reader.ca(UUID, wanted=Routine(bench.clock()))
    await bench.refresh()
    assert bench.ready == (True, "Synced")
    assert "pg_service.conf" in bench.kubernetes.data()


async def test_a_restart_writes_nothing_about_a_cluster_that_is_known_to_be_missing(bench: Bench) -> None:
    del bench.upstream.clusters[UUID]
    await bench.reconcile()
    await bench.refresh(after=10)
    assert bench.says(STALLED) == (True, "ClusterNotFound")
    bench.forget_writes()
    after = bench.restarted()
    for _ in range(3):
        await after.refresh(after=5)
    assert (bench.kubernetes.writes, bench.kubernetes.events) == ([], [])


# --- another process -------------------------------------------------------------------------------------------------------


async def both(first: Bench, second: Bench, *, seconds: float) -> None:
    """Two processes over one API server, each told of the other's writes."""
    first.kubernetes.watchers[:] = [first.soon, second.soon]
    due = dict.fromkeys((first, second), 0.0)
    end = first.clock() + seconds
    while first.clock() < end:
        for process in due:
            if process.marked or process.clock() >= due[process]:
                process.marked.clear()
                wait = await process.bring_in_line(KEY)
                due[process] = process.clock() + (600.0 if wait is None else wait)
                await settle()
        first.clock.advance(0.1)
        await asyncio.sleep(0)


async def test_two_processes_without_a_lease_believe_each_others_not_found(bench: Bench) -> None:
    del bench.upstream.clusters[UUID]
    other = bench.restarted()
    await bench.reconcile()
    bench.clock.advance(6)
    await both(bench, other, seconds=60)
    assert bench.says(STALLED) == (True, "ClusterNotFound")
    assert len(bench.kubernetes.writes) <= 4
    assert len(bench.kubernetes.events) <= 4


async def test_two_processes_that_disagree_do_not_overwrite_each_others_status_without_end(bench: Bench) -> None:
    await bench.reconcile()
    other = bench.restarted()
    other.upstream = bench.upstream
    change_spec(bench, refreshInterval="10s")
    await settle()
    bench.entry().reads.cause = UpstreamUnavailable("Only this process cannot reach it.")
    bench.forget_writes()
    bench.upstream.remaining = 0

    async def unreachable(*_: Any, **__: Any) -> None:
        raise DOWN

    bench.account._reader._upstream = type("Down", (), {"get_cluster": unreachable, "get_page": unreachable})()
    await both(bench, other, seconds=60)
    assert len(bench.kubernetes.writes) <= 14
    assert len(bench.kubernetes.events) <= 14


@pytest.mark.parametrize("phase", [0.0, 7.0, 29.0])
async def test_of_two_processes_without_a_lease_the_newer_answer_wins_at_once(bench: Bench, phase: float) -> None:
    await bench.reconcile()
    other = bench.restarted()
    await both(bench, other, seconds=40 + phase)
    for round_ in range(3):
        bench.rotate(f"pw-{round_}")
        bench.forget_writes()
        await both(bench, other, seconds=100)
        assert (bench.password, bench.ready) == (f"pw-{round_}", (True, "Synced"))
        assert bench.event_reasons == ["SecretUpdated"]
        assert bench.kubernetes.writes.count(f"Secret {KEY}") == 1


async def test_a_secret_that_somebody_gave_a_higher_revision_is_repaired_after_one_read(bench: Bench) -> None:
    await bench.reconcile()
    right = bench.password
    for revision in ("40", "41"):
        bench.upstream.requests.clear()
        bench.kubernetes.edit_secret(KEY, lambda body: body["data"].update(password="aGFja2Vk"))
        bench.kubernetes.edit_secret(KEY, lambda body: body["metadata"]["annotations"].update({REVISION: revision}))  # noqa: B023
        await bench.reconcile()
        await bench.reconcile()
        assert bench.password == right
        assert len(bench.upstream.requests) <= 2


# --- times -----------------------------------------------------------------------------------------------------------------


async def test_the_last_sync_is_when_the_answer_in_use_was_given(bench: Bench) -> None:
    await bench.reconcile()
    began = bench.clock.now()
    for _ in range(10):
        await bench.refresh()
    last_answer = bench.clock.now()
    assert bench.status().last_sync_time == began, "an idle refresh is no write"
    is_down(bench)
    await bench.refresh()
    assert bench.fresh == (False, "UpstreamUnavailable")
    assert bench.status().last_sync_time == last_answer


async def test_an_answer_that_was_read_for_another_reference_is_as_old_as_it_is(bench: Bench) -> None:
    await bench.reconcile()
    answered = bench.clock.now()
    second = ObjectKey("shop", "second")
    bench.kubernetes.put_reference(reference_body(key=second, uid="uid-2"))
    is_down(bench)
    await bench.refresh(second, after=20)
    assert bench.fresh_of(second) == (True, "Synced")
    assert bench.status(second).last_sync_time == answered


async def test_the_facts_of_the_cluster_are_shown_once_they_are_read(bench: Bench) -> None:
    bench.rotate("")
    await bench.reconcile()
    assert bench.ready == (False, "MissingScope")
    assert bench.status().cluster["name"] == "orders"
    assert bench.status().last_sync_time is None


# --- the Secret's own size -------------------------------------------------------------------------------------------------


async def test_a_secret_that_is_too_large_for_the_api_server_is_refused_with_its_size(bench: Bench) -> None:
    bench.kubernetes.trouble["apply_secret"] = KubernetesError("Request entity too large: limit is 3145728", status=413)
    await bench.reconcile()
    assert bench.says(STALLED) == (True, "SecretRefused")
    assert "(413): its data has" in message(bench)


async def test_facts_that_no_status_can_hold_do_not_cost_the_status(bench: Bench) -> None:
    bench.upstream.clusters[UUID] = a_cluster(name="n" * 50_000, num_nodes=2**70)
    await bench.reconcile()
    assert bench.ready == (True, "Synced")
    assert len(bench.status().cluster["name"]) == 256  # type: ignore[arg-type]
    assert "nodes" not in bench.status().cluster


# --- a Secret that outlived its resource -----------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["retained", "orphaned", "restored"])
async def test_a_recreated_resource_takes_its_own_secret_back_without_a_gap(bench: Bench, how: str) -> None:
    retained = how == "retained"
    if retained:
        change_spec(bench, secret={"deletionPolicy": "Retain"})
    await bench.reconcile()
    if not retained:
        # `--cascade=orphan` and Velero drop the owner reference; label and annotations stay.
        bench.kubernetes.secrets[KEY]["metadata"].pop("ownerReferences")
    content, uid = bench.kubernetes.data(), bench.kubernetes.secrets[KEY]["metadata"]["uid"]
    bench.kubernetes.remove_reference(KEY)
    bench.forget_writes()
    bench.kubernetes.put_reference(reference_body(uid="uid-2"))
    after = bench.restarted()
    await after.reconcile()
    secret = bench.kubernetes.secrets[KEY]
    assert after.ready == (True, "Synced")
    assert (bench.kubernetes.data(), secret["metadata"]["uid"]) == (content, uid)
    assert secret["metadata"]["ownerReferences"][0]["uid"] == "uid-2"
    assert bench.event_reasons == ["SecretAdopted"]
    assert "an earlier resource of this name and cluster had left" in bench.kubernetes.events[0].note


@pytest.mark.parametrize("other", [{"name": "another"}, {"clusterUUID": "1c4b1fd9-36a4-4c4b-9a4c-2d1a5b5e7f01"}])
async def test_a_retained_secret_of_another_name_or_cluster_is_a_conflict(bench: Bench, other: dict[str, str]) -> None:
    change_spec(bench, secret={"deletionPolicy": "Retain"})
    await bench.reconcile()
    before = bench.kubernetes.secrets[KEY]
    bench.kubernetes.remove_reference(KEY)
    uuid = other.get("clusterUUID", UUID)
    bench.upstream.clusters[uuid] = a_cluster(uuid=uuid)
    key = ObjectKey("shop", other.get("name", KEY.name))
    bench.kubernetes.put_reference(reference_body(key=key, uid="uid-2", clusterUUID=uuid, secret={"name": KEY.name}))
    await bench.reconcile(key)
    assert bench.says(STALLED, key) == (True, "SecretConflict")
    assert bench.kubernetes.secrets[KEY] == before


async def test_a_secret_that_will_outlive_its_resource_says_so(bench: Bench) -> None:
    await bench.reconcile()
    assert "dbclusterref.io/deletion-policy" not in bench.kubernetes.secrets[KEY]["metadata"]["annotations"]
    change_spec(bench, secret={"deletionPolicy": "Retain"})
    await bench.reconcile()
    assert bench.kubernetes.secrets[KEY]["metadata"]["annotations"]["dbclusterref.io/deletion-policy"] == "Retain"


# --- Events ----------------------------------------------------------------------------------------------------------------


def told(bench: Bench) -> list[tuple[str, str, bool]]:
    return [(event.reason, event.note, event.warning) for event in bench.kubernetes.events]


async def test_an_update_names_the_keys_that_changed_and_no_value(bench: Bench) -> None:
    await bench.reconcile()
    bench.kubernetes.events.clear()
    bench.rotate("pw-2")
    await bench.refresh()
    ((reason, note, warning),) = told(bench)
    assert (reason, warning) == ("SecretUpdated", False)
    assert note.startswith("Updated Secret orders-db (revision 2): changed DATABASE_REPLICA_URL, DATABASE_URL, PGPASSWORD")
    assert "pw-" not in note


async def test_a_lost_standby_is_a_warning_that_names_its_keys(bench: Bench) -> None:
    await bench.reconcile()
    bench.kubernetes.events.clear()
    bench.rotate("pw-1", standby=False)
    await bench.refresh()
    (reason, note, warning) = told(bench)[0]
    assert (reason, warning) == ("SecretUpdated", True)
    assert "standby-*" in note.split("removed ")[1]
    assert "no longer lists a private standby" in note


async def test_a_lost_standby_is_a_warning_although_its_keys_lead_to_the_primary(bench: Bench) -> None:
    change_spec(bench, secret={"missingStandby": "UsePrimary"})
    await bench.reconcile()
    assert "standby" in bench.status().endpoints
    bench.kubernetes.events.clear()
    bench.rotate("pw-1", standby=False)
    await bench.refresh()
    (reason, note, warning) = told(bench)[0]
    assert (reason, warning) == ("SecretUpdated", True)
    assert "removed" not in note
    assert note.endswith("no longer lists a private standby for this cluster. The standby's keys lead to the primary.")
    data, status = bench.kubernetes.data(), bench.status()
    assert data["standby-host"] == data["host"]
    assert "standby" not in status.endpoints
    assert "There is no private standby" in status.conditions[ConditionType.READY].message
    bench.kubernetes.events.clear()
    bench.rotate("pw-2", standby=False)
    await bench.refresh()
    assert [warning for _, _, warning in told(bench)] == [False], "a rotation is no loss"
    bench.rotate("pw-2")
    await bench.refresh()
    assert "There is no" not in bench.status().conditions[ConditionType.READY].message


async def test_a_standby_that_is_no_longer_asked_for_is_no_warning(bench: Bench) -> None:
    await bench.reconcile()
    bench.kubernetes.events.clear()
    change_spec(bench, secret={"endpoints": ["Private"]})
    await bench.reconcile()
    (reason, note, warning) = told(bench)[0]
    assert (reason, warning) == ("SecretUpdated", False)
    assert "standby-*" in note


async def test_an_update_after_a_restart_names_the_keys_too(bench: Bench) -> None:
    await bench.reconcile()
    bench.kubernetes.events.clear()
    bench.rotate("pw-2")
    await bench.restarted().reconcile()
    assert "changed DATABASE_REPLICA_URL, DATABASE_URL" in told(bench)[0][1]


async def test_a_repair_names_the_keys_and_who_changed_them(bench: Bench) -> None:
    await bench.reconcile()
    bench.kubernetes.events.clear()
    bench.kubernetes.edit_secret(KEY, set_value("password", "aGFja2Vk"), manager="kubectl-edit")
    await bench.reconcile()
    assert told(bench)[0][:2] == (
        "SecretRepaired",
        "Restored password of Secret orders-db after a change by another client.",
    )


async def test_a_rename_tells_of_the_new_secret_and_of_the_removal_of_the_former(bench: Bench) -> None:
    await bench.reconcile()
    bench.kubernetes.events.clear()
    change_spec(bench, secret={"name": RENAMED.name})
    await bench.reconcile()
    assert [(reason, note) for reason, note, _ in told(bench)][:2] == [
        ("SecretCreated", "Created Secret renamed (revision 1)."),
        ("SecretRemoved", "Removed Secret orders-db: spec.secret.name is renamed now."),
    ]


async def test_an_adoption_names_the_keys_that_are_left(bench: Bench) -> None:
    offered = secret_body({"theirs": "x", "password": "old"}, key=KEY)
    offered["type"] = "servicebinding.io/postgresql"
    offered["metadata"]["annotations"] = {"dbclusterref.io/adopt": "orders-db"}
    bench.kubernetes.put_secret(offered)
    await bench.reconcile()
    assert told(bench)[0][:2] == (
        "SecretAdopted",
        "Adopted Secret orders-db. Its other keys were left as they are: theirs.",
    )


async def test_ready_that_ends_and_returns_is_told_each_time(bench: Bench) -> None:
    await bench.reconcile()
    bench.kubernetes.events.clear()
    is_down(bench)
    for _ in range(8):
        await bench.refresh()
    bench.upstream.trouble.clear()
    await bench.refresh()
    assert [reason for reason, _, _ in told(bench)] == ["UpstreamUnavailable", "UpstreamUnavailable", "Synced"]


async def test_another_text_of_the_same_stalled_reason_is_told(bench: Bench) -> None:
    change_spec(bench, secret={"template": {"A": "{hots}"}})
    await bench.reconcile()
    change_spec(bench, secret={"template": {"A": "{host}", "B": "{prot}"}})
    await bench.reconcile()
    assert [reason for reason, _, _ in told(bench)] == ["InvalidSpec", "InvalidSpec"]
    assert "spec.secret.template.B" in told(bench)[1][1]
