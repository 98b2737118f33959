import asyncio
import logging

import pytest

from dbclusterref.errors import KubernetesError
from dbclusterref.kube.client import Event
from dbclusterref.kube.events import CAPACITY, MANY, PERIOD, EventRecorder
from dbclusterref.metrics import Metrics
from dbclusterref.resource.objects import ObjectKey
from tests.support.builders import KEY
from tests.support.fake_kubernetes import FakeKubernetes
from tests.support.fake_time import in_fake_time, settle


def event(number: int = 0, *, namespace: str = KEY.namespace) -> Event:
    return Event(
        regarding=ObjectKey(namespace, KEY.name), regarding_uid="uid-1", warning=False,
        reason="SecretCreated", action="Reconcile", note=str(number),
        time="2026-01-01T00:00:00.000000Z", name=f"orders-db.{number}", instance="pod-1",
    )  # fmt: skip


class Bench:
    def __init__(self) -> None:
        self.kubernetes, self.metrics, self.busy = FakeKubernetes(), Metrics(), False
        self.recorder = EventRecorder(
            self.kubernetes, is_busy=lambda: self.busy, metrics=self.metrics, logger=logging.getLogger("test")
        )

    def record(self, count: int, *, namespace: str = KEY.namespace) -> None:
        for number in range(count):
            self.recorder.record(event(number, namespace=namespace))

    @property
    def posted(self) -> list[int]:
        return [int(event.note) for event in self.kubernetes.events]

    @property
    def dropped(self) -> float | None:
        return self.metrics.registry.get_sample_value("dbclusterref_events_dropped_total")


@in_fake_time
async def test_events_are_posted_at_once_and_in_their_order() -> None:
    bench = Bench()
    task = asyncio.create_task(bench.recorder.run())
    for _ in range(2):
        bench.record(3)
        await settle()
    task.cancel()
    assert bench.posted == [0, 1, 2, 0, 1, 2]


@in_fake_time
async def test_while_there_is_work_events_trickle_and_afterwards_all_are_posted() -> None:
    bench = Bench()
    bench.busy = True
    bench.record(100)
    task = asyncio.create_task(bench.recorder.run())
    await asyncio.sleep(10 * PERIOD + 0.01)
    assert bench.posted == list(range(10))
    bench.busy = False
    await asyncio.sleep(2 * PERIOD)
    task.cancel()
    assert bench.posted == list(range(100))


@in_fake_time
async def test_too_many_events_do_not_wait_for_the_work_to_end() -> None:
    bench = Bench()
    bench.busy = True
    bench.record(MANY + 50)
    task = asyncio.create_task(bench.recorder.run())
    await asyncio.sleep(PERIOD / 2)
    task.cancel()
    assert len(bench.posted) == 51


@in_fake_time
async def test_beyond_the_capacity_the_oldest_are_dropped_and_counted() -> None:
    bench = Bench()
    bench.record(CAPACITY + 7)
    await bench.recorder.drain(seconds=5)
    assert bench.posted == list(range(7, CAPACITY + 7))
    assert bench.dropped == 7


@in_fake_time
async def test_a_flood_of_one_namespace_costs_another_none_of_its_events_and_no_waiting() -> None:
    bench = Bench()
    bench.record(3, namespace="quiet")
    bench.record(2 * CAPACITY, namespace="loud")
    bench.record(3, namespace="late")
    await bench.recorder.drain(seconds=5)
    posted = [event.regarding.namespace for event in bench.kubernetes.events]
    assert (posted.count("quiet"), posted.count("late"), len(posted)) == (3, 3, CAPACITY)
    assert set(posted[9:]) == {"loud"}, "they take turns"
    assert bench.dropped == CAPACITY + 6


@in_fake_time
async def test_a_refused_event_is_counted_and_costs_nothing_else() -> None:
    bench = Bench()
    task = asyncio.create_task(bench.recorder.run())
    bench.kubernetes.trouble["create_event"] = KubernetesError("forbidden", status=403)
    bench.record(2)
    await settle()
    bench.kubernetes.trouble.clear()
    bench.record(1)
    await settle()
    assert not task.done()
    task.cancel()
    assert (bench.posted, bench.dropped) == ([0], 2)


@in_fake_time
async def test_draining_ends_in_time_where_the_api_server_does_not_answer() -> None:
    bench = Bench()

    class Hangs:
        async def create_event(self, event: Event) -> None:  # noqa: ARG002
            await asyncio.Event().wait()

    recorder = EventRecorder(Hangs(), is_busy=lambda: False, metrics=bench.metrics, logger=logging.getLogger("test"))
    recorder.record(event())
    loop = asyncio.get_running_loop()
    before = loop.time()
    await recorder.drain(seconds=1)
    assert loop.time() - before == pytest.approx(1, abs=0.1)


@in_fake_time
async def test_draining_while_an_event_trickles_leaves_the_poster_alive() -> None:
    bench = Bench()
    bench.busy = True
    task = asyncio.create_task(bench.recorder.run())
    bench.record(3)
    await settle()
    await bench.recorder.drain(seconds=1)
    await asyncio.sleep(2 * PERIOD)
    assert not task.done()
    task.cancel()
    assert bench.posted == [0, 1, 2]
