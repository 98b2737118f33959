from collections import Counter
from pathlib import Path

import pytest

from tests.support.programs import write_program
from tools import pythons
from tools.outcome import Outcome
from tools.pythons import find_python, render

WELL = Outcome(passed=3, failed=(), skipped=Counter({"no uid": 1}), broke_off=False)
BADLY = Outcome(passed=2, failed=("tests.a::b",), skipped=Counter(), broke_off=False)


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    write_program(tmp_path / "python3.98", "#!/bin/sh\necho 3.98.1\n")
    write_program(tmp_path / "python3.99", "#!/bin/sh\necho 'pyenv: python3.99: command not found' >&2; exit 127\n")
    return tmp_path


def test_an_interpreter_is_found_by_its_name_and_asked_for_its_version(path: Path) -> None:
    assert find_python("3.98") == (path / "python3.98", "3.98.1")


def test_one_that_is_not_there_and_a_shim_without_a_program_are_named(path: Path) -> None:
    assert find_python("3.97") == (None, "no python3.97 in the PATH")
    assert find_python("3.99") == (None, f"{path / 'python3.99'} does not start (pyenv: python3.99: command not found)")


def test_the_table_names_what_did_not_run_failed_or_was_skipped() -> None:
    assert render({"3.12": ("3.12.1", (WELL, BADLY)), "3.14": ("no python3.14 in the PATH", ())})[2:] == [
        "| 3.12.1 | 3 passed, 0 failed, 1 skipped | 2 passed, 1 failed, 0 skipped |",
        "| 3.14 | not run | not run |",
        "3.12: skipped 1: no uid",
        "3.12: failed: tests.a::b",
        "3.14: no python3.14 in the PATH",
    ]


@pytest.mark.parametrize(
    ("arguments", "outcomes", "status"),
    [
        ([], (WELL, WELL), 0),
        ([], (WELL, BADLY), 1),
        (["3.98"], (WELL, WELL), 0),
        (["3.98", "3.97"], (WELL, WELL), 1),
        (["3.97"], (WELL, WELL), 1),
    ],
    ids=["missing ones are named", "a failure", "named and there", "named and not there", "nothing there"],
)
@pytest.mark.usefixtures("path")
def test_the_exit_status_counts_failures_and_named_ones_that_are_missing(
    monkeypatch: pytest.MonkeyPatch, arguments: list[str], outcomes: tuple[Outcome, Outcome], status: int
) -> None:
    monkeypatch.setattr(pythons, "SUPPORTED", ("3.97", "3.98"))
    monkeypatch.setattr(pythons, "_test", lambda *_arguments, **_keywords: outcomes)
    assert pythons.main(arguments) == status
