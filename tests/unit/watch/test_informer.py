import asyncio
import getpass
import signal
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, NoReturn

import pytest

from dbclusterref.commands.logs import LOGGER
from dbclusterref.errors import KubernetesError
from dbclusterref.kube.client import KubernetesApi
from dbclusterref.metrics import Metrics
from dbclusterref.reconcile.controller import Controller
from dbclusterref.reconcile.reconciler import NextStep
from dbclusterref.reconcile.store import Store
from dbclusterref.resource.objects import ObjectKey
from dbclusterref.supervisor import Supervisor
from dbclusterref.timing import Timing
from dbclusterref.watch.informer import Informer
from dbclusterref.watch.kopf_adapter import TasksOfOthers
from dbclusterref.watch.resync import SecretsUnreadableError
from dbclusterref.watch.stream_filter import OwnWrites
from tests.support.empty_cluster import empty_cluster
from tests.support.fake_time import in_fake_time
from tests.support.kubernetes_client import TOKEN, connect

pytestmark = pytest.mark.sockets


class _Bench:
    """The watches over a real store and controller; `failed` is set where a task of theirs ends."""

    def __init__(self, kubernetes: KubernetesApi) -> None:
        metrics = Metrics()
        self.failed = asyncio.Event()
        self.own_writes = OwnWrites()
        self.supervisor = Supervisor(metrics=metrics, logger=LOGGER, on_failure=self.failed.set)
        store = Store()
        controller = Controller(
            self,
            workers=1,
            clock=time.monotonic,
            may_work=lambda: True,
            metrics=metrics,
            supervisor=self.supervisor,
            logger=LOGGER,
        )
        self.informer = Informer(
            namespaces=(),
            timing=Timing(),
            kubernetes=kubernetes,
            store=store,
            controller=controller,
            metrics=metrics,
            supervisor=self.supervisor,
            logger=LOGGER,
            clock=time.monotonic,
            own_writes=self.own_writes,
            on_start=lambda: None,
        )

    async def reconcile(self, key: ObjectKey) -> NextStep:  # noqa: ARG002 - there is nothing to reconcile
        return NextStep()


def _nobody() -> NoReturn:
    raise OSError("No username set in the environment")


@asynccontextmanager
async def _watching() -> AsyncIterator[_Bench]:
    async with empty_cluster() as url:
        kubernetes = connect(url)
        bench = _Bench(kubernetes)
        yield bench
        await bench.supervisor.end_all()
        await kubernetes.close()


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 - a plain flag
            await asyncio.sleep(0.01)


async def test_a_user_without_a_name_may_watch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(getpass, "getuser", _nobody)
    async with _watching() as bench:
        bench.supervisor.start("watch", bench.informer.run())
        await _until(lambda: bench.informer.is_watching or bench.failed.is_set())
        assert bench.supervisor.problems() == []
        assert bench.informer.is_watching


async def test_a_start_of_the_watches_that_raises_ends_the_task_loudly(caplog: pytest.LogCaptureFixture) -> None:
    def fail() -> NoReturn:
        raise LookupError(TOKEN)

    async with _watching() as bench:
        bench.informer._on_start = fail
        bench.supervisor.start("watch", bench.informer.run())
        async with asyncio.timeout(20):
            await bench.failed.wait()
        assert bench.supervisor.problems() == ["task watch has ended"]
        assert "Task watch: unexpected LookupError" in caplog.text
        assert TOKEN not in caplog.text


@pytest.mark.parametrize("status", [None, 403, 429])
async def test_after_a_watch_has_failed_no_change_is_taken_for_a_write_from_before(status: int | None) -> None:
    # The storage may be an older one by then, which gives the same version out a second time, to somebody else's change.
    written = {"metadata": {"uid": "uid-1", "resourceVersion": "17"}}
    line = b'{"type":"MODIFIED","object":{"metadata":{"uid":"uid-1","resourceVersion":"17"}}}'
    async with _watching() as bench:
        for known in (True, False):
            bench.own_writes.expect(written)
            if not known:
                if status is None:
                    bench.informer.broke("/api/v1/secrets")
                else:
                    bench.informer.refused("/api/v1/secrets", status=status)
            assert bench.own_writes.is_own(line) is known


async def test_watches_that_start_again_leave_no_kill_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    # kopf, when it ends, has its whole process killed ten minutes later; ours goes on with the next watches.
    timers = []
    loop = asyncio.get_running_loop()
    call_later = loop.call_later

    def record(delay: float, callback: Callable[..., object], *args: Any, **keywords: Any) -> asyncio.TimerHandle:
        timers.append((callback, *args))
        return call_later(delay, callback, *args, **keywords)

    monkeypatch.setattr(loop, "call_later", record)
    async with _watching() as bench:
        watch = bench.supervisor.start("watch", bench.informer.run())
        await _until(lambda: bench.informer.is_watching)
        await bench.supervisor.end(watch)
    assert timers
    assert [timer for timer in timers if signal.SIGKILL in timer] == []


async def test_what_runs_beside_the_watches_goes_on_when_they_start_again() -> None:
    # kopf, when it ends, cancels whatever began after it did: reads of DigitalOcean, and what a library started for them.
    async with _watching() as bench:
        bench.supervisor.start("watch", bench.informer.run())
        await _until(lambda: bench.informer.is_watching)
        kopfs = asyncio.all_tasks().difference(TasksOfOthers())
        assert {"kopf", "resource observer"} <= {task.get_name() for task in kopfs}
        read = asyncio.create_task(asyncio.Event().wait())
        bench.informer.refused("/apis/dbclusterref.io/v1alpha1/databaseclusterrefs", status=404)
        await _until(lambda: not bench.informer.is_watching)
        await _until(lambda: bench.informer.is_watching)
        assert not read.done()
        assert all(task.done() for task in kopfs), "of kopf's former tasks none is left"
        read.cancel()


@in_fake_time
async def test_a_full_listing_that_keeps_failing_is_tried_more_and_more_rarely(monkeypatch: pytest.MonkeyPatch) -> None:
    # One Secret that cannot be decrypted is enough, and each try lists all resources.
    kubernetes = connect("http://nowhere.invalid")
    bench = _Bench(kubernetes)
    tries: list[float] = []

    async def fail() -> dict[str, KubernetesError]:
        tries.append(asyncio.get_running_loop().time())
        raise SecretsUnreadableError("cannot decrypt", status=500)

    monkeypatch.setattr(bench.informer._resync, "run", fail)
    bench.informer.is_watching = True
    comparing = asyncio.create_task(bench.informer._keep_comparing())
    await asyncio.sleep(Timing().resync + 600)
    comparing.cancel()
    assert 10 < len(tries) < 20
    await kubernetes.close()
