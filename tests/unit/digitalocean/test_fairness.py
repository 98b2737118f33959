"""Two namespaces on one token, in front of the real simulator with its rate limiter on: neither can take the other's share."""

import asyncio
from collections.abc import Callable, Sequence

import pytest

from dbclusterref.errors import UserNotFound
from dbclusterref.resource.reference import Reference
from sandbox.digitalocean.api import Paging
from sandbox.digitalocean.simulator import Simulator
from sandbox.digitalocean.tokens import Token
from sandbox.digitalocean.world import Recipe
from tests.support.builders import TOKEN
from tests.support.fake_time import in_fake_time
from tests.support.fleet import Fleet, fleet_of, in_memory, numbered_reference

MINUTE = 60.0


def simulated(noisy: Callable[[Sequence[str]], list[Reference]], *, clusters: int) -> tuple[Fleet, Simulator]:
    clock = asyncio.get_running_loop().time
    simulator = Simulator(seed=1, clock=clock)
    simulator.tokens.put(Token(value=TOKEN))
    ids = list(simulator.world.seed_clusters(clusters + 1, Recipe()))
    neighbour = numbered_reference(0, ids[0], namespace="neighbour", interval="10s")
    return fleet_of(in_memory(simulator), [neighbour, *noisy(ids[1:])], clock=clock), simulator


def oldest_of(found: Fleet, namespace: str) -> float:
    uuids = {reference.cluster_uuid for reference in found.references.values() if reference.key.namespace == namespace}
    return max(found.clock() - found.account._cache._answers[uuid].read_at for uuid in uuids)


async def worst(found: Fleet, simulator: Simulator, *, minutes: int, tick: Callable[[], None] = lambda: None) -> float:
    """The greatest age of the neighbour's answers; never more than 250 requests in a minute, and no 429."""
    greatest = 0.0
    for _ in range(minutes):
        before = simulator.log.report(limit=0)["total"]
        for _ in range(120):
            tick()
            await found.run(0.5)
            greatest = max(greatest, oldest_of(found, "neighbour"))
        report = simulator.log.report(limit=0)
        assert isinstance(before, int)
        assert isinstance(report["total"], int)
        assert report["total"] - before <= 250
        statuses = report["statuses"]
        assert isinstance(statuses, dict)
        assert set(statuses) <= {"200", "404", "422"}, "no 429, ever"
    return greatest


@pytest.mark.simulation
@in_fake_time
async def test_a_thousand_users_that_do_not_exist_take_nothing_from_another_namespace() -> None:
    found, simulator = simulated(lambda _: [], clusters=1)
    await found.run(MINUTE)
    alone = await worst(found, simulator, minutes=2)
    found.account.close()
    found, simulator = simulated(
        lambda ids: [numbered_reference(number, ids[0], namespace="noisy", user=f"nobody-{number}") for number in range(1000)],
        clusters=1,
    )
    await found.run(1)
    beside = await worst(found, simulator, minutes=5)
    print(f"oldest answer of the neighbour: alone {alone:.1f} s, beside 1,000 missing users {beside:.1f} s")  # noqa: T201
    assert {type(cause) for key, cause in found.causes.items() if key.namespace == "noisy"} <= {UserNotFound}
    assert beside <= alone + 5
    found.account.close()


@pytest.mark.simulation
@in_fake_time
async def test_requested_refreshes_twice_a_second_slow_no_other_namespace() -> None:
    found, simulator = simulated(lambda _: [], clusters=1)
    await found.run(MINUTE)
    alone = await worst(found, simulator, minutes=2)
    found.account.close()
    found, simulator = simulated(
        lambda ids: [
            numbered_reference(number, uuid, namespace="noisy", interval="1h") for number, uuid in enumerate(ids[:60])
        ],
        clusters=2000,
    )
    simulator.paging = Paging.FIXED  # a hundred pages are no way round single reads
    await found.run(MINUTE)

    def ask_for_refreshes() -> None:
        for key in found.references:
            if key.namespace == "noisy":
                found.request_refresh(key)

    beside = await worst(found, simulator, minutes=5, tick=ask_for_refreshes)
    print(f"oldest answer of the neighbour: alone {alone:.1f} s, beside 120 refreshes a second {beside:.1f} s")  # noqa: T201
    assert beside <= alone + 5
    found.account.close()
