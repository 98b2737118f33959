"""How long to wait before the next try. Pure: chance is an argument."""

from dbclusterref.errors import Cause, TokenSecretForbidden, TokenSecretMissing

BACKOFF_FIRST = 1.0
BACKOFF_CAP = 60.0
STALLED_CAP = 300.0
LOCAL_CAP = 30.0
"""What costs upstream nothing to look at again: a token Secret, which nobody tells this operator about when it appears."""
SPREAD = 0.1
"""Deadlines are moved by up to this share of the delay, so that what started together does not stay together."""


def after_success(interval: float, *, jitter: float) -> float:
    """Seconds until the next routine read; `jitter` in [0, 1) spreads it to just below the interval, never past it."""
    return interval * (1 - SPREAD * jitter)


def after_failure(cause: Cause, *, failures: int, interval: float, jitter: float) -> float:
    """Seconds until the next try after the `failures`-th failure in a row (1 for the first).

    Doubles from a second up to the refresh interval, capped at a minute, or at five where a person must act (half a minute if
    that is to make a token Secret); what the other side asked for in `retry-after` is the least.
    """
    if isinstance(cause, TokenSecretMissing | TokenSecretForbidden):
        cap = LOCAL_CAP
    elif cause.stalled:
        cap = STALLED_CAP
    else:
        cap = min(max(interval, BACKOFF_FIRST), BACKOFF_CAP)
    delay = min(BACKOFF_FIRST * 2.0 ** min(failures - 1, 16), cap)
    if cause.retry_after is not None:
        delay = max(delay, cause.retry_after)
    return delay * (1 + SPREAD * jitter)


def after_trouble(failures: int) -> float:
    """Seconds until the next try after the Kubernetes API failed for the `failures`-th time in a row."""
    return min(BACKOFF_FIRST * 2.0 ** min(failures - 1, 16) / 4, BACKOFF_CAP / 4)
