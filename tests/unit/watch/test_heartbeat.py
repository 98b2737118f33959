import asyncio

from dbclusterref.watch.heartbeat import LAG_PERIOD, LAGGING, LoopLag, WatchSilence
from tests.support.fake_time import FakeClock, FakeTimeLoop, LoopClock, in_fake_time, settle

SECRETS, THINGS = "/api/v1/secrets", "/apis/x/things"


def test_the_quietest_watch_counts() -> None:
    clock = FakeClock()
    silence = WatchSilence(clock)
    silence.expect(SECRETS, THINGS)
    clock.advance(30)
    silence.received(SECRETS)
    assert silence.ages() == {SECRETS: 0.0, THINGS: 30.0}
    assert silence.longest() == 30


def test_all_have_received_data_once_each_has() -> None:
    silence = WatchSilence(FakeClock())
    seen: list[bool] = []
    silence.expect(SECRETS, THINGS)
    for path in (SECRETS, THINGS):
        silence.received(path)
        seen.append(silence.all_received)
    silence.expect(SECRETS)
    seen.append(silence.all_received)
    assert seen == [False, True, False]


def test_where_there_is_no_watch_none_is_silent() -> None:
    assert WatchSilence(FakeClock()).longest() == 0.0


@in_fake_time
async def test_a_loop_that_stands_still_is_late_by_as_much() -> None:
    lag = LoopLag(LoopClock())
    task = asyncio.create_task(lag.measure())
    await asyncio.sleep(LAG_PERIOD * 2)
    assert lag.problems() == []
    loop = asyncio.get_running_loop()
    assert isinstance(loop, FakeTimeLoop)
    loop.pass_at_once(LAGGING + 5)
    await settle()
    assert lag.seconds > LAGGING
    assert lag.problems() == [f"the event loop is {lag.seconds:.0f} s late"]
    task.cancel()
