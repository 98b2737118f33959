"""etcdutl, which restores a snapshot of etcd: built once, when a test needs it, from the module that `sandbox/etcdutl` pins."""

import os
from collections.abc import Mapping
from pathlib import Path

from sandbox.binaries.compiled import Target, ensure_pinned
from sandbox.progress import Say, say_on_stderr

MODULE = Path(__file__).parent.parent / "etcdutl"
PROGRAM = Target(program="etcdutl", package="go.etcd.io/etcd/etcdutl/v3")


def ensure_etcdutl(*, environ: Mapping[str, str] = os.environ, say: Say = say_on_stderr) -> Path:
    """Return the program; build it if need be, which takes a minute, once. Raises `AssetsError`, which says what failed."""
    return ensure_pinned("etcdutl", PROGRAM, what="etcdutl", module=MODULE, environ=environ, say=say) / PROGRAM.program
