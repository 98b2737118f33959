import logging

import pytest

from dbclusterref.reconcile.workqueue import WorkQueue
from dbclusterref.resource.objects import ObjectKey
from tests.support.bench import Bench, a_bench
from tests.support.builders import UUID, a_cluster, reference_body
from tests.support.fake_digitalocean import FakeUpstream
from tests.support.fake_kubernetes import FakeKubernetes
from tests.support.fake_time import FakeClock, LoopClock, in_fake_time

HIDDEN, SHOWN = "own token no tags", "tags again"


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    messages = [record.getMessage() for record in caplog.records]
    return [text for message in messages for text in (HIDDEN, SHOWN) if text in message]


def put_reference(kubernetes: FakeKubernetes, upstream: FakeUpstream, number: int) -> None:
    uuid = f"00000000-0000-4000-8000-{number:012d}"
    upstream.clusters[uuid] = a_cluster(uuid=uuid)
    key = ObjectKey("shop", f"ref-{number}")
    kubernetes.put_reference(reference_body(key=key, uid=f"uid-{number}", clusterUUID=uuid, apiTokenSecretRef=None))


async def test_an_own_token_that_is_shown_no_tags_is_said_once_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    kubernetes = FakeKubernetes()
    kubernetes.put_reference(reference_body(apiTokenSecretRef=None))
    bench = Bench(kubernetes, FakeUpstream(clusters={UUID: a_cluster()}), FakeClock())
    await bench.reconcile()
    assert bench.ready == (False, "AccessDenied")
    for _ in range(3):
        await bench.refresh(after=600)
    assert said(caplog) == [HIDDEN]
    assert "tag:read" in caplog.text
    bench.upstream.clusters[UUID] = a_cluster(tags=["k8s-namespace:shop"])
    await bench.refresh(after=600)
    assert bench.ready == (True, "Synced")
    assert said(caplog) == [HIDDEN, SHOWN]


@pytest.mark.simulation
@in_fake_time
async def test_of_a_crowd_that_waits_for_the_listing_it_is_said_too(caplog: pytest.LogCaptureFixture) -> None:
    kubernetes, upstream = FakeKubernetes(), FakeUpstream()
    for number in range(200):
        put_reference(kubernetes, upstream, number)
    bench = Bench(kubernetes, upstream, LoopClock())
    await bench.work(WorkQueue[ObjectKey](), seconds=15)
    assert len(upstream.requests) < 200, "the listing has served some"
    assert said(caplog) == [HIDDEN]


@pytest.mark.parametrize("tags", [[], None, ["k8s-namespace:other"]], ids=str)
async def test_tags_that_are_shown_are_not_hidden(tags: list[str] | None, caplog: pytest.LogCaptureFixture) -> None:
    kubernetes = FakeKubernetes()
    kubernetes.put_reference(reference_body(apiTokenSecretRef=None))
    bench = Bench(kubernetes, FakeUpstream(clusters={UUID: a_cluster(tags=tags)}), FakeClock())
    await bench.reconcile()
    assert (bench.ready, said(caplog)) == ((False, "AccessDenied"), [])


async def test_a_references_own_token_needs_no_tags(caplog: pytest.LogCaptureFixture) -> None:
    bench = a_bench()
    await bench.reconcile()
    assert (bench.ready, said(caplog)) == ((True, "Synced"), [])
