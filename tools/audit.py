"""What the operator is made of, with licences, and whether a vulnerability of any of it is known: `python -m tools.audit`.

It installs what the image installs into an environment of its own, writes the bill of materials (CycloneDX) of that, and asks
PyPI's advisories about each package. pip-audit skips a package of which it learns nothing and still ends with 0; here a skipped
package fails the audit.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tools.environments import ROOT, Environments

DEFAULT_BILL = ROOT / "dist" / "dbclusterref.cdx.json"


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status 1 if a package has a known vulnerability, has no licence, or was not judged."""
    parser = argparse.ArgumentParser(prog="python -m tools.audit", description=__doc__)
    parser.add_argument("--bill", type=Path, default=DEFAULT_BILL, help="where to write the bill of materials")
    parser.add_argument("--bill-only", action="store_true", help="no vulnerabilities, so no network but the packages' own")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="dbclusterref-audit-") as scratch:
        # What the image installs, and the tools that look at it, apart from each other.
        made = Environments(asked_by="audit")
        app = made.make(Path(scratch) / "app", python=sys.executable, requirements="runtime.txt")
        tools = made.make(Path(scratch) / "tools", python=sys.executable, requirements="audit.txt")
        options.bill.parent.mkdir(parents=True, exist_ok=True)
        made.run(
            tools / "cyclonedx-py", "environment", "--pyproject", ROOT / "pyproject.toml", "--output-reproducible",
            "--gather-license-texts", "--output-file", options.bill, app / "python",
        )  # fmt: skip
        complaints = judge_bill(json.loads(options.bill.read_text()))
        print(f"audit: {options.bill} has {len(json.loads(options.bill.read_text())['components'])} packages")
        if not options.bill_only:
            complaints += judge_report(_ask_for_vulnerabilities(tools))
    for complaint in complaints:
        print(f"audit: {complaint}", file=sys.stderr)
    return int(bool(complaints))


def judge_bill(bill: Mapping[str, Any]) -> list[str]:
    """What is wrong with a bill of materials, a sentence each."""
    without = [one["name"] for one in bill["components"] if not one.get("licenses")]
    return [f"{name} names no licence" for name in without]


def judge_report(report: Mapping[str, Any]) -> list[str]:
    """What pip-audit's report says against packages, a sentence each; to know nothing of one counts against it."""
    complaints = []
    for one in report["dependencies"]:
        if "skip_reason" in one:
            complaints.append(f"{one['name']} was not judged: {one['skip_reason']}")
        complaints += [
            f"{one['name']} {one['version']} has {known['id']}; fixed in {', '.join(known['fix_versions']) or 'no version'}"
            for known in one.get("vulns", [])
        ]
    return complaints or ([] if report["dependencies"] else ["no package was judged"])


def _ask_for_vulnerabilities(tools: Path) -> Mapping[str, Any]:
    """Its exit status says nothing about what it skipped, so its report is read."""
    done = subprocess.run(
        [
            tools / "pip-audit", "--requirement", ROOT / "requirements" / "runtime.txt", "--require-hashes", "--disable-pip",
            "--format", "json", "--progress-spinner", "off",
        ],
        stdout=subprocess.PIPE, text=True, check=False,
    )  # fmt: skip
    if not done.stdout:
        sys.exit("audit: pip-audit gave no report; it says why above")
    report: Mapping[str, Any] = json.loads(done.stdout)
    return report


if __name__ == "__main__":
    sys.exit(main())
