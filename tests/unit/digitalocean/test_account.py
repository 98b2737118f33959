import asyncio
from typing import Any

import pytest

from dbclusterref.digitalocean.account import Account, Accounts
from dbclusterref.digitalocean.ca_schedule import CA_MAX_AGE, NO_CA_MAX_AGE
from dbclusterref.digitalocean.fair_queue import LOOK_AGAIN
from dbclusterref.digitalocean.model import User
from dbclusterref.digitalocean.rate_limit import BURST, DEFAULT_LIMIT, QUOTA_PAUSE, SHARE
from dbclusterref.digitalocean.reader import Reader
from dbclusterref.digitalocean.snapshot import Snapshot
from dbclusterref.errors import PoolNotFound, RateLimited, TokenInvalid, UpstreamUnavailable
from dbclusterref.resource.reference import Reference
from tests.support.fakes import (
    OTHER_UUID,
    PEM,
    TOKEN,
    UUID,
    FakeClock,
    FakeUpstream,
    a_clock,
    a_cluster,
    a_pool,
    reference_body,
    settle,
)

OLD_PEM = PEM + b"old"


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def upstream() -> FakeUpstream:
    return FakeUpstream(clusters={UUID: a_cluster(), OTHER_UUID: a_cluster(uuid=OTHER_UUID)})


@pytest.fixture
def replies() -> list[tuple[int, int | None]]:
    return []


@pytest.fixture
def account(clock: FakeClock, upstream: FakeUpstream, replies: list[tuple[int, int | None]]) -> Account:
    return open_account(TOKEN, clock=clock, upstream=upstream, replies=replies)


def open_account(
    token: str, *, clock: FakeClock, upstream: FakeUpstream, replies: list[tuple[int, int | None]] | None = None
) -> Account:
    seen = [] if replies is None else replies
    observe = lambda status, left: seen.append((status, left))  # noqa: E731
    return Account(Reader(token, upstream=upstream, clock=a_clock(clock, chance=0.5), observe=observe))


def a_reference(**spec: Any) -> Reference:
    return Reference.from_body(reference_body(**spec))


async def read(account: Account, *, max_age: float = 30.0, known: bytes = b"", **spec: Any) -> Snapshot:
    async def known_ca() -> bytes:
        return known

    return await account.read(a_reference(**spec), max_age=max_age, known_ca=known_ca)


def kinds(upstream: FakeUpstream) -> list[str]:
    return [kind for kind, _ in upstream.requests]


# --- sharing ---------------------------------------------------------------------------------------------------------------


async def test_the_first_read_asks_for_the_cluster_and_its_ca(account: Account, upstream: FakeUpstream) -> None:
    snapshot = await read(account)
    assert snapshot == Snapshot(cluster=a_cluster(), ca=PEM)
    assert kinds(upstream) == ["cluster", "ca"]
    assert set(upstream.tokens) == {TOKEN}


async def test_a_single_read_hands_on_the_very_cluster_it_parsed_and_the_cache_an_equal_one(
    account: Account, upstream: FakeUpstream
) -> None:
    assert (await read(account)).cluster is upstream.clusters[UUID]
    assert (await read(account)).cluster == upstream.clusters[UUID]
    assert kinds(upstream) == ["cluster", "ca"]


async def test_an_answer_is_shared_for_as_long_as_it_is_young_enough(
    account: Account, upstream: FakeUpstream, clock: FakeClock
) -> None:
    await read(account)
    clock.advance(29.9)
    await read(account)
    assert kinds(upstream) == ["cluster", "ca"]
    clock.advance(0.1)
    await read(account)
    assert kinds(upstream) == ["cluster", "ca", "cluster"]


async def test_a_forced_read_takes_no_kept_answer(account: Account, upstream: FakeUpstream) -> None:
    await read(account)
    await read(account, max_age=0.0)
    assert kinds(upstream) == ["cluster", "ca", "cluster"]


async def test_who_asks_while_a_read_is_under_way_gets_that_reads_answer(account: Account, upstream: FakeUpstream) -> None:
    upstream.gate = asyncio.Event()
    many = [asyncio.create_task(read(account, max_age=0.0)) for _ in range(50)]
    await settle()
    upstream.gate.set()
    snapshots = await asyncio.gather(*many)
    assert kinds(upstream) == ["cluster", "ca"]
    assert len({id(snapshot.packed) for snapshot in snapshots}) == 1


async def test_who_shares_a_read_shares_its_failure(account: Account, upstream: FakeUpstream) -> None:
    upstream.gate = asyncio.Event()
    upstream.trouble["cluster"] = TokenInvalid("no")
    many = [asyncio.create_task(read(account)) for _ in range(3)]
    await settle()
    upstream.gate.set()
    results = await asyncio.gather(*many, return_exceptions=True)
    assert [type(result) for result in results] == [TokenInvalid] * 3
    assert kinds(upstream) == ["cluster"]


async def test_a_failed_read_is_not_kept(account: Account, upstream: FakeUpstream) -> None:
    upstream.trouble["cluster"] = UpstreamUnavailable("down")
    with pytest.raises(UpstreamUnavailable):
        await read(account)
    upstream.trouble.clear()
    assert (await read(account)).cluster == a_cluster()


async def test_a_caller_that_leaves_does_not_end_a_read_that_others_share(account: Account, upstream: FakeUpstream) -> None:
    upstream.gate = asyncio.Event()
    first = asyncio.create_task(read(account))
    second = asyncio.create_task(read(account))
    await settle()
    second.cancel()
    upstream.gate.set()
    assert (await first).cluster == a_cluster()


async def test_two_clusters_are_two_reads(account: Account, upstream: FakeUpstream) -> None:
    await read(account)
    await read(account, clusterUUID=OTHER_UUID)
    assert kinds(upstream) == ["cluster", "ca", "cluster", "ca"]


# --- users and pools -------------------------------------------------------------------------------------------------------


async def test_a_user_that_the_cluster_lists_costs_no_request(account: Account, upstream: FakeUpstream) -> None:
    snapshot = await read(account, user="app")
    assert snapshot.user is not None
    assert snapshot.user.password == "app-pw-1"
    assert kinds(upstream) == ["cluster", "ca"]


async def test_a_user_that_the_cluster_does_not_list_is_asked_for(account: Account, upstream: FakeUpstream) -> None:
    upstream.users["late"] = User.from_api({"name": "late", "password": "x"}, path="user")
    snapshot = await read(account, user="late")
    assert snapshot.user == upstream.users["late"]
    assert "user" in kinds(upstream)


async def test_a_kafka_user_is_asked_for_since_the_list_lacks_its_certificate(account: Account, upstream: FakeUpstream) -> None:
    upstream.clusters[UUID] = a_cluster(engine="kafka")
    upstream.users["app"] = User.from_api({"name": "app", "access_cert": "cert"}, path="user")
    snapshot = await read(account, user="app")
    assert snapshot.user is not None
    assert snapshot.user.access_cert == "cert"


async def test_a_pool_is_read_and_a_missing_one_says_so(account: Account, upstream: FakeUpstream) -> None:
    upstream.pools["orders-pool"] = a_pool()
    assert (await read(account, pool="orders-pool")).pool == a_pool()
    with pytest.raises(PoolNotFound):
        await read(account, pool="another")


# --- the CA ----------------------------------------------------------------------------------------------------------------


async def own_work(account: Account, clock: FakeClock, *, seconds: float) -> None:
    """Does what the account's own task would do within the time."""
    end = clock.seconds + seconds
    while (step := account._sweep._next_step(clock.seconds)) and clock.seconds + step[0] <= end:
        clock.advance(step[0])
        await step[1]()
    clock.seconds = end


async def test_the_ca_is_read_about_once_a_day(account: Account, upstream: FakeUpstream, clock: FakeClock) -> None:
    await read(account)
    await own_work(account, clock, seconds=CA_MAX_AGE * 0.94)
    assert kinds(upstream).count("ca") == 1
    await own_work(account, clock, seconds=CA_MAX_AGE * 0.02)
    assert kinds(upstream).count("ca") == 2


async def test_a_ca_that_cannot_be_read_now_is_the_one_last_read(
    account: Account, upstream: FakeUpstream, clock: FakeClock
) -> None:
    await read(account)
    clock.advance(CA_MAX_AGE)
    upstream.trouble["ca"] = UpstreamUnavailable("down")
    assert (await read(account, known=OLD_PEM)).ca == PEM


async def test_a_ca_that_cannot_be_read_after_a_restart_is_the_known_one(account: Account, upstream: FakeUpstream) -> None:
    upstream.trouble["ca"] = UpstreamUnavailable("down")
    assert (await read(account, known=OLD_PEM)).ca == OLD_PEM
    upstream.trouble.clear()
    assert (await read(account)).ca == PEM


async def test_without_any_ca_known_its_failure_is_the_reads_failure(account: Account, upstream: FakeUpstream) -> None:
    upstream.trouble["ca"] = UpstreamUnavailable("down")
    with pytest.raises(UpstreamUnavailable):
        await read(account)


async def test_an_answer_without_a_ca_does_not_take_the_known_one_away(account: Account, upstream: FakeUpstream) -> None:
    upstream.cas[UUID] = b""
    assert (await read(account, known=OLD_PEM)).ca == OLD_PEM


async def test_an_answer_without_a_ca_is_believed_for_a_while_only(
    account: Account, upstream: FakeUpstream, clock: FakeClock
) -> None:
    upstream.cas[UUID] = b""
    assert (await read(account)).ca == b""
    assert (await read(account)).ca == b""
    assert kinds(upstream).count("ca") == 1
    upstream.cas[UUID] = PEM
    await own_work(account, clock, seconds=NO_CA_MAX_AGE)
    assert (await read(account)).ca == PEM


async def test_a_ca_that_only_one_reference_knows_is_given_to_no_other(account: Account, upstream: FakeUpstream) -> None:
    upstream.cas[UUID] = b""
    assert (await read(account, known=OLD_PEM)).ca == OLD_PEM
    assert (await read(account)).ca == b""


# --- the budget ------------------------------------------------------------------------------------------------------------


async def test_after_a_429_nothing_is_asked_until_the_time_it_named(
    account: Account, upstream: FakeUpstream, clock: FakeClock
) -> None:
    upstream.trouble["*"] = RateLimited("slow down", retry_after=17.0)
    with pytest.raises(RateLimited):
        await read(account)
    upstream.trouble.clear()
    clock.advance(16.5)
    assert account.seconds_to_wait(a_reference(), max_age=0.0) == 0.0
    with pytest.raises(RateLimited) as raised:
        await read(account, clusterUUID=OTHER_UUID)
    assert raised.value.retry_after == pytest.approx(0.5)
    assert len(upstream.requests) == 1
    clock.advance(0.5)
    await read(account)


async def test_a_429_without_a_time_is_a_minutes_pause(account: Account, upstream: FakeUpstream, clock: FakeClock) -> None:
    upstream.trouble["*"] = RateLimited("slow down")
    for _ in range(2):
        with pytest.raises(RateLimited):
            await read(account)
        clock.advance(QUOTA_PAUSE - 1)
    assert len(upstream.requests) == 1


async def test_being_kept_away_says_the_same_words_each_time(
    account: Account, upstream: FakeUpstream, clock: FakeClock
) -> None:
    upstream.trouble["*"] = RateLimited("slow down", retry_after=60.0)
    with pytest.raises(RateLimited):
        await read(account)
    messages = []
    for _ in range(4):
        with pytest.raises(RateLimited) as raised:
            await read(account)
        messages.append(raised.value.message)
        clock.advance(1)
    assert len(set(messages)) == 1


async def test_a_kept_answer_serves_while_the_budget_is_used_up(account: Account, upstream: FakeUpstream) -> None:
    await read(account)
    upstream.trouble["*"] = RateLimited("slow down")
    with pytest.raises(RateLimited):
        await read(account, clusterUUID=OTHER_UUID)
    assert (await read(account)).cluster == a_cluster()


async def test_the_pace_holds_reads_back_once_the_burst_is_used(account: Account, clock: FakeClock) -> None:
    for _ in range(int(DEFAULT_LIMIT * BURST) - 1):  # the first read is two: the cluster and its CA
        assert account.seconds_to_wait(a_reference(), max_age=0.0) == 0.0
        await read(account, max_age=0.0)
    wait = account.seconds_to_wait(a_reference(), max_age=0.0)
    assert 0 < wait <= 2 * 3600 / (DEFAULT_LIMIT * SHARE)
    assert account.seconds_to_wait(a_reference(), max_age=30.0) == 0.0, "a kept answer needs no turn"
    clock.advance(wait)
    assert account.seconds_to_wait(a_reference(), max_age=0.0) == pytest.approx(0.0)


async def test_who_was_never_read_or_is_asked_for_goes_before_who_is_only_to_be_refreshed(
    account: Account, upstream: FakeUpstream, clock: FakeClock
) -> None:
    await read(account)
    clock.advance(60)
    upstream.remaining = 1  # the slowest pace there is
    await read(account, max_age=0.0)
    clock.advance(30)
    while account._reads.budget.may_spend(clock.seconds):
        account._reads.budget.spend(clock.seconds)
    account._reads.budget._left = 0.0
    routine, new = a_reference(), a_reference(clusterUUID=OTHER_UUID)
    turn = 1 / account._reads.budget.pace
    assert account.seconds_to_wait(routine, max_age=30.0) == pytest.approx(turn)
    assert account.seconds_to_wait(new, max_age=30.0) == pytest.approx(turn)
    assert account.seconds_to_wait(routine, max_age=30.0) == pytest.approx(2 * turn)
    assert account.seconds_to_wait(routine, max_age=0.0) == pytest.approx(2 * turn), "behind who came first of those"
    clock.advance(2 * turn)
    assert account.seconds_to_wait(new, max_age=30.0) == 0.0
    await read(account, clusterUUID=OTHER_UUID)
    assert account.seconds_to_wait(new, max_age=30.0) == 0.0, "it has its answer"


async def test_who_waits_for_long_looks_again_in_between_and_keeps_its_place(account: Account, clock: FakeClock) -> None:
    budget = account._reads.budget
    budget.limit = 50
    budget.spend(clock.seconds)
    budget._left = 0.0
    turn = 1 / budget.pace
    assert account.seconds_to_wait(a_reference(), max_age=0.0) == LOOK_AGAIN < turn
    clock.advance(LOOK_AGAIN)
    assert account.seconds_to_wait(a_reference(clusterUUID=OTHER_UUID), max_age=0.0) == LOOK_AGAIN
    assert account.seconds_to_wait(a_reference(), max_age=0.0) == pytest.approx(turn - LOOK_AGAIN)


async def test_a_minute_of_full_pace_stays_within_the_providers_250(
    account: Account, upstream: FakeUpstream, clock: FakeClock
) -> None:
    end = clock.seconds + 60
    while clock.seconds < end:
        wait = account.seconds_to_wait(a_reference(), max_age=0.0)
        if wait:
            clock.advance(wait + 1e-6)
        else:
            await read(account, max_age=0.0)
    assert 150 <= len(upstream.requests) <= 250


async def test_every_reply_is_told_with_what_is_left(
    account: Account, upstream: FakeUpstream, replies: list[tuple[int, int | None]]
) -> None:
    await read(account)
    upstream.trouble["cluster"] = RateLimited("slow down")
    with pytest.raises(RateLimited):
        await read(account, max_age=0.0)
    assert replies == [(200, 4999), (200, 4999), (429, 0)]


# --- accounts --------------------------------------------------------------------------------------------------------------


async def test_tokens_do_not_hold_each_other_up(upstream: FakeUpstream, clock: FakeClock) -> None:
    accounts = Accounts(lambda token: open_account(token, clock=clock, upstream=upstream))
    upstream.trouble["*"] = RateLimited("slow down")
    with pytest.raises(RateLimited):
        await read(accounts.of("one"))
    upstream.trouble.clear()
    assert (await read(accounts.of("two"))).cluster == a_cluster()
    with pytest.raises(RateLimited):
        await read(accounts.of("one"))


async def test_an_answer_is_not_shared_with_another_token(upstream: FakeUpstream, clock: FakeClock) -> None:
    accounts = Accounts(lambda token: open_account(token, clock=clock, upstream=upstream))
    await read(accounts.of("one"))
    await read(accounts.of("two"))
    assert upstream.tokens == ["one", "one", "two", "two"]
    assert accounts.of("one") is accounts.of("one")


async def test_an_account_nobody_reads_through_is_forgotten(upstream: FakeUpstream, clock: FakeClock) -> None:
    accounts = Accounts(lambda token: open_account(token, clock=clock, upstream=upstream))
    used, unused = accounts.of("used"), accounts.of("unused")
    clock.advance(100)
    await read(used)
    accounts.drop_unused(since=clock.seconds - 50)
    assert accounts.of("used") is used
    assert accounts.of("unused") is not unused


async def test_an_account_that_is_read_once_a_day_is_kept_in_between_and_no_longer(
    upstream: FakeUpstream, clock: FakeClock
) -> None:
    accounts = Accounts(lambda token: open_account(token, clock=clock, upstream=upstream))
    rare = accounts.of("rare")
    await read(rare, refreshInterval="24h")
    clock.advance(23 * 3600)
    accounts.drop_unused(since=clock.seconds - 3600)
    assert accounts.of("rare") is rare
    clock.advance(60 * 3600)
    accounts.drop_unused(since=clock.seconds - 3600)
    assert accounts.of("rare") is not rare


async def test_neither_token_nor_password_is_in_a_representation(account: Account) -> None:
    snapshot = await read(account)
    for shown in (repr(account), repr(account._answers._answers), repr(account._reads), repr(snapshot)):
        assert TOKEN not in shown
        assert "pw-1" not in shown
