import pytest

from dbclusterref.digitalocean.rate_limit import (
    DEFAULT_LIMIT,
    RESERVE,
    TOO_MANY,
    RateLimitHeaders,
    TokenBucket,
    queued,
)
from tests.support.fake_digitalocean import rate_limit_headers


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
    while not budget.seconds_until(0.0, spare=budget.background):
        budget.spend(0.0)
        count += 1
    assert count < budget.burst
    assert not budget.seconds_until(0.0)


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
    assert budget.burst == 1500
    assert not budget.seconds_until(0.0, spare=1400)


@pytest.mark.parametrize(
    ("headers", "pause"),
    [
        (rate_limit_headers(remaining=0, retry_after=17.0), 17.0),
        (rate_limit_headers(remaining=0), 60.0),
        (rate_limit_headers(remaining=0, reset=1040), 40.0),
        (rate_limit_headers(remaining=0, reset=9999), 300.0),
        (rate_limit_headers(remaining=0, reset=5), 1.0),
        (RateLimitHeaders.from_headers({"retry-after": "999999999999999"}), 300.0),
        (RateLimitHeaders.from_headers({"retry-after": "1764250000"}), 300.0),
        (RateLimitHeaders.from_headers({"retry-after": "0"}), 1.0),
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


def test_no_reply_asks_for_a_longer_pause_than_five_minutes() -> None:
    for asked in ("301", "86400", "1764250000", "999999999999999"):
        assert RateLimitHeaders.from_headers({"retry-after": asked}).retry_after == 300.0
    assert RateLimitHeaders.from_headers({"retry-after": "300"}).retry_after == 300.0


@pytest.mark.parametrize("limit", ["1", "10", "20"])
def test_no_limit_that_a_reply_names_keeps_a_token_away_for_longer_than_five_minutes(limit: str) -> None:
    budget = a_budget()
    headers = RateLimitHeaders.from_headers({"ratelimit-limit": limit, "ratelimit-remaining": "0"})
    budget.learn(200, headers, now=0.0, unix_time=0.0)
    budget.spend(0.0)
    assert 0 < budget.seconds_until(0.0) <= 300.0
    budget.learn(200, rate_limit_headers(), now=1.0, unix_time=0.0)
    assert not budget.seconds_until(1.0), "the next answer says what the limit is"


def test_a_pause_ends_with_the_next_good_answer() -> None:
    budget = a_budget()
    budget.learn(TOO_MANY, rate_limit_headers(remaining=0, retry_after=200.0), now=100.0, unix_time=0.0)
    budget.learn(500, rate_limit_headers(remaining=None), now=101.0, unix_time=0.0)
    budget.learn(0, rate_limit_headers(remaining=None), now=101.0, unix_time=0.0)
    budget.learn(200, rate_limit_headers(remaining=0), now=101.0, unix_time=0.0)
    assert budget.seconds_until(101.0), "none of these shows that there is a request left"
    budget.learn(200, rate_limit_headers(remaining=7), now=102.0, unix_time=0.0)
    assert budget.stay_away_until <= 102.0
    assert not budget.seconds_until(102.0)


def test_a_small_limit_still_allows_one_request_at_a_time() -> None:
    budget = a_budget()
    budget.learn(200, rate_limit_headers(limit=20, remaining=19), now=0.0, unix_time=0.0)
    assert budget.burst == 1
    assert not budget.seconds_until(0.0)


def test_a_request_goes_only_when_a_whole_one_is_left() -> None:
    budget = a_budget()
    budget._left = 0.5
    wait = budget.seconds_until(0.0)
    assert wait == pytest.approx(0.5 / budget.pace)
    assert budget.seconds_until(wait - 0.1)
    assert not budget.seconds_until(wait)


def test_a_raised_limit_adds_its_own_burst_and_no_more() -> None:
    budget = a_budget()
    budget._left = 0.0
    budget.learn(200, rate_limit_headers(limit=10_000, remaining=9_999), now=0.0, unix_time=0.0)
    assert budget._left == 150
    assert budget.background == pytest.approx(100)


def test_a_read_that_waits_does_not_claim_that_the_limit_is_nearly_exhausted() -> None:
    message = queued("the cluster").message
    assert message.startswith("The read of the cluster is queued: more reads are waiting than")
    assert "exhausted" not in message
