from pathlib import Path

import pytest

from tests.chaos.chaos import CONVERGE_WITHIN, run_chaos

SECONDS = 20.0
REFERENCES = 100


@pytest.mark.e2e
@pytest.mark.slow
@pytest.mark.timeout(SECONDS + CONVERGE_WITHIN + 120)
def test_whatever_goes_wrong_at_once_it_ends_in_exactly_what_upstream_says(tmp_path: Path) -> None:
    tally = run_chaos(seed=4, seconds=SECONDS, references=REFERENCES, directory=tmp_path)
    assert tally["writes"] > REFERENCES
