import asyncio
import itertools
import logging
from collections.abc import Callable

import pytest

from dbclusterref.backoff import BACKOFF_CAP
from dbclusterref.errors import KubernetesError
from dbclusterref.metrics import Metrics
from dbclusterref.reconcile.controller import AFTER_BUG, HANGS_AFTER, STUCK_AFTER, Controller
from dbclusterref.reconcile.read_lane import PendingRead
from dbclusterref.reconcile.reconciler import NextStep
from dbclusterref.resource.objects import ObjectKey
from dbclusterref.supervisor import Supervisor
from tests.support.fake_time import in_fake_time, settle

A, B, C = (ObjectKey("shop", name) for name in "abc")
LOGGER = logging.getLogger("dbclusterref.test")


Does = NextStep | float | None
"""What a reconciliation returns; a number of seconds is the usual case."""


class FakeReconciler:
    """Does to each key what it is told to, and writes down when."""

    def __init__(self) -> None:
        self.does: dict[ObjectKey, Callable[[], Does]] = {}
        self.gates: dict[ObjectKey, asyncio.Event] = {}
        self.began: list[tuple[ObjectKey, float]] = []
        self.ended: list[ObjectKey] = []
        self.at_work: set[ObjectKey] = set()
        self.most_at_work = 0

    async def reconcile(self, key: ObjectKey) -> NextStep:
        assert key not in self.at_work, "one key, twice at the same time"
        self.began.append((key, asyncio.get_running_loop().time()))
        self.at_work.add(key)
        self.most_at_work = max(self.most_at_work, len(self.at_work))
        try:
            if gate := self.gates.get(key):
                await gate.wait()
            step = self.does.get(key, NextStep)()
            return step if isinstance(step, NextStep) else NextStep(after=step)
        finally:
            self.at_work.discard(key)
            self.ended.append(key)

    def times(self, key: ObjectKey) -> list[float]:
        return [round(time - self.began[0][1], 3) for one, time in self.began if one == key]


class Bench:
    def __init__(self, *, workers: int = 2) -> None:
        self.reconciler = FakeReconciler()
        self.metrics = Metrics()
        self.leading = True
        self.supervisor = Supervisor(metrics=self.metrics, logger=LOGGER)
        self.controller = Controller(
            self.reconciler,
            workers=workers,
            clock=asyncio.get_running_loop().time,
            may_work=lambda: self.leading,
            metrics=self.metrics,
            supervisor=self.supervisor,
            logger=LOGGER,
        )

    def bugs(self) -> float | None:
        return self.metrics.registry.get_sample_value("dbclusterref_unexpected_errors_total")


def raising(error: Exception) -> Callable[[], Does]:
    def do() -> Does:
        raise error

    return do


# --- what is due -----------------------------------------------------------------------------------------------------------


@in_fake_time
async def test_what_is_marked_is_reconciled_once() -> None:
    bench = Bench()
    bench.controller.start()
    for _ in range(5):
        bench.controller.mark(A)
    await asyncio.sleep(1000)
    assert [key for key, _ in bench.reconciler.began] == [A]
    await bench.controller.stop(grace=1)


@in_fake_time
async def test_it_is_looked_at_again_after_the_time_it_asked_for() -> None:
    bench = Bench()
    bench.reconciler.does[A] = lambda: 60.0
    bench.controller.start()
    bench.controller.mark(A)
    await asyncio.sleep(190)
    assert bench.reconciler.times(A) == [0, 60, 120, 180]
    await bench.controller.stop(grace=1)


@in_fake_time
async def test_an_earlier_deadline_is_kept_while_the_workers_wait_for_a_later_one() -> None:
    bench = Bench()
    bench.reconciler.does = {A: lambda: 600.0, B: lambda: 5.0}
    bench.controller.start()
    bench.controller.mark(A)
    await asyncio.sleep(1)
    bench.controller.mark(B)
    await asyncio.sleep(11)
    assert len(bench.reconciler.times(B)) == 3
    await bench.controller.stop(grace=1)


@in_fake_time
async def test_what_is_marked_while_it_is_worked_on_is_done_once_more_afterwards() -> None:
    bench = Bench()
    gate = bench.reconciler.gates[A] = asyncio.Event()
    bench.controller.start()
    bench.controller.mark(A)
    await settle()
    bench.controller.mark(A, urgent=True)
    await settle()
    gate.set()
    await settle()
    assert bench.reconciler.ended == [A, A]
    await bench.controller.stop(grace=1)


@in_fake_time
async def test_resources_are_worked_on_side_by_side_up_to_the_number_of_workers() -> None:
    bench = Bench(workers=3)
    gate = asyncio.Event()
    keys = [ObjectKey("shop", str(number)) for number in range(10)]
    bench.reconciler.gates = dict.fromkeys(keys, gate)
    bench.controller.start()
    for key in keys:
        bench.controller.mark(key)
    await settle()
    assert len(bench.reconciler.at_work) == 3
    gate.set()
    await settle()
    await asyncio.sleep(1)
    assert len(bench.reconciler.ended) == 10
    assert bench.reconciler.most_at_work == 3
    await bench.controller.stop(grace=1)


@in_fake_time
async def test_urgent_work_goes_first() -> None:
    bench = Bench(workers=1)
    bench.controller.mark(A)
    bench.controller.mark(B, urgent=True)
    bench.controller.start()
    await settle()
    assert bench.reconciler.ended == [B, A]
    await bench.controller.stop(grace=1)


@in_fake_time
async def test_a_forgotten_resource_is_not_looked_at_again() -> None:
    bench = Bench()
    bench.reconciler.does[A] = lambda: 60.0
    bench.controller.start()
    bench.controller.mark(A)
    await asyncio.sleep(1)
    bench.controller.forget(A)
    await asyncio.sleep(1000)
    assert bench.reconciler.times(A) == [0]
    await bench.controller.stop(grace=1)


# --- what goes wrong -------------------------------------------------------------------------------------------------------


@in_fake_time
async def test_a_bug_in_one_resource_stops_no_other_and_is_tried_again() -> None:
    bench = Bench(workers=1)
    bench.reconciler.does = {A: raising(RuntimeError("x")), B: lambda: 10.0}
    bench.controller.start()
    bench.controller.mark(A)
    bench.controller.mark(B)
    await asyncio.sleep(AFTER_BUG + 1)
    assert bench.reconciler.times(A) == [0, AFTER_BUG]
    assert len(bench.reconciler.times(B)) == 4
    assert bench.bugs() == 2
    assert bench.controller.problems() == []
    await bench.controller.stop(grace=1)


@in_fake_time
async def test_a_bugs_message_is_not_logged_but_its_kind_and_its_place_are(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    bench = Bench()
    password = "CANARY"
    bench.reconciler.does[A] = raising(ValueError(f"bad password {password}"))
    bench.controller.start()
    bench.controller.mark(A)
    await settle()
    assert "shop/a: unexpected ValueError" in caplog.text
    assert "in reconcile" in caplog.text
    assert password not in caplog.text
    await bench.controller.stop(grace=1)


@in_fake_time
async def test_an_api_server_in_trouble_is_tried_more_and_more_slowly() -> None:
    bench = Bench()
    bench.reconciler.does[A] = raising(KubernetesError("down", status=0))
    bench.controller.start()
    bench.controller.mark(A)
    await asyncio.sleep(100)
    times = bench.reconciler.times(A)
    pauses = [round(later - earlier, 3) for earlier, later in itertools.pairwise(times)]
    assert pauses[:7] == [0.25, 0.5, 1, 2, 4, 8, 15]
    assert set(pauses[7:]) == {15}
    assert bench.bugs() == 0
    await bench.controller.stop(grace=1)


@in_fake_time
async def test_after_a_success_the_pauses_begin_again() -> None:
    bench = Bench()
    answers = iter([KubernetesError("down", status=0)] * 4 + [None] + [KubernetesError("down", status=0)] * 100)

    def do() -> float | None:
        error = next(answers)
        if error:
            raise error
        return 100.0

    bench.reconciler.does[A] = do
    bench.controller.start()
    bench.controller.mark(A)
    await asyncio.sleep(104.6)
    assert bench.reconciler.times(A) == [0, 0.25, 0.75, 1.75, 3.75, 103.75, 104, 104.5]
    await bench.controller.stop(grace=1)


@in_fake_time
async def test_an_api_server_that_asks_for_time_gets_it() -> None:
    bench = Bench()
    bench.reconciler.does[A] = raising(KubernetesError("busy", status=429, retry_after=20))
    bench.controller.start()
    bench.controller.mark(A)
    await asyncio.sleep(45)
    assert bench.reconciler.times(A) == [0, 20, 40]
    await bench.controller.stop(grace=1)


@in_fake_time
async def test_a_namespace_that_is_ending_is_waited_for_without_a_word(caplog: pytest.LogCaptureFixture) -> None:
    bench = Bench()
    said = "unable to create new content in namespace shop because it is being terminated"
    bench.reconciler.does[A] = raising(KubernetesError(said, status=403))
    bench.controller.start()
    bench.controller.mark(A)
    await asyncio.sleep(BACKOFF_CAP + 1)
    assert bench.reconciler.times(A) == [0, BACKOFF_CAP]
    assert caplog.records == []
    await bench.controller.stop(grace=1)


@in_fake_time
async def test_a_trouble_is_told_once_and_again_after_it_was_over(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    bench = Bench()
    error = KubernetesError("down.", status=0)
    bench.reconciler.does = {A: raising(error), B: raising(error)}
    bench.controller.start()
    bench.controller.mark(A)
    bench.controller.mark(B)
    await asyncio.sleep(100)
    assert len(caplog.records) == 1
    bench.reconciler.does = {A: lambda: 1000.0, B: lambda: 1000.0}
    await asyncio.sleep(100)
    bench.reconciler.does[A] = raising(error)
    bench.controller.mark(A)
    await settle()
    assert len(caplog.records) == 2
    await bench.controller.stop(grace=1)


# --- standing by and stopping ----------------------------------------------------------------------------------------------


@in_fake_time
async def test_the_first_pass_counts_what_was_worked_on_before_the_listing_ended() -> None:
    bench = Bench()
    bench.controller.start()
    bench.controller.mark(A)
    await settle()
    assert bench.reconciler.ended == [A]
    bench.controller.expect([A, B])
    bench.controller.mark(B)
    await settle()
    assert bench.controller.first_pass_is_done
    await bench.controller.stop(grace=1)


@in_fake_time
async def test_a_standby_keeps_what_is_marked_and_begins_when_it_leads() -> None:
    bench = Bench()
    bench.leading = False
    bench.controller.start()
    bench.controller.mark(A)
    await asyncio.sleep(1000)
    assert bench.reconciler.began == []
    assert bench.controller.problems() == []
    bench.leading = True
    bench.controller.wake()
    await settle()
    assert bench.reconciler.ended == [A]
    await bench.controller.stop(grace=1)


@in_fake_time
async def test_a_leader_that_is_none_any_more_takes_no_more_work() -> None:
    bench = Bench()
    bench.reconciler.does[A] = lambda: 10.0
    bench.controller.start()
    bench.controller.mark(A)
    await settle()
    bench.leading = False
    await asyncio.sleep(100)
    assert bench.reconciler.times(A) == [0]
    await bench.controller.stop(grace=1)


@in_fake_time
async def test_stopping_lets_work_under_way_end_and_takes_no_more() -> None:
    bench = Bench(workers=1)
    gate = bench.reconciler.gates[A] = asyncio.Event()
    bench.controller.start()
    bench.controller.mark(A)
    bench.controller.mark(B)
    await settle()
    stopping = asyncio.create_task(bench.controller.stop(grace=3))
    await asyncio.sleep(2)
    assert not stopping.done()
    gate.set()
    await stopping
    assert bench.reconciler.ended == [A]


@in_fake_time
async def test_stopping_waits_no_longer_than_the_grace() -> None:
    bench = Bench()
    bench.reconciler.gates[A] = asyncio.Event()
    bench.controller.start()
    bench.controller.mark(A)
    await settle()
    began = asyncio.get_running_loop().time()
    await bench.controller.stop(grace=3)
    assert asyncio.get_running_loop().time() - began == pytest.approx(3)
    assert bench.reconciler.at_work == set()


@in_fake_time
async def test_stopping_what_never_started_is_no_matter() -> None:
    await Bench().controller.stop(grace=3)


# --- how it goes -----------------------------------------------------------------------------------------------------------


@in_fake_time
async def test_a_worker_that_has_ended_is_a_problem() -> None:
    bench = Bench(workers=1)
    bench.reconciler.gates[A] = asyncio.Event()
    bench.controller.start()
    bench.controller.mark(A)
    await settle()
    (worker,) = (task for task in asyncio.all_tasks() if task.get_name() == "worker-0")
    worker.cancel()
    await settle()
    assert bench.supervisor.problems() == ["task worker-0 has ended"]


@in_fake_time
async def test_work_that_is_long_overdue_is_a_problem() -> None:
    bench = Bench(workers=1)
    bench.reconciler.does[A] = lambda: 1.0
    bench.reconciler.gates[B] = asyncio.Event()
    bench.controller.start()
    bench.controller.mark(A)
    await settle()
    bench.controller.mark(B)
    await asyncio.sleep(STUCK_AFTER)
    assert bench.controller.problems() == []
    await asyncio.sleep(3)
    assert bench.controller.problems() == ["the most overdue resource is 122 s late"]
    bench.leading = False
    assert bench.controller.problems() == [], "a standby is not late"
    await bench.controller.stop(grace=1)


@in_fake_time
async def test_work_that_does_not_end_is_a_problem() -> None:
    bench = Bench()
    bench.reconciler.gates[A] = asyncio.Event()
    bench.controller.start()
    bench.controller.mark(A)
    await asyncio.sleep(HANGS_AFTER)
    assert bench.controller.problems() == []
    await asyncio.sleep(2)
    assert bench.controller.problems() == ["shop/a has been worked on for 302 s"]
    bench.reconciler.gates[A].set()
    await settle()
    assert bench.controller.problems() == []
    await bench.controller.stop(grace=1)


@in_fake_time
async def test_the_gauges_show_what_waits_and_how_late_it_is() -> None:
    bench = Bench(workers=1)
    bench.reconciler.does[A] = lambda: 1.0
    bench.reconciler.gates[B] = asyncio.Event()
    bench.controller.start()
    bench.controller.mark(A)
    await settle()
    bench.controller.mark(B)
    await settle()
    bench.controller.mark(C)
    await asyncio.sleep(6)
    bench.controller.measure()
    value = bench.metrics.registry.get_sample_value
    assert value("dbclusterref_queue_length") == 1
    assert value("dbclusterref_queue_overdue_seconds") == pytest.approx(5)
    await bench.controller.stop(grace=1)


# --- reads -----------------------------------------------------------------------------------------------------------------


class Upstream:
    """Reads that hang until the gate opens."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.read = 0

    def step(self, key: ObjectKey, *, token: str, fails: Exception | None = None) -> Callable[[], Does]:
        """A resource that wants one read, and nothing afterwards."""
        asked = False

        async def run() -> None:
            await self.gate.wait()
            self.read += 1
            if fails and self.read == 1:
                raise fails

        def do() -> Does:
            nonlocal asked
            if self.read or asked:
                return None
            asked = True
            return NextStep(read=PendingRead(namespace=key.namespace, token=token, run=run))

        return do


@in_fake_time
async def test_upstreams_that_hang_hold_no_worker_that_another_needs() -> None:
    bench, upstream = Bench(workers=2), Upstream()
    hostile = [ObjectKey("hostile", f"db-{number}") for number in range(60)]
    bench.reconciler.does = {key: upstream.step(key, token=key.name) for key in hostile}
    bench.controller.start()
    for key in hostile:
        bench.controller.mark(key)
    await settle()
    await asyncio.sleep(1)
    bench.controller.mark(A, urgent=True)
    await settle()
    assert A in bench.reconciler.ended
    await bench.controller.stop(grace=1)


@in_fake_time
async def test_the_end_of_a_read_brings_its_resource_back_and_ends_the_first_pass() -> None:
    bench, upstream = Bench(), Upstream()
    bench.reconciler.does[A] = upstream.step(A, token="t")
    bench.controller.expect([A])
    bench.controller.start()
    bench.controller.mark(A)
    await asyncio.sleep(5)
    assert bench.reconciler.ended == [A]
    before = bench.controller.first_pass_is_done
    assert not before, "nothing is published yet"
    upstream.gate.set()
    await settle()
    assert bench.reconciler.ended == [A, A]
    assert bench.controller.first_pass_is_done
    await bench.controller.stop(grace=1)


@pytest.mark.parametrize(
    ("error", "after"), [(KubernetesError("down", status=0), 0.25), (ValueError("bug"), AFTER_BUG)], ids=["API server", "bug"]
)
def test_a_read_that_fails_beside_upstream_is_tried_again(error: Exception, after: float) -> None:
    @in_fake_time
    async def run() -> None:
        bench, upstream = Bench(), Upstream()
        upstream.gate.set()
        bench.reconciler.does[A] = upstream.step(A, token="t", fails=error)
        bench.controller.start()
        bench.controller.mark(A)
        await asyncio.sleep(100)
        assert bench.reconciler.times(A) == [0, after]
        assert bench.bugs() == isinstance(error, ValueError)
        await bench.controller.stop(grace=1)

    run()


@pytest.mark.parametrize("error", [KubernetesError("cannot decrypt", status=500), ValueError("bug")], ids=["API server", "bug"])
def test_a_read_that_fails_each_time_does_not_keep_the_first_pass_from_its_end(error: Exception) -> None:
    @in_fake_time
    async def run() -> None:
        bench = Bench()

        async def fail() -> None:
            raise error

        bench.reconciler.does[A] = lambda: NextStep(read=PendingRead(namespace="shop", token="t", run=fail))
        bench.controller.expect([A])
        bench.controller.start()
        bench.controller.mark(A)
        await asyncio.sleep(100)
        assert len(bench.reconciler.times(A)) > 1
        assert bench.controller.first_pass_is_done
        await bench.controller.stop(grace=1)

    run()


@in_fake_time
async def test_a_read_that_never_ends_is_a_problem() -> None:
    bench, upstream = Bench(), Upstream()
    bench.reconciler.does[A] = upstream.step(A, token="t")
    bench.controller.start()
    bench.controller.mark(A)
    await asyncio.sleep(HANGS_AFTER)
    assert bench.controller.problems() == []
    await asyncio.sleep(1)
    assert bench.controller.problems() == [f"a read has been under way for {HANGS_AFTER + 1:.0f} s"]
    await bench.controller.stop(grace=1)
