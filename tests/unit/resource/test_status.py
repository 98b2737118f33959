from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from dbclusterref.resource.status import Condition, ConditionType, Status, Summary, parse_time

READY, FRESH = ConditionType.READY, ConditionType.FRESH
NOON = datetime(2026, 1, 5, 12, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)


def having(kind: ConditionType, *, status: bool) -> Status:
    condition = Condition(
        type=kind,
        status=status,
        reason="WaitingForCluster",
        message="Wait.",
        observed_generation=3,
        last_transition_time=NOON,
    )
    return Status(observed_generation=3, conditions={kind: condition})


def test_a_status_is_spelled_as_kubernetes_spells_it() -> None:
    status = having(READY, status=False)
    assert status.to_body() == {
        "observedGeneration": 3,
        "secretRevision": 0,
        "conditions": [
            {
                "type": "Ready",
                "status": "False",
                "reason": "WaitingForCluster",
                "message": "Wait.",
                "observedGeneration": 3,
                "lastTransitionTime": "2026-01-05T12:00:00Z",
            }
        ],
    }
    assert Status.from_body({"status": status.to_body()}) == status


@pytest.mark.parametrize(("now", "since"), [(NOON, timedelta()), (NOON + HOUR, HOUR), (NOON - HOUR, timedelta())])
def test_how_long_fresh_has_not_been_true_is_never_negative(now: datetime, since: timedelta) -> None:
    assert having(FRESH, status=False).not_fresh_for(now) == since
    assert having(FRESH, status=True).not_fresh_for(now) == timedelta()
    assert Status().not_fresh_for(now) == timedelta()


def test_a_fresh_object_has_the_schemas_default_status() -> None:
    assert Status.from_body({"status": {"observedGeneration": -1}}) == Status.from_body({}) == Status()


def test_conditions_of_others_and_unreadable_ones_are_left_out() -> None:
    good = {"type": "Ready", "status": "True", "reason": "Synced", "lastTransitionTime": "2026-01-05T12:00:00Z"}
    others = [{**good, "type": "Healthy"}, {**good, "type": "Fresh", "lastTransitionTime": "noon"}, "x", {"type": {}}]
    status = Status.from_body({"status": {"conditions": [*others, good]}})
    assert status.conditions == {
        READY: Condition(type=READY, status=True, reason="Synced", message="", observed_generation=0, last_transition_time=NOON)
    }


@pytest.mark.parametrize("text", [None, 7, "", "noon", "2026-13-01T00:00:00Z", "0001-01-01T00:00:00+23:59"])
def test_what_is_no_time_is_none(text: object) -> None:
    assert parse_time(text) is None


@pytest.mark.parametrize("text", ["2026-01-05T12:00:00Z", "2026-01-05T14:00:00+02:00", "2026-01-05T12:00:00"])
def test_times_are_read_with_and_without_an_offset(text: str) -> None:
    assert parse_time(text) == NOON


def test_what_metrics_count_is_one_object_for_all_that_are_alike() -> None:
    one, other = (replace(having(FRESH, status=False), cluster={"name": name}) for name in ("orders", "users"))
    assert one.summary is other.summary
    assert one.summary == Summary(reason="WaitingForCluster")
    ended = replace(having(FRESH, status=True), cluster={"versionEndOfLife": "2026-01-01T00:00:00Z"}, last_sync_time=NOON)
    assert ended.summary == Summary(
        fresh=True, reason="WaitingForCluster", was_synced=True, version_end_of_life="2026-01-01T00:00:00Z"
    )
    assert Status().summary == Summary()
