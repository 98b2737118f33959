"""The check of `spec.database`: it has a turn of its own, and a Secret whose database was there never waits for it."""

import pytest

from dbclusterref.digitalocean.details import LATE_INTERVALS
from dbclusterref.errors import UpstreamUnavailable
from tests.support.bench import Bench, a_bench, change_spec, request_refresh
from tests.support.builders import KEY

INTERVAL = 60.0


@pytest.fixture
async def bench() -> Bench:
    """A database that was made by SQL: the cluster does not list it, so that it has to be asked for by name."""
    bench = a_bench()
    change_spec(bench, database="orders")
    bench.upstream.databases.add("orders")
    await bench.reconcile()
    assert bench.fresh == (True, "Synced")
    bench.forget_writes()
    return bench


def leave_in_the_budget(bench: Bench, requests: int) -> None:
    budget = bench.account._reader.budget
    budget.spend(bench.clock())
    budget._left = float(requests)


def asked(bench: Bench) -> list[str]:
    return [kind for kind, _ in bench.upstream.requests]


@pytest.mark.parametrize("restarted", [False, True], ids=["", "after a restart"])
async def test_a_rotated_password_does_not_wait_for_the_turn_of_the_check(bench: Bench, *, restarted: bool) -> None:
    if restarted:
        bench = bench.restarted()
    bench.clock.advance(INTERVAL)
    leave_in_the_budget(bench, requests=1)
    bench.rotate("pw-2")
    wait = await bench.reconcile()
    assert asked(bench) == ["cluster"]
    assert bench.password == "pw-2"
    assert bench.fresh == (True, "Synced")
    assert wait == INTERVAL, "its place in the queue is kept"
    await bench.refresh(after=wait)
    assert "database" in asked(bench)
    assert bench.fresh == (True, "Synced")


@pytest.mark.parametrize("restarted", [False, True], ids=["", "after a restart"])
async def test_a_check_that_fails_delays_no_password_either(bench: Bench, *, restarted: bool) -> None:
    if restarted:
        bench = bench.restarted()
    bench.rotate("pw-2")
    bench.upstream.trouble["database"] = UpstreamUnavailable("Down.")
    await bench.refresh()
    assert bench.password == "pw-2"
    assert (bench.ready, bench.fresh) == ((True, "Synced"), (False, "UpstreamUnavailable"))


async def test_a_check_that_waits_for_long_is_told_and_a_rotation_is_written_on(bench: Bench) -> None:
    bench.rotate("pw-2")
    for _ in range(5 + LATE_INTERVALS):
        bench.clock.advance(INTERVAL)
        leave_in_the_budget(bench, requests=1)
        await bench.reconcile()
        assert bench.fresh == (True, "Synced")
    bench.clock.advance(INTERVAL)
    leave_in_the_budget(bench, requests=1)
    bench.rotate("pw-3")
    await bench.reconcile()
    assert bench.password == "pw-3"
    assert (bench.ready, bench.fresh) == ((True, "Synced"), (False, "RateLimited"))
    assert "database" not in asked(bench)
    await bench.refresh()
    assert asked(bench).count("database") == 1
    assert bench.fresh == (False, "RateLimited"), "it has come, and late"
    while asked(bench).count("database") == 1:
        assert bench.fresh == (False, "RateLimited")
        await bench.refresh()
    assert bench.fresh == (True, "Synced"), "in time"


async def test_a_check_that_never_comes_leaves_ready_what_is_confirmed_each_time(bench: Bench) -> None:
    for number in range(30):
        bench.clock.advance(INTERVAL)
        leave_in_the_budget(bench, requests=1)
        bench.rotate(f"pw-{number}")
        await bench.reconcile()
        assert bench.password == f"pw-{number}"
        assert bench.ready == (True, "Synced")
    assert bench.fresh == (False, "RateLimited")


async def test_a_check_whose_last_answer_was_forgotten_is_not_late_at_once() -> None:
    bench = a_bench()
    change_spec(bench, database="orders", refreshInterval="2h")
    bench.upstream.databases.add("orders")
    for _ in range(7):
        await bench.refresh(after=7200)
    bench.clock.advance(7200)
    leave_in_the_budget(bench, requests=1)
    await bench.reconcile()
    assert asked(bench)[-1] == "cluster", "the check waits"
    assert bench.fresh == (True, "Synced")


async def test_a_requested_refresh_is_written_at_once_and_acknowledged_after_the_check(bench: Bench) -> None:
    bench.clock.advance(1)
    bench.rotate("pw-2")
    request_refresh(bench)
    leave_in_the_budget(bench, requests=2)
    await bench.reconcile()
    assert asked(bench) == ["cluster", "ca"]
    assert bench.password == "pw-2"
    assert bench.fresh == (False, "RateLimited")
    assert bench.status().last_handled_refresh_at == ""
    await bench.refresh()
    assert bench.status().last_handled_refresh_at == "now"
    assert bench.fresh == (True, "Synced")


async def test_a_database_that_is_known_to_be_missing_is_not_forgotten_while_its_check_waits(bench: Bench) -> None:
    bench.upstream.databases.clear()
    bench.rotate("pw-2")
    await bench.refresh()
    assert bench.ready == (False, "DatabaseNotFound")
    for again in (bench, bench.restarted()):
        again.rotate("pw-3")
        for _ in range(3):
            again.clock.advance(INTERVAL)
            leave_in_the_budget(again, requests=1)
            await again.reconcile()
            assert again.ready == (False, "DatabaseNotFound")
            assert again.password == "pw-1"


async def test_a_first_secret_is_written_after_the_check() -> None:
    bench = a_bench()
    change_spec(bench, database="orders")
    leave_in_the_budget(bench, requests=2)
    await bench.reconcile()
    assert KEY not in bench.kubernetes.secrets
    await bench.refresh()
    assert bench.ready == (False, "DatabaseNotFound")
