"""How long to wait before the next try. Pure: chance is an argument."""

from dbclusterref.errors import Cause, TokenSecretForbidden, TokenSecretMissing

BACKOFF_FIRST = 1.0
BACKOFF_CAP = 60.0
STALLED_CAP = 300.0
LOCAL_CAP = 30.0
"""For what a look at the Kubernetes API alone decides: a token Secret, which no watch reports, or a Secret of another owner."""
SPREAD = 0.1
"""Delays are shortened by up to this share, so that what started together does not stay together and nothing comes late."""


def after_success(interval: float, *, jitter: float) -> float:
    """Seconds until the next routine read; `jitter` in [0, 1) makes it up to a tenth earlier, never later."""
    return _shortened(interval, jitter=jitter)


def after_failure(cause: Cause, *, failures: int, interval: float, jitter: float) -> float:
    """Seconds until the next try after the `failures`-th failure in a row (1 for the first).

    Doubles from a second up to the refresh interval, capped at a minute, or at five where a person must act (half a minute if
    that is to make a token Secret). `jitter` in [0, 1) shortens it, but never below the `retry-after` of the other side.
    """
    if isinstance(cause, TokenSecretMissing | TokenSecretForbidden):
        cap = LOCAL_CAP
    elif cause.stalled:
        cap = STALLED_CAP
    else:
        cap = min(max(interval, BACKOFF_FIRST), BACKOFF_CAP)
    delay = _shortened(min(BACKOFF_FIRST * 2.0 ** min(failures - 1, 16), cap), jitter=jitter)
    return delay if cause.retry_after is None else max(delay, cause.retry_after * (1 + SPREAD * jitter))


def after_conflict(*, jitter: float) -> float:
    """Seconds until a refused Secret, or one of another owner, is looked at again: messages say within 30 seconds."""
    return _shortened(LOCAL_CAP, jitter=jitter)


def after_trouble(failures: int) -> float:
    """Seconds until the next try after the Kubernetes API failed for the `failures`-th time in a row."""
    return min(BACKOFF_FIRST * 2.0 ** min(failures - 1, 16) / 4, BACKOFF_CAP / 4)


def _shortened(delay: float, *, jitter: float) -> float:
    return delay * (1 - SPREAD * jitter)
