"""What a run of pytest came to: how many tests passed, which failed, and which were skipped for what reason."""

import os
import subprocess
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree as ET

from tools.environments import ROOT


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """`skipped` counts by reason. `broke_off`: not every test was run, or none was there."""

    passed: int
    failed: tuple[str, ...]
    skipped: Mapping[str, int]
    broke_off: bool

    @property
    def ended_well(self) -> bool:
        """Every test was run, and none failed."""
        return not self.broke_off and not self.failed

    def __str__(self) -> str:
        parts = [f"{self.passed} passed", f"{len(self.failed)} failed", f"{sum(self.skipped.values())} skipped"]
        return ", ".join([*parts, *(["the run broke off"] if self.broke_off else [])])

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
        return read_report(report.read_text() if report.is_file() else "", status=status)


def read_report(text: str, *, status: int) -> Outcome:
    """Read pytest's report in JUnit's form; above an exit status of 1 (tests failed) it did not come to its end."""
    cases = list(ET.fromstring(text).iter("testcase")) if text else []  # noqa: S314 - written by our own pytest
    failed = [case for case in cases if case.find("failure") is not None or case.find("error") is not None]
    skips = [skip for case in cases if case not in failed and (skip := case.find("skipped")) is not None]
    return Outcome(
        passed=len(cases) - len(failed) - len(skips),
        failed=tuple(f"{case.get('classname')}::{case.get('name')}" for case in failed),
        skipped=Counter(skip.get("message") or "no reason given" for skip in skips),
        broke_off=status not in {0, 1} or not cases,
    )
