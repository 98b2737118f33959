"""Runs the unit tests and one end-to-end story on each Python that the operator supports: `python -m tools.pythons`.

Each interpreter is found by its name in the PATH, such as python3.12, and gets an environment of its own, from the same locked
requirements. One that is not there is named; one that was asked for and is not there is a failure.
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from tools.environments import ROOT, Environments
from tools.outcome import Outcome, run_pytest

SUPPORTED = ("3.11", "3.12", "3.13", "3.14")
UNIT_TESTS = ("-m", "not e2e and not slow and not clients and not node", "tests")
STORY = ("-m", "e2e", "tests/e2e/test_story.py")
ANSWER_SECONDS = 30


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status 0 if every interpreter that is there passed, and every one that was named is there."""
    parser = argparse.ArgumentParser(prog="python -m tools.pythons", description=__doc__)
    parser.add_argument("versions", nargs="*", help=f"such as 3.12; without any: {', '.join(SUPPORTED)}")
    options, pytest_arguments = parser.parse_known_args(arguments)
    environments = Environments(asked_by="pythons")
    results: dict[str, tuple[str, Sequence[Outcome]]] = {}
    for version in options.versions or SUPPORTED:
        python, answer = find_python(version)
        results[version] = (answer, _test(python, pytest_arguments, environments=environments) if python else ())
    print("\n".join(render(results)))
    passed = [version for version, (_, outcomes) in results.items() if outcomes and all(one.ended_well for one in outcomes)]
    needed = options.versions or [version for version, (_, outcomes) in results.items() if outcomes]
    return int(not needed or set(needed) != set(passed))


def find_python(version: str) -> tuple[Path | None, str]:
    """Return the interpreter and its full version; or nothing, and why. A name in the PATH may be a shim without a program."""
    found = shutil.which(f"python{version}")
    if not found:
        return None, f"no python{version} in the PATH"
    try:
        code = "import platform; print(platform.python_version())"
        done = subprocess.run(
            [found, "-I", "-c", code], capture_output=True, text=True, timeout=ANSWER_SECONDS, check=False
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        return None, f"{found} does not start ({error})"
    if done.returncode or not done.stdout.startswith(f"{version}."):
        words = (done.stderr.strip() or done.stdout.strip() or f"exit status {done.returncode}").splitlines()
        return None, f"{found} does not start ({words[0]})"
    return Path(found), done.stdout.strip()


def render(results: Mapping[str, tuple[str, Sequence[Outcome]]]) -> list[str]:
    """Return a table, and below it what failed and what was skipped."""
    lines = ["| Python | Unit tests | End-to-end story |", "|---|---|---|"]
    for version, (answer, outcomes) in results.items():
        cells = [str(one) for one in outcomes] if outcomes else ["not run", "not run"]
        lines.append(f"| {answer if outcomes else version} | {' | '.join(cells)} |")
    for version, (answer, outcomes) in results.items():
        notes = [note for one in outcomes for note in one.explain()] if outcomes else [answer]
        lines += [f"{version}: {note}" for note in notes]
    return lines


def _test(python: Path, pytest_arguments: Sequence[str], *, environments: Environments) -> tuple[Outcome, Outcome]:
    with tempfile.TemporaryDirectory(prefix="dbclusterref-python-") as scratch:
        inside = environments.make(Path(scratch) / "venv", python=python, requirements="dev.txt") / "python"
        environments.uv(
            "pip", "install", "--quiet", "--python", inside, "--no-deps", "--no-build-isolation", "--editable", ROOT
        )
        environments.uv("pip", "check", "--quiet", "--python", inside)
        return run_pytest(inside, [*UNIT_TESTS, *pytest_arguments]), run_pytest(inside, [*STORY, *pytest_arguments])


if __name__ == "__main__":
    sys.exit(main())
