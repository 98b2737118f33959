import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dbclusterref.digitalocean.demand import LAPSE, LOOK, Demand
from dbclusterref.digitalocean.planner import AHEAD, plan
from dbclusterref.resource.objects import ObjectKey
from tests.support.builders import BOUNDED
from tests.support.fakes import UUID

KEY, OTHER = ObjectKey("shop", "one"), ObjectKey("shop", "two")


@pytest.mark.parametrize(
    ("wanted", "pages", "sweep_every", "reason"),
    [
        ({}, 1, None, "nothing is wanted"),
        ({60.0: 1}, 1, None, "one read is cheaper than one page"),
        ({60.0: 200}, 1, 54.0, "one page serves two hundred"),
        ({60.0: 10_000}, 50, 54.0, "fifty pages serve ten thousand"),
        ({60.0: 40}, 50, None, "few clusters of a large account are read singly"),
        ({10.0: 1, 3600.0: 1000}, 5, 3600 * AHEAD, "one impatient reference does not make the listing hurry"),
        ({10.0: 900, 3600.0: 100}, 5, 9.0, "many impatient ones do"),
    ],
)
def test_the_cheapest_reads_are_chosen(wanted: dict[float, int], pages: int, sweep_every: float | None, reason: str) -> None:
    found = plan(wanted, pages=pages).sweep_every
    assert found == (sweep_every and pytest.approx(sweep_every)), reason


intervals = st.dictionaries(st.sampled_from([10.0, 30.0, 60.0, 300.0, 3600.0]), st.integers(1, 5000), max_size=5)


@BOUNDED
@given(intervals, st.integers(1, 100))
def test_a_plan_never_costs_more_than_single_reads_and_serves_everyone(wanted: dict[float, int], pages: int) -> None:
    found = plan(wanted, pages=pages)
    assert found.per_second <= sum(count / interval for interval, count in wanted.items()) + 1e-9
    for interval in wanted:
        assert not found.swept(interval) or (found.sweep_every or math.inf) <= interval


def test_ten_thousand_references_fit_the_hour_with_their_cas() -> None:
    pages_per_hour = plan({60.0: 10_000}, pages=50).per_second * 3600
    assert pages_per_hour + 10_000 / 24 < 5000


def test_a_cluster_is_wanted_as_often_as_its_most_impatient_reference_wants_it() -> None:
    demand = Demand()
    demand.want(UUID, KEY, interval=60.0, now=0.0)
    demand.want(UUID, OTHER, interval=10.0, now=0.0)
    assert demand.interval(UUID) == 10.0
    assert demand.intervals() == {10.0: 1}
    assert set(demand.followers(UUID)) == {KEY, OTHER}


def test_an_interest_lapses_when_nobody_looks_any_more() -> None:
    demand = Demand()
    demand.want(UUID, KEY, interval=60.0, now=0.0)
    demand.want(UUID, OTHER, interval=60.0, now=LOOK)
    assert not demand.lapse(LAPSE * LOOK)
    assert demand.lapse(LAPSE * LOOK + 1)
    assert demand.followers(UUID) == (OTHER,)
    demand.lapse(2 * LAPSE * LOOK)
    assert UUID not in demand


def test_only_a_new_wish_is_a_reason_to_plan_anew() -> None:
    demand = Demand()
    assert demand.want(UUID, KEY, interval=60.0, now=0.0)
    assert not demand.want(UUID, KEY, interval=60.0, now=5.0)
    assert demand.want(UUID, KEY, interval=30.0, now=6.0)


looks = st.tuples(st.integers(0, 3), st.sampled_from([10.0, 60.0, 600.0]), st.floats(0, 3000))


@BOUNDED
@given(st.lists(looks, min_size=1, max_size=30))
def test_a_cluster_is_wanted_as_often_as_the_hastiest_of_its_references_wants_it(steps: list[tuple[int, float, float]]) -> None:
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
