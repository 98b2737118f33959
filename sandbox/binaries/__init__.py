"""The programs of the control plane and of a node, found or brought: see `ensure_assets` and `ensure_node_programs`."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from sandbox.binaries.assets import NODE_PROGRAMS, PROGRAMS, AssetsError, find_fault, require_whole
from sandbox.binaries.cache import Cache
from sandbox.binaries.compiled import NODE_TARGETS, build, build_release
from sandbox.binaries.official import Origins, download, download_programs
from sandbox.binaries.pins import Pins, read_pins
from sandbox.progress import Say, say_on_stderr

__all__ = ["NODE_PROGRAMS", "PROGRAMS", "AssetsError", "Way", "ensure_assets", "ensure_node_programs", "ensure_release"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """One way to get the programs. `fetch` puts all of them into the directory it is given, or raises `AssetsError`."""

    name: str
    fetch: Callable[[Path], None]


def ensure_assets(*, environ: Mapping[str, str] = os.environ, say: Say = say_on_stderr) -> Path:
    """The directory that holds etcd, kube-apiserver, kube-controller-manager and kubectl; brings them if need be.

    In this order: `KUBEBUILDER_ASSETS`, the user's cache, the official archives, a build from Go modules. Blocks, in the last
    case for minutes. Raises `AssetsError`, which tells what was tried and what to do.
    """
    if chosen := environ.get("KUBEBUILDER_ASSETS"):
        return use_chosen(Path(chosen))
    pins, cache = read_pins(), Cache.of_user(environ)
    compiled = Way(
        name=f"a build of Kubernetes {pins.kubernetes} and etcd {pins.etcd} from Go modules",
        fetch=lambda stage: build(stage, pins=pins, cache=cache, environ=environ, say=say),
    )
    return _bring_control_plane(pins, cache=cache, compiled=compiled, say=say)


def ensure_release(kubernetes: str, *, environ: Mapping[str, str] = os.environ, say: Say = say_on_stderr) -> Path:
    """As `ensure_assets`, for the control plane of any release, such as 1.34.1; `KUBEBUILDER_ASSETS` does not count.

    Raises `AssetsError`.
    """
    pins = read_pins()
    if kubernetes == pins.kubernetes:
        return ensure_assets(environ={name: value for name, value in environ.items() if name != "KUBEBUILDER_ASSETS"}, say=say)
    cache = Cache.of_user(environ)
    compiled = Way(
        name=f"a build of Kubernetes {kubernetes} and its etcd from Go modules",
        fetch=lambda stage: build_release(stage, kubernetes=kubernetes, cache=cache, environ=environ, say=say),
    )
    return _bring_control_plane(pins.of_release(kubernetes), cache=cache, compiled=compiled, say=say)


def _bring_control_plane(pins: Pins, *, cache: Cache, compiled: Way, say: Say) -> Path:
    official = Way(
        name=f"the official archives of Kubernetes {pins.kubernetes}",
        fetch=lambda stage: download(stage, pins=pins, origins=Origins(), say=say),
    )
    return fetch_once(cache=cache, key=pins.key, programs=PROGRAMS, ways=(official, compiled), say=say)


def ensure_node_programs(*, environ: Mapping[str, str] = os.environ, say: Say = say_on_stderr) -> Path:
    """The directory that holds kubelet and kube-scheduler; brings them if need be.

    In this order: `KUBEBUILDER_ASSETS` where that directory has both, the user's cache, the official programs, a build from Go
    modules. Blocks, in the last case for about a minute and a half. Raises `AssetsError`.
    """
    if (chosen := environ.get("KUBEBUILDER_ASSETS")) and not find_fault(Path(chosen), programs=NODE_PROGRAMS):
        return Path(chosen).absolute()
    pins = read_pins()
    cache = Cache.of_user(environ)
    ways = (
        Way(
            name=f"the official programs of Kubernetes {pins.kubernetes}",
            fetch=lambda stage: download_programs(stage, *NODE_PROGRAMS, pins=pins, origins=Origins(), say=say),
        ),
        Way(
            name=f"a build of Kubernetes {pins.kubernetes} from Go modules",
            fetch=lambda stage: build(stage, pins=pins, cache=cache, environ=environ, say=say, targets=NODE_TARGETS),
        ),
    )
    return fetch_once(cache=cache, key=pins.node_key, programs=NODE_PROGRAMS, ways=ways, say=say)


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


def fetch_once(*, cache: Cache, key: str, ways: tuple[Way, ...], say: Say, programs: tuple[str, ...] = PROGRAMS) -> Path:
    """Each way in turn until one works; one process at a time, the others wait and find the result."""
    final = cache.root / key
    if final.is_dir():
        return final
    answers = []
    with cache.locked(key, say=say):
        if final.is_dir():
            return final
        for way in ways:
            say(f"{', '.join(programs)}: trying {way.name}")
            try:
                with cache.staged(final) as stage:
                    way.fetch(stage)
                    require_whole(stage, programs=programs)
            except AssetsError as error:
                say(f"  not this way: {error}")
                answers.append(f"  - {way.name}: {error}")
            else:
                say(f"{', '.join(programs)}: ready in {final}")
                return final
    raise AssetsError(
        "\n".join(
            [
                f"{', '.join(programs)} could not be had. Tried:",
                *answers,
                f"Remedy: put {', '.join(PROGRAMS)} (for a node, {', '.join(NODE_PROGRAMS)} too), all of one version, into one",
                "directory and set KUBEBUILDER_ASSETS to it; or make one of the ways above work and try again.",
            ]
        )
    )
