"""Flux's kustomize-controller: built once, when a test needs it, from the module that `sandbox/flux` pins."""

import os
from collections.abc import Mapping
from pathlib import Path

from sandbox.binaries.compiled import Target, ensure_pinned
from sandbox.progress import Say, say_on_stderr

MODULE = Path(__file__).parent.parent / "flux"
PROGRAM = Target(program="kustomize-controller", package="github.com/fluxcd/kustomize-controller")
CRDS = "config/crd/bases"


def ensure_flux(*, environ: Mapping[str, str] = os.environ, say: Say = say_on_stderr) -> Path:
    """Return the directory with the program and, under `crds/`, its own CustomResourceDefinitions.

    Building takes some minutes, once. Raises `AssetsError`, which says what failed.
    """
    return ensure_pinned(
        "flux-kustomize-controller",
        PROGRAM,
        what="Flux's kustomize-controller",
        module=MODULE,
        environ=environ,
        say=say,
        copied={"crds": (PROGRAM.package, CRDS)},
    )
