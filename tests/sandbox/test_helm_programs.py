"""helm and helm-docs: which ones, and where they are kept."""

import re
from pathlib import Path

import pytest

from sandbox.binaries.assets import AssetsError
from sandbox.binaries.cache import Cache
from sandbox.binaries.helm import MODULE, TARGETS, ensure_helm, read_key


def test_the_place_in_the_cache_names_both_versions_that_go_mod_pins() -> None:
    text = (MODULE / "go.mod").read_text()
    versions = re.findall(r"^\t(?:helm\.sh/helm/v4|github\.com/norwoodj/helm-docs) (v\S+)", text, re.MULTILINE)
    assert len(versions) == 2
    assert all(version in read_key() for version in versions)


def test_every_program_is_a_tool_of_the_module() -> None:
    text = (MODULE / "go.mod").read_text()
    tools = re.findall(r"^\t(\S+/cmd/\S+)$", text, re.MULTILINE)
    assert sorted(target.package for target in TARGETS) == sorted(tools)


def test_what_is_in_the_cache_is_used_as_it_is(tmp_path: Path) -> None:
    environ = {"XDG_CACHE_HOME": str(tmp_path)}
    final = Cache.of_user(environ).root / read_key()
    final.mkdir(parents=True)
    assert ensure_helm(environ=environ, say=pytest.fail) == final


def test_a_build_that_fails_leaves_nothing_and_says_why(tmp_path: Path) -> None:
    broken = tmp_path / "bin" / "go"
    broken.parent.mkdir()
    broken.write_text('#!/bin/sh\n[ "$1" = env ] && echo go1.99.0 && exit\necho "no such module" >&2\nexit 1\n')
    broken.chmod(0o755)
    environ = {"XDG_CACHE_HOME": str(tmp_path), "PATH": f"{broken.parent}:/usr/bin:/bin"}
    with pytest.raises(AssetsError, match="no such module"):
        ensure_helm(environ=environ, say=lambda _: None)
    root = Cache.of_user(environ).root
    assert [path.name for path in root.iterdir()] == [f"{read_key()}.lock"]
