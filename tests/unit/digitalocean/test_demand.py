import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dbclusterref.digitalocean.demand import LAPSE, LOOK, Demand
from dbclusterref.resource.objects import ObjectKey
from tests.support.strategies import BOUNDED

NOW = 1e6
ONE, TWO = ObjectKey("shop", "one"), ObjectKey("shop", "two")


@pytest.fixture
def demand() -> Demand:
    demand = Demand()
    demand.want("a", ONE, interval=60.0, now=NOW)
    return demand


def test_a_cluster_is_wanted_as_often_as_the_shortest_interval_says(demand: Demand) -> None:
    assert demand.want("a", TWO, interval=10.0, now=NOW)
    assert demand.interval("a") == 10.0
    assert demand.want("a", TWO, interval=300.0, now=NOW)
    assert demand.interval("a") == 60.0
    assert demand.want("a", ONE, interval=600.0, now=NOW)
    assert demand.interval("a") == 300.0
    assert demand.interval("b") == math.inf
    assert demand.intervals() == {300.0: 1}


def test_only_what_is_new_changes_the_plan(demand: Demand) -> None:
    assert not demand.want("a", ONE, interval=60.0, now=NOW + 60)
    assert demand.want("a", TWO, interval=60.0, now=NOW + 60)
    assert demand.want("b", ONE, interval=60.0, now=NOW + 60)
    assert demand.followers("a") == (ONE, TWO)
    assert demand.followers("c") == ()
    assert demand.clusters() == {"a", "b"}
    assert len(demand) == 2


@pytest.mark.parametrize(("interval", "lapses_after"), [(60.0, 2250.0), (3600.0, 9000.0)])
def test_an_interest_lapses_when_its_reference_has_not_read_for_long(interval: float, lapses_after: float) -> None:
    demand = Demand()
    demand.want("a", ONE, interval=interval, now=NOW)
    demand.lapse(NOW + lapses_after)
    assert "a" in demand
    demand.lapse(NOW + lapses_after + 1)
    assert "a" not in demand


def test_when_the_reference_with_the_shortest_interval_lapses_the_next_one_counts(demand: Demand) -> None:
    demand.want("a", TWO, interval=3600.0, now=NOW)
    demand.lapse(NOW + 3000)
    assert demand.interval("a") == 3600.0
    assert demand.followers("a") == (TWO,)


looks = st.tuples(st.integers(0, 3), st.sampled_from([10.0, 60.0, 600.0]), st.floats(0, 3000))


@BOUNDED
@given(st.lists(looks, min_size=1, max_size=30))
def test_a_cluster_is_wanted_as_often_as_the_shortest_interval_says_after_any_steps(
    steps: list[tuple[int, float, float]],
) -> None:
    demand, now = Demand(), 0.0
    known: dict[int, tuple[float, float]] = {}
    for who, interval, wait in steps:
        now += wait
        demand.lapse(now)
        known = {one: (every, at) for one, (every, at) in known.items() if now - at <= LAPSE * max(LOOK, every)}
        assert demand.want("uuid", ObjectKey("shop", f"db-{who}"), interval=interval, now=now) == (
            known.get(who, (0.0, 0.0))[0] != interval
        )
        known[who] = (interval, now)
        assert demand.interval("uuid") == min(every for every, _ in known.values())
