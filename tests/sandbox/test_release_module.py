import os
from pathlib import Path

import pytest

from sandbox.binaries import AssetsError, ensure_release
from sandbox.binaries.cache import Cache
from sandbox.binaries.compiled import TARGETS, build_release
from sandbox.binaries.pins import read_pins
from sandbox.binaries.release_module import find_etcd, list_releases, render_go_mod
from tests.support.programs import write_program

GO_MOD = """module k8s.io/kubernetes

go 1.22.0

require (
\tgo.etcd.io/etcd/client/v3 v3.5.14
\tk8s.io/api v0.0.0
\tk8s.io/apimachinery v0.0.0
\tk8s.io/utils v0.0.0-20240711033017-18e509b52bc8
)
"""
DEPENDENCIES = """
dependencies:
  - name: "coredns"
    version: 1.11.1
  - name: "etcd"
    version: 3.5.15
"""
FAKE_GO = """#!/bin/sh
case "$1 $2" in
  "env GOVERSION") echo go1.26.9 ;;
  "list -m") echo '{"Path": "k8s.io/kubernetes", "Versions": ["v1.31.0", "v1.32.0-rc.1"]}' ;;
  "mod download")
    [ "$4" = k8s.io/kubernetes@v1.31.0 ] || { echo '{"Error": "not served"}'; exit 1; }
    printf '{"Dir": "%s", "GoMod": "%s/go.mod"}' "$SOURCE" "$SOURCE" ;;
  "list -mod=mod") cp go.mod "$SOURCE/seen" && touch go.sum ;;
  build*)
    grep -q '^module .*kubernetes-v1.31.0$' go.mod && [ -e go.sum ] || exit 1
    while [ $# -gt 1 ]; do [ "$1" = -o ] && { printf '#!/bin/sh\\nexit 0\\n' >"$2"; chmod +x "$2"; }; shift; done ;;
esac
"""


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    """A Go toolchain that serves one release."""
    source = tmp_path / "source"
    (source / "build").mkdir(parents=True)
    (source / "go.mod").write_text(GO_MOD)
    (source / "build" / "dependencies.yaml").write_text(DEPENDENCIES)
    write_program(tmp_path / "bin" / "go", FAKE_GO)
    return {"PATH": f"{tmp_path / 'bin'}{os.pathsep}{os.defpath}", "SOURCE": str(source)}


def test_a_module_builds_what_kubernetes_own_builds_with_the_published_staging_modules() -> None:
    lines = render_go_mod(GO_MOD, kubernetes="1.31.0", etcd="3.5.15").splitlines()
    assert lines == [
        "module dbclusterref.io/sandbox/kubernetes-v1.31.0",
        "go 1.22.0",
        "godebug default=go1.22",
        "require k8s.io/kubernetes v1.31.0",
        "require go.etcd.io/etcd/server/v3 v3.5.15",
        "replace k8s.io/api => k8s.io/api v0.31.0",
        "replace k8s.io/apimachinery => k8s.io/apimachinery v0.31.0",
    ]


def test_the_behaviour_that_a_release_asks_of_its_compiler_is_kept() -> None:
    assert "godebug default=go1.26" in render_go_mod(f"{GO_MOD}\ngodebug default=go1.26\n", kubernetes="1.37.0", etcd="3.7.0")


def test_a_release_without_an_etcd_is_refused() -> None:
    assert find_etcd(DEPENDENCIES) == "3.5.15"
    with pytest.raises(AssetsError, match="names no etcd"):
        find_etcd("dependencies: []")


def test_any_release_is_built_from_a_module_of_its_own(tmp_path: Path, environ: dict[str, str]) -> None:
    said: list[str] = []
    stage = tmp_path / "stage"
    stage.mkdir()
    build_release(stage, kubernetes="1.31.0", cache=Cache(root=tmp_path / "cache"), environ=environ, say=said.append)
    assert sorted(path.name for path in stage.iterdir()) == sorted(target.program for target in TARGETS)


def test_a_release_that_is_not_served_is_named(tmp_path: Path, environ: dict[str, str]) -> None:
    with pytest.raises(AssetsError, match=r"(?s)k8s\.io/kubernetes@v1\.31\.14.*not served"):
        build_release(tmp_path, kubernetes="1.31.14", cache=Cache(root=tmp_path), environ=environ, say=lambda _: None)


def test_the_module_proxy_is_asked_which_releases_there_are(tmp_path: Path, environ: dict[str, str]) -> None:
    assert list_releases(tmp_path / "bin" / "go", environ=environ) == ["1.31.0", "1.32.0-rc.1"]


def test_each_release_has_a_place_of_its_own_in_the_cache(tmp_path: Path) -> None:
    pinned = read_pins()
    assert pinned.of_release("1.31.0").key == f"kubernetes-v1.31.0-{pinned.os}-{pinned.arch}"
    assert pinned.of_release(pinned.kubernetes) == pinned
    for pins in (pinned, pinned.of_release("1.31.0")):
        (tmp_path / "dbclusterref" / "controlplane" / pins.key).mkdir(parents=True)
        found = ensure_release(pins.kubernetes, environ={"XDG_CACHE_HOME": str(tmp_path), "KUBEBUILDER_ASSETS": "/nowhere"})
        assert found.name == pins.key
