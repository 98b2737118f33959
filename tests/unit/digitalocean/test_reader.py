from collections.abc import Awaitable, Callable

import pytest

from dbclusterref.digitalocean.demand import Requested, Routine
from dbclusterref.digitalocean.model import User
from dbclusterref.digitalocean.reader import Reader
from dbclusterref.digitalocean.snapshot import pack_cluster
from dbclusterref.errors import PoolNotFound, RateLimited
from tests.support.builders import PEM, TOKEN, UUID, a_cluster, a_pool
from tests.support.fake_digitalocean import FakeUpstream
from tests.support.fake_time import FakeClock, a_clock


@pytest.fixture
def upstream() -> FakeUpstream:
    user = User.from_api({"name": "app", "password": "canary"}, path="user")
    pools = {"pool": a_pool(password="canary")}
    return FakeUpstream(clusters={UUID: a_cluster()}, pools=pools, users={"app": user}, databases={"orders"})


@pytest.fixture
def reader(clock: FakeClock, upstream: FakeUpstream) -> Reader:
    return Reader(TOKEN, upstream=upstream, clock=a_clock(clock))


async def read_pool(reader: Reader, *, of: bytes = b"cluster", age: float = 30.0) -> None:
    await reader.pool(UUID, "pool", of=of, wanted=Routine(reader.clock.monotonic() - age))


@pytest.mark.parametrize("kind", ["cluster", "page", "ca", "user", "pool", "database", "replicas"])
async def test_every_kind_of_read_is_counted_and_respects_a_pause(reader: Reader, upstream: FakeUpstream, kind: str) -> None:
    def read() -> Awaitable[object]:
        wanted = Routine(reader.clock.monotonic())
        reads: dict[str, Callable[[], Awaitable[object]]] = {
            "cluster": lambda: reader.cluster(UUID, wanted=wanted),
            "page": lambda: reader.page(None, known=None),
            "ca": lambda: reader.ca(UUID, wanted=wanted),
            "user": lambda: reader.user(UUID, "app", of=b"", listed=False, wanted=wanted),
            "pool": lambda: reader.pool(UUID, "pool", of=b"", wanted=wanted),
            "database": lambda: reader.database(UUID, "orders", of=b"", wanted=wanted),
            "replicas": lambda: reader.replicas(UUID, always_listed=True, wanted=wanted),
        }
        return reads[kind]()

    left = reader.budget._left
    await read()
    reader.details.forget_unused(frozenset())
    assert reader.budget._left == left - 1
    reader.budget.stay_away_until = reader.clock.monotonic() + 17
    with pytest.raises(RateLimited) as raised:
        await read()
    assert raised.value.retry_after == pytest.approx(17)
    assert len(upstream.requests) == 1


async def test_a_pool_is_shared_while_it_is_fresh_and_its_cluster_as_it_was(
    reader: Reader, upstream: FakeUpstream, clock: FakeClock
) -> None:
    await read_pool(reader)
    clock.advance(29)
    await read_pool(reader)
    assert len(upstream.requests) == 1
    await read_pool(reader, of=b"another")
    assert len(upstream.requests) == 2
    clock.advance(31)
    await read_pool(reader, of=b"another")
    assert len(upstream.requests) == 3


async def test_what_nobody_asks_for_any_more_is_forgotten(reader: Reader, upstream: FakeUpstream, clock: FakeClock) -> None:
    await read_pool(reader)
    await reader.user(UUID, "app", of=b"", listed=True, wanted=Routine(clock()))
    clock.advance(3000)
    await reader.user(UUID, "app", of=b"", listed=True, wanted=Routine(0.0))
    clock.advance(1000)
    reader.details.forget_unused(frozenset({UUID}))
    assert ("user", UUID, "app") in reader.details
    assert ("pool", UUID, "pool") not in reader.details
    reader.details.forget_unused(frozenset())
    assert ("user", UUID, "app") not in reader.details
    assert len(upstream.requests) == 2


async def test_a_missing_pool_is_asked_for_again_where_a_refresh_is_requested_after_the_answer(
    reader: Reader, upstream: FakeUpstream, clock: FakeClock
) -> None:
    upstream.pools.clear()
    for wanted, requests in ((Routine(clock()), 1), (Routine(clock() + 200), 1), (Requested(clock() + 100), 2)):
        clock.seconds = 1e6 + 250 if isinstance(wanted, Requested) else clock.seconds
        with pytest.raises(PoolNotFound):
            await reader.pool(UUID, "pool", of=pack_cluster(a_cluster()), wanted=wanted)
        assert len(upstream.requests) == requests


async def test_a_ca_says_whether_it_has_changed(reader: Reader, upstream: FakeUpstream, clock: FakeClock) -> None:
    assert await reader.ca(UUID, wanted=Routine(clock()))
    assert not await reader.ca(UUID, wanted=Routine(clock()))
    clock.advance(1)
    upstream.cas[UUID] = PEM + b"new"
    assert await reader.ca(UUID, wanted=Routine(clock()))
    assert reader.ca_schedule.get(UUID) == PEM + b"new"


async def test_neither_token_nor_password_is_in_a_representation(reader: Reader) -> None:
    await read_pool(reader)
    shown = repr(reader) + repr(reader.details._kept)
    assert TOKEN not in shown
    assert "canary" not in shown
