import pytest

from dbclusterref.digitalocean.account import Account
from dbclusterref.digitalocean.accounts import MOST_IDLE, Accounts
from dbclusterref.digitalocean.demand import Routine
from dbclusterref.digitalocean.reader import Reader
from dbclusterref.digitalocean.snapshot import Snapshot
from dbclusterref.errors import RateLimited
from dbclusterref.resource.objects import ObjectKey
from tests.support.builders import KEY, UUID, a_cluster, a_reference
from tests.support.fake_digitalocean import FakeUpstream
from tests.support.fake_time import FakeClock, a_clock


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def upstream() -> FakeUpstream:
    return FakeUpstream(clusters={UUID: a_cluster()})


async def read(clock: FakeClock, account: Account, *, key: ObjectKey = KEY, interval: str = "1m") -> Snapshot:
    async def known_ca() -> bytes:
        return b""

    reference = a_reference(key=key, refreshInterval=interval)
    snapshot = await account.read(reference, wanted=Routine(clock() - 29.99), known_ca=known_ca)
    assert isinstance(snapshot, Snapshot)
    return snapshot


async def test_tokens_do_not_hold_each_other_up(upstream: FakeUpstream, clock: FakeClock) -> None:
    accounts = Accounts(lambda token: Account(Reader(token, upstream=upstream, clock=a_clock(clock))))
    upstream.trouble["*"] = RateLimited("slow down")
    with pytest.raises(RateLimited):
        await read(clock, accounts.of("one"))
    upstream.trouble.clear()
    assert (await read(clock, accounts.of("two"))).cluster == a_cluster()
    with pytest.raises(RateLimited):
        await read(clock, accounts.of("one"))


async def test_an_answer_is_not_shared_with_another_token(upstream: FakeUpstream, clock: FakeClock) -> None:
    accounts = Accounts(lambda token: Account(Reader(token, upstream=upstream, clock=a_clock(clock))))
    await read(clock, accounts.of("one"))
    await read(clock, accounts.of("two"))
    assert upstream.tokens == ["one", "one", "two", "two"]
    assert accounts.of("one") is accounts.of("one")


async def test_an_account_nobody_reads_through_is_forgotten(upstream: FakeUpstream, clock: FakeClock) -> None:
    accounts = Accounts(lambda token: Account(Reader(token, upstream=upstream, clock=a_clock(clock))))
    used, unused = accounts.of("used"), accounts.of("unused")
    clock.advance(100)
    await read(clock, used)
    accounts.drop_unused(since=clock.seconds - 50)
    assert accounts.of("used") is used
    assert accounts.of("unused") is not unused


async def test_an_account_that_is_read_once_a_day_is_kept_in_between_and_no_longer(
    upstream: FakeUpstream, clock: FakeClock
) -> None:
    accounts = Accounts(lambda token: Account(Reader(token, upstream=upstream, clock=a_clock(clock))))
    rare = accounts.of("rare")
    await read(clock, rare, interval="24h")
    clock.advance(23 * 3600)
    accounts.drop_unused(since=clock.seconds - 3600)
    assert accounts.of("rare") is rare
    clock.advance(60 * 3600)
    accounts.drop_unused(since=clock.seconds - 3600)
    assert accounts.of("rare") is not rare


async def test_of_tokens_that_were_replaced_a_few_are_remembered(upstream: FakeUpstream, clock: FakeClock) -> None:
    accounts = Accounts(lambda token: Account(Reader(token, upstream=upstream, clock=a_clock(clock))))
    used = accounts.of("used")
    await read(clock, used)
    for number in range(2 * MOST_IDLE):
        clock.advance(0.01)
        await read(clock, accounts.of(f"rotated-{number}"))
        accounts.release(lambda token, _key, _uuid: token == hash("used"))
    accounts.drop_unused(since=clock.seconds - 3600)
    assert len(accounts.read_times()) == 1
    assert accounts.of("used") is used, "a reference reads through it, however long ago"
    assert len(accounts._by_token) == MOST_IDLE + 1
    assert f"rotated-{2 * MOST_IDLE - 1}" in accounts._by_token, "those that were used last"


async def test_an_account_whose_listing_references_wait_for_is_in_use(upstream: FakeUpstream, clock: FakeClock) -> None:
    accounts = Accounts(lambda token: Account(Reader(token, upstream=upstream, clock=a_clock(clock))))
    own = accounts.of("own")
    own._poller.wait_for_walk(UUID, KEY)
    for number in range(2 * MOST_IDLE):
        clock.advance(0.01)
        accounts.of(f"rotated-{number}")
    accounts.drop_unused(since=clock.seconds - 3600)
    assert accounts.of("own") is own
    own.close()


async def test_a_token_is_read_with_for_the_references_that_still_name_it_alone(
    upstream: FakeUpstream, clock: FakeClock
) -> None:
    accounts, gone = (
        Accounts(lambda token: Account(Reader(token, upstream=upstream, clock=a_clock(clock)))),
        ObjectKey("shop", "gone"),
    )
    for token in ("one", "two"):
        await read(clock, accounts.of(token))
        await read(clock, accounts.of(token), key=gone)
    accounts.release(lambda token, key, uuid: (token, key, uuid) == (hash("one"), KEY, UUID))
    assert [accounts.of(token)._cache.demand.followers(UUID) for token in ("one", "two")] == [(KEY,), ()]
