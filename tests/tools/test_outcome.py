import sys
from pathlib import Path

import pytest

from tools.outcome import read_report, run_pytest

TESTS = """
import pytest
def test_well(): pass
def test_badly(): assert False
@pytest.mark.skip(reason="no such server")
def test_skipped(): pass
@pytest.fixture
def broken(): raise OSError
def test_without_its_fixture(broken): pass
"""


pytestmark = pytest.mark.usefixtures("without_plugins")


def test_a_run_says_what_passed_what_failed_and_what_was_skipped_why(tmp_path: Path) -> None:
    file = tmp_path / "test_some.py"
    file.write_text(TESTS)
    outcome = run_pytest(sys.executable, ["-q", "-p", "no:cacheprovider", f"--rootdir={tmp_path}", str(file)])
    assert str(outcome) == "1 passed, 2 failed, 1 skipped"
    assert [line.rpartition("::")[2] for line in outcome.explain()] == [
        "test_badly",
        "test_without_its_fixture",
        "skipped 1: no such server",
    ]
    assert not outcome.ended_well


def test_a_run_that_reported_nothing_or_ran_nothing_did_not_end_well() -> None:
    assert str(read_report("", status=4)) == "0 passed, 0 failed, 0 skipped, the run broke off"
    assert not read_report("<testsuites/>", status=0).ended_well


def test_a_run_that_was_interrupted_says_so_whatever_it_had_found_until_then() -> None:
    report = '<testsuite><testcase classname="a" name="b"><failure/></testcase><testcase classname="a" name="c"/></testsuite>'
    assert str(read_report(report, status=1)) == "1 passed, 1 failed, 0 skipped"
    assert str(read_report(report, status=2)) == "1 passed, 1 failed, 0 skipped, the run broke off"
    assert not read_report('<testsuite><testcase classname="a" name="c"/></testsuite>', status=2).ended_well
