"""What the demo's audience sees: numbered steps, the commands as one would type them, their output, and how long each took."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager


class Screen:
    """Prints to standard output; in colour on a terminal."""

    def __init__(self) -> None:
        self._colour = sys.stdout.isatty()
        self._steps = 0
        self._began = time.monotonic()

    @contextmanager
    def step(self, title: str) -> Iterator[None]:
        """Shows a step's title, then how long what happened inside took."""
        self._steps += 1
        began = time.monotonic()
        print(f"\n{self._bold(f'{self._steps}. {title}')}", flush=True)
        yield
        print(self._dim(f"   {time.monotonic() - began:.1f} s"), flush=True)

    def command(self, line: str) -> None:
        """Shows a command."""
        print(self._dim(f"   $ {line}"), flush=True)

    def output(self, text: str) -> None:
        """Shows what came of it."""
        for line in text.rstrip().splitlines():
            print(f"   {line}", flush=True)

    def say(self, text: str) -> None:
        """Says something without a step."""
        print(text, flush=True)

    def elapsed(self) -> float:
        """Seconds since the screen was made."""
        return time.monotonic() - self._began

    def _bold(self, text: str) -> str:
        return f"\033[1m{text}\033[0m" if self._colour else text

    def _dim(self, text: str) -> str:
        return f"\033[2m{text}\033[0m" if self._colour else text
