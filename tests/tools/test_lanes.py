import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tools.environments import ROOT
from tools.lanes import FIRST, main, share_out

PYTEST = (sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-o", "addopts=--import-mode=importlib")


pytestmark = pytest.mark.usefixtures("without_plugins")


def project(folder: Path, **bodies: str) -> Path:
    """A project with a test in each folder of the first lane, and in those that are named."""
    for name in {*FIRST, *bodies}:
        (folder / "tests" / name).mkdir(parents=True)
        (folder / "tests" / name / f"test_{name}.py").write_text(bodies.get(name, "def test(): print('ran')"))
    (folder / "pytest.ini").write_text("[pytest]\n")
    return folder


def test_each_folder_is_in_exactly_one_lane() -> None:
    first, (tests, *ignored) = share_out(ROOT / "tests")
    assert all((ROOT / path).is_dir() for path in first)
    assert tests == "tests"
    assert ignored == [f"--ignore={path}" for path in first]


def test_both_lanes_are_run_and_shown_with_the_time_of_each_folder(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    project(tmp_path, e2e="def test_one(): pass\ndef test_two(): pass")
    assert main(PYTEST, root=tmp_path) == 0
    said = capfd.readouterr().out
    assert f"{len(FIRST)} passed" in said
    assert "2 passed" in said.partition("==> The second lane")[2]
    assert "second lane: 0 s (e2e 0)" in said


@pytest.mark.parametrize(("folder", "lane"), [("node", "first"), ("e2e", "second")])
def test_a_failure_in_either_lane_fails_the_run_and_names_it(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], folder: str, lane: str
) -> None:
    bodies = {"e2e": "def test(): pass"} | {folder: "def test(): assert False, 'found'"}
    assert main(PYTEST, root=project(tmp_path, **bodies)) == 1
    said = capfd.readouterr()
    assert said.err.endswith(f"lanes: failed: {lane}\n")
    assert "AssertionError: found" in said.out


def test_a_lane_that_ran_nothing_fails_the_run(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(PYTEST, root=project(tmp_path)) == 1
    assert "second lane: 0 s (no report)" in capfd.readouterr().out


def test_an_interrupt_ends_both_lanes_and_shows_what_they_came_to(tmp_path: Path) -> None:
    waits = "import pathlib, time\ndef test():\n    pathlib.Path('{}').touch()\n    time.sleep(60)"
    project(tmp_path, chaos=waits.format(tmp_path / "one"), e2e=waits.format(tmp_path / "two"))
    # A shell that runs these tests in the background lets its children ignore interrupts.
    code = f"""if True:
        import pathlib, signal, sys, tools.lanes
        signal.signal(signal.SIGINT, signal.default_int_handler)
        sys.exit(tools.lanes.main({PYTEST!r}, root=pathlib.Path({str(tmp_path)!r})))
    """
    with subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as run:
        while not ((tmp_path / "one").exists() and (tmp_path / "two").exists()):
            assert run.poll() is None
            time.sleep(0.05)
        os.killpg(run.pid, signal.SIGINT)
        said, errors = run.communicate(timeout=30)
    assert said.count("no tests ran") == 2
    assert errors.endswith("lanes: failed: first, second\n")
