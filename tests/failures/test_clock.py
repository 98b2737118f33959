"""The wall clock is for people to read: it may jump."""

from datetime import UTC, datetime, timedelta

import pytest

from dbclusterref.errors import UpstreamUnavailable
from dbclusterref.reconcile.conditions import Published, Result, next_status
from dbclusterref.resource.status import ConditionType, Status
from tests.support.builders import a_cluster, a_reference, an_identity

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def published() -> Published:
    found = a_cluster()
    return Published(cluster=found, endpoints=found.endpoints, secret_name="orders-db", revision=1)


def after(old: Status, outcome: Published | UpstreamUnavailable, *, now: datetime) -> Status:
    answered_at = now if isinstance(outcome, Published) else old.last_sync_time
    result = Result(outcome=outcome, answered_at=answered_at, refreshed=True)
    return next_status(old, result, identity=an_identity(), reference=a_reference(), now=now)


@pytest.mark.parametrize("jump", [timedelta(days=-400), timedelta(hours=-2), timedelta(hours=2), timedelta(days=400)])
def test_a_clock_that_jumps_silences_and_hurries_nothing(jump: timedelta) -> None:
    synced = after(Status(), published(), now=NOON)
    later = after(synced, published(), now=NOON + jump)
    assert later.last_sync_time == NOON + jump
    assert after(later, published(), now=NOON + jump + timedelta(minutes=1)) == later
    failed = after(later, UpstreamUnavailable("down"), now=NOON + jump)
    assert failed.is_true(ConditionType.READY)
    again = after(failed, published(), now=NOON)
    assert again.is_true(ConditionType.FRESH)
