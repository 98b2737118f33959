"""The audit: what it says of a report, and a bill of materials of what the image really installs."""

import json
from pathlib import Path

import pytest

from tools import audit
from tools.environments import ROOT

CLEAN = {"name": "kopf", "version": "1.45.2", "vulns": []}
SKIPPED = {"name": "httpx", "skip_reason": "Dependency not found on PyPI and could not be audited: httpx (0.28.1)"}
VULNERABLE = {"name": "idna", "version": "3.6", "vulns": [{"id": "PYSEC-2024-60", "fix_versions": ["3.7"]}]}


def test_a_report_of_packages_without_a_known_vulnerability_is_good() -> None:
    assert audit.judge_report({"dependencies": [CLEAN]}) == []


def test_a_package_that_was_skipped_fails_the_audit() -> None:
    (complaint,) = audit.judge_report({"dependencies": [CLEAN, SKIPPED]})
    assert complaint.startswith("httpx was not judged: ")


def test_a_known_vulnerability_is_named_with_the_version_that_has_it_fixed() -> None:
    complaints = audit.judge_report({"dependencies": [CLEAN, VULNERABLE]})
    assert complaints == ["idna 3.6 has PYSEC-2024-60; fixed in 3.7"]


def test_a_report_of_no_package_is_not_good() -> None:
    assert audit.judge_report({"dependencies": []}) == ["no package was judged"]


def test_a_package_without_a_licence_is_named() -> None:
    bill = {"components": [{"name": "kopf", "licenses": [{"license": {"id": "MIT"}}]}, {"name": "mystery"}]}
    assert audit.judge_bill(bill) == ["mystery names no licence"]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_bill_of_materials_has_every_locked_package_with_its_licence(tmp_path: Path) -> None:
    path = tmp_path / "bill.json"
    assert audit.main(["--bill-only", "--bill", str(path)]) == 0
    bill = json.loads(path.read_text())
    lock = (ROOT / "requirements" / "runtime.txt").read_text().splitlines()
    locked = {line.partition("==")[0] for line in lock if "==" in line and ";" not in line}
    named = {one["name"].lower().replace("_", "-").replace(".", "-") for one in bill["components"]}
    assert len(locked) > 20
    assert locked <= named
    assert bill["metadata"]["component"]["name"] == "dbclusterref"
