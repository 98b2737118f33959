"""Figures that tests measure on their way and that are printed at the end of the run; none of them decides a test."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import ClassVar

import pytest


class Report:
    lines: ClassVar[list[str]] = []

    @classmethod
    def add(cls, line: str) -> None:
        cls.lines.append(line)

    @classmethod
    @contextmanager
    def timed(cls, what: str) -> Iterator[None]:
        began = time.monotonic()
        yield
        cls.add(f"{what}: {time.monotonic() - began:.1f} s")

    @classmethod
    def write(cls, reporter: pytest.TerminalReporter) -> None:
        if cls.lines:
            reporter.section("measured on the node")
            for line in cls.lines:
                reporter.write_line(line)
            cls.lines.clear()
