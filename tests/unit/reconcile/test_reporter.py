import json
import logging
import re
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import pytest

from dbclusterref.commands.logs import JsonFormatter
from dbclusterref.digitalocean.model import DatabaseCluster
from dbclusterref.errors import KubernetesError, TokenInvalid, UpstreamUnavailable
from dbclusterref.kube.client import Event
from dbclusterref.metrics import Metrics
from dbclusterref.reconcile.conditions import HEARTBEAT, Holds, Outcome, Published, Result, Suspended
from dbclusterref.reconcile.entry import Entry, SecretChange
from dbclusterref.reconcile.reporter import NOTE_LIMIT, Reporter
from dbclusterref.reconcile.reporter import _event_name as event_name
from dbclusterref.reconcile.store import Store
from dbclusterref.resource.status import ConditionType
from tests.support.builders import KEY, UID, a_cluster, reference_body
from tests.support.fake_kubernetes import FakeKubernetes
from tests.support.fake_time import FakeClock

LOGGER = logging.getLogger("dbclusterref.test")


class Bench:
    def __init__(self) -> None:
        self.kubernetes = FakeKubernetes()
        self.kubernetes.put_reference(reference_body())
        self.clock = FakeClock()
        self.metrics = Metrics()
        self.reporter = Reporter(
            self.kubernetes,
            record=self.kubernetes.events.append,
            metrics=self.metrics,
            logger=LOGGER,
            instance="pod-1",
            clock=self.clock,
        )
        store = Store()
        store.observe_reference(self.kubernetes.references[KEY])
        entry = store.get(KEY)
        assert entry is not None
        self.entry: Entry = entry

    async def report(self, outcome: Outcome, *, after: float = 60.0, **how: Any) -> float:
        self.clock.advance(after)
        holds = Holds.THIS_SPEC if self.entry.status.binding_name else Holds.MISSING
        result = Result(outcome=outcome, holds=holds, answered_at=self.clock.now(), refreshed=True, **how)
        return await self.reporter.report(self.entry, result, now=self.clock.now())

    @property
    def status(self) -> Mapping[str, Any]:
        return self.kubernetes.references[KEY]["status"]  # type: ignore[no-any-return]

    @property
    def events(self) -> list[tuple[str, bool]]:
        return [(event.reason, event.warning) for event in self.kubernetes.events]

    def value(self, name: str, **labels: str) -> float | None:
        return self.metrics.registry.get_sample_value(name, labels)


@pytest.fixture
def bench() -> Bench:
    return Bench()


def published(cluster: DatabaseCluster | None = None, *, revision: int = 1) -> Published:
    cluster = cluster or a_cluster()
    return Published(cluster=cluster, endpoints=cluster.endpoints, secret_name="orders-db", revision=revision)


DOWN = UpstreamUnavailable("DigitalOcean answered 503; trying again.")


# --- the status ------------------------------------------------------------------------------------------------------------


async def test_the_status_is_written_where_it_differs_and_only_there(bench: Bench) -> None:
    await bench.report(published())
    assert bench.status["binding"] == {"name": "orders-db"}
    assert bench.kubernetes.writes == [f"Status {KEY}"]
    await bench.report(published())
    await bench.report(published())
    assert bench.kubernetes.writes == [f"Status {KEY}"]


async def test_what_went_is_removed_from_the_status(bench: Bench) -> None:
    await bench.report(published())
    assert "standby" in bench.status["endpoints"]
    await bench.report(published(a_cluster(standby=False)))
    assert "standby" not in bench.status["endpoints"]


async def test_the_answer_to_the_write_is_what_is_known_from_then_on(bench: Bench) -> None:
    await bench.report(published())
    assert bench.entry.resource_version == bench.kubernetes.references[KEY]["metadata"]["resourceVersion"]
    assert bench.entry.status.is_true(ConditionType.READY)


async def test_the_heartbeat_is_a_write_without_an_event(bench: Bench) -> None:
    await bench.report(published())
    await bench.report(published(), after=HEARTBEAT.total_seconds())
    assert len(bench.kubernetes.writes) == 2
    assert bench.events == []


@pytest.mark.parametrize("status", [404, 409])
async def test_a_resource_that_is_gone_is_told_nothing(bench: Bench, status: int) -> None:
    bench.kubernetes.trouble["patch_status"] = KubernetesError("gone", status=status)
    await bench.report(DOWN)
    assert bench.events == []


@pytest.mark.parametrize("status", [0, 403, 429, 500])
async def test_any_other_failure_to_write_is_the_callers_and_told_when_it_works(bench: Bench, status: int) -> None:
    bench.kubernetes.trouble["patch_status"] = KubernetesError("no", status=status)
    with pytest.raises(KubernetesError):
        await bench.report(DOWN)
    assert bench.events == []
    bench.kubernetes.trouble.clear()
    await bench.report(DOWN)
    assert bench.events == [("UpstreamUnavailable", True)]


# --- Events ----------------------------------------------------------------------------------------------------------------


async def test_a_first_success_without_a_write_is_no_event(bench: Bench) -> None:
    await bench.report(published())
    assert bench.events == []


async def test_a_transition_is_one_event_and_repeating_it_none(bench: Bench) -> None:
    await bench.report(published())
    for _ in range(3):
        await bench.report(DOWN)
    for _ in range(3):
        await bench.report(TokenInvalid("No."))
    for _ in range(3):
        await bench.report(published())
    assert bench.events == [("UpstreamUnavailable", True), ("TokenInvalid", True), ("Synced", False)]


async def test_ready_that_turns_stale_is_an_event_that_says_so(bench: Bench) -> None:
    await bench.report(published())
    await bench.report(DOWN)
    await bench.report(DOWN, after=3600, not_fresh_for=timedelta(hours=1))
    await bench.report(DOWN, after=3600, not_fresh_for=timedelta(hours=2))
    assert not bench.entry.status.is_true(ConditionType.READY)
    assert bench.events == [("UpstreamUnavailable", True)] * 2
    assert "has not been confirmed for too long" in bench.kubernetes.events[1].note


async def test_suspending_is_told_once(bench: Bench) -> None:
    await bench.report(published())
    await bench.report(Suspended())
    await bench.report(Suspended())
    assert bench.events == [("Suspended", False)]


CREATED = SecretChange(reason="SecretCreated", text="Secret orders-db was created.")


async def test_a_write_of_the_secret_is_told_once_also_where_the_status_stays(bench: Bench) -> None:
    await bench.report(published())
    bench.entry.published.unreported = (CREATED, SecretChange(reason="SecretRemoved", text="Gone.", warning=True))
    await bench.report(published())
    await bench.report(published())
    told = [(event.reason, event.note, event.warning) for event in bench.kubernetes.events]
    assert told == [("SecretCreated", "Secret orders-db was created.", False), ("SecretRemoved", "Gone.", True)]


async def test_a_write_of_the_secret_whose_report_failed_is_told_with_the_next(bench: Bench) -> None:
    bench.entry.published.unreported = (CREATED,)
    bench.kubernetes.trouble["patch_status"] = KubernetesError("down", status=0)
    with pytest.raises(KubernetesError):
        await bench.report(published())
    bench.kubernetes.trouble.clear()
    await bench.report(published())
    assert bench.events == [("SecretCreated", False)]


@pytest.mark.parametrize("status", [0, 403, 404, 409, 422, 500])
async def test_an_event_that_fails_does_no_harm(bench: Bench, status: int) -> None:
    bench.kubernetes.trouble["create_event"] = KubernetesError("no", status=status)
    await bench.report(DOWN)
    assert bench.status["conditions"][0]["reason"] == "UpstreamUnavailable"


async def test_an_event_of_any_script_keeps_within_the_limit_which_is_in_bytes(bench: Bench) -> None:
    await bench.report(UpstreamUnavailable("x" + "é€😀" * 1000))
    note = bench.kubernetes.events[0].note
    assert NOTE_LIMIT - 10 < len(note.encode()) <= NOTE_LIMIT
    assert re.fullmatch(r"x(é€😀)+é?€?…", note)


async def test_two_changes_for_one_reason_are_two_events(bench: Bench) -> None:
    bench.entry.published.unreported = tuple(SecretChange(reason="SecretRemoved", text=f"Removed {name}.") for name in "ab")
    await bench.report(published())
    events = [event for event in bench.kubernetes.events if event.reason == "SecretRemoved"]
    assert len({event.name for event in events}) == 2


@pytest.mark.parametrize("end", [".", "-", "-.-"])
async def test_an_event_has_a_valid_name_wherever_that_of_the_resource_is_cut(end: str) -> None:
    name = f"{'x' * (230 - len(end))}{end}y"
    assert re.fullmatch(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*", event_name(name, "uid"))


async def test_an_event_says_whose_it_is_and_keeps_within_the_limits(bench: Bench) -> None:
    await bench.report(UpstreamUnavailable("x" * 5000))
    event: Event = bench.kubernetes.events[0]
    assert (event.regarding, event.regarding_uid, event.instance) == (KEY, UID, "pod-1")
    assert len(event.note.encode()) == NOTE_LIMIT
    assert event.note.endswith("x…"), "nobody pastes half a command for a whole one"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}(Z|[+-]\d\d:\d\d)", event.time)
    assert re.fullmatch(r"[a-z0-9.-]{1,253}", event.name)


async def test_two_events_of_one_moment_have_two_names(bench: Bench) -> None:
    bench.entry.published.unreported = (CREATED,)
    await bench.report(DOWN)
    assert len({event.name for event in bench.kubernetes.events}) == 2


# --- log and metrics -------------------------------------------------------------------------------------------------------


async def test_there_is_a_line_for_each_change_and_none_for_an_idle_refresh(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    await bench.report(published())
    await bench.report(DOWN)
    await bench.report(DOWN)
    await bench.report(published())
    await bench.report(published())
    assert [(record.levelname, record.getMessage().split(": ")[:2]) for record in caplog.records] == [
        ("WARNING", ["shop/orders-db", "UpstreamUnavailable"]),
        ("INFO", ["shop/orders-db", "Synced"]),
    ]


async def test_a_json_line_has_the_resource_and_the_reason_as_members(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    await bench.report(DOWN)
    line = json.loads(JsonFormatter().format(caplog.records[0]))
    assert (line["namespace"], line["name"], line["reason"]) == ("shop", "orders-db", "UpstreamUnavailable")
    assert line["level"] == "warning"


async def test_reconciliations_and_writes_are_counted(bench: Bench) -> None:
    await bench.report(published())
    await bench.report(published())
    bench.kubernetes.trouble["patch_status"] = KubernetesError("no", status=500)
    with pytest.raises(KubernetesError):
        await bench.report(DOWN)
    assert bench.value("dbclusterref_reconciles_total", reason="Synced") == 2
    assert bench.value("dbclusterref_reconciles_total", reason="UpstreamUnavailable") == 1
    assert bench.value("dbclusterref_kubernetes_writes_total", kind="Status", result="ok") == 1
    assert bench.value("dbclusterref_kubernetes_writes_total", kind="Status", result="failed") == 1
