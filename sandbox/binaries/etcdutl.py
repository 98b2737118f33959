"""etcdutl, which restores a snapshot of etcd: built once, when a test needs it, from the module that `sandbox/etcdutl` pins."""

import os
import platform
import re
import sys
from collections.abc import Mapping
from pathlib import Path

from sandbox.binaries.cache import Cache
from sandbox.binaries.compiled import Target, ensure_tools
from sandbox.progress import Say, say_on_stderr

MODULE = Path(__file__).parent.parent / "etcdutl"
PROGRAM = Target(program="etcdutl", package="go.etcd.io/etcd/etcdutl/v3")


def ensure_etcdutl(*, environ: Mapping[str, str] = os.environ, say: Say = say_on_stderr) -> Path:
    """Return the program; build it if need be, which takes a minute, once. Raises `AssetsError`, which says what failed."""
    version = re.search(rf"{PROGRAM.package} v(\S+)", (MODULE / "go.mod").read_text())
    assert version, f"go.mod does not name {PROGRAM.package}"
    key = f"etcdutl-v{version[1]}-{sys.platform}-{platform.machine().lower()}"
    cache = Cache.of_user(environ)
    tools = ensure_tools(key, what="etcdutl", module=MODULE, targets=(PROGRAM,), cache=cache, environ=environ, say=say)
    return tools / PROGRAM.program
