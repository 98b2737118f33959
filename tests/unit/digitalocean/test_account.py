import asyncio
import traceback
from dataclasses import replace
from itertools import product
from typing import Any

import pytest

from dbclusterref.digitalocean.account import Account, Queued
from dbclusterref.digitalocean.ca_schedule import CA_MAX_AGE, NO_CA_MAX_AGE
from dbclusterref.digitalocean.demand import LOOK, Requested, Routine
from dbclusterref.digitalocean.fair_queue import LOOK_AGAIN
from dbclusterref.digitalocean.model import User
from dbclusterref.digitalocean.planner import Plan
from dbclusterref.digitalocean.poller import _Failing
from dbclusterref.digitalocean.rate_limit import QUOTA_PAUSE
from dbclusterref.digitalocean.reader import Reader
from dbclusterref.digitalocean.snapshot import Snapshot, pack_cluster
from dbclusterref.errors import (
    Cause,
    DatabaseNotFound,
    Forbidden,
    PoolNotFound,
    RateLimited,
    TokenInvalid,
    UpstreamUnavailable,
    UserNotFound,
    WaitingForCluster,
)
from dbclusterref.resource.objects import ObjectKey
from dbclusterref.resource.reference import Reference
from tests.support.builders import KEY, OTHER_UUID, PEM, TOKEN, UUID, a_cluster, a_pool, a_reference, reference_body
from tests.support.fake_digitalocean import FakeUpstream
from tests.support.fake_time import FakeClock, a_clock, settle

OLD_PEM = PEM + b"old"


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def upstream() -> FakeUpstream:
    return FakeUpstream(clusters={UUID: a_cluster(), OTHER_UUID: a_cluster(uuid=OTHER_UUID)})


@pytest.fixture
def account(clock: FakeClock, upstream: FakeUpstream) -> Account:
    return open_account(TOKEN, clock=clock, upstream=upstream)


def open_account(token: str, *, clock: FakeClock, upstream: FakeUpstream) -> Account:
    return Account(Reader(token, upstream=upstream, clock=a_clock(clock, chance=0.5)))


async def look(
    account: Account, *, requested: bool = False, known: bytes = b"", max_age: float = 29.99, **spec: Any
) -> Snapshot | Queued:
    async def known_ca() -> bytes:
        return known

    now = account._now()
    wanted = Requested(now) if requested else Routine(now - max_age)
    return await account.read(a_reference(**spec), wanted=wanted, known_ca=known_ca)


async def no_ca() -> bytes:
    return b""


async def read(account: Account, **how: Any) -> Snapshot:
    snapshot = await look(account, **how)
    assert isinstance(snapshot, Snapshot)
    return snapshot


async def wait(account: Account, **how: Any) -> float:
    queued = await look(account, **how)
    assert isinstance(queued, Queued)
    return queued.seconds


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


async def test_a_requested_refresh_takes_no_kept_answer_and_reads_the_ca_and_what_else_the_secret_needs(
    account: Account, upstream: FakeUpstream, clock: FakeClock
) -> None:
    upstream.pools["orders-pool"] = a_pool()
    upstream.users["late"] = User.from_api({"name": "late", "password": "x"}, path="user")
    await read(account, pool="orders-pool", user="late")
    clock.advance(1)
    upstream.cas[UUID] = OLD_PEM
    upstream.pools["orders-pool"] = a_pool(password="pw-2")
    snapshot = await read(account, requested=True, pool="orders-pool", user="late")
    assert kinds(upstream) == ["cluster", "user", "pool", "ca"] * 2
    assert (snapshot.ca, snapshot.pool) == (OLD_PEM, a_pool(password="pw-2"))


async def test_refreshes_that_are_requested_before_a_read_share_it(
    account: Account, upstream: FakeUpstream, clock: FakeClock
) -> None:
    requested = Requested(clock())
    clock.advance(1)
    for key in ("a", "b", "c"):
        reference = Reference.from_body(reference_body(key=ObjectKey("shop", key)))
        await account.read(reference, wanted=requested, known_ca=no_ca)
    assert kinds(upstream) == ["cluster", "ca"]


async def test_a_requested_refresh_does_not_share_a_read_that_began_before_it(
    account: Account, upstream: FakeUpstream, clock: FakeClock
) -> None:
    upstream.gate = asyncio.Event()
    routine = asyncio.create_task(read(account))
    await settle()
    clock.advance(1)
    refresh = asyncio.create_task(read(account, requested=True))
    await settle()
    upstream.gate.set()
    await asyncio.gather(routine, refresh)
    assert kinds(upstream).count("cluster") == 2


async def test_a_requested_refresh_whose_ca_fails_gives_the_rest_and_says_what_is_older(
    account: Account, upstream: FakeUpstream, clock: FakeClock
) -> None:
    await read(account)
    clock.advance(1)
    upstream.trouble["ca"] = UpstreamUnavailable("down")
    upstream.clusters[UUID] = a_cluster(password="pw-2")
    snapshot = await read(account, requested=True)
    assert (snapshot.cluster, snapshot.ca) == (a_cluster(password="pw-2"), PEM)
    assert isinstance(snapshot.unread, UpstreamUnavailable)


async def test_who_asks_while_a_read_is_under_way_gets_that_reads_answer(account: Account, upstream: FakeUpstream) -> None:
    upstream.gate = asyncio.Event()
    many = [asyncio.create_task(read(account)) for _ in range(50)]
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
    with pytest.raises(PoolNotFound, match=f"`doctl databases pool list {UUID}`"):
        await read(account, pool="another")


async def test_a_missing_user_is_told_beside_those_there_are_and_an_engine_without_users_is_named(
    account: Account, upstream: FakeUpstream
) -> None:
    for _ in range(2):  # read, then remembered
        with pytest.raises(UserNotFound, match=r"has no user ghost\. It has doadmin, app\."):
            await read(account, user="ghost")
    upstream.clusters[OTHER_UUID] = a_cluster(uuid=OTHER_UUID, engine="valkey", users=None)
    with pytest.raises(UserNotFound, match="a valkey cluster has no database users"):
        await read(account, user="ghost", clusterUUID=OTHER_UUID)


async def test_a_database_that_the_cluster_lists_costs_no_request(account: Account, upstream: FakeUpstream) -> None:
    upstream.clusters[UUID] = a_cluster(db_names=["defaultdb", "shop"])
    await read(account, database="shop")
    assert kinds(upstream) == ["cluster", "ca"]


@pytest.mark.parametrize("engine", ["pg", "advanced_pg", "mysql", "advanced_mysql"])
@pytest.mark.parametrize("db_names", [["defaultdb"], None])
async def test_a_database_that_the_cluster_does_not_list_is_asked_for(
    account: Account, upstream: FakeUpstream, engine: str, db_names: list[str] | None
) -> None:
    upstream.clusters[UUID] = a_cluster(engine=engine, db_names=db_names)
    with pytest.raises(DatabaseNotFound, match=r"has no database made-by-sql\. "):
        await read(account, database="made-by-sql")
    upstream.databases.add("made-by-sql")
    await read(account, requested=True, database="made-by-sql")
    assert kinds(upstream).count("database") == 2


@pytest.mark.parametrize("engine", ["mongodb", "redis", "valkey", "kafka", "opensearch", "brand_new"])
async def test_a_database_of_an_engine_where_it_need_not_exist_is_not_asked_for(
    account: Account, upstream: FakeUpstream, engine: str
) -> None:
    upstream.clusters[UUID] = a_cluster(engine=engine, db_names=["x"])
    await read(account, database="orders")
    assert "database" not in kinds(upstream)


@pytest.mark.parametrize(
    "spec",
    [{"user": "late"}, {"pool": "orders-pool"}, {"database": "orders"}, {"secret": {"endpoints": ["Private", "Replicas"]}}],
    ids=str,
)
async def test_of_a_cluster_that_has_no_address_yet_nothing_else_is_asked_for(
    account: Account, upstream: FakeUpstream, spec: dict[str, Any]
) -> None:
    upstream.clusters[UUID] = a_cluster(status="creating", private_connection=None, db_names=None, users=None)
    await read(account, **spec)
    assert kinds(upstream) == ["cluster"]


async def test_a_ca_that_comes_with_a_clusters_address_is_in_the_first_answer_that_has_both(
    account: Account, upstream: FakeUpstream, clock: FakeClock
) -> None:
    upstream.clusters[UUID], upstream.cas[UUID] = a_cluster(status="creating", private_connection=None), b""
    for requested in (False, True):
        await read(account, requested=requested)
        clock.advance(30)
    upstream.clusters[UUID], upstream.cas[UUID] = a_cluster(), PEM
    assert (await read(account)).ca == PEM


@pytest.mark.parametrize("spec", [{"user": "late"}, {"pool": "orders-pool"}, {"database": "orders"}], ids=str)
async def test_what_a_cluster_that_is_being_created_lacks_is_asked_for_again_once_it_is_online(
    account: Account, upstream: FakeUpstream, clock: FakeClock, spec: dict[str, Any]
) -> None:
    upstream.clusters[UUID] = a_cluster(status="creating", db_names=None)
    for _ in range(2):
        with pytest.raises(WaitingForCluster):
            await read(account, **spec)
    upstream.clusters[UUID] = a_cluster(db_names=None)
    upstream.users["late"] = User.from_api({"name": "late", "password": "x"}, path="user")
    upstream.pools["orders-pool"] = a_pool()
    upstream.databases.add("orders")
    clock.advance(30)
    assert (await read(account, **spec)).unread is None


async def test_the_database_of_a_pool_is_not_judged(account: Account, upstream: FakeUpstream) -> None:
    upstream.pools["orders-pool"] = a_pool()
    upstream.clusters[UUID] = a_cluster(db_names=["another"])
    await read(account, pool="orders-pool")
    assert "database" not in kinds(upstream)


async def test_whether_a_database_exists_is_believed_until_its_cluster_changes_or_somebody_asks(
    account: Account, upstream: FakeUpstream, clock: FakeClock
) -> None:
    async def asked() -> int:
        before = len(upstream.requests)
        await read(account, database="orders")
        return [kind for kind, _ in upstream.requests[before:]].count("database")

    upstream.databases.add("orders")
    assert [await asked(), await asked()] == [1, 0]
    clock.advance(299)
    assert await asked() == 0, "nothing of the Secret comes from it"
    clock.advance(2)
    assert await asked() == 1
    clock.advance(1)
    await read(account, requested=True, database="orders")
    assert kinds(upstream).count("database") == 3
    upstream.clusters[UUID] = a_cluster(password="pw-2")
    clock.advance(60)
    assert await asked() == 1, "the cluster has changed"


async def test_a_database_that_cannot_be_asked_for_is_as_a_user_that_cannot_be(
    account: Account, upstream: FakeUpstream, clock: FakeClock
) -> None:
    for kind, cause in product(("user", "database"), (UpstreamUnavailable("Down."), Forbidden("No."))):
        upstream.trouble = {kind: cause}
        with pytest.raises(type(cause)) as raised:
            await read(account, **{kind: "orders"})
        assert raised.value.message == cause.message
        clock.advance(60)


@pytest.mark.parametrize("cause", [UpstreamUnavailable("Down."), Forbidden("No."), RateLimited("Slow.", retry_after=9.0)])
async def test_a_new_password_does_not_wait_for_whether_a_database_that_was_there_is_there_still(
    account: Account, upstream: FakeUpstream, clock: FakeClock, cause: Cause
) -> None:
    upstream.databases.add("orders")
    await read(account, database="orders")
    upstream.clusters[UUID] = a_cluster(password="pw-2")
    upstream.trouble["database"] = cause
    clock.advance(60)
    snapshot = await read(account, database="orders")
    assert snapshot.cluster == a_cluster(password="pw-2")
    assert snapshot.unread is not None
    assert snapshot.unread.message == cause.message
    upstream.trouble.clear()
    upstream.databases.clear()
    clock.advance(60)
    with pytest.raises(DatabaseNotFound):
        await read(account, database="orders")


async def test_what_is_waited_for_is_named(account: Account, upstream: FakeUpstream, clock: FakeClock) -> None:
    async def queued(**spec: Any) -> str:
        found = await look(account, **spec)
        assert isinstance(found, Queued)
        return found.what

    await read(account)
    use_up(account, clock)
    assert await queued(user="late", database="orders") == "user late"
    assert await queued(user="app", database="orders") == "database orders"
    assert await queued(pool="orders-pool") == "connection pool orders-pool"
    assert await queued(clusterUUID=OTHER_UUID, database="orders") == "the cluster"


async def test_a_pool_is_kept_within_the_refresh_interval_and_while_its_cluster_is_unchanged(
    account: Account, upstream: FakeUpstream, clock: FakeClock
) -> None:
    upstream.pools["orders-pool"] = a_pool()
    for _ in range(3):
        await read(account, pool="orders-pool")
    assert kinds(upstream).count("pool") == 1
    clock.advance(15)
    upstream.pools["orders-pool"] = a_pool(password="pw-2")
    await read(account, pool="orders-pool")
    assert kinds(upstream).count("pool") == 1
    clock.advance(15)
    assert (await read(account, pool="orders-pool")).pool == a_pool(password="pw-2"), "its cluster is unchanged"
    upstream.clusters[UUID] = a_cluster(password="pw-2")
    upstream.pools["orders-pool"] = a_pool(password="pw-3")
    clock.advance(0.1)
    await read(account, max_age=0.0)
    assert (await read(account, pool="orders-pool")).pool == a_pool(password="pw-3"), "the cluster has changed"


async def test_a_reference_with_a_pool_looks_at_every_refresh_interval_however_its_cluster_is_read(
    account: Account, upstream: FakeUpstream
) -> None:
    upstream.pools["orders-pool"] = a_pool()
    plain, with_pool = await read(account), await read(account, pool="orders-pool")
    account._poller._plan = Plan(sweep_every=54.0, covers=10.0, per_second=0.0)
    assert account.next_look(a_reference(), plain) == LOOK
    assert account.next_look(a_reference(pool="orders-pool"), with_pool) == 60.0


@pytest.mark.parametrize("spec", [{"pool": "orders-pool"}, {"user": "late"}], ids=str)
async def test_what_no_page_shows_has_its_turn_although_the_walks_take_too_long(
    account: Account, upstream: FakeUpstream, clock: FakeClock, spec: dict[str, Any]
) -> None:
    upstream.pools["orders-pool"] = a_pool()
    upstream.users["late"] = User.from_api({"name": "late", "password": "x"}, path="user")
    await read(account, **spec)
    clock.advance(100)
    account._poller._plan = Plan(sweep_every=1.0, covers=0.0, per_second=0.0)  # more pages than the budget allows
    account._poller._planned_at = clock()
    account._cache.late.add(UUID)
    use_up(account, clock)
    for named in ({"user": "app"}, spec):
        with pytest.raises(RateLimited, match="read less often"):
            await read(account, **named)
    assert len(account._reader.queue) == 1, "it has a place, and what a page brings has none"
    clock.advance(20)
    assert isinstance(await look(account, **spec), Snapshot)
    assert len(account._reader.queue) == 0


async def test_what_changed_while_a_read_was_under_way_is_looked_at_immediately(account: Account) -> None:
    snapshot = await read(account)
    assert account.next_look(a_reference(), snapshot) == 60.0
    assert account.next_look(a_reference(), replace(snapshot, ca_pending=True)) == 0.0, "its CA has come"
    account._cache.put(UUID, pack_cluster(a_cluster(password="pw-2")), now=account._now())
    assert account.next_look(a_reference(), snapshot) == 0.0, "a page has brought another password"


async def test_a_requested_refresh_of_a_cluster_that_walks_cover_reads_it_and_waits_for_no_page(
    account: Account, upstream: FakeUpstream, clock: FakeClock
) -> None:
    await read(account)
    clock.advance(10)
    account._poller._plan = Plan(sweep_every=54.0, covers=10.0, per_second=0.0)
    assert account._poller.covers(UUID)
    await read(account, requested=True)
    assert kinds(upstream) == ["cluster", "ca", "cluster", "ca"]


async def test_a_listing_that_needs_a_person_is_told_while_the_last_answer_is_young(account: Account, clock: FakeClock) -> None:
    await read(account)
    clock.advance(10)
    scope = Forbidden("The token lacks a scope.")
    account._poller._plan = Plan(sweep_every=54.0, covers=10.0, per_second=0.0)
    account._poller._listing = _Failing(cause=scope, failures=1, retry_at=0.0)
    with pytest.raises(Forbidden) as raised:
        await read(account)
    assert raised.value is scope


async def test_a_missing_name_is_asked_for_rarely_and_by_all_together(
    account: Account, upstream: FakeUpstream, clock: FakeClock
) -> None:
    async def is_missing(**spec: Any) -> int:
        before = len(upstream.requests)
        with pytest.raises((DatabaseNotFound, PoolNotFound, UserNotFound)):
            await read(account, max_age=1e9, **spec)
        return [kind for kind, _ in upstream.requests[before:]].count(next(iter(spec)))

    await read(account)
    assert [await is_missing(pool="x"), await is_missing(pool="x")] == [1, 0]
    assert [await is_missing(user="x"), await is_missing(user="x")] == [1, 0]
    assert [await is_missing(database="x"), await is_missing(database="x")] == [1, 0]
    clock.advance(299)
    assert (await is_missing(pool="x"), await is_missing(database="x")) == (0, 0)
    clock.advance(2)
    assert (await is_missing(pool="x"), await is_missing(database="x")) == (1, 1)
    assert await is_missing(user="x") == 0, "its cluster's list would show it"
    clock.advance(3301)
    assert await is_missing(user="x") == 1
    clock.advance(1)
    with pytest.raises(UserNotFound):
        await read(account, requested=True, user="x")
    assert kinds(upstream).count("user") == 3
    upstream.clusters[UUID] = a_cluster(password="pw-2")
    clock.advance(1)
    await read(account, max_age=0.0)
    assert await is_missing(user="x") == 1, "the cluster has changed"


async def test_users_and_pools_wait_for_their_turn_like_any_other_read(
    account: Account, upstream: FakeUpstream, clock: FakeClock
) -> None:
    upstream.pools["orders-pool"] = a_pool()
    await read(account)
    turn = use_up(account, clock)
    before = len(upstream.requests)
    assert await wait(account, pool="orders-pool") == pytest.approx(turn)
    assert await wait(account, user="nobody") == pytest.approx(2 * turn)
    assert len(upstream.requests) == before
    clock.advance(turn)
    assert (await read(account, pool="orders-pool")).pool == a_pool()


async def test_a_rejected_token_costs_one_request_a_minute_and_a_requested_refresh_asks_at_once(
    account: Account, upstream: FakeUpstream, clock: FakeClock
) -> None:
    upstream.trouble["*"] = TokenInvalid("no")
    for _ in range(3):
        with pytest.raises(TokenInvalid):
            await read(account)
    assert len(upstream.requests) == 1
    clock.advance(59)
    with pytest.raises(TokenInvalid):
        await read(account, clusterUUID=OTHER_UUID)
    assert len(upstream.requests) == 1
    with pytest.raises(TokenInvalid):
        await read(account, requested=True)
    assert len(upstream.requests) == 2
    clock.advance(61)
    upstream.trouble.clear()
    await read(account)
    assert account.rejected_at == 0.0


async def test_an_unexpected_exception_in_a_read_is_a_cause_and_is_handed_on_as_a_bug(
    account: Account, upstream: FakeUpstream
) -> None:
    upstream.trouble["cluster"] = KeyError("dop_v1_secret")
    with pytest.raises(UpstreamUnavailable) as raised:
        await read(account)
    assert "dop_v1" not in raised.value.message
    assert [type(bug) for bug in account.take_bugs()] == [KeyError]
    assert account.take_bugs() == []


async def test_a_cause_that_is_raised_again_does_not_grow(account: Account, upstream: FakeUpstream) -> None:
    lengths = set()
    await read(account)
    for _ in range(5):
        with pytest.raises(PoolNotFound) as raised:
            await read(account, pool="x")
        lengths.add(len(traceback.extract_tb(raised.value.__traceback__)))
    assert len(upstream.requests) == 3
    assert max(lengths) < 12


# --- the CA ----------------------------------------------------------------------------------------------------------------


async def own_work(account: Account, clock: FakeClock, *, seconds: float) -> None:
    """Does what the account's own task would do within the time."""
    end = clock.seconds + seconds
    while (step := account._poller._next_step(clock.seconds)) and clock.seconds + step[0] <= end:
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


async def test_after_a_restart_the_known_ca_serves_and_a_new_one_is_read_soon(
    account: Account, upstream: FakeUpstream, clock: FakeClock
) -> None:
    upstream.trouble["ca"] = UpstreamUnavailable("down")
    assert (await read(account, known=OLD_PEM)).ca == OLD_PEM
    assert (await read(account, known=OLD_PEM, clusterUUID=OTHER_UUID)).ca == OLD_PEM
    upstream.trouble.clear()
    await own_work(account, clock, seconds=5)
    assert kinds(upstream) == ["cluster", "cluster", "ca", "ca"]
    assert (await read(account, known=OLD_PEM)).ca == PEM


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


@pytest.mark.parametrize("pending", [True, False])
async def test_a_ca_that_a_requested_refresh_brings_marks_the_others_that_use_its_cluster(
    upstream: FakeUpstream, clock: FakeClock, *, pending: bool
) -> None:
    told: list[ObjectKey] = []
    account = Account(Reader(TOKEN, upstream=upstream, clock=a_clock(clock)), on_change=told.append)
    upstream.cas[UUID] = OLD_PEM
    await read(account)
    if pending:
        account._reader.ca_schedule.forget(UUID)
        account._reader.ca_schedule.plan(UUID, at=clock())
        assert (await read(account)).ca_pending
    clock.advance(1)
    upstream.cas[UUID] = PEM
    other = Reference.from_body(reference_body(key=ObjectKey("shop", "other")))
    await account.read(other, wanted=Requested(clock()), known_ca=no_ca)
    assert KEY in told
    told.clear()
    clock.advance(1)
    await account.read(other, wanted=Requested(clock()), known_ca=no_ca)
    assert told == [], "it is as it was"


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


def use_up(account: Account, clock: FakeClock) -> float:
    """Spend the burst; return in how many seconds the next request may go."""
    budget = account._reader.budget
    budget.spend(clock())
    budget._left = 0.0
    return 1 / budget.pace


async def test_the_pace_holds_reads_back_once_the_burst_is_used(account: Account, clock: FakeClock) -> None:
    await read(account)
    clock.advance(1)
    turn = use_up(account, clock)
    assert await wait(account, requested=True) == pytest.approx(2 * turn), "the cluster and its CA"
    assert await wait(account, clusterUUID=OTHER_UUID) == pytest.approx(3 * turn), "one place ahead"
    await read(account)
    clock.advance(2 * turn)
    await read(account, requested=True)


async def test_who_was_never_read_or_is_asked_for_goes_before_who_is_only_to_be_refreshed(
    account: Account, upstream: FakeUpstream, clock: FakeClock
) -> None:
    await read(account)
    clock.advance(60)
    turn = use_up(account, clock)
    assert await wait(account) == pytest.approx(turn)
    assert await wait(account, clusterUUID=OTHER_UUID, known=PEM) == pytest.approx(turn)
    assert await wait(account) == pytest.approx(2 * turn)
    assert await wait(account, requested=True) == pytest.approx(3 * turn), "behind who came first of those, for two requests"
    clock.advance(turn)
    await read(account, clusterUUID=OTHER_UUID, known=PEM)
    assert await wait(account, requested=True) == pytest.approx(2 * turn)


async def test_who_waits_for_long_looks_again_in_between_and_keeps_its_place(account: Account, clock: FakeClock) -> None:
    account._reader.budget.limit = 50
    turn = use_up(account, clock)
    assert await wait(account, known=PEM) == LOOK_AGAIN < turn
    clock.advance(LOOK_AGAIN)
    assert await wait(account, clusterUUID=OTHER_UUID, known=PEM) == LOOK_AGAIN
    assert await wait(account, known=PEM) == pytest.approx(turn - LOOK_AGAIN)


async def test_a_limit_too_small_for_all_reads_of_a_refresh_at_once_still_serves_it(
    account: Account, upstream: FakeUpstream, clock: FakeClock
) -> None:
    account._reader.budget.limit = 50
    upstream.pools["orders-pool"] = a_pool()
    turn = use_up(account, clock)
    for _ in range(10):
        found = await look(account, pool="orders-pool")
        if isinstance(found, Snapshot):
            break
        clock.advance(turn / 2)
    assert kinds(upstream) == ["cluster", "pool", "ca"]


async def test_a_minute_of_full_pace_stays_within_the_providers_250(
    account: Account, upstream: FakeUpstream, clock: FakeClock
) -> None:
    end = clock.seconds + 60
    while clock.seconds < end:
        found = await look(account, requested=True)
        clock.advance(found.seconds + 1e-6 if isinstance(found, Queued) else 1e-3)
    assert 150 <= len(upstream.requests) <= 250


async def test_what_is_queued_is_named(account: Account, upstream: FakeUpstream, clock: FakeClock) -> None:
    upstream.pools["orders-pool"] = a_pool()
    await read(account, pool="orders-pool")
    use_up(account, clock)
    clock.advance(0.1)
    found = await look(account, pool="another")
    assert isinstance(found, Queued)
    assert found.what == "connection pool another"
    found = await look(account, clusterUUID=OTHER_UUID, pool="another")
    assert isinstance(found, Queued)
    assert found.what == "the cluster"


async def test_every_reply_tells_the_budget_what_is_left(account: Account, upstream: FakeUpstream) -> None:
    await read(account)
    assert account._reader.budget.remaining == 4999
    upstream.trouble["cluster"] = RateLimited("slow down")
    with pytest.raises(RateLimited):
        await read(account, clusterUUID=OTHER_UUID)
    assert account._reader.budget.stay_away_until > account._now()


async def test_neither_token_nor_password_is_in_a_representation(account: Account) -> None:
    snapshot = await read(account)
    for shown in (repr(account), repr(account._cache._answers), repr(account._reader), repr(snapshot)):
        assert TOKEN not in shown
        assert "pw-1" not in shown
