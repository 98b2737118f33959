import pytest

from dbclusterref.digitalocean.rate_limit import (
    DEFAULT_LIMIT,
    LONGEST_PAUSE,
    QUOTA_PAUSE,
    RESERVE,
    TOO_MANY,
    RateLimitHeaders,
    TokenBucket,
)
from tests.support.fakes import rate_limit_headers


def a_budget() -> TokenBucket:
    return TokenBucket(counted_at=0.0)


def spend_all(budget: TokenBucket, *, until: float) -> int:
    """Counts the requests that may go before a time, the first at 0."""
    now, count = 0.0, 0
    while (now := now + budget.seconds_until(now)) < until:
        budget.spend(now)
        count += 1
    return count


def test_the_fullest_minute_stays_within_250_and_the_fullest_hour_within_5000() -> None:
    assert 150 < spend_all(a_budget(), until=60) <= 250
    assert 4500 < spend_all(a_budget(), until=3600) < 5000


def test_background_reads_leave_part_of_the_burst_to_those_who_wait() -> None:
    budget = a_budget()
    count = 0
    while budget.may_spend(0.0, spare=budget.background):
        budget.spend(0.0)
        count += 1
    assert count < budget.burst
    assert budget.may_spend(0.0)


def test_a_low_hour_slows_everything_down_in_proportion() -> None:
    budget = a_budget()
    fast = budget.pace
    budget.learn(200, rate_limit_headers(remaining=int(DEFAULT_LIMIT * RESERVE / 2)), now=0.0, unix_time=0.0)
    assert budget.slowdown == 2
    assert budget.pace == fast / 2
    budget.learn(200, rate_limit_headers(remaining=0), now=0.0, unix_time=0.0)
    assert budget.pace > 0, "without any request nobody would learn that it is over"
    budget.learn(200, rate_limit_headers(remaining=4000), now=0.0, unix_time=0.0)
    assert budget.slowdown == 1


def test_the_limit_is_what_the_reply_says() -> None:
    budget = a_budget()
    budget.learn(200, rate_limit_headers(limit=50_000, remaining=49_999), now=0.0, unix_time=0.0)
    assert budget.burst == 1000
    assert budget.may_spend(0.0, spare=900)


@pytest.mark.parametrize(
    ("headers", "pause"),
    [
        (rate_limit_headers(remaining=0, retry_after=17.0), 17.0),
        (rate_limit_headers(remaining=0), QUOTA_PAUSE),
        (rate_limit_headers(remaining=0, reset=1040), 40.0),
        (rate_limit_headers(remaining=0, reset=9999), LONGEST_PAUSE),
        (rate_limit_headers(remaining=0, reset=5), 1.0),
    ],
)
def test_a_429_is_believed_within_reason(headers: RateLimitHeaders, pause: float) -> None:
    budget = a_budget()
    budget.learn(TOO_MANY, headers, now=100.0, unix_time=1000.0)
    assert budget.seconds_until(100.0) == pytest.approx(pause)


def test_a_reply_without_headers_changes_nothing() -> None:
    budget = a_budget()
    budget.learn(0, rate_limit_headers(limit=None, remaining=None), now=0.0, unix_time=0.0)
    assert (budget.limit, budget.remaining, budget.slowdown) == (DEFAULT_LIMIT, None, 1.0)
