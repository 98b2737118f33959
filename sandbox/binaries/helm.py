"""Helm and helm-docs, for the tests of the chart and for its README: built once from the modules that `sandbox/helm` pins."""

import os
import platform
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from sandbox.binaries.assets import ANSWER_SECONDS, AssetsError
from sandbox.binaries.cache import Cache
from sandbox.binaries.compiled import Target, ensure_tools
from sandbox.progress import Say, say_on_stderr

MODULE = Path(__file__).parent.parent / "helm"
TARGETS = (
    Target(program="helm", package="helm.sh/helm/v4/cmd/helm"),
    Target(program="helm-docs", package="github.com/norwoodj/helm-docs/cmd/helm-docs"),
)


def read_key(go_mod: Path = MODULE / "go.mod") -> str:
    """Name the directory in the cache: other versions or another machine's programs never meet."""
    pins = dict(re.findall(r"^\t(\S+) (v\S+)", go_mod.read_text(), re.MULTILINE))
    helm, docs = pins["helm.sh/helm/v4"], pins["github.com/norwoodj/helm-docs"]
    return f"helm-{helm}-helm-docs-{docs}-{sys.platform}-{platform.machine().lower()}"


def ensure_helm(*, environ: Mapping[str, str] = os.environ, say: Say = say_on_stderr) -> Path:
    """Return the directory that holds helm and helm-docs; build them if need be, which takes two to four minutes, once.

    Raises `AssetsError`, which tells what failed.
    """
    cache, key = Cache.of_user(environ), read_key()
    return ensure_tools(
        key,
        what="Helm and helm-docs",
        module=MODULE,
        targets=TARGETS,
        cache=cache,
        environ=environ,
        say=say,
        prove=_require_running,
    )


def _require_running(program: Path) -> None:
    argument = "version" if program.name == "helm" else "--help"
    try:
        subprocess.run([program, argument], capture_output=True, timeout=ANSWER_SECONDS, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        raise AssetsError(f"{program.name} was built but does not run here ({error})") from error
