"""Runs every test, in two lanes side by side: `python -m tools.lanes`.

Most tests wait, for Kubernetes, a kubelet or a pause, and one lane leaves more than half of two cores idle. The lanes share no
server and no fixture. The first one's output is shown as it comes, then the second one's. Each folder's time is printed at the
end: the folders are shared out by it. `python -m pytest` runs the same tests one after the other.
"""

import shutil
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree as ET

from tools.environments import ROOT

FIRST = ("chaos", "clients", "deploy", "fuzz", "monitoring", "node", "sandbox", "tools", "unit")
"""The second lane runs all the rest, so that no folder can be forgotten."""
PAUSE_SECONDS = 0.2


def main(pytest: Sequence[str] = (sys.executable, "-m", "pytest"), *, root: Path = ROOT) -> int:
    """Exit status 0 if both lanes passed."""
    with tempfile.TemporaryDirectory(prefix="dbclusterref-lanes-") as scratch:
        reports = [Path(scratch) / f"{lane}.xml" for lane in ("first", "second")]
        lanes = [
            [*pytest, "-o", "junit_duration_report=total", f"--junit-xml={report}", *paths]
            for report, paths in zip(reports, share_out(root / "tests"), strict=True)
        ]
        with Path(scratch, "second.out").open("w+") as said:
            # An interrupt from the terminal reaches both, and each ends what it started.
            second = subprocess.Popen(lanes[1], cwd=root, stdout=said, stderr=subprocess.STDOUT)
            first = _wait(subprocess.Popen(lanes[0], cwd=root))
            print("==> The second lane", flush=True)
            _follow(Path(said.name), second)
        print("\n".join(render(reports)))
    failed = [name for name, status in (("first", first), ("second", second.returncode)) if status]
    if failed:
        print(f"lanes: failed: {', '.join(failed)}", file=sys.stderr)
    return int(bool(failed))


def share_out(tests: Path) -> tuple[list[str], list[str]]:
    """Return what pytest is told in each lane."""
    relative = tests.relative_to(tests.parent)
    first = [f"{relative / name}" for name in FIRST]
    return first, [f"{relative}", *(f"--ignore={path}" for path in first)]


def render(reports: Sequence[Path]) -> list[str]:
    """Return a line for each lane, with the seconds that each folder of its tests took."""
    lines = []
    for report in reports:
        seconds = defaultdict[str, float](float)
        for case in ET.fromstring(report.read_text()).iter("testcase") if report.is_file() else ():  # noqa: S314 - our own pytest's
            folder = case.get("classname", "").split(".")[1:2]
            seconds[folder[0] if folder else "others"] += float(case.get("time", "0"))
        shown = ", ".join(f"{name} {took:.0f}" for name, took in sorted(seconds.items(), key=lambda one: -one[1]))
        lines.append(f"{report.stem} lane: {sum(seconds.values()):.0f} s ({shown or 'no report'})")
    return lines


def _wait(process: subprocess.Popen[bytes]) -> int:
    while True:
        try:
            return process.wait()
        except KeyboardInterrupt:
            continue


def _follow(output: Path, process: subprocess.Popen[bytes]) -> None:
    with output.open() as lines:
        while True:
            try:
                ended = process.poll() is not None
                shutil.copyfileobj(lines, sys.stdout)
                sys.stdout.flush()
                if ended:
                    return
                process.wait(PAUSE_SECONDS)
            except (KeyboardInterrupt, subprocess.TimeoutExpired):
                continue


if __name__ == "__main__":
    sys.exit(main())
