import pytest
from hypothesis import given
from hypothesis import strategies as st

from dbclusterref.backoff import after_conflict, after_failure, after_success, after_trouble
from dbclusterref.errors import (
    Cause,
    RateLimited,
    SecretConflict,
    TokenInvalid,
    TokenSecretForbidden,
    TokenSecretMissing,
    UpstreamUnavailable,
)
from dbclusterref.reconcile.ownership import LOOKS_AGAIN
from tests.support.strategies import BOUNDED

CAUSES: list[Cause] = [UpstreamUnavailable("x"), TokenInvalid("x"), TokenSecretMissing("x"), SecretConflict("x")]

jitters = st.floats(0, 1, exclude_max=True)
intervals = st.floats(10, 86400)


def delays(cause: Cause, *, interval: float, count: int) -> list[float]:
    return [after_failure(cause, failures=n, interval=interval, jitter=0.0) for n in range(1, count + 1)]


@pytest.mark.parametrize(("interval", "jitter", "expected"), [(60.0, 0.0, 60.0), (60.0, 0.5, 57.0), (100.0, 1.0, 90.0)])
def test_a_routine_read_comes_up_to_a_tenth_early(interval: float, jitter: float, expected: float) -> None:
    assert after_success(interval, jitter=jitter) == pytest.approx(expected)


@BOUNDED
@given(intervals, jitters)
def test_a_routine_read_is_never_late(interval: float, jitter: float) -> None:
    assert 0.9 * interval <= after_success(interval, jitter=jitter) <= interval


def test_what_passes_without_help_is_tried_again_within_a_minute_and_within_the_interval() -> None:
    assert delays(UpstreamUnavailable("x"), interval=3600, count=8) == [1, 2, 4, 8, 16, 32, 60, 60]
    assert delays(UpstreamUnavailable("x"), interval=10, count=6) == [1, 2, 4, 8, 10, 10]


def test_what_waits_for_a_person_is_tried_again_within_five_minutes() -> None:
    assert delays(TokenInvalid("x"), interval=10, count=11) == [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]


def test_a_token_secret_is_looked_for_within_half_a_minute() -> None:
    for cause in (TokenSecretMissing("x"), TokenSecretForbidden("x")):
        assert delays(cause, interval=3600, count=7) == [1, 2, 4, 8, 16, 30, 30]


def test_what_the_other_side_asked_for_is_the_least() -> None:
    assert delays(RateLimited("x", retry_after=45.0), interval=10, count=2) == [45, 45]
    assert delays(RateLimited("x", retry_after=3.0), interval=60, count=4) == [3, 3, 4, 8]


@BOUNDED
@given(st.sampled_from(CAUSES), st.integers(1, 10**9), intervals, jitters, st.none() | st.floats(0, 10**6))
def test_no_retry_is_before_it_was_asked_for_nor_far_behind(
    cause: Cause, failures: int, interval: float, jitter: float, retry_after: float | None
) -> None:
    asked = type(cause)("x", retry_after=retry_after)
    delay = after_failure(asked, failures=failures, interval=interval, jitter=jitter)
    assert max(0.9, retry_after or 0.0) <= delay <= 1.1 * max(300.0, retry_after or 0.0)


@BOUNDED
@given(st.sampled_from(CAUSES), st.integers(1, 10**9), intervals, jitters)
def test_chance_makes_no_retry_later_than_promised(cause: Cause, failures: int, interval: float, jitter: float) -> None:
    latest = after_failure(cause, failures=failures, interval=interval, jitter=0.0)
    assert 0.9 * latest <= after_failure(cause, failures=failures, interval=interval, jitter=jitter) <= latest


@BOUNDED
@given(jitters)
def test_a_secret_of_another_owner_is_looked_at_within_the_time_that_messages_promise(jitter: float) -> None:
    assert LOOKS_AGAIN == "within 30 seconds"
    assert 27.0 <= after_conflict(jitter=jitter) <= 30.0


@BOUNDED
@given(jitters)
def test_chance_makes_no_retry_earlier_than_the_other_side_asked_for(jitter: float) -> None:
    asked = RateLimited("x", retry_after=45.0)
    assert 45.0 <= after_failure(asked, failures=1, interval=60.0, jitter=jitter) <= 1.1 * 45.0


def test_an_api_server_in_trouble_is_tried_again_within_a_quarter_minute() -> None:
    assert [after_trouble(n) for n in (1, 2, 3, 4, 5, 6, 7, 10**9)] == [0.25, 0.5, 1, 2, 4, 8, 15, 15]
