import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from dbclusterref.digitalocean.model import DatabaseCluster
from dbclusterref.digitalocean.replicas import Address
from dbclusterref.errors import (
    Blocked,
    Cause,
    ClusterNotFound,
    InvalidSpec,
    RateLimited,
    SecretConflict,
    SecretContested,
    SecretRefused,
    TokenInvalid,
    Transient,
    UnconfirmedNotFound,
    UpstreamUnavailable,
    UserNotFound,
)
from dbclusterref.reconcile.conditions import LONGEST_MESSAGE, Holds, Outcome, Published, Result, Suspended, next_status
from dbclusterref.resource.objects import ObjectMeta
from dbclusterref.resource.reference import Reference
from dbclusterref.resource.status import ConditionType, Status, format_time
from tests.support.builders import CANARY, a_cluster, a_reference, an_identity, connection_body
from tests.support.strategies import BOUNDED, CONNECTIONS, cluster_bodies, json_values

READY, FRESH, STALLED, RECONCILING = ConditionType

NOON = datetime(2026, 1, 5, 12, 0, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)

TRANSIENT = [kind("Passes.") for kind in Transient.__subclasses__()]
BLOCKED = [kind("Fix it.") for kind in Blocked.__subclasses__()]
OUTAGE = UpstreamUnavailable("DigitalOcean answered 503; trying again.")


def published(*, revision: int = 1, name: str = "orders-db", **members: object) -> Published:
    read = a_cluster(**members)
    return Published(cluster=read, endpoints=read.endpoints, secret_name=name, revision=revision)


def after(
    *outcomes: tuple[Outcome, datetime],
    old: Status | None = None,
    of: Reference | None = None,
    who: ObjectMeta | None = None,
    refreshed: bool = True,
    still: Published | None = None,
    holds: Holds | None = None,
) -> Status:
    """The status after some outcomes; a Secret that was once published stays as it was, unless `holds` says otherwise."""
    status = old or Status()
    for outcome, now in outcomes:
        stands = Holds.THIS_SPEC if status.binding_name or still else Holds.MISSING
        result = Result(
            outcome=outcome,
            published=still,
            holds=holds or stands,
            answered_at=now if isinstance(outcome, Published) else None,
            refreshed=refreshed,
            not_fresh_for=status.not_fresh_for(now),
        )
        status = next_status(status, result, identity=who or an_identity(), reference=of or a_reference(), now=now)
    return status


def shown(status: Status) -> dict[str, str]:
    """Each condition as `True/Reason`."""
    return {str(kind): f"{condition.status}/{condition.reason}" for kind, condition in status.conditions.items()}


SYNCED = after((published(revision=1), NOON))


# What is shown of each outcome


def test_a_published_secret_is_ready_and_fresh() -> None:
    assert shown(SYNCED) == {
        "Ready": "True/Synced",
        "Fresh": "True/Synced",
        "Stalled": "False/Synced",
        "Reconciling": "False/Synced",
    }
    assert (SYNCED.binding_name, SYNCED.secret_revision, SYNCED.observed_generation) == ("orders-db", 1, 1)
    assert (SYNCED.last_change_time, SYNCED.last_sync_time) == (NOON, NOON)
    assert SYNCED.reason == "Synced"
    assert SYNCED.conditions[READY].message == "Secret orders-db holds the private primary and standby of orders (pg 17, ams3)."


@pytest.mark.parametrize(("endpoints", "holds"), [(["Private", "Standby"], True), (["Private"], False)])
def test_the_message_speaks_of_a_standby_only_where_the_secret_holds_it(endpoints: list[str], *, holds: bool) -> None:
    outcome = published(standby_private_connection=connection_body(host="standby"))
    status = after((outcome, NOON), of=a_reference({"secret": {"endpoints": endpoints}}))
    assert ("standby" in status.conditions[READY].message) is holds
    assert ("standby" in status.endpoints) is holds


@pytest.mark.parametrize(
    ("standby", "holds"),
    [(True, "the private primary, standby and read-only replicas"), (False, "the private primary and read-only replicas")],
)
def test_the_message_and_the_addresses_speak_of_the_replicas(*, standby: bool, holds: str) -> None:
    replicas = (Address(host="read-1", port=1), Address(host="fd00::2", port=2))
    status = after((replace(published(standby=standby), replicas=replicas), NOON))
    assert status.conditions[READY].message == f"Secret orders-db holds {holds} of orders (pg 17, ams3)."
    assert status.endpoints["replicas"] == "read-1:1,[fd00::2]:2"
    assert "replicas" not in after((published(), NOON)).endpoints


def test_the_facts_of_the_cluster_are_shown_where_there_are_any() -> None:
    window = {"day": "tuesday", "hour": "21:00", "pending": False}
    status = after((published(maintenance_window=window, version="", created_at="2026-01-05T12:00:00Z"), NOON))
    assert status.cluster == {
        "name": "orders", "engine": "pg", "region": "ams3", "status": "online", "nodes": 2, "size": "db-s-1vcpu-1gb",
        "createdAt": "2026-01-05T12:00:00Z", "maintenanceWindow": window,
    }  # fmt: skip


def test_addresses_are_shown_of_the_endpoints_asked_for() -> None:
    outcome = published(
        private_connection=connection_body(host="fd00::1", port=1),
        standby_private_connection=connection_body(host="standby", port=2),
        connection=connection_body(host="public", port=0),
        standby_connection=connection_body(host="public-standby", port=4),
    )
    assert after((outcome, NOON)).endpoints == {"private": "[fd00::1]:1", "standby": "standby:2"}
    everything = a_reference({"secret": {"endpoints": ["Private", "Public", "PublicStandby"]}})
    assert after((outcome, NOON), of=everything).endpoints == {
        "private": "[fd00::1]:1",
        "public": "public",
        "publicStandby": "public-standby:4",
    }


@pytest.mark.parametrize("cause", TRANSIENT, ids=lambda cause: type(cause).__name__)
def test_a_transient_cause_before_the_first_success_is_reconciling(cause: Cause) -> None:
    status = after((cause, NOON))
    reason = cause.reason
    assert shown(status) == {
        "Ready": f"False/{reason}",
        "Fresh": f"False/{reason}",
        "Stalled": f"False/{reason}",
        "Reconciling": f"True/{reason}",
    }
    assert (status.binding_name, status.last_sync_time, status.reason) == ("", None, reason)
    assert status.conditions[READY].message == "Passes."


@pytest.mark.parametrize("cause", TRANSIENT, ids=lambda cause: type(cause).__name__)
def test_a_transient_cause_after_a_success_leaves_the_secret_ready_but_not_fresh(cause: Cause) -> None:
    status = after((cause, NOON + MINUTE), old=SYNCED)
    reason = cause.reason
    assert shown(status) == {
        "Ready": "True/Synced",
        "Fresh": f"False/{reason}",
        "Stalled": f"False/{reason}",
        "Reconciling": f"False/{reason}",
    }
    assert status.conditions[READY] == SYNCED.conditions[READY]


@pytest.mark.parametrize("old", [Status(), SYNCED], ids=["before", "after"])
@pytest.mark.parametrize("cause", BLOCKED, ids=lambda cause: type(cause).__name__)
def test_a_cause_that_waits_for_a_person_is_stalled(cause: Cause, old: Status) -> None:
    status = after((cause, NOON + MINUTE), old=old)
    reason = cause.reason
    assert shown(status) == {
        "Ready": f"False/{reason}",
        "Fresh": f"False/{reason}",
        "Stalled": f"True/{reason}",
        "Reconciling": f"False/{reason}",
    }
    assert status.conditions[STALLED].message == "Fix it."


@pytest.mark.parametrize(
    ("interval", "ready_for"),
    [("10s", 5 * MINUTE), ("1m", 5 * MINUTE), ("100s", 5 * MINUTE), ("2m", 6 * MINUTE), ("1h", 3 * HOUR)],
)
def test_ready_outlasts_an_outage_of_three_intervals_and_of_five_minutes(interval: str, ready_for: timedelta) -> None:
    of = a_reference({"refreshInterval": interval})
    began = NOON + MINUTE
    out = after((OUTAGE, began), (RateLimited("Wait."), began + ready_for), old=SYNCED, of=of)
    assert shown(out)["Ready"] == "True/Synced"
    stale = after((OUTAGE, began + ready_for + timedelta(seconds=1)), old=out, of=of)
    assert shown(stale)["Ready"] == "False/UpstreamUnavailable"
    assert shown(stale)["Stalled"] == "False/UpstreamUnavailable"
    assert stale.binding_name == "orders-db"


def test_an_unreadable_spec_is_stalled_and_forgets_no_secret() -> None:
    result = Result(outcome=InvalidSpec("No."))
    status = next_status(SYNCED, result, identity=an_identity(generation=4), reference=None, now=NOON)
    assert shown(status)["Stalled"] == "True/InvalidSpec"
    assert (status.observed_generation, status.binding_name, status.cluster) == (4, "orders-db", SYNCED.cluster)


def test_a_transient_cause_after_a_blocked_one_is_ready_again_while_the_secret_is_young() -> None:
    status = after((TokenInvalid("No."), NOON), (OUTAGE, NOON + MINUTE), old=SYNCED)
    assert shown(status)["Ready"] == "True/Synced"
    assert shown(status)["Stalled"] == "False/UpstreamUnavailable"


def test_a_first_404_and_a_confirmed_one_have_one_reason_and_different_urgency() -> None:
    first = after((UnconfirmedNotFound("Once."), NOON), old=SYNCED)
    assert (shown(first)["Fresh"], shown(first)["Ready"]) == ("False/ClusterNotFound", "True/Synced")
    assert shown(after((ClusterNotFound("Twice."), NOON), old=first))["Stalled"] == "True/ClusterNotFound"


def test_suspension_leaves_ready_as_it_was() -> None:
    status = after((Suspended(), NOON + MINUTE), old=SYNCED)
    assert shown(status) == {
        "Ready": "True/Suspended",
        "Fresh": "False/Suspended",
        "Stalled": "False/Suspended",
        "Reconciling": "False/Suspended",
    }
    assert status.last_sync_time == SYNCED.last_sync_time
    kept = "Reconciliation is suspended. Secret orders-db is left as it is. Set spec.suspend to false to resume."
    assert status.conditions[FRESH].message == kept
    assert status.conditions[READY].message == "Secret orders-db is left as it is; the condition Fresh says why."


@pytest.mark.parametrize(
    "holds", [Holds.MISSING, Holds.RENAMED, Holds.UNREADABLE, Holds.CHANGED, Holds.FORMER_SPEC, Holds.FOREIGN]
)
@pytest.mark.parametrize("old", [Status(), SYNCED], ids=["before", "after"])
def test_suspension_without_a_good_secret_is_stalled(old: Status, holds: Holds) -> None:
    status = after((Suspended(), NOON + MINUTE), old=old, holds=holds)
    assert shown(status) == {
        "Ready": "False/Suspended",
        "Fresh": "False/Suspended",
        "Stalled": "True/Suspended",
        "Reconciling": "False/Suspended",
    }
    assert holds.value in status.conditions[STALLED].message


@pytest.mark.parametrize("holds", [Holds.MISSING, Holds.RENAMED, Holds.CHANGED, Holds.FORMER_SPEC, Holds.FOREIGN])
def test_a_secret_that_is_not_this_specs_is_never_ready(holds: Holds) -> None:
    status = after((OUTAGE, NOON + MINUTE), old=SYNCED, holds=holds, who=an_identity(generation=4))
    assert shown(status) == {
        "Ready": "False/UpstreamUnavailable",
        "Fresh": "False/UpstreamUnavailable",
        "Stalled": "False/UpstreamUnavailable",
        "Reconciling": "True/UpstreamUnavailable",
    }
    assert status.conditions[READY].message == f"{OUTAGE.message} Secret orders-db {holds.value}."


def test_what_was_read_of_the_cluster_is_shown_also_where_no_secret_came_of_it() -> None:
    result = Result(outcome=UserNotFound("No."), holds=Holds.MISSING, cluster=a_cluster(version="18"))
    status = next_status(Status(), result, identity=an_identity(), reference=a_reference(), now=NOON)
    assert (status.cluster["version"], status.endpoints, status.binding_name) == ("18", {}, "")


def test_the_time_of_the_answer_in_use_is_written_whenever_the_status_is() -> None:
    seen = NOON + timedelta(seconds=50)
    idle = Result(outcome=published(), answered_at=seen)
    same = next_status(SYNCED, idle, identity=an_identity(), reference=a_reference(), now=NOON + MINUTE)
    assert same == SYNCED, "an idle read is no write"
    failed = Result(outcome=OUTAGE, answered_at=seen)
    status = next_status(SYNCED, failed, identity=an_identity(), reference=a_reference(), now=NOON + 2 * MINUTE)
    assert status.last_sync_time == seen


def test_what_is_only_shown_is_clipped_to_what_the_api_server_takes() -> None:
    window = {"day": "x" * 10_000, "hour": "21:00", "pending": False}
    found = published(name="orders-db", num_nodes=2**70, maintenance_window=window)
    status = after((replace(found, cluster=replace(found.cluster, version="1" * 50_000)), NOON))
    assert "nodes" not in status.cluster
    assert len(json.dumps(status.to_body())) < 20_000
    assert len(status.conditions[READY].message) == LONGEST_MESSAGE
    assert after((published(num_nodes=2**63 - 1), NOON)).cluster["nodes"] == 2**63 - 1
    assert "nodes" not in after((published(num_nodes=2**63), NOON)).cluster


def test_after_a_suspension_an_outage_does_not_speak_of_it_any_more() -> None:
    status = after((Suspended(), NOON), (OUTAGE, NOON + MINUTE), old=SYNCED)
    assert shown(status)["Ready"] == "True/Synced"
    assert "uspend" not in json.dumps(status.to_body())


def test_a_secret_that_stands_although_the_read_failed_is_reported() -> None:
    status = after((OUTAGE, NOON), still=published(revision=5))
    assert (status.binding_name, status.secret_revision, shown(status)["Ready"]) == ("orders-db", 5, "True/Synced")
    assert status.last_sync_time is None


@pytest.mark.parametrize(
    ("holds", "said"),
    [
        (None, "Secret orders-db stays as it was last written (the condition Ready says why)."),
        (Holds.FORMER_SPEC, f"Secret orders-db {Holds.FORMER_SPEC.value} (the condition Ready says why)."),
        (Holds.MISSING, "The Secret is not confirmed to match"),
    ],
)
def test_what_waits_for_a_person_says_what_became_of_the_secret(holds: Holds | None, said: str) -> None:
    assert after((TokenInvalid("No."), NOON), old=SYNCED, holds=holds).conditions[FRESH].message.startswith(said)
    assert after((TokenInvalid("No."), NOON), holds=holds).conditions[FRESH].message.startswith("The Secret is not confirmed")


@pytest.mark.parametrize("kind", [SecretConflict, SecretRefused, SecretContested])
def test_a_cause_that_is_about_the_secret_does_not_call_it_unchanged(kind: type[Cause]) -> None:
    assert "stays" not in after((kind("No."), NOON), old=SYNCED).conditions[FRESH].message


# Which condition says what


LONG = "DigitalOcean answered with something that takes a sentence to say. And another one to say what to do."


@pytest.mark.parametrize("old", [Status(), SYNCED], ids=["no Secret", "a Secret"])
@pytest.mark.parametrize("holds", [None, *Holds])
@pytest.mark.parametrize("kind", [UpstreamUnavailable, ClusterNotFound, InvalidSpec, None])
def test_what_is_long_is_said_where_it_is_looked_for_and_the_others_name_that_condition(
    kind: type[Cause] | None, holds: Holds | None, old: Status
) -> None:
    long = LONG if kind else "Reconciliation is suspended. "
    status = after((kind(LONG) if kind else Suspended(), NOON + MINUTE), old=old, holds=holds)
    said = {kind for kind, condition in status.conditions.items() if long in condition.message}
    shown_by_kstatus = {kind for kind in (STALLED, RECONCILING) if status.is_true(kind)}
    telling = FRESH if status.is_true(READY) else READY
    assert said == {telling} | shown_by_kstatus
    assert status.telling == status.conditions[telling]
    other = status.conditions[READY if telling is FRESH else FRESH].message
    assert f"the condition {telling} says why" in other or (telling is FRESH and kind)
    assert len({condition.message for condition in status.conditions.values()}) >= 3


# What moves, and what does not


def outcomes() -> st.SearchStrategy[Outcome]:
    causes: list[Outcome] = [*TRANSIENT, *BLOCKED, Suspended()]
    seen = st.builds(published, revision=st.integers(1, 3), status=st.sampled_from(["online", "migrating"]))
    return st.sampled_from(causes) | seen


@st.composite
def histories(draw: st.DrawFn, *, at_least: int = 1) -> list[tuple[Outcome, datetime]]:
    now, history = NOON, []
    for outcome in draw(st.lists(outcomes(), min_size=at_least, max_size=6)):
        now += timedelta(seconds=draw(st.sampled_from([0, 1, 59, 61, 290, 400, 3500, 3700])))
        history.append((outcome, now))
    return history


@BOUNDED
@given(histories())
def test_an_outcome_twice_is_the_same_as_once(history: list[tuple[Outcome, datetime]]) -> None:
    assert after(*history, history[-1]) == after(*history)


@BOUNDED
@given(histories(), st.integers(1, 59))
def test_an_outcome_repeated_soon_is_no_change(history: list[tuple[Outcome, datetime]], seconds: int) -> None:
    (outcome, now), soon = history[-1], history[-1][1] + timedelta(seconds=seconds)
    once, again = after(*history), after(*history, (outcome, soon))
    if isinstance(outcome, Published):
        assume(once.last_sync_time and soon - once.last_sync_time < HOUR)
    if isinstance(outcome, Transient):
        # Else these may be the very seconds in which the Secret becomes stale.
        failing_since = once.conditions[FRESH].last_transition_time
        assume((now - failing_since > 5 * MINUTE) == (soon - failing_since > 5 * MINUTE))
    assert again == once
    assert again.to_body() == once.to_body()


def test_a_day_of_idle_reads_writes_a_heartbeat_an_hour_and_nothing_else() -> None:
    status, writes = SYNCED, []
    for minute in range(1, 24 * 60 + 1):
        now = NOON + minute * MINUTE
        new = after((published(revision=1), now), old=status)
        if new != status:
            writes.append(status.to_body() | {"lastSyncTime": format_time(now)})
            assert new.to_body() == writes[-1]
        status = new
    assert [write["lastSyncTime"] for write in writes] == [format_time(NOON + hour * HOUR) for hour in range(1, 25)]


def test_an_outage_writes_when_it_begins_when_the_secret_is_stale_and_when_it_ends() -> None:
    status, moments = SYNCED, []
    for minute in range(1, 90):
        outcome: Outcome = OUTAGE if minute < 80 else published(revision=1)
        new = after((outcome, NOON + minute * MINUTE), old=status)
        if new != status:
            moments.append(minute)
        status = new
    assert moments == [1, 7, 80]


def test_a_clock_that_jumped_back_does_not_silence_the_heartbeat() -> None:
    status = after((published(revision=1), NOON - 48 * HOUR), old=SYNCED)
    assert status.last_sync_time == NOON - 48 * HOUR


@BOUNDED
@given(histories(at_least=2))
def test_a_transition_time_moves_exactly_when_the_status_of_its_condition_does(history: list[tuple[Outcome, datetime]]) -> None:
    *before, (outcome, now) = history
    old = after(*before)
    new = after((outcome, now), old=old)
    for kind in ConditionType:
        one, other = old.conditions[kind], new.conditions[kind]
        moved = other.last_transition_time != one.last_transition_time
        assert other.last_transition_time == (one.last_transition_time if one.status == other.status else now)
        assert not moved or one.status != other.status


@BOUNDED
@given(histories())
def test_stalled_is_true_exactly_for_what_waits_for_a_person(history: list[tuple[Outcome, datetime]]) -> None:
    status, outcome = after(*history), history[-1][0]
    assert status.is_true(STALLED) == (
        isinstance(outcome, Blocked) or (isinstance(outcome, Suspended) and not status.binding_name)
    )


@BOUNDED
@given(histories())
def test_conditions_never_contradict_each_other(history: list[tuple[Outcome, datetime]]) -> None:
    status = after(*history)
    assert set(status.conditions) == set(ConditionType)
    assert not (status.is_true(STALLED) and (status.is_true(READY) or status.is_true(RECONCILING)))
    assert not (status.is_true(FRESH) and not status.is_true(READY))
    assert not (status.is_true(READY) and not status.binding_name)
    assert status.is_true(FRESH) == isinstance(history[-1][0], Published)
    for condition in status.conditions.values():
        assert condition.reason
        assert condition.message
        assert condition.observed_generation == status.observed_generation == 1


@BOUNDED
@given(histories())
def test_a_secret_once_written_is_never_forgotten(history: list[tuple[Outcome, datetime]]) -> None:
    assert bool(after(*history).binding_name) == any(isinstance(outcome, Published) for outcome, _ in history)


def test_a_transition_is_not_moved_by_a_new_reason() -> None:
    status = after((OUTAGE, NOON + MINUTE), (RateLimited("Wait."), NOON + 2 * MINUTE), old=SYNCED)
    assert status.conditions[FRESH].reason == "RateLimited"
    assert status.conditions[FRESH].last_transition_time == NOON + MINUTE


def test_the_change_time_moves_with_the_revision_alone() -> None:
    same = after((published(revision=1, status="migrating"), NOON + MINUTE), old=SYNCED)
    assert same.last_change_time == NOON
    assert same.last_sync_time == NOON + MINUTE
    assert after((published(revision=2), NOON + MINUTE), old=SYNCED).last_change_time == NOON + MINUTE


def test_a_change_whose_status_could_not_be_written_is_told_by_the_next_one() -> None:
    status = after((published(revision=2), NOON + MINUTE), old=SYNCED)
    assert (status.secret_revision, status.last_change_time) == (2, NOON + MINUTE)


def test_a_new_generation_is_acknowledged_in_every_condition() -> None:
    status = after((OUTAGE, NOON + MINUTE), old=SYNCED, who=an_identity(generation=4))
    assert {status.observed_generation, *(condition.observed_generation for condition in status.conditions.values())} == {4}


@pytest.mark.parametrize("outcome", [OUTAGE, TokenInvalid("No."), published()], ids=lambda outcome: type(outcome).__name__)
def test_a_requested_refresh_is_acknowledged_whatever_came_of_it(outcome: Outcome) -> None:
    who = an_identity(metadata={"annotations": {"dbclusterref.io/refresh-requested-at": "tick"}})
    assert after((outcome, NOON), who=who).last_handled_refresh_at == "tick"
    assert after((outcome, NOON), who=who, refreshed=False).last_handled_refresh_at == ""


def test_an_acknowledged_refresh_stays_so_when_the_annotation_goes() -> None:
    assert after((OUTAGE, NOON), old=replace(SYNCED, last_handled_refresh_at="tick")).last_handled_refresh_at == "tick"


def test_times_are_utc_and_whole_seconds() -> None:
    odd = datetime.fromisoformat("2026-01-05T14:00:00.987654+02:00")
    status = after((published(), odd))
    assert status.last_sync_time == NOON
    assert format_time(odd) == "2026-01-05T12:00:00Z"


# What is written, and read again


@BOUNDED
@given(histories(), cluster_bodies())
def test_a_status_reads_back_as_it_was_written(history: list[tuple[Outcome, datetime]], body: dict[str, Any]) -> None:
    read = DatabaseCluster.from_api(body)
    outcome = Published(cluster=read, endpoints=read.endpoints, secret_name="x", revision=9)
    status = after(*history, (outcome, NOON + 99 * HOUR))
    for each in (status, after(*history), Status()):
        assert Status.from_body({"status": json.loads(json.dumps(each.to_body()))}) == each


STATUS_FIELDS = [
    "observedGeneration", "conditions", "binding", "cluster", "endpoints", "secretRevision", "lastChangeTime", "lastSyncTime",
    "lastHandledRefreshAt",
]  # fmt: skip


@BOUNDED
@given(st.dictionaries(st.sampled_from(STATUS_FIELDS), json_values) | json_values)
def test_any_json_is_a_status_that_can_be_built_on(value: object) -> None:
    old = Status.from_body({"status": value})
    assert shown(after((published(), NOON), old=old))["Ready"] == "True/Synced"


def test_no_password_and_no_uri_reach_the_status() -> None:
    secretive = connection_body(password=CANARY, uri=f"postgresql://u:{CANARY}@h:1/d", user="USER-CANARY")
    spec = {"secret": {"endpoints": ["Private", "Standby", "Public", "PublicStandby"]}}
    members: dict[str, Any] = dict.fromkeys(CONNECTIONS, secretive)
    status = after((published(**members), NOON), of=a_reference(spec))
    assert len(status.endpoints) == 4
    assert "CANARY" not in json.dumps(status.to_body())
