"""How the sandbox tells a person what it is doing: plain lines on standard error."""

import sys
from collections.abc import Callable

Say = Callable[[str], None]


def say_on_stderr(line: str) -> None:
    """Standard output is kept for the one line that programs read."""
    print(line, file=sys.stderr, flush=True)


def in_words(seconds: float) -> str:
    """`7 s`, `3 min 05 s`."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
