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
SUPPORT = sorted((ROOT / "tests" / "support").glob("*.py"))
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
    program = "dbclusterref.__main__:main"
    assert PROJECT["project"]["scripts"] == {"dbclusterref": program, "kubectl-dbref": program}


def test_the_package_says_that_it_is_typed() -> None:
    assert (SOURCE / "dbclusterref" / "py.typed").exists()


@pytest.mark.parametrize("module", MODULES, ids=lambda path: path.stem)
def test_every_module_says_what_it_is_for(module: Path) -> None:
    docstring = ast.get_docstring(ast.parse(module.read_text())) or ""
    assert len(docstring) > 20
    assert docstring.split("\n\n")[0].rstrip().endswith((".", ":", "?")), "a sentence"


@pytest.mark.parametrize("module", [*MODULES, *SUPPORT], ids=lambda path: path.stem)
def test_no_module_is_a_drawer_for_odds_and_ends(module: Path) -> None:
    assert not set(module.stem.lower().split("_")) & {
        "util", "utils", "helper", "helpers", "common", "misc", "manager", "managers", "base", "core", "types", "constants",
    }  # fmt: skip


@pytest.mark.parametrize("module", MODULES, ids=lambda path: path.stem)
def test_no_module_says_more_than_one_subject_holds(module: Path) -> None:
    assert len(module.read_text().splitlines()) < 400


# --- the way of one value -------------------------------------------------------------------------------------------------

WAY = (
    "digitalocean.client",
    "digitalocean.model",
    "digitalocean.account",
    "secret.rendering",
    "secret.state",
    "kube.client",
)
"""The modules that a password goes through, as ARCHITECTURE.md and DESIGN.md give it."""

MAY_SEE_A_PASSWORD = {
    *WAY,
    "digitalocean.snapshot",  # holds the model between account and rendering
    "digitalocean.cache",  # keeps it, compact
    "digitalocean.reader",  # shares one read among those who ask for the same
    "digitalocean.details",  # keeps a user or a pool
    "digitalocean.poller",  # reads pages of clusters
    "digitalocean.not_found",  # names the users there are
    "digitalocean.cursor",  # a page on its way from reader to poller
    "secret.engines",  # names of keys only
    "reconcile.reconciler",  # hands the snapshot on
    "reconcile.publisher",
    "reconcile.renditions",  # hands the Secret on
    "reconcile.entry",  # keeps the last good snapshot, compact
    "reconcile.store",  # keeps the entries
    "reconcile.conditions",  # shows facts of the cluster, none of them secret
    "commands.render",  # masks values unless told to reveal them
}
CARRIERS = (
    "DatabaseCluster",
    "Snapshot",
    "PackedSnapshot",
    "User",
    "Pool",
    "DesiredSecret",
    "ClusterPage",
    "CachedCluster",
    "ReadCluster",
)


def _names_imported(module: Path) -> set[str]:
    tree = ast.parse(module.read_text())
    return {alias.name for node in tree.body if isinstance(node, ast.ImportFrom) for alias in node.names}


def _dotted(module: Path) -> str:
    return ".".join(module.relative_to(SOURCE / "dbclusterref").with_suffix("").parts)


def test_the_way_of_one_value_has_no_other_stations() -> None:
    """What holds a password has a handful of types; which modules name one of them is a list that does not grow silently."""
    seen = {_dotted(module) for module in MODULES if _names_imported(module) & set(CARRIERS)}
    assert seen <= MAY_SEE_A_PASSWORD, f"also {sorted(seen - MAY_SEE_A_PASSWORD)}"


def test_the_documents_give_the_way_as_it_is() -> None:
    written = " → ".join(name.replace(".", "/") for name in WAY)
    assert written in (ROOT / "ARCHITECTURE.md").read_text()


def test_every_wing_says_what_it_is_for_and_exports_nothing() -> None:
    wings = sorted((SOURCE / "dbclusterref").glob("*/__init__.py"))
    assert len(wings) == 7
    for wing in wings:
        tree = ast.parse(wing.read_text())
        assert ast.get_docstring(tree), wing
        assert len(tree.body) == 1, f"{wing} does more than say what it is for"
        assert wing.parent.name in (ROOT / "ARCHITECTURE.md").read_text()


def test_every_module_stands_in_the_picture() -> None:
    picture = (ROOT / "ARCHITECTURE.md").read_text().split("```")[1]
    assert [_dotted(m) for m in MODULES if m.stem not in {*picture.split(), "__init__"}] == []


def test_every_module_has_a_test_of_its_own() -> None:
    tests = {_dotted_test(path) for path in (ROOT / "tests" / "unit").rglob("test_*.py")}
    without = {_dotted(module) for module in MODULES if module.stem not in {"__init__", "__main__"}} - tests
    assert not without, f"write one for {sorted(without)}"


def _dotted_test(path: Path) -> str:
    relative = path.relative_to(ROOT / "tests" / "unit")
    return ".".join((*relative.parts[:-1], relative.stem.removeprefix("test_")))


# --- what tests share ------------------------------------------------------------------------------------------------------


def test_no_test_borrows_from_another_tests_file() -> None:
    """What tests share lies in a module that is neither a test nor the conftest of another folder, and has a public name."""
    borrowed = []
    for path in (ROOT / "tests").rglob("*.py"):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "tests":
                borrowed += [f"{path.relative_to(ROOT)} imports {told}" for told in _private(node, folder=path.parent)]
    assert borrowed == []


def _private(node: ast.ImportFrom, *, folder: Path) -> list[str]:
    """What an import takes that is not meant for it."""
    module = ROOT.joinpath(*(node.module or "").split("."))
    if module.name.startswith("test_") or (module.name == "conftest" and module.parent != folder):
        return [str(node.module)]
    return [f"{node.module}.{alias.name}" for alias in node.names if alias.name.startswith("_")]
