"""Hold the measured coverage to the floor in pyproject.toml, and the floor to the one on the main branch: it may only rise."""

import io
import math
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path

from coverage import Coverage

ROOT = Path(__file__).parents[1]
MAIN = ("origin/main", "main")
WORTH_RAISING = 0.5


def main() -> int:
    """Exit status 0 if the coverage reaches the floor and the floor was not lowered."""
    measured = measure()
    floor = read_floor((ROOT / "pyproject.toml").read_text())
    faults = find_faults(measured=measured, floor=floor, before=read_floor_before())
    for fault in faults:
        print(f"coverage: {fault}", file=sys.stderr)
    if not faults:
        print(f"coverage: {measured:.1f} % of lines and branches; the floor is {floor:.1f} %")
        if measured - floor >= WORTH_RAISING:
            print(f"coverage: the floor can rise; set fail_under = {math.floor(measured * 10) / 10} in pyproject.toml")
    return 1 if faults else 0


def find_faults(*, measured: float, floor: float, before: float) -> list[str]:
    """`before` is the floor on the main branch."""
    faults = []
    if floor < before:
        faults.append(f"fail_under was lowered from {before} to {floor}; the floor may only rise. Add tests instead.")
    if measured < floor:
        faults.append(
            f"{measured:.2f} % is below the floor of {floor} %. Add tests; `.venv/bin/coverage report` lists the missing lines."
        )
    return faults


def measure() -> float:
    """Return the percentage of lines and branches in the data file that the tests have just written."""
    coverage = Coverage()
    coverage.load()
    return coverage.report(file=io.StringIO())


def read_floor(pyproject: str) -> float:
    """Return 0 where there is no floor yet."""
    tools: Mapping[str, Mapping[str, Mapping[str, float]]] = tomllib.loads(pyproject).get("tool", {})
    return float(tools.get("coverage", {}).get("report", {}).get("fail_under", 0))


def read_floor_before() -> float:
    """Return the floor where this branch left main; 0 where git does not know (a shallow clone, an unpacked archive)."""
    for branch in MAIN:
        base = subprocess.run(["git", "merge-base", "HEAD", branch], cwd=ROOT, capture_output=True, text=True, check=False)
        if base.returncode == 0:
            file = f"{base.stdout.strip()}:pyproject.toml"
            shown = subprocess.run(["git", "show", file], cwd=ROOT, capture_output=True, text=True, check=True)
            return read_floor(shown.stdout)
    return 0.0


if __name__ == "__main__":
    sys.exit(main())
