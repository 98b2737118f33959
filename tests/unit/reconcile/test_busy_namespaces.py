"""Namespaces that keep one token busy at the slowest pace, for hours of fake time: each part of each refresh has its turn."""

import asyncio
from collections.abc import Mapping

import pytest

from dbclusterref.reconcile.workqueue import WorkQueue
from dbclusterref.resource.objects import ObjectKey
from tests.support.bench import TOKEN_SECRET, Bench, request_refresh
from tests.support.builders import KEY, TOKEN, a_cluster, a_pool, reference_body, replica_body, secret_body
from tests.support.fake_digitalocean import FakeUpstream
from tests.support.fake_kubernetes import FakeKubernetes
from tests.support.fake_time import LoopClock, in_fake_time

pytestmark = pytest.mark.simulation

HOUR = 3600.0
PLAIN: Mapping[str, object] = {}
POOL = {"pool": "orders-pool"}
REPLICAS = {"secret": {"endpoints": ["Private", "Replicas"]}}
CHECK = {"database": "orders"}


class Crowd(Bench):
    """One reference that is looked at, and one in each of `busy` namespaces, to a cluster each, all with one token.

    Without `pages` the listing has one cluster a page, and single reads are cheaper.
    """

    def __init__(self, spec: Mapping[str, object], *, busy: int, others: Mapping[str, object], pages: bool) -> None:
        kubernetes, self.queue = FakeKubernetes(), WorkQueue[ObjectKey]()
        upstream = FakeUpstream(
            databases={"orders"},
            pools={"orders-pool": a_pool()},
            replicas=[replica_body()],
            per_page=200 if pages else 1,
        )
        keys = [KEY, *(ObjectKey(f"busy-{number}", "orders-db") for number in range(busy))]
        for number, key in enumerate(keys):
            uuid = f"00000000-0000-4000-8000-{number:012d}"
            upstream.clusters[uuid] = a_cluster(uuid=uuid)
            kubernetes.put_secret(secret_body({"token": TOKEN}, key=ObjectKey(key.namespace, TOKEN_SECRET.name)))
            wanted = others if number else spec
            kubernetes.put_reference(reference_body(wanted, key=key, uid=f"uid-{number}", clusterUUID=uuid))
            self.queue.mark(key)
        super().__init__(kubernetes, upstream, LoopClock())

    async def for_seconds(self, seconds: float) -> None:
        await self.work(self.queue, seconds=seconds, step=1.0)

    async def slow_down(self) -> None:
        """The slowest pace there is, a request every sixteen seconds, and nothing left of the burst."""
        await self.for_seconds(300)
        self.upstream.remaining = 5
        self.account._reader.budget._left = 0.0
        await self.for_seconds(600)
        self.forget_writes()

    def reads_of(self, kind: str) -> int:
        return self.upstream.requests.count((kind, "00000000-0000-4000-8000-000000000000"))

    async def close(self) -> None:
        self.account.close()
        await asyncio.sleep(0)


@pytest.mark.parametrize(
    ("spec", "busy", "others", "pages"),
    [
        (REPLICAS, 16, PLAIN, False),
        (CHECK, 16, PLAIN, False),
        (CHECK | REPLICAS, 12, PLAIN, False),
        (CHECK | REPLICAS, 8, POOL, True),
    ],
    ids=["the replicas wait", "the check waits", "both wait", "both wait, and pages bring the cluster"],
)
@in_fake_time
async def test_a_requested_refresh_is_acknowledged_however_long_its_parts_wait(
    *, spec: Mapping[str, object], busy: int, others: Mapping[str, object], pages: bool
) -> None:
    crowd = Crowd(spec, busy=busy, others=others, pages=pages)
    await crowd.slow_down()
    request_refresh(crowd)
    await crowd.for_seconds(HOUR)
    assert crowd.status().last_handled_refresh_at == "now"
    await crowd.close()


@in_fake_time
async def test_replicas_go_before_their_cluster_once_in_a_quarter_hour() -> None:
    crowd = Crowd(REPLICAS, busy=16, others=PLAIN, pages=False)
    await crowd.slow_down()
    await crowd.for_seconds(4 * HOUR)
    clusters, replicas = crowd.reads_of("cluster"), crowd.reads_of("replicas")
    assert 8 <= replicas <= 17
    assert clusters >= 2 * replicas, "the password's cluster comes first"
    await crowd.close()


@pytest.mark.parametrize(("spec", "pages"), [(REPLICAS, False), (REPLICAS, True), (CHECK, True)])
@in_fake_time
async def test_a_part_that_is_read_late_each_time_is_told_once(*, spec: Mapping[str, object], pages: bool) -> None:
    crowd = Crowd(spec, busy=8, others=POOL if pages else PLAIN, pages=pages)
    await crowd.slow_down()
    await crowd.for_seconds(HOUR)
    crowd.forget_writes()
    for _ in range(300):
        await crowd.for_seconds(20)
        assert crowd.ready == (True, "Synced")
        assert crowd.fresh == (False, "RateLimited")
    assert crowd.reads_of("database" if spec == CHECK else "replicas") > 3
    assert crowd.kubernetes.writes.count("Status shop/orders-db") <= 3, "the heartbeat, once an hour"
    await crowd.close()
