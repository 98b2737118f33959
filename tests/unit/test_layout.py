"""`operator/` stays a source root, and every module has a name and a purpose. lint-imports holds the layers."""

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "operator"
MODULES = sorted((SOURCE / "dbclusterref").rglob("*.py"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def test_the_source_root_is_no_package() -> None:
    assert not (SOURCE / "__init__.py").exists()
    assert sorted(path.name for path in SOURCE.iterdir() if path.name != "__pycache__") == ["dbclusterref"]


@pytest.mark.parametrize("cwd", [ROOT, SOURCE], ids=["root", "source"])
def test_operator_is_the_standard_librarys(cwd: Path) -> None:
    program = "import operator, sys; sys.stdout.write(f'{operator.itemgetter(0)([1])} {operator.__file__}')"
    done = subprocess.run([sys.executable, "-c", program], cwd=cwd, capture_output=True, text=True, check=True)
    value, file = done.stdout.split(maxsplit=1)
    assert value == "1"
    assert not Path(file).is_relative_to(ROOT / "operator")
    assert Path(file).name == "operator.py"


def test_the_wheel_holds_the_package_and_no_package_called_operator() -> None:
    assert PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"] == {"packages": ["operator/dbclusterref"]}
    assert PROJECT["project"]["scripts"] == {"dbclusterref": "dbclusterref.__main__:main"}


def test_the_package_says_that_it_is_typed() -> None:
    assert (SOURCE / "dbclusterref" / "py.typed").exists()


@pytest.mark.parametrize("module", MODULES, ids=lambda path: path.stem)
def test_every_module_says_what_it_is_for(module: Path) -> None:
    docstring = ast.get_docstring(ast.parse(module.read_text())) or ""
    assert len(docstring) > 20
    assert docstring.split("\n\n")[0].rstrip().endswith((".", ":", "?")), "a sentence"


@pytest.mark.parametrize("module", MODULES, ids=lambda path: path.stem)
def test_no_module_is_a_drawer_for_odds_and_ends(module: Path) -> None:
    assert not set(module.stem.lower().split("_")) & {
        "util", "utils", "helper", "helpers", "common", "misc", "manager", "managers", "base", "core", "types", "constants",
    }  # fmt: skip


@pytest.mark.parametrize("module", MODULES, ids=lambda path: path.stem)
def test_no_module_says_more_than_one_subject_holds(module: Path) -> None:
    assert len(module.read_text().splitlines()) < 400
