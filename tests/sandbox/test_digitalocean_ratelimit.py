"""The two limits per token, by a clock that the test holds."""

import json
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox.digitalocean.clock import SimulatedClock
from sandbox.digitalocean.ratelimit import Limits, RateLimiter
from sandbox.digitalocean.replies import Reply
from sandbox.digitalocean.simulator import Simulator
from sandbox.digitalocean.tokens import DEFAULT_TOKEN, Token

START = 1_700_000_000.0


@dataclass
class HeldClock:
    now: float = START

    def __call__(self) -> float:
        return self.now


def test_the_first_requests_headers_tell_the_hourly_limit_what_is_left_and_when_it_expires() -> None:
    verdict = RateLimiter(Limits()).admit(now=START)

    assert verdict.headers == {
        "ratelimit-limit": "5000",
        "ratelimit-remaining": "4999",
        "ratelimit-reset": str(int(START) + 3600),
    }


def test_the_251st_request_of_a_minute_is_refused_with_retry_after_and_nothing_remaining() -> None:
    limiter = RateLimiter(Limits())
    for _ in range(250):
        assert limiter.admit(now=START).allowed

    refused = limiter.admit(now=START + 20.5)

    assert not refused.allowed
    assert refused.headers["retry-after"] == "40"
    assert refused.headers["ratelimit-remaining"] == "0"
    assert limiter.admit(now=START + 20.5 + 40).allowed


def test_the_5001st_request_of_an_hour_is_refused_without_retry_after() -> None:
    limiter = RateLimiter(Limits())
    for number in range(5000):
        assert limiter.admit(now=START + number * 0.5).allowed

    refused = limiter.admit(now=START + 3000)

    assert not refused.allowed
    assert refused.headers == {
        "ratelimit-limit": "5000",
        "ratelimit-remaining": "0",
        "ratelimit-reset": str(int(START) + 3600),
    }


def test_each_request_expires_one_hour_after_it_was_made() -> None:
    limiter = RateLimiter(Limits(per_hour=2))
    limiter.admit(now=START)
    limiter.admit(now=START + 600)

    assert not limiter.admit(now=START + 3599).allowed
    later = limiter.admit(now=START + 3600)
    assert (later.allowed, later.remaining, later.reset) == (True, 0, int(START) + 600 + 3600)


def test_a_refused_request_uses_nothing_up() -> None:
    limiter = RateLimiter(Limits(per_minute=1))
    limiter.admit(now=START)
    for second in range(1, 60):
        assert not limiter.admit(now=START + second).allowed

    assert limiter.admit(now=START + 60).remaining == 4998


@given(gaps=st.lists(st.floats(0, 50), max_size=80), per_hour=st.integers(1, 30), per_minute=st.integers(1, 10))
def test_no_window_ever_holds_more_than_its_limit(gaps: list[float], per_hour: int, per_minute: int) -> None:
    limiter = RateLimiter(Limits(per_hour=per_hour, per_minute=per_minute))
    now, made = START, list[float]()
    for gap in gaps:
        now += gap
        if limiter.admit(now=now).allowed:
            made.append(now)

    for index, moment in enumerate(made):
        since = made[index:]
        assert sum(one < moment + 60 for one in since) <= per_minute
        assert sum(one < moment + 3600 for one in since) <= per_hour


def ask(simulator: Simulator, *, token: str = DEFAULT_TOKEN) -> Reply:
    return simulator.handle("GET", "/v2/databases", token=token).reply


def test_a_refused_request_gets_the_providers_error_and_is_not_answered() -> None:
    simulator = Simulator(seed=0, clock=HeldClock())
    simulator.tokens.put(Token(value="slow", limits=Limits(per_minute=1)))
    ask(simulator, token="slow")

    refused = ask(simulator, token="slow")

    assert refused.status == 429
    assert json.loads(refused.body)["id"] == "too_many_requests"
    assert refused.headers["retry-after"] == "60"


def test_each_token_has_limits_of_its_own() -> None:
    simulator = Simulator(seed=0, clock=HeldClock())
    simulator.tokens.put(Token(value="slow", limits=Limits(per_hour=1)))
    ask(simulator, token="slow")

    assert ask(simulator, token="slow").status == 429
    assert ask(simulator).headers["ratelimit-remaining"] == "4999"


def test_changing_a_tokens_rights_does_not_give_back_what_it_used() -> None:
    simulator = Simulator(seed=0, clock=HeldClock())
    ask(simulator)

    simulator.tokens.put(Token(value=DEFAULT_TOKEN, limits=Limits(per_hour=2)))

    assert ask(simulator).headers["ratelimit-remaining"] == "0"


@pytest.mark.parametrize(
    ("method", "path", "token"),
    [("GET", "/v2/databases", "stranger"), ("GET", "/v2/none", DEFAULT_TOKEN), ("PUT", "/v2/databases", DEFAULT_TOKEN)],
)
def test_every_reply_carries_the_headers(method: str, path: str, token: str) -> None:
    reply = Simulator(seed=0, clock=HeldClock()).handle(method, path, token=token).reply

    assert reply.status >= 400
    assert {"ratelimit-limit", "ratelimit-remaining", "ratelimit-reset"} <= set(reply.headers)


def test_the_clock_can_be_moved_held_and_sped_up() -> None:
    source = HeldClock()
    clock = SimulatedClock(source=source)
    assert clock.now() == START

    assert clock.set(advance=100) == START + 100
    source.now += 1
    assert clock.now() == START + 101
    clock.set(now=5.0, speed=60)
    source.now += 2
    assert clock.now() == 125.0
    clock.set(speed=0)
    source.now += 1000
    assert clock.now() == 125.0
