"""Flux's kustomize-controller: built once, when a test needs it, from the module that `sandbox/flux` pins.

`python -m sandbox.binaries.flux` brings it and prints its directory.
"""

import os
import platform
import re
import sys
from collections.abc import Mapping
from pathlib import Path

from sandbox.binaries.assets import AssetsError
from sandbox.binaries.cache import Cache
from sandbox.binaries.compiled import Target, ensure_tools
from sandbox.progress import Say, say_on_stderr

MODULE = Path(__file__).parent.parent / "flux"
PACKAGE = "github.com/fluxcd/kustomize-controller"
CRDS = "config/crd/bases"


def ensure_flux(*, environ: Mapping[str, str] = os.environ, say: Say = say_on_stderr) -> Path:
    """Return the directory with the program and, under `crds/`, its own CustomResourceDefinitions.

    Building takes some minutes, once. Raises `AssetsError`, which says what failed.
    """
    version = re.search(rf"{PACKAGE} v(\S+)", (MODULE / "go.mod").read_text())
    assert version, f"go.mod does not name {PACKAGE}"
    return ensure_tools(
        f"flux-kustomize-controller-v{version[1]}-{sys.platform}-{platform.machine().lower()}",
        what="Flux's kustomize-controller",
        module=MODULE,
        targets=(Target(program="kustomize-controller", package=PACKAGE),),
        copied={"crds": (PACKAGE, CRDS)},
        cache=Cache.of_user(environ),
        environ=environ,
        say=say,
    )


if __name__ == "__main__":
    try:
        print(ensure_flux())
    except AssetsError as error:
        say_on_stderr(f"flux: {error}")
        sys.exit(1)
