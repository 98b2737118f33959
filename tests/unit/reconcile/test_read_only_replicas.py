"""Read-only replicas in the Secret: there when they are, and never at the expense of the primary's part of it."""

from functools import partial

import pytest

from dbclusterref.digitalocean.details import LATE_INTERVALS
from dbclusterref.digitalocean.replicas import not_listed
from dbclusterref.errors import Forbidden, RateLimited, UnconfirmedNotFound, UpstreamUnavailable
from dbclusterref.resource.status import ConditionType
from tests.support.bench import Bench, a_bench, change_spec, request_refresh
from tests.support.builders import CANARY, replica_body

FAILURES = [UpstreamUnavailable("Down."), RateLimited("Slow."), Forbidden("No.")]
TWO = "private-read-1-orders.db.example.com:25060,private-read-2-orders.db.example.com:25060"


@pytest.fixture
async def bench() -> Bench:
    bench = a_bench()
    change_spec(bench, secret={"endpoints": ["Private", "Replicas"]})
    bench.upstream.replicas = [replica_body("read-2"), replica_body("read-1")]
    return bench


def leave_in_the_budget(bench: Bench, requests: int) -> None:
    budget = bench.account._reader.budget
    while not budget.seconds_until(bench.clock(), spare=requests):
        budget.spend(bench.clock())


async def test_the_secret_and_the_status_follow_the_replicas(bench: Bench) -> None:
    await bench.reconcile()
    assert bench.kubernetes.data()["replica-hosts"] == TWO
    assert bench.status().endpoints["replicas"] == TWO
    assert (bench.ready, bench.fresh) == ((True, "Synced"), (True, "Synced"))
    assert CANARY not in str(bench.kubernetes.data()), "a replica's own credentials are not used"
    bench.upstream.replicas.pop()
    await bench.refresh()
    data = bench.kubernetes.data()
    assert (data["replica-host"], data["replica-port"]) == ("private-read-2-orders.db.example.com", "25060")
    bench.upstream.replicas = []
    await bench.refresh()
    assert not [key for key in bench.kubernetes.data() if "replica" in key.lower()]
    assert "There is no read-only replica that serves" in bench.status().conditions[ConditionType.READY].message
    assert bench.kubernetes.events[-1].warning
    assert "replicas" not in bench.status().endpoints


async def test_unchanged_replicas_cost_one_request_for_each_interval_and_no_write(bench: Bench) -> None:
    await bench.reconcile()
    bench.forget_writes()
    for _ in range(3):
        await bench.refresh(after=75.0)
    assert [kind for kind, _ in bench.upstream.requests].count("replicas") == 3
    assert bench.kubernetes.writes == []


async def test_without_being_asked_for_they_cost_nothing(bench: Bench) -> None:
    change_spec(bench, secret={})
    await bench.reconcile()
    assert "replicas" not in {kind for kind, _ in bench.upstream.requests}


@pytest.mark.parametrize("failure", FAILURES, ids=lambda cause: type(cause).__name__)
async def test_a_rotation_reaches_the_secret_while_the_replicas_cannot_be_read(bench: Bench, failure: Exception) -> None:
    await bench.reconcile()
    bench.upstream.trouble["replicas"] = failure
    for number in range(2, 5):
        bench.rotate(f"pw-{number}")
        await bench.refresh(after=600.0)
        data = bench.kubernetes.data()
        assert data["password"] == f"pw-{number}"
        assert f"pw-{number}@private-read-1" in data["replica-uri"], "the replicas have the same users"
        assert data["replica-hosts"] == TWO
    assert bench.fresh == (False, failure.reason)  # type: ignore[attr-defined]
    bench.upstream.trouble.clear()
    await bench.refresh(after=600.0)
    assert (bench.ready, bench.fresh) == ((True, "Synced"), (True, "Synced"))


@pytest.mark.parametrize("failure", FAILURES, ids=lambda cause: type(cause).__name__)
async def test_after_a_restart_the_replicas_in_the_secret_stay_there_while_they_cannot_be_read(
    bench: Bench, failure: Exception
) -> None:
    await bench.reconcile()
    before = bench.kubernetes.data()
    bench.upstream.trouble["replicas"] = failure
    bench.kubernetes.writes.clear()
    restarted = bench.restarted()
    await restarted.reconcile()
    assert restarted.kubernetes.data() == before
    assert "Secret shop/orders-db" not in bench.kubernetes.writes
    restarted.rotate("pw-2")
    await restarted.refresh(after=600.0)
    data = restarted.kubernetes.data()
    assert (data["password"], data["replica-hosts"]) == ("pw-2", TWO)


async def test_a_first_secret_is_written_without_replicas_that_cannot_be_read_and_they_follow(bench: Bench) -> None:
    bench.upstream.trouble["replicas"] = UpstreamUnavailable("Down.")
    await bench.reconcile()
    assert bench.kubernetes.data()["password"] == "pw-1"
    assert (bench.ready, bench.fresh) == ((True, "Synced"), (False, "UpstreamUnavailable"))
    bench.upstream.trouble.clear()
    await bench.refresh()
    assert bench.kubernetes.data()["replica-hosts"] == TWO
    assert bench.fresh == (True, "Synced")


async def test_what_cannot_be_read_for_long_is_no_longer_ready_although_the_primary_is_written(bench: Bench) -> None:
    await bench.reconcile()
    bench.upstream.trouble["replicas"] = UpstreamUnavailable("Down.")
    for _ in range(6):
        await bench.refresh(after=75.0)
    assert bench.ready == (False, "UpstreamUnavailable")
    bench.rotate("pw-2")
    await bench.refresh(after=75.0)
    assert bench.kubernetes.data()["password"] == "pw-2"


async def test_replicas_that_are_asked_for_later_are_read_before_the_spec_is_ready(bench: Bench) -> None:
    change_spec(bench, secret={})
    await bench.reconcile()
    change_spec(bench, secret={"endpoints": ["Private", "Replicas"]})
    bench.forget_writes()
    await bench.reconcile()
    assert bench.kubernetes.data()["replica-hosts"] == TWO
    assert bench.kubernetes.writes.count("Secret shop/orders-db") == 1, "with the first write for this spec"


@pytest.mark.parametrize("failure", FAILURES, ids=lambda cause: type(cause).__name__)
async def test_replicas_that_cannot_be_read_cost_no_more_reads_of_their_cluster(bench: Bench, failure: Exception) -> None:
    change_spec(bench, secret={"endpoints": ["Private", "Replicas"]}, refreshInterval="1h")
    await bench.reconcile()
    bench.upstream.trouble["replicas"] = failure
    bench.clock.advance(3600)
    bench.forget_writes()
    for _ in range(15):
        wait = await bench.reconcile()
        bench.clock.advance(wait or 0.0)
    asked = [kind for kind, _ in bench.upstream.requests]
    assert asked.count("replicas") > 3
    assert asked.count("cluster") <= 3, "at most one for each half of the interval, as without replicas"


async def test_a_cluster_of_an_unknown_engine_without_replicas_is_served_with_its_primary(bench: Bench) -> None:
    bench.rotate("pw-1", engine="brand_new")
    bench.upstream.trouble["replicas"] = not_listed()
    await bench.reconcile()
    assert bench.kubernetes.data()["password"] == "pw-1"
    assert (bench.ready, bench.fresh) == ((True, "Synced"), (True, "Synced"))
    for number in range(2, 10):
        bench.forget_writes()
        bench.rotate(f"pw-{number}", engine="brand_new")
        await bench.refresh()
        assert bench.kubernetes.data()["password"] == f"pw-{number}"
        assert (bench.ready, bench.fresh) == ((True, "Synced"), (True, "Synced"))
    request_refresh(bench)
    await bench.refresh(after=1.0)
    assert bench.status().last_handled_refresh_at == "now"


async def test_a_cluster_of_an_unknown_engine_that_is_gone_is_still_not_found(bench: Bench) -> None:
    bench.rotate("pw-1", engine="brand_new")
    bench.upstream.trouble["replicas"] = not_listed()
    await bench.reconcile()
    bench.upstream.trouble["cluster"] = UnconfirmedNotFound("No such cluster.")
    await bench.refresh()
    await bench.refresh()
    assert bench.ready == (False, "ClusterNotFound")
    assert bench.kubernetes.data()["password"] == "pw-1"


async def test_replicas_that_are_denied_stay_so_while_other_reads_of_them_fail(bench: Bench) -> None:
    await bench.reconcile()
    bench.upstream.trouble["replicas"] = Forbidden("No.")
    await bench.refresh()
    bench.forget_writes()
    for failure in (UpstreamUnavailable("Down."), Forbidden("No."), RateLimited("Slow.", retry_after=1.0), Forbidden("No.")):
        bench.upstream.trouble["replicas"] = failure
        await bench.refresh()
        assert bench.says(ConditionType.STALLED) == (True, "Forbidden")
    assert bench.kubernetes.writes == []
    bench.upstream.trouble.clear()
    await bench.refresh()
    assert bench.fresh == (True, "Synced")


async def test_what_ended_with_the_clusters_own_read_is_no_trouble_of_the_replicas(bench: Bench) -> None:
    bench.upstream.trouble["cluster"] = Forbidden("No.")
    await bench.reconcile()
    bench.upstream.trouble = {"replicas": UpstreamUnavailable("Down.")}
    await bench.refresh()
    assert bench.fresh == (False, "UpstreamUnavailable")
    assert bench.says(ConditionType.STALLED) == (False, "UpstreamUnavailable")


async def test_a_requested_refresh_is_acknowledged_only_when_the_replicas_were_read_too(bench: Bench) -> None:
    await bench.reconcile()
    bench.clock.advance(1)
    bench.upstream.replicas = [replica_body("read-3")]
    bench.rotate("pw-2")
    request_refresh(bench)
    leave_in_the_budget(bench, requests=2)
    await bench.reconcile()
    assert bench.password == "pw-2", "the cluster and its CA have been read"
    assert bench.fresh == (False, "RateLimited")
    assert bench.status().last_handled_refresh_at == ""
    await bench.refresh()
    assert bench.status().last_handled_refresh_at == "now"
    assert bench.kubernetes.data()["replica-host"] == "private-read-3-orders.db.example.com"
    assert bench.fresh == (True, "Synced")


async def test_after_a_restart_replicas_that_wait_for_their_turn_are_no_change_of_the_status(bench: Bench) -> None:
    await bench.reconcile()
    restarted = bench.restarted()
    restarted.forget_writes()
    leave_in_the_budget(restarted, requests=1)
    wait = await restarted.reconcile()
    assert [kind for kind, _ in restarted.upstream.requests] == ["cluster"]
    assert restarted.kubernetes.writes == []
    await restarted.refresh(after=wait or 0.0)
    assert [kind for kind, _ in restarted.upstream.requests][-1] == "replicas"
    assert restarted.kubernetes.writes == []


async def read_them_late(bench: Bench, *, intervals: int) -> None:
    """The cluster is read at each interval, and its replicas with the last one of so many."""
    budget = bench.account._reader.budget
    for left in reversed(range(intervals)):
        bench.clock.advance(60)
        budget.spend(bench.clock())
        budget._left = 2.0 if left else 150.0
        bench.upstream.on_request = partial(budget.spend, bench.clock()) if left else lambda: None
        await bench.reconcile()
    assert bench.upstream.requests[-1][0] == "replicas"


async def test_replicas_that_come_late_each_time_are_told_once_and_what_changes_is_written(bench: Bench) -> None:
    await bench.reconcile()
    await read_them_late(bench, intervals=LATE_INTERVALS + 2)
    assert (bench.ready, bench.fresh) == ((True, "Synced"), (False, "RateLimited")), "they have come, and late"
    bench.forget_writes()
    for _ in range(3):
        await read_them_late(bench, intervals=LATE_INTERVALS + 2)
    assert bench.kubernetes.writes == []
    bench.rotate("pw-2", version="18")
    bench.upstream.replicas.pop()
    await read_them_late(bench, intervals=LATE_INTERVALS + 2)
    assert bench.password == "pw-2"
    assert "read-1" not in bench.kubernetes.data()["replica-hosts"]
    assert "pg 18" in bench.status().conditions[ConditionType.READY].message
    await read_them_late(bench, intervals=1)
    assert bench.fresh == (True, "Synced"), "in time"


async def test_replicas_that_a_person_requests_are_never_late(bench: Bench) -> None:
    await bench.reconcile()
    await read_them_late(bench, intervals=LATE_INTERVALS + 2)
    request_refresh(bench)
    await bench.refresh(after=3 * 60)
    assert bench.status().last_handled_refresh_at == "now"
    assert bench.fresh == (True, "Synced")
    await bench.refresh()
    assert bench.fresh == (True, "Synced")
