"""What several tests of this wing begin with."""

import pytest

from tests.support.fake_time import FakeClock


@pytest.fixture
def clock() -> FakeClock:
    """A clock that has been going for long: every age and every pause is possible."""
    clock = FakeClock()
    clock.seconds = 1e6
    return clock
