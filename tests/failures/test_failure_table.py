"""docs/failures.md names a test in each row; here is the proof that each exists."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TABLE = (ROOT / "docs" / "failures.md").read_text()
ROWS = [line for line in TABLE.splitlines() if line.startswith("| ") and not line.startswith(("| Failure", "|--"))]


def names_in(folder: Path) -> set[str]:
    names: set[str] = set()
    for path in folder.rglob("test_*.py"):
        names |= set(re.findall(r"^(?:async )?def (test_\w+)\(", path.read_text(), re.MULTILINE))
    return names


EXISTING = names_in(ROOT / "tests")


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.split("|")[1].strip()[:40])
def test_each_row_names_a_test_that_exists(row: str) -> None:
    named = re.findall(r"`(test_\w+)", row)
    assert named, f"no test named in: {row}"
    assert [name for name in named if name not in EXISTING] == []


def test_each_test_that_the_text_around_the_tables_names_exists() -> None:
    named = set(re.findall(r"`(test_\w+)", TABLE))
    assert sorted(named - EXISTING) == []
    assert len(named) > len(ROWS) / 2


def test_there_is_a_row_for_each_reason_a_cause_can_have() -> None:
    source = (ROOT / "operator" / "dbclusterref" / "errors.py").read_text()
    reasons = set(re.findall(r'reason = "(\w+)"', source))
    assert [reason for reason in sorted(reasons) if reason not in TABLE] == []
