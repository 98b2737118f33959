"""What judges a status as GitOps tools do: built once, when it is needed, from what `sandbox/verdicts` holds and pins."""

import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterable, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

from sandbox.binaries.cache import Cache
from sandbox.binaries.compiled import Target, ensure_tools
from sandbox.progress import Say, say_on_stderr

MODULE = Path(__file__).parent.parent / "verdicts"
PROGRAM = Target(program="verdicts", package=".")
SECONDS = 60


def read_key(module: Path = MODULE) -> str:
    """Name the directory in the cache: other sources, other versions or another machine's program never meet."""
    digest = sha256(b"\0".join((module / name).read_bytes() for name in ("main.go", "go.mod", "go.sum"))).hexdigest()
    return f"verdicts-{digest[:12]}-{sys.platform}-{platform.machine().lower()}"


def ensure_verdicts(*, environ: Mapping[str, str] = os.environ, say: Say = say_on_stderr) -> Path:
    """Return the program; build it if need be, which takes a minute, once. Raises `AssetsError`, which says what failed."""
    cache, key = Cache.of_user(environ), read_key()
    return (
        ensure_tools(
            key, what="kstatus and Argo CD's Lua", module=MODULE, targets=(PROGRAM,), cache=cache, environ=environ, say=say
        )
        / PROGRAM.program
    )


def judge(objects: Iterable[Mapping[str, object]], *, script: Path) -> list[dict[str, Any]]:
    """Return what kstatus, Flux's copy of it, and Argo CD with this health script say of each object."""
    lines = "".join(f"{json.dumps(one)}\n" for one in objects)
    done = subprocess.run([ensure_verdicts(), script], input=lines, capture_output=True, text=True, check=True, timeout=SECONDS)
    return [json.loads(line) for line in done.stdout.splitlines()]
