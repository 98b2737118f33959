from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import pytest

from dbclusterref.resource.restart import Restart, RestartState, Workload, WorkloadKind
from dbclusterref.resource.status import (
    Condition,
    ConditionType,
    Status,
    Summary,
    format_time,
    pack_status,
    parse_time,
    unpack_status,
)

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


@pytest.mark.parametrize("name", ["../../other/secrets/x", "..", "x/y", "x?limit=1", "X", "x" * 254, 7, None, {}])
def test_a_binding_that_names_no_secret_was_never_written(name: object) -> None:
    # It becomes a part of a path of the API.
    assert Status.from_body({"status": {"binding": {"name": name}}}) == Status()


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


WHOLE_BODY = {
    "observedGeneration": 7,
    "binding": {"name": "orders-binding"},
    "cluster": {"name": "orders", "nodes": 2},
    "endpoints": {"private": "db.example.com:25060"},
    "secretRevision": 4,
    "lastChangeTime": "2026-01-05T12:00:00Z",
    "lastSyncTime": "2026-01-05T13:00:00Z",
    "lastHandledRefreshAt": "now",
    "restarts": [{"kind": "Deployment", "name": "shop", "revision": 4, "state": "Current"}],
}
WHOLE = Status(
    observed_generation=7,
    binding_name="orders-binding",
    cluster={"name": "orders", "nodes": 2},
    endpoints={"private": "db.example.com:25060"},
    secret_revision=4,
    last_change_time=NOON,
    last_sync_time=NOON + HOUR,
    last_handled_refresh_at="now",
    restarts=(Restart(workload=Workload(kind=WorkloadKind.DEPLOYMENT, name="shop"), revision=4, state=RestartState.CURRENT),),
)


def test_each_member_of_a_status_has_its_field() -> None:
    assert Status.from_body({"status": WHOLE_BODY}) == WHOLE
    assert WHOLE.to_body() == WHOLE_BODY


def test_a_status_that_says_nothing_has_no_generation_and_no_revision() -> None:
    assert Status.from_body({"status": {}}) == Status.from_body({}) == Status(observed_generation=-1, secret_revision=0)


def test_a_packed_status_comes_back_and_a_new_one_takes_no_other_ones_place() -> None:
    new = Status.from_body({})
    assert [unpack_status(pack_status(status)) for status in (WHOLE, new)] == [WHOLE, new]
    assert pack_status(WHOLE) != pack_status(new)


def test_a_time_of_another_zone_is_written_as_utc() -> None:
    assert format_time(NOON.astimezone(timezone(timedelta(hours=5)))) == "2026-01-05T12:00:00Z"
