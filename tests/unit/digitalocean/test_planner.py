import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dbclusterref.digitalocean.planner import AHEAD, plan
from tests.support.strategies import BOUNDED


@pytest.mark.parametrize(
    ("wanted", "pages", "sweep_every", "reason"),
    [
        ({}, 1, None, "nothing is wanted"),
        ({60.0: 1}, 1, None, "one read is cheaper than one page"),
        ({60.0: 200}, 1, 54.0, "one page serves two hundred"),
        ({60.0: 10_000}, 50, 54.0, "fifty pages serve ten thousand"),
        ({60.0: 40}, 50, None, "few clusters of a large account are read individually"),
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
