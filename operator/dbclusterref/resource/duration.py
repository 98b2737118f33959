"""Durations as the spec has them. Pure."""

import re
from functools import lru_cache

from dbclusterref.errors import InvalidSpec

MINIMUM_REFRESH_INTERVAL = 10.0
MAXIMUM_REFRESH_INTERVAL = 24 * 3600.0

_DURATION = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|h|m|s)")
_UNIT_SECONDS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}


@lru_cache(maxsize=64)
def parse_duration(text: str, *, field_name: str) -> float:
    """Read a Kubernetes duration (`90s`, `1m30s`, `1h`) as seconds.

    Raises InvalidSpec for what is not a duration, for less than MINIMUM_REFRESH_INTERVAL (a token's budget is shared) and for
    more than MAXIMUM_REFRESH_INTERVAL.
    """
    parts = _DURATION.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise InvalidSpec(f"{field_name} is not a duration; write for example `30s`, `1m` or `1h30m`.")
    seconds = sum(float(number) * _UNIT_SECONDS[unit] for number, unit in parts)
    if seconds < MINIMUM_REFRESH_INTERVAL:
        raise InvalidSpec(f"{field_name} is {text}; the minimum is `{MINIMUM_REFRESH_INTERVAL:.0f}s`.")
    if seconds > MAXIMUM_REFRESH_INTERVAL:
        raise InvalidSpec(f"{field_name} is too long; the maximum is `{MAXIMUM_REFRESH_INTERVAL / 3600:.0f}h`.")
    return seconds
