from pathlib import Path

import pytest

from tests.chaos.chaos import run_chaos


@pytest.mark.e2e
@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_minute_of_misfortune_ends_in_exactly_what_upstream_says(tmp_path: Path) -> None:
    tally = run_chaos(seed=20, seconds=30, references=150, directory=tmp_path)
    assert tally["writes"] > 150
