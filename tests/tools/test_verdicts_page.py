"""What GitOps tools make of each status, as docs/gitops-verdicts.md has it: by kstatus and Argo CD's Lua themselves."""

from pathlib import Path
from shutil import copytree

import pytest

from dbclusterref.metrics import reasons
from dbclusterref.reconcile.conditions import Holds
from sandbox.binaries.verdicts import MODULE, read_key
from tools.verdicts_page import PAGE, SECRETS, causes, render


@pytest.mark.slow
@pytest.mark.timeout(600)  # the program is built where it is not there yet
def test_the_page_is_what_the_tools_say_of_the_operators_statuses() -> None:
    assert PAGE.read_text() == render(), "run: python -m tools.verdicts_page"


def test_every_reason_has_a_row() -> None:
    page = PAGE.read_text()
    assert {cause.reason for cause in causes()} == set(reasons()) - {"Synced", "Suspended"}
    assert [reason for reason in reasons() if f"| {reason}" not in page] == []


def test_everything_that_may_be_known_of_a_secret_has_a_column() -> None:
    assert {holds for cases in SECRETS.values() for holds, _ in cases} == set(Holds)
    assert [column for column in SECRETS if f"| {column} |" not in PAGE.read_text()] == []


@pytest.mark.parametrize("name", ["main.go", "go.mod", "go.sum"])
def test_another_source_or_version_is_another_program(name: str, tmp_path: Path) -> None:
    copytree(MODULE, tmp_path / "module")
    assert read_key(tmp_path / "module") == read_key()
    with (tmp_path / "module" / name).open("a") as file:
        file.write("\n")
    assert read_key(tmp_path / "module") != read_key()
