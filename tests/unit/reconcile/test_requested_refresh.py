"""A refresh that a person requests reads all that the Secret is made from, and is acknowledged when that was read."""

import pytest

from dbclusterref.errors import Cause, Forbidden, RateLimited, TokenInvalid, UpstreamUnavailable
from tests.support.bench import Bench, a_bench, change_spec, request_refresh
from tests.support.builders import PEM, UUID, a_pool, reference_body
from tests.support.fake_time import settle


@pytest.fixture
def bench() -> Bench:
    return a_bench()


async def ask_for_refresh(bench: Bench, value: str = "now") -> None:
    bench.clock.advance(1)
    request_refresh(bench, value)
    await settle()


@pytest.mark.parametrize("cause", [UpstreamUnavailable("down"), TokenInvalid("no"), Forbidden("no")])
async def test_an_attempt_that_failed_is_acknowledged_with_its_cause(bench: Bench, cause: Cause) -> None:
    await bench.reconcile()
    bench.upstream.trouble["*"] = cause
    await ask_for_refresh(bench)
    await bench.reconcile()
    assert bench.status().last_handled_refresh_at == "now"
    assert bench.fresh == (False, cause.reason)


async def test_a_requested_refresh_that_the_rate_limit_delays_is_acknowledged_only_when_it_was_read(bench: Bench) -> None:
    await bench.reconcile()
    bench.rotate("pw-2")
    bench.upstream.trouble["*"] = RateLimited("slow down", retry_after=17.0)
    await ask_for_refresh(bench)
    wait = await bench.reconcile()
    assert bench.status().last_handled_refresh_at == ""
    requests = len(bench.upstream.requests)
    await bench.reconcile()
    assert len(bench.upstream.requests) == requests, "its wait is kept, however often it looks"
    bench.upstream.trouble.clear()
    assert wait is not None
    await bench.refresh(after=max(wait, 60.0))
    assert bench.status().last_handled_refresh_at == "now"
    assert bench.password == "pw-2"


async def test_a_requested_refresh_brings_a_new_ca(bench: Bench) -> None:
    await bench.reconcile()
    bench.upstream.cas[UUID] = PEM + b"new"
    await ask_for_refresh(bench)
    await bench.reconcile()
    assert bench.kubernetes.data()["ca.crt"] == (PEM + b"new").decode()
    assert bench.status().last_handled_refresh_at == "now"


async def test_a_requested_refresh_whose_ca_cannot_be_read_publishes_the_rest_and_says_so(bench: Bench) -> None:
    await bench.reconcile()
    bench.rotate("pw-2")
    bench.upstream.trouble["ca"] = UpstreamUnavailable("down")
    await ask_for_refresh(bench)
    wait = await bench.reconcile()
    assert bench.password == "pw-2"
    assert bench.fresh == (False, "UpstreamUnavailable")
    assert bench.ready == (True, "Synced")
    assert bench.status().last_handled_refresh_at == ""
    bench.upstream.trouble.clear()
    assert wait is not None
    await bench.refresh(after=wait)
    assert bench.fresh == (True, "Synced")
    assert bench.status().last_handled_refresh_at == "now"


@pytest.mark.parametrize("part", ["ca", "replicas", "database"])
async def test_a_password_that_is_rotated_while_a_part_of_a_requested_refresh_cannot_be_read_is_written(
    bench: Bench, part: str
) -> None:
    change_spec(bench, database="orders", secret={"endpoints": ["Private", "Replicas"]})
    bench.upstream.databases.add("orders")
    await bench.reconcile()
    bench.upstream.trouble[part] = UpstreamUnavailable("down")
    await ask_for_refresh(bench)
    requested_at = bench.clock()
    bench.upstream.on_request = lambda: bench.clock.advance(0.01)  # an answer takes its time
    await bench.reconcile()
    for number in range(2, 5):
        bench.rotate(f"pw-{number}")
        await bench.refresh(after=70.0)
        assert bench.password == f"pw-{number}"
        assert bench.status().last_handled_refresh_at == ""
    bench.upstream.trouble.clear()
    await bench.refresh(after=70.0)
    assert bench.status().last_handled_refresh_at == "now"
    asked = [kind for kind, _ in bench.upstream.requests].count
    assert asked("cluster") <= (bench.clock() - requested_at) / 30 + 3, "no more often than by any other refresh"


async def test_a_requested_refresh_brings_a_pools_new_password_although_its_cluster_is_unchanged(bench: Bench) -> None:
    bench.upstream.pools["orders-pool"] = a_pool()
    bench.kubernetes.put_reference(reference_body(pool="orders-pool"))
    await bench.reconcile()
    bench.upstream.pools["orders-pool"] = a_pool(password="pw-2")
    await ask_for_refresh(bench)
    await bench.reconcile()
    assert bench.password == "pw-2"
