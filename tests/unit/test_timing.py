import pytest

from dbclusterref.errors import SettingsError
from dbclusterref.timing import Timing


def test_without_text_the_defaults_hold() -> None:
    assert Timing.from_text("") == Timing()


def test_single_periods_are_replaced() -> None:
    timing = Timing.from_text("resync=5,watch_idle=0.5")
    assert (timing.resync, timing.watch_idle) == (5.0, 0.5)
    assert timing.lease_duration == Timing().lease_duration


@pytest.mark.parametrize(
    "text", ["resync", "resync=", "resync=soon", "resync=0", "resync=-1", "resync=inf", "resync=nan", "x=1"]
)
def test_what_is_no_period_is_refused_with_what_is_known(text: str) -> None:
    with pytest.raises(SettingsError, match=r"^DBCLUSTERREF_TIMING: .*resync.*watch_silence"):
        Timing.from_text(text)


@pytest.mark.parametrize("text", ["retry_period=10", "renew_deadline=15", "lease_duration=10", "renew_deadline=2"])
def test_a_lease_whose_periods_do_not_grow_is_refused(text: str) -> None:
    with pytest.raises(SettingsError, match="in this order"):
        Timing.from_text(text)
