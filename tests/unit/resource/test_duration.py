import pytest

from dbclusterref.errors import InvalidSpec
from dbclusterref.resource.duration import parse_duration


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("10s", 10), ("1m", 60), ("1m30s", 90), ("1h", 3600), ("1h1m1s", 3661), ("0.5m", 30), ("20000ms", 20), ("24h", 86400)],
)
def test_durations_are_read_as_seconds(text: str, seconds: float) -> None:
    assert parse_duration(text, field_name="f") == seconds


@pytest.mark.parametrize("text", ["", "10", "s", "-1m", "1m ", " 1m", "1 m", "1d", "1m30", "1m,30s", "\u0661m", "1e3s", "infs"])
def test_what_is_not_a_duration_is_refused(text: str) -> None:
    with pytest.raises(InvalidSpec, match="f is not a duration"):
        parse_duration(text, field_name="f")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [("9999ms", "the minimum is `10s`"), ("0s", "the minimum is `10s`"), ("25h", "24h"), ("9" * 400 + "h", "24h")],
)
def test_a_duration_outside_its_bounds_is_refused(text: str, complaint: str) -> None:
    with pytest.raises(InvalidSpec, match=complaint):
        parse_duration(text, field_name="f")
