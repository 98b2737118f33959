"""Runs the end-to-end and failure tests on several versions of Kubernetes, from the official archives.

Without versions: the newest patch of each minor version from LEAST on, as envtest's list of releases has them.
"""

import argparse
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import httpx
import yaml

from sandbox.binaries import AssetsError, Way, fetch_once
from sandbox.binaries.cache import Cache
from sandbox.binaries.official import TIMEOUT, Origins, download
from sandbox.binaries.pins import read_pins
from sandbox.progress import say_on_stderr

ROOT = Path(__file__).parents[1]
# Older ones lack selectableFields, which the CRD uses.
LEAST = (1, 31)


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status 0 if every version passed."""
    parser = argparse.ArgumentParser(prog="tools/matrix.py", description=__doc__)
    parser.add_argument("versions", nargs="*", help="such as 1.34.1")
    options, pytest_arguments = parser.parse_known_args(arguments)
    try:
        versions = options.versions or select_versions(read_index(Origins().index), least=LEAST)
        failed = [version for version in versions if not passes(version, pytest_arguments)]
    except AssetsError as error:
        print(f"matrix: {error}", file=sys.stderr)
        return 1
    for version in versions:
        print(f"matrix: Kubernetes {version} {'failed' if version in failed else 'passed'}")
    return 1 if failed else 0


def read_index(url: str) -> str:
    """Raises `AssetsError` if it cannot be read."""
    try:
        return httpx.get(url, timeout=TIMEOUT, follow_redirects=True).raise_for_status().text
    except httpx.HTTPError as error:
        raise AssetsError(f"{url}: {str(error) or type(error).__name__}. Name the versions: make matrix ARGS=1.34.1") from error


def select_versions(index: str, *, least: tuple[int, int]) -> list[str]:
    """Return the newest patch of each minor version, oldest first; release candidates do not count."""
    newest: dict[tuple[int, int], int] = {}
    for name in yaml.safe_load(index)["releases"]:
        if found := re.fullmatch(r"v(\d+)\.(\d+)\.(\d+)", name):
            major, minor, patch = map(int, found.groups())
            newest[major, minor] = max(patch, newest.get((major, minor), 0))
    return [f"{major}.{minor}.{patch}" for (major, minor), patch in sorted(newest.items()) if (major, minor) >= least]


def passes(version: str, pytest_arguments: Sequence[str]) -> bool:
    """Fetch that version's control plane, unless it is cached, and run the tests on it."""
    pins = replace(read_pins(), kubernetes=version)
    way = Way(
        name=f"the official archives of Kubernetes {version}",
        fetch=lambda stage: download(stage, pins=pins, origins=Origins(), say=say_on_stderr),
    )
    directory = fetch_once(cache=Cache.of_user(os.environ), key=pins.key, ways=(way,), say=say_on_stderr)
    say_on_stderr(f"Kubernetes {version}")
    command = [sys.executable, "-m", "pytest", "-m", "e2e and not slow", "tests/e2e", "tests/failures", *pytest_arguments]
    environ = {**os.environ, "KUBEBUILDER_ASSETS": str(directory)}
    return subprocess.run(command, cwd=ROOT, env=environ, check=False).returncode == 0


if __name__ == "__main__":
    sys.exit(main())
