"""Lints the GitHub workflows: actionlint (built once from the pinned Go module) and zizmor (without the network)."""

import os
import re
import subprocess
import sys
import sysconfig
from pathlib import Path

from sandbox.binaries import AssetsError
from sandbox.binaries.cache import Cache
from sandbox.binaries.toolchain import ensure_go
from sandbox.progress import say_on_stderr

ROOT = Path(__file__).parents[1]
MODULE = ROOT / "tools" / "actionlint"
PACKAGE = "github.com/rhysd/actionlint/cmd/actionlint"


def main() -> int:
    """Exit status 0 if both linters have nothing to say."""
    scripts = sysconfig.get_path("scripts")
    # actionlint finds shellcheck on the PATH, and leaves out the check of `run:` steps where it is missing.
    environ = {**os.environ, "PATH": f"{scripts}{os.pathsep}{os.environ.get('PATH', '')}"}
    try:
        actionlint = build_actionlint()
    except AssetsError as error:
        print(f"workflows: {error}", file=sys.stderr)
        return 1
    color = [] if sys.stdout.isatty() and "NO_COLOR" not in os.environ else ["-no-color"]
    commands = (
        [str(actionlint), *color],
        # --pedantic: least permissions, concurrency limits and names are asked for as well.
        ["zizmor", "--offline", "--quiet", "--pedantic", "--strict-collection", ".github"],
    )
    return max(subprocess.run(command, cwd=ROOT, env=environ, check=False).returncode for command in commands)


def build_actionlint() -> Path:
    """Return the program of the version in go.mod, from the user's cache if it is there."""
    text = (MODULE / "go.mod").read_text()
    version = _find(r"github\.com/rhysd/actionlint v(\S+)", text)
    cache = Cache.of_user(os.environ)
    final = cache.root / f"actionlint-v{version}"
    program = final / "actionlint"
    with cache.locked(final.name, say=say_on_stderr):
        if program.is_file():
            return program
        say_on_stderr(f"Building actionlint {version}, once, into {final}")
        toolchain = ensure_go(needed=_find(r"^go (\S+)", text), cache=cache, environ=os.environ, say=say_on_stderr)
        environ = {**toolchain.environment(os.environ), "CGO_ENABLED": "0", "GOTOOLCHAIN": "local", "GOWORK": "off"}
        with cache.staged(final) as stage:
            command = [str(toolchain.go), "build", "-mod=readonly", "-trimpath", "-o", str(stage / "actionlint"), PACKAGE]
            built = subprocess.run(command, cwd=MODULE, env=environ, capture_output=True, text=True, check=False)
            if built.returncode != 0:
                raise AssetsError(f"actionlint could not be built: {built.stderr.strip()}")
        toolchain.remove()
    return program


def _find(pattern: str, text: str) -> str:
    found = re.search(pattern, text, re.MULTILINE)
    assert found, f"tools/actionlint/go.mod has no line like {pattern}"
    return found[1]


if __name__ == "__main__":
    sys.exit(main())
