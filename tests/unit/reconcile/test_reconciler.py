import asyncio
import logging
from base64 import b64encode
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import pytest

from dbclusterref.digitalocean.account import Queued
from dbclusterref.digitalocean.cache import LATE
from dbclusterref.digitalocean.demand import LOOK
from dbclusterref.digitalocean.planner import Plan
from dbclusterref.errors import Forbidden, KubernetesError, RateLimited, TokenInvalid, UnconfirmedNotFound, UpstreamUnavailable
from dbclusterref.metrics import CAUSES
from dbclusterref.reconcile.conditions import STALE_AT_LEAST
from dbclusterref.reconcile.entry import STILL_SAID_FOR
from dbclusterref.reconcile.reconciler import SAID_AFTER
from dbclusterref.reconcile.workqueue import WorkQueue
from dbclusterref.resource.objects import FIELD_MANAGER, MANAGED_BY, REFRESH_REQUESTED_AT, ObjectKey, version_of
from dbclusterref.resource.status import ConditionType
from dbclusterref.secret.state import ADOPT, REVISION
from dbclusterref.timing import Timing
from tests.support.bench import RENAMED, Bench, a_bench, change_spec, request_refresh, set_value
from tests.support.builders import (
    KEY,
    OTHER_UUID,
    PEM,
    TOKEN,
    TOKEN_SECRET,
    UID,
    UUID,
    Body,
    a_cluster,
    a_pool,
    reference_body,
    secret_body,
)
from tests.support.fake_digitalocean import FakeUpstream
from tests.support.fake_kubernetes import FakeKubernetes
from tests.support.fake_time import LoopClock, in_fake_time, settle

CONFIRM_NOT_FOUND_AFTER = Timing().confirm_not_found


@pytest.fixture
def bench() -> Bench:
    return a_bench()


# --- the main job ----------------------------------------------------------------------------------------------------------


async def test_the_first_success_creates_the_secret_and_says_so(bench: Bench) -> None:
    assert await bench.reconcile() == 60.0
    data = bench.kubernetes.data()
    assert data["host"] == "private-orders.db.example.com"
    assert data["standby-host"] == "private-replica-orders.db.example.com"
    assert (data["password"], data["ca.crt"]) == ("pw-1", PEM.decode())
    assert bench.ready == (True, "Synced")
    assert bench.fresh == (True, "Synced")
    assert bench.status().binding_name == "orders-db"
    assert bench.status().secret_revision == 1
    assert bench.event_reasons == ["SecretCreated"]
    owner = bench.kubernetes.secrets[KEY]["metadata"]["ownerReferences"][0]
    assert (owner["uid"], owner.get("blockOwnerDeletion")) == (UID, None)


async def test_an_idle_refresh_makes_no_write(bench: Bench) -> None:
    await bench.reconcile()
    bench.forget_writes()
    for _ in range(50):
        await bench.refresh()
    assert bench.kubernetes.writes == []
    assert bench.kubernetes.events == []
    assert [kind for kind, _ in bench.upstream.requests] == ["cluster"] * 50


async def test_our_own_writes_mark_nothing(bench: Bench) -> None:
    await bench.reconcile()
    assert bench.marked == set()


async def test_what_our_own_writes_made_is_known_without_the_watch(bench: Bench) -> None:
    await bench.reconcile()
    assert bench.wrote == [bench.kubernetes.secrets[KEY], bench.kubernetes.references[KEY]]
    entry, live = bench.store.get(KEY), bench.store.secret(KEY)
    assert entry is not None
    assert live is not None
    assert [live.resource_version, entry.resource_version] == [version_of(body) for body in bench.wrote]


async def test_a_watch_that_is_quicker_than_the_answer_costs_a_look_and_no_write(bench: Bench) -> None:
    bench.kubernetes.watchers[:] = [lambda kind, body, gone: bench.see(kind, body, gone=gone)]
    await bench.reconcile()
    bench.forget_writes()
    await bench.reconcile()
    assert (bench.kubernetes.writes, bench.kubernetes.events, bench.upstream.requests) == ([], [], [])


async def test_a_restart_with_nothing_changed_makes_no_write(bench: Bench) -> None:
    await bench.reconcile()
    bench.forget_writes()
    bench.clock.advance(600)
    after = bench.restarted()
    await after.reconcile()
    assert bench.kubernetes.writes == []
    assert bench.kubernetes.events == []


async def test_a_new_resource_costs_two_writes_and_no_look(bench: Bench) -> None:
    await bench.reconcile()
    assert bench.kubernetes.calls == ["get_secret", "apply_secret", "patch_status"]  # the first for the token


async def test_a_restart_looks_at_no_secret_that_the_watch_has_shown(bench: Bench) -> None:
    await bench.reconcile()
    bench.kubernetes.calls.clear()
    bench.forget_writes()
    await bench.restarted().reconcile()
    assert bench.kubernetes.calls == ["get_secret"]  # the token
    assert bench.password == "pw-1"


async def test_the_heartbeat_is_written_once_an_hour_and_nothing_else_is(bench: Bench) -> None:
    await bench.reconcile()
    bench.forget_writes()
    for _ in range(120):
        await bench.refresh()
    assert bench.kubernetes.writes == ["Status shop/orders-db"] * 2
    assert bench.kubernetes.events == []


async def test_between_refreshes_nothing_is_read_and_nothing_written(bench: Bench) -> None:
    await bench.reconcile()
    bench.forget_writes()
    assert await bench.refresh(after=20) == 40.0
    assert (bench.kubernetes.writes, bench.upstream.requests) == ([], [])


async def test_a_rotated_password_reaches_the_secret(bench: Bench) -> None:
    await bench.reconcile()
    bench.rotate("pw-2")
    await bench.refresh()
    assert bench.password == "pw-2"
    assert bench.status().secret_revision == 2
    assert bench.kubernetes.secrets[KEY]["metadata"]["annotations"][REVISION] == "2"
    assert bench.event_reasons == ["SecretCreated", "SecretUpdated"]


async def test_a_lost_standby_takes_its_keys_along(bench: Bench) -> None:
    await bench.reconcile()
    bench.rotate("pw-1", standby=False)
    await bench.refresh()
    assert [name for name in bench.kubernetes.data() if name.startswith("standby")] == []
    assert bench.status().endpoints == {"private": "private-orders.db.example.com:25060"}


async def test_a_change_that_no_pod_sees_reaches_the_status_alone(bench: Bench) -> None:
    await bench.reconcile()
    bench.forget_writes()
    bench.rotate("pw-1", size="db-s-8vcpu-16gb")
    await bench.refresh()
    assert bench.status().cluster["size"] == "db-s-8vcpu-16gb"
    assert bench.kubernetes.writes == ["Status shop/orders-db"]


async def test_a_requested_refresh_is_read_at_once_and_acknowledged(bench: Bench) -> None:
    await bench.reconcile()
    bench.rotate("pw-2")
    request_refresh(bench)
    await settle()
    assert bench.marked == {KEY}
    await bench.reconcile()
    assert bench.password == "pw-2"
    assert bench.status().last_handled_refresh_at == "now"
    bench.forget_writes()
    await bench.reconcile()
    assert bench.upstream.requests == []


@pytest.mark.parametrize("what", ["spec", "annotation"])
async def test_a_change_that_a_status_write_overtook_is_not_taken_for_an_old_one(bench: Bench, what: str) -> None:
    late: list[tuple[str, Body, bool]] = []
    bench.kubernetes.watchers[:] = [lambda kind, body, gone: late.append((kind, body, gone))]
    body = reference_body()
    if what == "spec":
        body["metadata"]["generation"] = 2
        body["spec"]["secret"] = {"name": "renamed"}
    else:
        body["metadata"]["annotations"] = {REFRESH_REQUESTED_AT: "now"}
    bench.kubernetes.put_reference(body)
    await bench.reconcile()
    assert bench.kubernetes.writes[-1] == f"Status {KEY}", "written while nobody here knew of the change"
    assert bench.kubernetes.references[KEY] not in bench.wrote, "it holds what nobody here knew of"
    for kind, seen, gone in late:
        bench.see(kind, seen, gone=gone)
    assert KEY in bench.marked
    bench.kubernetes.watchers[:] = [bench.soon]
    await bench.reconcile()
    if what == "spec":
        assert set(bench.kubernetes.secrets) == {RENAMED, TOKEN_SECRET}
    else:
        assert bench.status().last_handled_refresh_at == "now"


async def test_a_resource_that_is_not_known_is_no_work(bench: Bench) -> None:
    assert await bench.reconcile(ObjectKey("shop", "nobody")) is None


async def test_what_was_read_for_one_reference_serves_the_next(bench: Bench) -> None:
    second = ObjectKey("shop", "second")
    bench.kubernetes.put_reference(reference_body(key=second, uid="uid-2"))
    await bench.reconcile()
    await bench.reconcile(second)
    assert [kind for kind, _ in bench.upstream.requests] == ["cluster", "ca"]
    assert bench.kubernetes.data(second)["password"] == "pw-1"


async def test_where_many_are_wanted_a_reference_waits_for_the_listing_instead_of_asking(bench: Bench) -> None:
    keys = [ObjectKey("shop", f"ref-{number}") for number in range(60)]
    for number, key in enumerate(keys):
        uuid = f"00000000-0000-4000-8000-{number:012d}"
        bench.upstream.clusters[uuid] = a_cluster(uuid=uuid)
        bench.kubernetes.put_reference(reference_body(key=key, uid=f"uid-{number}", clusterUUID=uuid))
    waits = [await bench.reconcile(key) for key in keys]
    assert waits[0] == 60.0
    assert waits[-1] == LOOK


# --- nothing is lost -------------------------------------------------------------------------------------------------------

TROUBLES = [UpstreamUnavailable("down"), RateLimited("slow down"), UnconfirmedNotFound("gone?"), TokenInvalid("no")]


@pytest.mark.parametrize("trouble", TROUBLES)
async def test_a_failed_read_leaves_the_secret_byte_for_byte(bench: Bench, trouble: Exception) -> None:
    await bench.reconcile()
    before = bench.kubernetes.secrets[KEY]
    bench.upstream.trouble["*"] = trouble
    for _ in range(10):
        await bench.refresh()
    assert bench.kubernetes.secrets[KEY] == before
    assert not bench.fresh[0]
    after = bench.restarted()
    await after.refresh()
    assert bench.kubernetes.secrets[KEY] == before


async def test_a_transient_failure_leaves_ready_and_says_not_fresh(bench: Bench) -> None:
    await bench.reconcile()
    bench.upstream.trouble["*"] = UpstreamUnavailable("down")
    await bench.refresh()
    assert bench.ready == (True, "Synced")
    assert bench.fresh == (False, "UpstreamUnavailable")
    bench.upstream.trouble.clear()
    await bench.refresh()
    assert bench.fresh == (True, "Synced")
    assert bench.event_reasons == ["SecretCreated", "UpstreamUnavailable", "Synced"]


async def test_a_failure_that_goes_on_is_one_write_and_then_one_more_when_it_is_stale(bench: Bench) -> None:
    await bench.reconcile()
    bench.forget_writes()
    bench.upstream.trouble["*"] = UpstreamUnavailable("down")
    for _ in range(30):
        await bench.refresh()
    assert bench.ready == (False, "UpstreamUnavailable")
    assert bench.kubernetes.writes == ["Status shop/orders-db"] * 2
    assert bench.event_reasons == ["UpstreamUnavailable"] * 2, "Fresh turned, then Ready"


@pytest.mark.parametrize("jump", [timedelta(hours=-2), timedelta(hours=2)])
async def test_a_clock_that_jumps_during_a_failure_does_not_move_the_end_of_ready(bench: Bench, jump: timedelta) -> None:
    await bench.reconcile()
    bench.upstream.trouble["*"] = UpstreamUnavailable("down")
    await bench.refresh()
    bench.clock.jumped = jump
    for _ in range(4):
        await bench.refresh()
        assert bench.ready == (True, "Synced")
    change_spec(bench, secret={"labels": {"team": "shop"}})
    await bench.refresh(after=STALE_AT_LEAST.total_seconds() - 4 * 60)
    assert bench.ready == (True, "Synced")
    await bench.refresh()
    assert bench.ready == (False, "UpstreamUnavailable")


@pytest.mark.parametrize(("jump", "stays"), [(timedelta(0), False), (timedelta(hours=-2), True)])
async def test_after_a_restart_the_status_tells_how_long_a_failure_has_lasted(
    bench: Bench, jump: timedelta, *, stays: bool
) -> None:
    await bench.reconcile()
    bench.upstream.trouble["*"] = UpstreamUnavailable("down")
    for _ in range(4):
        await bench.refresh()
    after = bench.restarted()
    after.clock.jumped = jump
    for _ in range(3):
        await after.refresh()
    assert after.ready[0] is stays
    for _ in range(5):
        await after.refresh()
    assert after.ready == (False, "UpstreamUnavailable")


async def test_failures_are_tried_again_sooner_at_first_and_slower_later(bench: Bench) -> None:
    bench.upstream.trouble["*"] = UpstreamUnavailable("down")
    waits = []
    for _ in range(9):
        wait = await bench.reconcile()
        assert wait is not None
        waits.append(wait)
        bench.clock.advance(wait)
    assert waits == [1, 2, 4, 8, 16, 32, 60, 60, 60]


async def test_what_upstream_asks_for_is_obeyed(bench: Bench) -> None:
    bench.upstream.trouble["*"] = RateLimited("slow down", retry_after=40.0)
    assert await bench.reconcile() == 40.0


async def test_a_token_that_lacks_a_scope_is_named_by_its_secret(bench: Bench) -> None:
    bench.upstream.trouble["*"] = Forbidden("no")
    await bench.reconcile()
    said = bench.status().conditions[ConditionType.STALLED].message
    assert said.startswith("DigitalOcean denied this request (403) to the API token of Secret do-token, key token. Give it the")
    for scope in ("database:read", "database:view_credentials"):
        assert scope in said


async def test_a_redacted_answer_keeps_the_good_secret_and_names_the_scope(bench: Bench) -> None:
    await bench.reconcile()
    before = bench.kubernetes.secrets[KEY]
    bench.rotate("")
    await bench.refresh()
    assert bench.kubernetes.secrets[KEY] == before
    assert bench.ready == (False, "MissingScope")
    said = bench.status().conditions[ConditionType.STALLED].message
    assert said.startswith("DigitalOcean hides the cluster's credentials from the API token of Secret do-token, key token.")
    assert "database:view_credentials" in said
    after = bench.restarted()
    await after.refresh()
    assert bench.kubernetes.secrets[KEY] == before


async def test_after_a_redacted_answer_the_last_good_one_still_repairs(bench: Bench) -> None:
    await bench.reconcile()
    bench.rotate("")
    await bench.refresh()
    bench.kubernetes.remove_secret(KEY)
    await bench.reconcile()
    assert bench.password == "pw-1"
    assert bench.ready == (False, "MissingScope")


async def test_a_cluster_that_is_being_created_is_waited_for(bench: Bench) -> None:
    bench.upstream.clusters[UUID] = a_cluster(status="creating", private_connection=None)
    await bench.reconcile()
    assert KEY not in bench.kubernetes.secrets
    assert bench.says(ConditionType.RECONCILING) == (True, "WaitingForCluster")
    bench.rotate("pw-1")
    await bench.refresh()
    assert bench.ready == (True, "Synced")


async def test_a_ca_that_fails_alone_takes_nothing_away(bench: Bench) -> None:
    await bench.reconcile()
    bench.upstream.trouble["ca"] = UpstreamUnavailable("down")
    bench.rotate("pw-2")
    after = bench.restarted()
    await after.refresh()
    assert bench.kubernetes.data()["ca.crt"] == PEM.decode()
    assert bench.password == "pw-2"


async def test_a_ca_that_is_answered_empty_takes_nothing_away(bench: Bench) -> None:
    await bench.reconcile()
    before = bench.kubernetes.secrets[KEY]
    bench.upstream.cas[UUID] = b""
    after = bench.restarted()
    await after.refresh()
    assert bench.kubernetes.secrets[KEY] == before


async def test_a_ca_in_somebody_elses_secret_is_not_taken_for_the_clusters(bench: Bench) -> None:
    bench.kubernetes.put_secret(secret_body({"ca.crt": "forged"}, key=KEY))
    bench.upstream.trouble["ca"] = UpstreamUnavailable("down")
    await bench.reconcile()
    assert bench.fresh == (False, "UpstreamUnavailable")


async def test_a_missing_token_secret_is_named_and_its_appearance_is_enough(bench: Bench) -> None:
    bench.kubernetes.remove_secret(TOKEN_SECRET)
    await bench.reconcile()
    assert bench.says(ConditionType.STALLED) == (True, "TokenSecretMissing")
    bench.kubernetes.put_secret(secret_body({"token": TOKEN}, key=TOKEN_SECRET))
    await bench.refresh(after=1)
    assert bench.ready == (True, "Synced")


async def test_a_refused_token_is_looked_up_again_at_once(bench: Bench) -> None:
    await bench.reconcile()
    bench.upstream.trouble["*"] = TokenInvalid("no")
    await bench.refresh()
    assert bench.says(ConditionType.STALLED) == (True, "TokenInvalid")
    bench.upstream.trouble.clear()
    bench.kubernetes.put_secret(secret_body({"token": "dop_v1_new"}, key=TOKEN_SECRET))
    await bench.refresh(after=1)
    assert bench.ready == (True, "Synced")
    assert bench.upstream.tokens[-1] == "dop_v1_new"


# --- a 404 -----------------------------------------------------------------------------------------------------------------


async def test_a_404_is_believed_when_a_second_one_comes_ten_seconds_later(bench: Bench) -> None:
    await bench.reconcile()
    before = bench.kubernetes.secrets[KEY]
    del bench.upstream.clusters[UUID]
    wait = await bench.refresh()
    assert bench.ready == (True, "Synced")
    assert bench.says(ConditionType.STALLED) == (False, "ClusterNotFound")
    assert wait == CONFIRM_NOT_FOUND_AFTER
    await bench.refresh(after=wait)
    assert bench.ready == (False, "ClusterNotFound")
    assert bench.says(ConditionType.STALLED) == (True, "ClusterNotFound")
    assert bench.kubernetes.secrets[KEY] == before


async def test_a_404_where_a_secret_is_in_use_asks_nobody_to_delete_the_resource_first(bench: Bench) -> None:
    await bench.reconcile()
    del bench.upstream.clusters[UUID]
    await bench.refresh(after=await bench.refresh() or 0)
    message = bench.status().conditions[ConditionType.STALLED].message
    for words in (
        "Secret orders-db stays",
        "create a second DatabaseClusterRef",
        "delete this resource last",
        "docs/operations.md",
    ):
        assert words in message
    again = bench.restarted()
    await again.reconcile()
    await again.refresh()
    assert again.status().conditions[ConditionType.STALLED].message == message, "an earlier process's Secret is one, too"


async def test_a_404_where_there_is_no_secret_names_the_quick_way(bench: Bench) -> None:
    del bench.upstream.clusters[UUID]
    await bench.reconcile()
    await bench.refresh(after=CONFIRM_NOT_FOUND_AFTER)
    message = bench.status().conditions[ConditionType.STALLED].message
    assert "delete this resource and create it again with the right spec.clusterUUID" in message
    assert "orders-db stays" not in message


async def test_two_404s_closer_together_are_one(bench: Bench) -> None:
    del bench.upstream.clusters[UUID]
    await bench.reconcile()
    bench.entry().reads.due_now()
    await bench.refresh(after=CONFIRM_NOT_FOUND_AFTER - 0.1)
    assert bench.says(ConditionType.STALLED) == (False, "ClusterNotFound")


async def test_another_answer_between_two_404s_begins_the_count_again(bench: Bench) -> None:
    del bench.upstream.clusters[UUID]
    await bench.reconcile()
    bench.upstream.trouble["*"] = UpstreamUnavailable("down")
    await bench.refresh(after=CONFIRM_NOT_FOUND_AFTER)
    bench.upstream.trouble.clear()
    await bench.refresh()
    assert bench.says(ConditionType.STALLED) == (False, "ClusterNotFound")


async def test_a_404_just_after_creation_is_over_without_help(bench: Bench) -> None:
    cluster = bench.upstream.clusters.pop(UUID)
    await bench.reconcile()
    bench.upstream.clusters[UUID] = cluster
    await bench.refresh(after=CONFIRM_NOT_FOUND_AFTER)
    assert bench.ready == (True, "Synced")


# --- drift -----------------------------------------------------------------------------------------------------------------


async def repaired(bench: Bench) -> None:
    """Reconciles as the mark asks for, with upstream out of reach."""
    await settle()
    assert bench.marked == {KEY}
    bench.upstream.trouble["*"] = UpstreamUnavailable("down")
    bench.forget_writes()
    await bench.reconcile()
    assert bench.upstream.requests == []
    assert bench.marked == set()


async def test_an_edited_value_is_restored_without_upstream(bench: Bench) -> None:
    await bench.reconcile()
    bench.kubernetes.edit_secret(KEY, set_value("password", "aGFja2Vk"))
    await repaired(bench)
    assert bench.password == "pw-1"
    assert bench.event_reasons == ["SecretRepaired"]
    assert bench.status().secret_revision == 1
    assert bench.kubernetes.writes == ["Secret shop/orders-db"]


async def test_a_deleted_secret_is_restored_without_upstream(bench: Bench) -> None:
    await bench.reconcile()
    bench.kubernetes.remove_secret(KEY)
    await repaired(bench)
    assert bench.password == "pw-1"
    assert bench.event_reasons == ["SecretRepaired"]


async def test_a_removed_key_is_restored(bench: Bench) -> None:
    await bench.reconcile()
    bench.kubernetes.edit_secret(KEY, lambda body: body["data"].pop("password"))
    await repaired(bench)
    assert bench.password == "pw-1"


async def test_a_lost_label_is_restored(bench: Bench) -> None:
    await bench.reconcile()
    bench.kubernetes.edit_secret(KEY, lambda body: body["metadata"]["labels"].clear())
    await repaired(bench)
    assert bench.kubernetes.secrets[KEY]["metadata"]["labels"] == {MANAGED_BY: FIELD_MANAGER}


async def test_a_lost_owner_is_restored(bench: Bench) -> None:
    await bench.reconcile()
    bench.kubernetes.edit_secret(KEY, lambda body: body["metadata"].pop("ownerReferences"))
    await repaired(bench)
    assert bench.kubernetes.secrets[KEY]["metadata"]["ownerReferences"][0]["uid"] == UID


async def test_a_key_that_somebody_added_is_left_alone(bench: Bench) -> None:
    await bench.reconcile()
    bench.forget_writes()
    bench.kubernetes.edit_secret(KEY, set_value("extra", "eA=="))
    await settle()
    assert bench.marked == set()
    bench.rotate("pw-2")
    await bench.refresh()
    assert bench.kubernetes.data()["extra"] == "x"


async def test_an_edit_while_the_operator_was_away_is_undone_at_the_first_read(bench: Bench) -> None:
    await bench.reconcile()
    bench.kubernetes.edit_secret(KEY, set_value("password", "aGFja2Vk"))
    after = bench.restarted()
    await after.reconcile()
    assert bench.password == "pw-1"


async def test_a_ca_that_was_edited_while_the_operator_was_away_is_not_believed(bench: Bench) -> None:
    await bench.reconcile()
    bench.kubernetes.edit_secret(KEY, set_value("ca.crt", b64encode(b"theirs").decode()))
    await bench.restarted().reconcile()
    assert bench.kubernetes.data()["ca.crt"] == PEM.decode()


async def test_a_secret_recreated_by_somebody_is_a_conflict_and_not_overwritten(bench: Bench) -> None:
    await bench.reconcile()
    bench.kubernetes.remove_secret(KEY)
    bench.kubernetes.put_secret(secret_body({"theirs": "x"}, key=KEY))
    look_in = await bench.reconcile()
    assert look_in is not None
    assert 0 < look_in <= 30, "the message promises it"
    assert bench.kubernetes.data() == {"theirs": "x"}
    assert bench.ready == (False, "SecretConflict")


async def test_a_secret_that_was_replaced_unseen_is_looked_at_again(bench: Bench) -> None:
    await bench.reconcile()
    bench.kubernetes.watchers.clear()  # a watch that is behind
    bench.kubernetes.remove_secret(KEY)
    replacement = secret_body({"password": "theirs"}, key=KEY)
    replacement["type"] = "servicebinding.io/postgresql"
    bench.kubernetes.put_secret(replacement)
    bench.rotate("pw-2")
    with pytest.raises(KubernetesError):
        await bench.refresh()
    await bench.reconcile()
    assert bench.kubernetes.data() == {"password": "theirs"}
    assert bench.ready == (False, "SecretConflict")


async def test_a_secret_that_vanished_unseen_is_written_again(bench: Bench) -> None:
    await bench.reconcile()
    bench.kubernetes.watchers.clear()
    bench.kubernetes.remove_secret(KEY)
    bench.rotate("pw-2")
    with pytest.raises(KubernetesError):
        await bench.refresh()
    await bench.reconcile()
    assert bench.password == "pw-2"


# --- waiting for a turn ----------------------------------------------------------------------------------------------------


def use_up(bench: Bench) -> None:
    """The token's hour is nearly over: requests go twenty times slower, and the burst is spent."""
    budget = bench.account._reader.budget
    budget.remaining, budget._left = 0, -5.0


async def test_a_new_resource_that_waits_for_a_short_budget_says_so_and_then_is_served(bench: Bench) -> None:
    second = ObjectKey("shop", "second")
    await bench.reconcile()
    use_up(bench)
    bench.kubernetes.put_reference(reference_body(key=second, uid="uid-2", clusterUUID=OTHER_UUID))
    bench.upstream.clusters[OTHER_UUID] = a_cluster(uuid=OTHER_UUID)
    waited, wait = 0.0, await bench.reconcile(second)
    assert bench.says(ConditionType.RECONCILING, second) == (True, "RateLimited"), "the wait is known to be long"
    while bench.fresh_of(second) != (True, "Synced"):
        assert wait is not None
        assert waited < 600
        wait = await bench.refresh(second, after=wait)
        waited += wait or 0
        assert bench.fresh_of(second) in {(False, "RateLimited"), (True, "Synced")}
    assert waited > SAID_AFTER
    assert bench.says(ConditionType.RECONCILING, second) == (False, "Synced")


def others_use_the_token(bench: Bench) -> None:
    budget = bench.account._reader.budget
    budget.seconds_until(bench.clock())
    budget._left = -5.0


async def test_a_first_read_that_waits_again_and_again_says_so_after_a_while(bench: Bench) -> None:
    for waited in (0, 5, 10):
        others_use_the_token(bench)
        wait = await bench.reconcile()
        assert wait is not None
        assert 0 < wait < SAID_AFTER
        assert bench.fresh_of(KEY) == (None if waited < SAID_AFTER else (False, "RateLimited"))
        bench.clock.advance(5)


async def test_a_read_that_waits_again_and_again_says_so_once_its_answer_is_too_old(bench: Bench) -> None:
    await bench.reconcile()
    bench.clock.advance(60)
    for age in (60, 65, 70, 75, 80):
        others_use_the_token(bench)
        wait = await bench.reconcile()
        assert wait is not None
        assert 0 < wait < SAID_AFTER
        assert bench.fresh == ((True, "Synced") if age < 60 * LATE else (False, "RateLimited"))
        bench.clock.advance(5)


@pytest.mark.parametrize("served", [True, False])
async def test_a_read_that_failed_and_waits_long_for_its_turn_says_no_longer_that_it_failed(
    bench: Bench, *, served: bool
) -> None:
    if served:
        await bench.reconcile()
    bench.upstream.trouble["*"] = UpstreamUnavailable("DigitalOcean answered 503.")
    await bench.refresh(after=60 if served else 0)
    assert bench.fresh == (False, "UpstreamUnavailable")
    bench.upstream.trouble.clear()
    bench.clock.advance(60)
    for waited in range(0, STILL_SAID_FOR + 20, 5):
        others_use_the_token(bench)
        await bench.reconcile()
        assert bench.fresh == (False, "UpstreamUnavailable" if waited < STILL_SAID_FOR else "RateLimited")
        bench.clock.advance(5)
    assert bench.says(ConditionType.READY)[0] is served
    for _ in range(10):
        await bench.refresh(after=30)
    assert bench.fresh == (True, "Synced")


async def test_a_read_that_waits_because_of_a_bug_does_not_blame_the_rate_limit(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    await bench.reconcile()
    use_up(bench)

    async def queued(*_: object, **__: object) -> Queued:
        return Queued(seconds=SAID_AFTER, what="the cluster", why=UpstreamUnavailable("It keeps ending."))

    monkeypatch.setattr(bench.account, "read", queued)
    await bench.refresh(after=60 * LATE)
    assert (bench.fresh, bench.ready) == ((False, "UpstreamUnavailable"), (True, "Synced"))
    monkeypatch.undo()
    while bench.fresh != (True, "Synced"):
        await bench.refresh(after=30)


async def test_a_forced_refresh_that_waits_says_so_and_is_acknowledged_only_when_it_was_read(bench: Bench) -> None:
    await bench.reconcile()
    use_up(bench)
    request_refresh(bench)
    await bench.reconcile()
    assert (bench.fresh, bench.ready) == ((False, "RateLimited"), (True, "Synced"))
    assert bench.status().last_handled_refresh_at == ""
    while bench.fresh != (True, "Synced"):
        await bench.refresh(after=30)
    assert bench.status().last_handled_refresh_at == "now"


async def test_a_secret_is_repaired_while_a_read_waits_for_its_turn(bench: Bench) -> None:
    await bench.reconcile()
    use_up(bench)
    bench.kubernetes.edit_secret(KEY, set_value("password", "edited"))
    bench.clock.advance(60)
    requests = len(bench.upstream.requests)
    assert await bench.reconcile()
    assert bench.password == "pw-1"
    assert len(bench.upstream.requests) == requests


@pytest.mark.simulation
@in_fake_time
async def test_a_listing_that_stays_broken_is_made_up_for_in_turn_and_whose_answer_is_old_says_so() -> None:
    count = 200
    kubernetes, upstream = FakeKubernetes(), FakeUpstream()
    kubernetes.put_secret(secret_body({"token": TOKEN}, key=TOKEN_SECRET))
    uuids = [f"00000000-0000-4000-8000-{number:012d}" for number in range(count)]
    for uuid in uuids:
        upstream.clusters[uuid] = a_cluster(uuid=uuid)
        kubernetes.put_reference(reference_body(key=ObjectKey("shop", uuid), uid=uuid, clusterUUID=uuid, refreshInterval="1m"))
    bench, queue = Bench(kubernetes, upstream, LoopClock()), WorkQueue[ObjectKey]()
    await bench.work(queue, seconds=600)
    upstream.trouble["page"] = UpstreamUnavailable("down")
    looks, requests, old = 0, len(upstream.requests), uuids
    for _ in range(36):
        looks += await bench.work(queue, seconds=15)
        found = [(uuid, bench.account._cache.get(uuid)) for uuid in uuids]
        ages = {uuid: bench.clock() - answer.read_at for uuid, answer in found if answer}
        old = [uuid for uuid, age in ages.items() if age > LATE * 60]
        assert {bench.fresh_of(ObjectKey("shop", uuid)) for uuid in old} <= {(False, "RateLimited")}
        assert max(ages.values()) < 60 + count / 75 * 60, "no cluster is read again while others wait for longer"
    assert len(old) == pytest.approx(count - 75 * LATE, abs=15), "as many are fresh as the budget allows"
    assert looks < 4 * (len(upstream.requests) - requests), "a waiting caller stays away until its turn"
    bench.account.close()


# --- whose Secret it is ----------------------------------------------------------------------------------------------------


async def test_a_secret_of_somebody_else_is_never_touched(bench: Bench) -> None:
    bench.kubernetes.put_secret(secret_body({"theirs": "x"}, key=KEY))
    before = bench.kubernetes.secrets[KEY]
    await bench.reconcile()
    assert bench.kubernetes.secrets[KEY] == before
    assert bench.says(ConditionType.STALLED) == (True, "SecretConflict")
    said = bench.status().conditions[ConditionType.READY].message
    assert """kubectl patch dbref -n shop orders-db --type=merge -p '{"spec":{"secret":{"type":"Opaque"}}}' && """ in said
    assert f"kubectl annotate secret -n shop orders-db {ADOPT}=orders-db" in said


def put_theirs(bench: Bench) -> Body:
    """Somebody else's Secret of our name and type, into which an apply would fit without a conflict."""
    theirs = secret_body({"theirs": "x"}, key=KEY)
    theirs["type"] = "servicebinding.io/postgresql"
    return bench.kubernetes.put_secret(theirs)


async def test_a_secret_that_has_room_for_ours_is_somebody_elses_all_the_same(bench: Bench) -> None:
    before = put_theirs(bench)
    await bench.reconcile()
    assert bench.kubernetes.secrets[KEY] == before
    assert bench.ready == (False, "SecretConflict")
    command = f"kubectl annotate secret -n shop orders-db {ADOPT}=orders-db --overwrite"
    assert command in bench.status().conditions[ConditionType.READY].message


async def test_a_name_that_was_taken_is_looked_at_before_it_is_tried_again(bench: Bench) -> None:
    bench.kubernetes.put_secret(secret_body({"theirs": "x"}, key=KEY))
    await bench.reconcile()
    for after in (bench, bench.restarted()):
        bench.kubernetes.calls.clear()
        await after.refresh()
        assert "get_secret" in bench.kubernetes.calls
        assert "apply_secret" not in bench.kubernetes.calls


async def test_a_secret_that_comes_between_a_look_and_the_write_is_never_touched(bench: Bench) -> None:
    before = put_theirs(bench)
    await bench.reconcile()
    get, looks = bench.kubernetes.get_secret, 0

    async def get_too_early(key: ObjectKey) -> Body | None:
        nonlocal looks
        looks += key == KEY
        return None if key == KEY and looks == 1 else await get(key)

    bench.kubernetes.get_secret = get_too_early  # type: ignore[method-assign]
    await bench.refresh()
    assert looks > 1
    assert bench.kubernetes.secrets[KEY] == before
    assert bench.ready == (False, "SecretConflict")


async def test_an_api_server_that_creates_nothing_by_apply_with_a_version_is_asked_without(bench: Bench) -> None:
    apply = bench.kubernetes.apply_secret

    async def refuse(manifest: Mapping[str, Any], *, force: bool) -> Body:
        if "resourceVersion" in manifest["metadata"]:
            raise KubernetesError("the object has been modified", status=409)
        assert not force
        return await apply(manifest, force=force)

    bench.kubernetes.apply_secret = refuse  # type: ignore[method-assign]
    await bench.reconcile()
    assert bench.ready == (True, "Synced")
    assert bench.password == "pw-1"


async def test_a_conflict_resolves_itself_when_the_way_is_free(bench: Bench) -> None:
    bench.kubernetes.put_secret(secret_body({"theirs": "x"}, key=KEY))
    wait = await bench.reconcile()
    assert wait is not None
    assert wait < 60
    bench.kubernetes.remove_secret(KEY)
    await bench.refresh(after=wait)
    assert bench.ready == (True, "Synced")
    assert bench.password == "pw-1"


async def test_a_conflict_that_stays_is_told_once(bench: Bench) -> None:
    bench.kubernetes.put_secret(secret_body({"theirs": "x"}, key=KEY))
    await bench.reconcile()
    bench.forget_writes()
    for _ in range(20):
        await bench.refresh()
    assert (bench.kubernetes.writes, bench.kubernetes.events) == ([], [])


async def test_a_secret_that_is_offered_is_adopted_and_its_other_keys_stay(bench: Bench) -> None:
    offered = secret_body({"theirs": "x", "password": "old"}, key=KEY)
    offered["type"] = "servicebinding.io/postgresql"
    offered["metadata"]["annotations"] = {ADOPT: "orders-db"}
    bench.kubernetes.put_secret(offered)
    await bench.reconcile()
    assert bench.ready == (True, "Synced")
    assert (bench.password, bench.kubernetes.data()["theirs"]) == ("pw-1", "x")


async def test_of_two_resources_that_name_one_secret_the_first_keeps_it(bench: Bench) -> None:
    await bench.reconcile()
    second = ObjectKey("shop", "second")
    bench.upstream.clusters[OTHER_UUID] = a_cluster(uuid=OTHER_UUID, password="other")
    bench.kubernetes.put_reference(reference_body(key=second, uid="uid-2", clusterUUID=OTHER_UUID, secret={"name": KEY.name}))
    await bench.reconcile(second)
    assert bench.password == "pw-1"
    assert bench.says(ConditionType.READY, second) == (False, "SecretConflict")
    bench.kubernetes.remove_reference(KEY)
    bench.kubernetes.remove_secret(KEY)
    await settle()
    assert second in bench.marked
    await bench.reconcile(second)
    assert bench.password == "other"


async def test_a_secret_is_not_handed_over_while_its_owner_still_names_it(bench: Bench) -> None:
    await bench.reconcile()
    second = ObjectKey("shop", "second")
    bench.upstream.clusters[OTHER_UUID] = a_cluster(uuid=OTHER_UUID, password="other")
    bench.kubernetes.secrets[KEY]["metadata"]["annotations"][ADOPT] = "second"
    bench.kubernetes.put_reference(reference_body(key=second, uid="uid-2", clusterUUID=OTHER_UUID, secret={"name": KEY.name}))
    bench.store.forget_secret(KEY)
    await bench.reconcile(second)
    assert bench.password == "pw-1"
    assert bench.says(ConditionType.READY, second) == (False, "SecretConflict")
    said = bench.status(second).conditions[ConditionType.READY].message
    assert "Set another spec.secret.name on this resource: on orders-db it would remove the Secret" in said


async def test_a_secret_of_another_type_is_a_conflict_with_the_remedy(bench: Bench) -> None:
    await bench.reconcile()
    bench.rotate("pw-1", engine="mysql")
    await bench.refresh()
    assert bench.ready == (False, "SecretConflict")
    said = bench.status().conditions[ConditionType.READY].message
    assert (
        "it is recreated immediately (running pods keep what they have, new ones wait): kubectl delete secret -n shop" in said
    )
    bench.kubernetes.remove_secret(KEY)
    await bench.reconcile()
    assert bench.kubernetes.secrets[KEY]["type"] == "servicebinding.io/mysql"


async def test_a_secret_that_is_kept_has_no_owner(bench: Bench) -> None:
    change_spec(bench, secret={"deletionPolicy": "Retain"})
    await bench.reconcile()
    assert "ownerReferences" not in bench.kubernetes.secrets[KEY]["metadata"]


async def test_the_deletion_policy_is_followed_back_and_forth(bench: Bench) -> None:
    await bench.reconcile()
    change_spec(bench, secret={"deletionPolicy": "Retain"})
    await bench.reconcile()
    assert "ownerReferences" not in bench.kubernetes.secrets[KEY]["metadata"]
    change_spec(bench, secret={"deletionPolicy": "Delete"})
    await bench.reconcile()
    assert bench.kubernetes.secrets[KEY]["metadata"]["ownerReferences"][0]["uid"] == UID
    assert bench.status().secret_revision == 1


# --- renaming --------------------------------------------------------------------------------------------------------------


async def test_a_renamed_secret_is_written_first_and_the_former_one_removed_then(bench: Bench) -> None:
    await bench.reconcile()
    bench.forget_writes()
    change_spec(bench, secret={"name": RENAMED.name})
    await bench.reconcile()
    assert bench.kubernetes.writes == [f"Secret {RENAMED}", f"Secret {KEY} deleted", f"Status {KEY}"]
    assert bench.kubernetes.data(RENAMED)["password"] == "pw-1"
    assert bench.status().binding_name == RENAMED.name


async def test_a_former_secret_that_is_no_longer_ours_stays(bench: Bench) -> None:
    await bench.reconcile()
    bench.kubernetes.watchers.clear()
    bench.kubernetes.remove_secret(KEY)
    bench.kubernetes.put_secret(secret_body({"theirs": "x"}, key=KEY))
    change_spec(bench, secret={"name": RENAMED.name})
    bench.see("Reference", bench.kubernetes.references[KEY], gone=False)
    await bench.reconcile()
    assert bench.kubernetes.data(KEY) == {"theirs": "x"}
    assert bench.kubernetes.data(RENAMED)["password"] == "pw-1"


async def test_a_rename_that_could_not_be_written_keeps_the_former_secret(bench: Bench) -> None:
    await bench.reconcile()
    change_spec(bench, secret={"name": RENAMED.name})
    bench.kubernetes.trouble["apply_secret"] = KubernetesError("down", status=0)
    with pytest.raises(KubernetesError):
        await bench.reconcile()
    assert KEY in bench.kubernetes.secrets
    bench.kubernetes.trouble.clear()
    await bench.reconcile()
    assert set(bench.kubernetes.secrets) == {TOKEN_SECRET, RENAMED}


async def test_a_rename_that_waits_for_an_answer_after_a_restart_says_that_the_former_secret_stays(bench: Bench) -> None:
    await bench.reconcile()
    change_spec(bench, secret={"name": RENAMED.name})
    after = bench.restarted()
    after.upstream.trouble["*"] = UpstreamUnavailable("No.")
    await after.reconcile()
    message = after.status().conditions[ConditionType.READY].message
    assert message == "No. Secret renamed does not exist yet; the one of the former name stays."
    assert after.status().binding_name == KEY.name
    after.kubernetes.remove_secret(KEY)
    await after.reconcile()
    assert after.status().conditions[ConditionType.READY].message == "No. Secret renamed does not exist."
    after.upstream.trouble.clear()
    await after.refresh()
    assert after.status().binding_name == RENAMED.name
    assert set(after.kubernetes.secrets) == {TOKEN_SECRET, RENAMED}


# --- suspended, invalid, deleted -------------------------------------------------------------------------------------------


async def test_suspended_means_no_read_and_no_repair_and_the_secret_stays(bench: Bench) -> None:
    await bench.reconcile()
    change_spec(bench, suspend=True)
    bench.forget_writes()
    assert await bench.reconcile() is None
    assert bench.upstream.requests == []
    assert bench.fresh == (False, "Suspended")
    assert bench.ready == (True, "Suspended")
    bench.rotate("pw-2")
    await bench.refresh()
    assert bench.password == "pw-1"
    change_spec(bench, suspend=False)
    await bench.reconcile()
    assert bench.password == "pw-2"
    assert bench.ready == (True, "Synced")


async def test_one_that_is_resumed_is_read_before_it_is_called_synced(bench: Bench) -> None:
    await bench.reconcile()
    change_spec(bench, suspend=True)
    await bench.refresh()
    bench.rotate("pw-2")
    change_spec(bench, suspend=False)
    bench.forget_writes()
    await settle()
    step = await bench.reconciler.reconcile(KEY)
    assert step.read
    assert bench.kubernetes.writes == []
    assert bench.ready == (True, "Suspended"), "of the generation before"
    assert bench.status().observed_generation == 2
    await step.read.run()
    await bench.reconcile()
    assert (bench.password, bench.ready, bench.fresh) == ("pw-2", (True, "Synced"), (True, "Synced"))


async def resumed_where_walks_keep_its_cluster_fresh(bench: Bench) -> None:
    await bench.reconcile()
    change_spec(bench, suspend=True)
    await bench.refresh(after=5)
    bench.rotate("pw-2")
    bench.clock.advance(5)
    bench.account._poller._plan = Plan(sweep_every=54.0, covers=10.0, per_second=0.0)
    change_spec(bench, suspend=False)


async def test_one_that_is_resumed_is_not_called_synced_by_what_a_page_said_before(bench: Bench) -> None:
    await resumed_where_walks_keep_its_cluster_fresh(bench)
    await bench.reconcile()
    assert (bench.password, bench.ready, bench.fresh) == ("pw-2", (True, "Synced"), (True, "Synced"))


async def test_one_that_is_resumed_is_not_called_synced_while_its_read_waits_for_its_turn(bench: Bench) -> None:
    await resumed_where_walks_keep_its_cluster_fresh(bench)
    budget = bench.account._reader.budget
    budget._left, budget.counted_at = -5.0, bench.clock()
    wait = await bench.reconcile()
    assert wait
    assert wait < SAID_AFTER
    assert bench.ready == (True, "Suspended"), "of the generation before"
    await bench.refresh(after=wait)
    assert (bench.password, bench.ready, bench.fresh) == ("pw-2", (True, "Synced"), (True, "Synced"))


async def test_a_cluster_that_was_not_found_is_not_called_synced_by_what_a_page_said_before(bench: Bench) -> None:
    await bench.reconcile()
    bench.clock.advance(5)
    del bench.upstream.clusters[UUID]
    bench.account._poller._plan = Plan(sweep_every=54.0, covers=10.0, per_second=0.0)
    request_refresh(bench)
    await bench.reconcile()
    assert bench.fresh == (False, "ClusterNotFound")
    for _ in range(3):
        await bench.refresh(after=CONFIRM_NOT_FOUND_AFTER)
        assert bench.fresh == (False, "ClusterNotFound")
    assert bench.says(ConditionType.STALLED) == (True, "ClusterNotFound")


async def test_a_refresh_that_was_requested_before_the_answer_was_doubted_is_no_answer_to_the_doubt(bench: Bench) -> None:
    await bench.reconcile()
    request_refresh(bench)
    await settle()
    reads, now = bench.entry().reads, bench.clock()
    reads.request, reads.doubted_at = ("now", now - 5), now + 1
    bench.rotate("pw-2")
    await bench.refresh(after=2)
    assert (bench.password, bench.fresh) == ("pw-2", (True, "Synced"))


async def test_one_that_is_resumed_in_an_outage_is_called_synced_by_no_answer_from_before(bench: Bench) -> None:
    await bench.reconcile()
    change_spec(bench, suspend=True)
    await bench.refresh()
    bench.kubernetes.remove_secret(KEY)
    bench.upstream.trouble["*"] = UpstreamUnavailable("DigitalOcean answered 503.")
    change_spec(bench, suspend=False)
    await bench.reconcile()
    assert bench.fresh == (False, "UpstreamUnavailable")
    assert bench.password == "pw-1", "restored from what was read before"


async def test_a_spec_that_cannot_be_read_is_told_and_the_secret_stays(bench: Bench) -> None:
    await bench.reconcile()
    before = bench.kubernetes.secrets[KEY]
    change_spec(bench, refreshInterval="1s")
    assert await bench.reconcile() is None
    assert bench.says(ConditionType.STALLED) == (True, "InvalidSpec")
    assert bench.kubernetes.secrets[KEY] == before
    change_spec(bench, refreshInterval="10s")
    assert await bench.reconcile() == 10.0
    assert bench.ready == (True, "Synced")


async def test_a_wrong_template_is_told_and_the_secret_stays(bench: Bench) -> None:
    await bench.reconcile()
    before = bench.kubernetes.secrets[KEY]
    change_spec(bench, secret={"template": {"URL": "{hots}"}})
    await bench.reconcile()
    assert bench.ready == (False, "InvalidSpec")
    assert bench.kubernetes.secrets[KEY] == before


async def test_a_resource_that_is_being_deleted_is_written_no_more(bench: Bench) -> None:
    await bench.reconcile()
    body = bench.kubernetes.references[KEY]
    body["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    bench.kubernetes.put_reference(body)
    bench.kubernetes.remove_secret(KEY)
    bench.forget_writes()
    assert await bench.refresh() is None
    assert (bench.kubernetes.writes, bench.upstream.requests) == ([], [])


# --- changes while a read is under way -------------------------------------------------------------------------------------


async def changed_meanwhile(bench: Bench, task: "asyncio.Task[float | None]", gate: asyncio.Event) -> None:
    """Lets the watch tell of the change first, and upstream answer then."""
    await settle()
    gate.set()
    await task


async def reading(bench: Bench) -> tuple["asyncio.Task[float | None]", asyncio.Event]:
    """Begins to reconcile, up to where upstream is being asked."""
    gate = bench.upstream.gate = asyncio.Event()
    task = asyncio.create_task(bench.reconcile())
    await settle()
    return task, gate


async def test_a_resource_deleted_while_it_is_read_gets_no_secret(bench: Bench) -> None:
    task, gate = await reading(bench)
    bench.kubernetes.remove_reference(KEY)
    await changed_meanwhile(bench, task, gate)
    assert bench.kubernetes.writes == []


async def test_a_resource_that_begins_to_be_deleted_while_it_is_read_gets_no_secret(bench: Bench) -> None:
    task, gate = await reading(bench)
    body = bench.kubernetes.references[KEY]
    body["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    bench.kubernetes.put_reference(body)
    await changed_meanwhile(bench, task, gate)
    assert bench.kubernetes.writes == []


async def test_a_resource_recreated_while_its_former_self_is_read_gets_its_own_secret(bench: Bench) -> None:
    task, gate = await reading(bench)
    bench.kubernetes.remove_reference(KEY)
    bench.kubernetes.put_reference(reference_body(uid="uid-2"))
    await changed_meanwhile(bench, task, gate)
    await bench.reconcile()
    assert bench.kubernetes.writes == [f"Secret {KEY}", f"Status {KEY}"], "once, for the successor"
    assert bench.kubernetes.secrets[KEY]["metadata"]["ownerReferences"][0]["uid"] == "uid-2"
    assert bench.ready == (True, "Synced")


async def test_a_rename_while_a_read_is_under_way_leaves_no_secret_behind(bench: Bench) -> None:
    task, gate = await reading(bench)
    change_spec(bench, secret={"name": RENAMED.name})
    await changed_meanwhile(bench, task, gate)
    await bench.reconcile()
    assert set(bench.kubernetes.secrets) == {TOKEN_SECRET, RENAMED}


async def test_what_was_written_for_a_deleted_resource_is_not_announced_on_its_successor(bench: Bench) -> None:
    bench.kubernetes.trouble["patch_status"] = KubernetesError("gone", status=404)
    await bench.reconcile()
    assert KEY in bench.kubernetes.secrets, "written before the resource went"
    bench.kubernetes.trouble.clear()
    bench.kubernetes.remove_reference(KEY)
    bench.kubernetes.put_reference(reference_body(uid="uid-2", suspend=True))
    await bench.reconcile()
    assert [(event.regarding_uid, event.reason) for event in bench.kubernetes.events] == [("uid-2", "Suspended")]


# --- changes while upstream is down ----------------------------------------------------------------------------------------


async def test_a_change_of_the_secrets_looks_is_followed_while_upstream_is_down(bench: Bench) -> None:
    await bench.reconcile()
    bench.upstream.trouble["*"] = UpstreamUnavailable("down")
    change_spec(bench, secret={"labels": {"team": "a"}, "keySets": ["Env"]})
    await bench.refresh()
    assert bench.kubernetes.secrets[KEY]["metadata"]["labels"]["team"] == "a"
    assert bench.kubernetes.data()["PGPASSWORD"] == "pw-1"
    assert "password" not in bench.kubernetes.data()
    assert bench.fresh == (False, "UpstreamUnavailable")
    assert bench.status().observed_generation == 2


async def test_a_change_of_the_user_while_upstream_is_down_does_not_publish_another_users_password(bench: Bench) -> None:
    await bench.reconcile()
    before = bench.kubernetes.secrets[KEY]
    bench.upstream.trouble["*"] = UpstreamUnavailable("down")
    change_spec(bench, user="app", secret={"labels": {"team": "a"}})
    await bench.refresh()
    assert bench.kubernetes.secrets[KEY] == before
    assert bench.fresh == (False, "UpstreamUnavailable")
    bench.upstream.trouble.clear()
    await bench.refresh()
    assert bench.kubernetes.data()["username"] == "app"


async def test_a_pool_asked_for_while_upstream_is_down_is_not_taken_for_the_cluster_itself(bench: Bench) -> None:
    await bench.reconcile()
    bench.upstream.pools["orders-pool"] = a_pool()
    bench.upstream.trouble["*"] = UpstreamUnavailable("down")
    change_spec(bench, pool="orders-pool", secret={"labels": {"team": "a"}})
    await bench.refresh()
    assert "team" not in bench.kubernetes.secrets[KEY]["metadata"]["labels"]
    bench.upstream.trouble.clear()
    await bench.refresh()
    assert bench.kubernetes.data()["host"] == "pool-orders.db.example.com"


# --- the API server's own trouble ------------------------------------------------------------------------------------------


async def test_an_api_server_in_trouble_costs_nothing_but_time(bench: Bench) -> None:
    bench.kubernetes.trouble["*"] = KubernetesError("down", status=0)
    with pytest.raises(KubernetesError):
        await bench.reconcile()
    bench.kubernetes.trouble.clear()
    await bench.reconcile()
    assert bench.ready == (True, "Synced")


async def test_a_status_that_could_not_be_written_is_written_at_the_next_try_without_a_read(bench: Bench) -> None:
    bench.kubernetes.trouble["patch_status"] = KubernetesError("busy", status=429)
    with pytest.raises(KubernetesError):
        await bench.reconcile()
    bench.kubernetes.trouble.clear()
    bench.upstream.requests.clear()
    await bench.reconcile()
    assert bench.upstream.requests == []
    assert bench.ready == (True, "Synced")
    assert bench.event_reasons == ["SecretCreated"]


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (403, "exceeded quota: secrets=10"),
        (422, "admission webhook denied it"),
        # What the API server makes of a webhook's answer that names no status, such as Kyverno's.
        (400, 'admission webhook "validate.kyverno.svc-fail" denied the request: no'),
    ],
)
async def test_a_secret_that_is_refused_says_so_in_the_servers_words(bench: Bench, status: int, said: str) -> None:
    bench.kubernetes.trouble["apply_secret"] = KubernetesError(said, status=status)
    await bench.reconcile()
    assert bench.says(ConditionType.STALLED) == (True, "SecretRefused")
    message = bench.status().conditions[ConditionType.READY].message
    assert message.endswith(f"Its answer: {said}")
    assert "Have the quota or the policy that it names admit this Secret" in message
    bench.kubernetes.trouble.clear()
    await bench.refresh()
    assert bench.ready == (True, "Synced")


async def test_a_namespace_that_is_ending_is_no_refusal(bench: Bench) -> None:
    said = "unable to create new content in namespace shop because it is being terminated"
    bench.kubernetes.trouble["apply_secret"] = KubernetesError(said, status=403)
    with pytest.raises(KubernetesError) as raised:
        await bench.reconcile()
    assert raised.value.namespace_is_terminating


async def test_who_does_not_lead_writes_nothing(bench: Bench) -> None:
    bench.leading = False
    with pytest.raises(KubernetesError, match="Not the leader"):
        await bench.reconcile()
    assert bench.kubernetes.writes == []
    bench.leading = True
    await bench.reconcile()
    assert bench.ready == (True, "Synced")


async def test_who_loses_the_lead_while_reading_writes_nothing(bench: Bench) -> None:
    task, gate = await reading(bench)
    bench.leading = False
    gate.set()
    with pytest.raises(KubernetesError, match="Not the leader"):
        await task
    assert bench.kubernetes.writes == []


# --- the canary ------------------------------------------------------------------------------------------------------------


async def test_passwords_and_tokens_are_in_the_secret_and_nowhere_else(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    canary = "CANARY"
    bench.kubernetes.put_secret(secret_body({"token": f"dop_{canary}"}, key=TOKEN_SECRET))
    bench.rotate(f"{canary}-1")
    await bench.reconcile()
    bench.rotate(f"{canary}-2")
    await bench.refresh()
    bench.upstream.trouble["*"] = UpstreamUnavailable("down")
    await bench.refresh()
    told = caplog.text + repr(bench.kubernetes.events) + repr(bench.kubernetes.references) + repr(list(bench.store))
    assert canary in bench.password
    assert canary not in told


# --- why a Secret was written, as metrics say it


def writes(bench: Bench) -> dict[str, float]:
    value = bench.metrics.registry.get_sample_value
    counted = {cause: value("dbclusterref_secret_writes_total", {"cause": cause}) for cause in CAUSES}
    return {cause: count for cause, count in counted.items() if count}


async def test_each_write_of_a_secret_is_counted_by_its_cause(bench: Bench) -> None:
    await bench.reconcile()
    assert writes(bench) == {"created": 1}
    await bench.refresh()
    assert writes(bench) == {"created": 1}
    bench.rotate("pw-2")
    await bench.refresh()
    assert writes(bench) == {"created": 1, "changed": 1}
    bench.kubernetes.edit_secret(KEY, lambda body: body["data"].pop("password"))
    await bench.reconcile()
    bench.kubernetes.remove_secret(KEY)
    await bench.reconcile()
    assert writes(bench) == {"created": 1, "changed": 1, "repaired": 2}
    bench.kubernetes.put_reference(reference_body(generation=2, secret={"name": RENAMED.name}))
    await bench.reconcile()
    assert writes(bench) == {"created": 1, "changed": 1, "repaired": 2, "renamed": 1, "removed": 1}


async def test_a_secret_that_was_offered_counts_as_adopted(bench: Bench) -> None:
    offered = secret_body({"theirs": "x"}, key=KEY)
    offered["type"] = "servicebinding.io/postgresql"
    offered["metadata"]["annotations"] = {ADOPT: "orders-db"}
    bench.kubernetes.put_secret(offered)
    await bench.reconcile()
    assert writes(bench) == {"adopted": 1}


async def test_a_status_that_somebody_overwrites_before_our_own_write_is_answered_is_written_again(bench: Bench) -> None:
    patch = bench.kubernetes.patch_status

    async def patch_late(key: ObjectKey, *, uid: str, status: Mapping[str, object]) -> Body:
        answer = await patch(key, uid=uid, status=status)
        await patch(key, uid=uid, status={})
        await settle()
        return answer

    bench.kubernetes.patch_status = patch_late  # type: ignore[method-assign]
    await bench.bring_in_line(KEY)
    bench.kubernetes.patch_status = patch  # type: ignore[method-assign]
    assert KEY in bench.marked
    await bench.reconcile()
    assert bench.ready == (True, "Synced")
