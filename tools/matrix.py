"""Runs the end-to-end and failure tests on several releases of Kubernetes, each with the etcd it comes with.

Without versions: the least that the operator supports, the sandbox's own, and the newest there is. With --every: the newest
patch of each minor version from the least on. Envtest's list says which releases there are, or the Go module proxy where that
list cannot be reached. Each release is downloaded or built once and kept in the cache; a patch that cannot be had gives way to
the one before.
"""

import argparse
import os
import re
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import httpx
import yaml

from sandbox.binaries import AssetsError, ensure_release
from sandbox.binaries.cache import Cache
from sandbox.binaries.compiled import build_environment
from sandbox.binaries.official import TIMEOUT, Origins
from sandbox.binaries.pins import read_pins
from sandbox.binaries.release_module import list_releases
from sandbox.binaries.toolchain import ensure_go
from sandbox.progress import say_on_stderr
from tools.outcome import Outcome, run_pytest

# Older ones lack selectableFields, which the CRD uses.
LEAST = (1, 31)
TESTS = ("-m", "e2e and not slow", "tests/e2e", "tests/failures")

Version = tuple[int, int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line of the table. `outcome` is missing where `fault` says why nothing ran."""

    kubernetes: str
    etcd: str = "unknown"
    outcome: Outcome | None = None
    fault: str = ""


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status 0 if every version could be had and passed."""
    parser = argparse.ArgumentParser(prog="python -m tools.matrix", description=__doc__)
    parser.add_argument("versions", nargs="*", help="such as 1.34.1")
    parser.add_argument("--every", action="store_true", help="each minor version instead of three")
    options, pytest_arguments = parser.parse_known_args(arguments)
    try:
        wanted = [[version] for version in options.versions] or select_versions(
            find_releases(), least=LEAST, default=read_pins().kubernetes, every=options.every
        )
    except AssetsError as error:
        print(f"matrix: {error}", file=sys.stderr)
        return 1
    rows = [_try_first(patches, pytest_arguments) for patches in wanted]
    print(render_table(rows, today=datetime.now(tz=UTC).strftime("%Y-%m-%d")))
    return int(not all(row.outcome and row.outcome.ended_well for row in rows))


def find_releases() -> list[str]:
    """Every release that is published somewhere we can reach, release candidates included. Raises `AssetsError`."""
    try:
        index = httpx.get(Origins().index, timeout=TIMEOUT, follow_redirects=True).raise_for_status().text
    except httpx.HTTPError as error:
        say_on_stderr(f"{Origins().index}: {str(error) or type(error).__name__}; asking the Go module proxy instead")
        cache = Cache.of_user(os.environ)
        toolchain = ensure_go(needed=read_pins().go, cache=cache, environ=os.environ, say=say_on_stderr)
        return list_releases(toolchain.go, environ=build_environment(toolchain.environment(os.environ)))
    return [name.removeprefix("v") for name in yaml.safe_load(index)["releases"]]


def select_versions(released: Iterable[str], *, least: tuple[int, int], default: str, every: bool) -> list[list[str]]:
    """Return for each line of the table the patches that would do, the best first; release candidates do not count."""
    finished = {tuple(map(int, found.groups())) for name in released if (found := re.fullmatch(r"(\d+)\.(\d+)\.(\d+)", name))}
    of_minor: dict[tuple[int, int], list[str]] = {}
    for major, minor, patch in sorted(finished, reverse=True):
        if (major, minor) >= least:
            of_minor.setdefault((major, minor), []).append(f"{major}.{minor}.{patch}")
    minors = sorted(of_minor)
    if not every:
        minors = sorted({*minors[:1], *minors[-1:]})
    mine = tuple(map(int, default.split(".")[:2]))
    others = [of_minor[minor] for minor in minors if minor != mine]
    return sorted([*others, [default]], key=lambda patches: tuple(map(int, patches[0].split("."))))


def _try_first(patches: Sequence[str], pytest_arguments: Sequence[str]) -> Row:
    faults = []
    for version in patches:
        try:
            directory = ensure_release(version)
        except AssetsError as error:
            say_on_stderr(f"Kubernetes {version} could not be had:\n{error}")
            faults.append(f"{version} could not be had")
            continue
        say_on_stderr(f"Kubernetes {version}")
        outcome = run_pytest(sys.executable, [*TESTS, *pytest_arguments], environ={"KUBEBUILDER_ASSETS": str(directory)})
        return Row(kubernetes=version, etcd=_read_etcd_version(directory), outcome=outcome, fault="; ".join(faults))
    return Row(kubernetes=patches[0], fault="; ".join(faults))


def render_table(rows: Sequence[Row], *, today: str) -> str:
    """Return the table as the docs have it, and below it what failed, what was skipped, and what could not be had."""
    lines = ["| Kubernetes | etcd | End-to-end and failure tests | On |", "|---|---|---|---|"]
    lines += [f"| {row.kubernetes} | {row.etcd} | {row.outcome or 'not run'} | {today} |" for row in rows]
    for row in rows:
        notes = [*([row.fault] if row.fault else []), *(row.outcome.explain() if row.outcome else [])]
        lines += [f"{row.kubernetes}: {note}" for note in notes]
    return "\n".join(lines)


def _read_etcd_version(directory: Path) -> str:
    answer = subprocess.run([directory / "etcd", "--version"], capture_output=True, text=True, check=False).stdout
    found = re.search(r"etcd Version: (\S+)", answer)
    return found[1] if found else "unknown"


if __name__ == "__main__":
    sys.exit(main())
