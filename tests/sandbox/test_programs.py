"""`python -m sandbox.binaries`: what it brings, and how it fails."""

from pathlib import Path

import pytest

from sandbox.binaries.__main__ import BROUGHT_BY, main
from sandbox.binaries.assets import AssetsError
from tools.environments import ROOT


def fail() -> Path:
    raise AssetsError("no module proxy")


def test_each_program_is_brought_in_the_order_it_is_named_in(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["flux", "helm"], brought_by={"helm": lambda: Path("/h"), "flux": lambda: Path("/f"), "other": fail}) == 0
    assert capsys.readouterr().out == "/f\n/h\n"


def test_the_first_that_cannot_be_had_is_named_with_its_reason(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["flux", "helm"], brought_by={"helm": lambda: Path("/h"), "flux": fail}) == 1
    told = capsys.readouterr()
    assert (told.out, told.err) == ("", "flux: no module proxy\n")


def test_make_test_brings_every_one_before_the_tests_start() -> None:
    """Otherwise the first lane compiles while the second measures how fast the operator is."""
    makefile = (ROOT / "Makefile").read_text()
    assert f"-m sandbox.binaries {' '.join(BROUGHT_BY)} " in makefile
