import asyncio
import logging

import pytest

from dbclusterref.metrics import Metrics
from dbclusterref.supervisor import Supervisor, where
from tests.support.fake_time import in_fake_time, settle

PASSWORD = "dop_v1_" + "secret"  # tracebacks show the source, but never a value
LOGGER = logging.getLogger("dbclusterref.test")


class Bench:
    def __init__(self) -> None:
        self.metrics = Metrics()
        self.failures = 0
        self.supervisor = Supervisor(metrics=self.metrics, logger=LOGGER, on_failure=self._fail)

    def _fail(self) -> None:
        self.failures += 1

    @property
    def bugs(self) -> float | None:
        return self.metrics.registry.get_sample_value("dbclusterref_unexpected_errors_total")


async def explode() -> None:
    raise ValueError(PASSWORD) from LookupError(PASSWORD)


async def forever() -> None:
    await asyncio.Event().wait()


async def at_once() -> None:
    """Returns although it should not."""


@in_fake_time
async def test_a_task_that_raises_is_logged_once_with_its_traceback_and_without_its_message() -> None:
    bench = Bench()
    with _captured() as lines:
        bench.supervisor.start("watch", explode())
        await settle()
    assert len(lines) == 1
    assert "Task watch: unexpected ValueError" in lines[0]
    assert "in explode" in lines[0]
    assert "LookupError" in lines[0]
    assert PASSWORD not in lines[0]
    assert bench.supervisor.problems() == ["task watch has ended"]
    assert (bench.failures, bench.bugs) == (1, 1)


@in_fake_time
async def test_a_task_that_returns_or_is_cancelled_from_elsewhere_has_failed_too() -> None:
    bench = Bench()
    with _captured() as lines:
        bench.supervisor.start("events", at_once())
        bench.supervisor.start("lag", forever()).cancel()
        await settle()
    assert sorted(bench.supervisor.problems()) == ["task events has ended", "task lag has ended"]
    assert [line for line in lines if "Task events returned" in line]
    assert [line for line in lines if "Task lag was cancelled" in line]
    assert (bench.failures, bench.bugs) == (2, 2)


@in_fake_time
async def test_a_task_that_is_ended_on_purpose_has_not_failed() -> None:
    bench = Bench()
    with _captured() as lines:
        one = bench.supervisor.start("one", forever())
        bench.supervisor.start("two", forever())
        await bench.supervisor.end(one)
        await bench.supervisor.end_all()
    assert one.cancelled()
    assert (lines, bench.failures, bench.supervisor.problems()) == ([], 0, [])


@in_fake_time
async def test_while_stopping_a_task_may_return_but_a_bug_is_still_told() -> None:
    bench = Bench()
    with _captured() as lines:
        bench.supervisor.expect_end()
        bench.supervisor.start("worker-0", at_once())
        bench.supervisor.start("worker-1", explode())
        await settle()
    assert (bench.failures, bench.supervisor.problems(), bench.bugs) == (0, [], 1)
    assert len(lines) == 1


def test_an_exception_that_leads_to_itself_is_shown_once() -> None:
    error = ValueError("x")
    error.__context__ = RuntimeError("y")
    error.__context__.__context__ = error
    assert where(error).count("ValueError") == 1


class _captured:  # noqa: N801 - reads as a statement
    """The lines logged within, as they would be printed."""

    def __enter__(self) -> list[str]:
        self.lines: list[str] = []
        self.handler = logging.Handler()
        self.handler.emit = lambda record: self.lines.append(record.getMessage())  # type: ignore[method-assign]
        LOGGER.addHandler(self.handler)
        return self.lines

    def __exit__(self, *_: object) -> None:
        LOGGER.removeHandler(self.handler)


@pytest.fixture(autouse=True)
def _logging_on() -> None:
    LOGGER.setLevel(logging.DEBUG)
