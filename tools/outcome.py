"""What a run of pytest came to: how many tests passed, which failed, and which were skipped for what reason."""

import os
import subprocess
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree as ET

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """`skipped` counts by reason. A run without a test, or one that broke off, has `ended_well` false."""

    passed: int
    failed: tuple[str, ...]
    skipped: Mapping[str, int]
    ended_well: bool

    def __str__(self) -> str:
        parts = [f"{self.passed} passed", f"{len(self.failed)} failed", f"{sum(self.skipped.values())} skipped"]
        return ", ".join([*parts, *([] if self.ended_well or self.failed else ["the run broke off"])])

    def explain(self) -> list[str]:
        """Return a line for each failure and each reason to skip."""
        return [f"failed: {name}" for name in self.failed] + [
            f"skipped {count}: {reason}" for reason, count in sorted(self.skipped.items())
        ]


def run_pytest(python: str | Path, arguments: Sequence[str], *, environ: Mapping[str, str] | None = None) -> Outcome:
    """Run the project's tests with `python`; their output goes where ours does."""
    with tempfile.TemporaryDirectory(prefix="dbclusterref-outcome-") as scratch:
        report = Path(scratch) / "report.xml"
        command = [str(python), "-m", "pytest", f"--junit-xml={report}", *arguments]
        status = subprocess.run(command, cwd=ROOT, env={**os.environ, **(environ or {})}, check=False).returncode
        return read_report(report.read_text() if report.is_file() else "", ended_well=status == 0)


def read_report(text: str, *, ended_well: bool) -> Outcome:
    """Read pytest's report in JUnit's form; an empty one is a run that reported nothing."""
    cases = list(ET.fromstring(text).iter("testcase")) if text else []  # noqa: S314 - written by our own pytest
    failed = [case for case in cases if case.find("failure") is not None or case.find("error") is not None]
    skips = [skip for case in cases if case not in failed and (skip := case.find("skipped")) is not None]
    return Outcome(
        passed=len(cases) - len(failed) - len(skips),
        failed=tuple(f"{case.get('classname')}::{case.get('name')}" for case in failed),
        skipped=Counter(skip.get("message") or "no reason given" for skip in skips),
        ended_well=ended_well and bool(cases),
    )
