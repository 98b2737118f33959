"""etcdutl, which restores a snapshot of etcd: built once, when a test needs it, from the module that `sandbox/etcdutl` pins."""

import os
import platform
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from sandbox.binaries.assets import AssetsError
from sandbox.binaries.cache import Cache
from sandbox.binaries.compiled import build_environment
from sandbox.binaries.toolchain import ensure_go
from sandbox.progress import Say, say_on_stderr
from sandbox.tether import tethered

MODULE = Path(__file__).parent.parent / "etcdutl"
PACKAGE = "go.etcd.io/etcd/etcdutl/v3"


def ensure_etcdutl(*, environ: Mapping[str, str] = os.environ, say: Say = say_on_stderr) -> Path:
    """Return the program; build it if need be, which takes a minute, once. Raises `AssetsError`, which says what failed."""
    go_mod = (MODULE / "go.mod").read_text()
    version, needed = re.search(rf"{PACKAGE} v(\S+)", go_mod), re.search(r"^go (\S+)", go_mod, re.MULTILINE)
    assert version, f"go.mod does not name {PACKAGE}"
    assert needed, "go.mod names no version of Go"
    cache, key = Cache.of_user(environ), f"etcdutl-v{version[1]}-{sys.platform}-{platform.machine().lower()}"
    final = cache.root / key
    with cache.locked(key, say=say):
        if not final.is_dir():
            say("etcdutl: building it from its Go module; a minute on two cores, once")
            with cache.staged(final) as stage:
                _build(stage / "etcdutl", go=needed[1], cache=cache, environ=environ, say=say)
    return final / "etcdutl"


def _build(program: Path, *, go: str, cache: Cache, environ: Mapping[str, str], say: Say) -> None:
    toolchain = ensure_go(needed=go, cache=cache, environ=environ, say=say)
    command = [str(toolchain.go), "build", "-mod=readonly", "-trimpath", "-ldflags=-s -w", "-o", str(program), PACKAGE]
    environment = build_environment(toolchain.environment(environ))
    built = subprocess.run(tethered(command), cwd=MODULE, env=environment, capture_output=True, text=True, check=False)
    toolchain.remove()
    if built.returncode:
        raise AssetsError(f"etcdutl could not be built: {built.stderr[-1000:]}")
