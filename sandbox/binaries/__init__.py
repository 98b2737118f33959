"""The programs of the control plane, found or brought: see `ensure_assets`."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from sandbox.binaries.assets import PROGRAMS, AssetsError, find_fault, require_whole
from sandbox.binaries.cache import Cache
from sandbox.binaries.compiled import build
from sandbox.binaries.official import Origins, download
from sandbox.binaries.pins import Pins, read_pins
from sandbox.progress import Say, say_on_stderr

__all__ = ["PROGRAMS", "AssetsError", "Way", "ensure_assets"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """One way to get the programs. `fetch` puts all four into the directory it is given, or raises `AssetsError`."""

    name: str
    fetch: Callable[[Path], None]


def ensure_assets(*, environ: Mapping[str, str] = os.environ, say: Say = say_on_stderr) -> Path:
    """The directory that holds etcd, kube-apiserver, kube-controller-manager and kubectl; brings them if need be.

    In this order: `KUBEBUILDER_ASSETS`, the user's cache, the official archives, a build from Go modules. Blocks, in the last
    case for minutes. Raises `AssetsError`, which tells what was tried and what to do.
    """
    if chosen := environ.get("KUBEBUILDER_ASSETS"):
        return use_chosen(Path(chosen))
    pins = read_pins()
    cache = Cache.of_user(environ)
    ways = (
        Way(
            name=f"the official archives of Kubernetes {pins.kubernetes}",
            fetch=lambda stage: download(stage, pins=pins, origins=Origins(), say=say),
        ),
        Way(
            name=f"a build of Kubernetes {pins.kubernetes} and etcd {pins.etcd} from Go modules",
            fetch=lambda stage: build(stage, pins=pins, cache=cache, environ=environ, say=say),
        ),
    )
    return fetch_once(cache=cache, pins=pins, ways=ways, say=say)


def use_chosen(directory: Path) -> Path:
    """What the user named is used or refused, and never silently replaced by something else."""
    directory = directory.expanduser().absolute()
    if fault := find_fault(directory):
        pins = read_pins()
        raise AssetsError(
            f"KUBEBUILDER_ASSETS={directory}: {fault}. It must hold {', '.join(PROGRAMS)}"
            f" (setup-envtest brings no kube-controller-manager: {Origins().controller_manager(pins)} is the official one)."
            " Fix it, or unset KUBEBUILDER_ASSETS to have all of them brought."
        )
    return directory


def fetch_once(*, cache: Cache, pins: Pins, ways: tuple[Way, ...], say: Say) -> Path:
    """Each way in turn until one works; one process at a time, the others wait and find the result."""
    final = cache.root / pins.key
    if final.is_dir():
        return final
    answers = []
    with cache.locked(pins.key, say=say):
        if final.is_dir():
            return final
        for way in ways:
            say(f"Control-plane programs: trying {way.name}")
            try:
                with cache.staged(final) as stage:
                    way.fetch(stage)
                    require_whole(stage)
            except AssetsError as error:
                say(f"  not this way: {error}")
                answers.append(f"  - {way.name}: {error}")
            else:
                say(f"Control-plane programs: ready in {final}")
                return final
    raise AssetsError(
        "\n".join(
            [
                "The control plane's programs could not be had. Tried:",
                *answers,
                f"Remedy: put {', '.join(PROGRAMS)} (Kubernetes {pins.kubernetes} or near it) into one directory",
                "and set KUBEBUILDER_ASSETS to it; or make one of the ways above work and try again.",
            ]
        )
    )
