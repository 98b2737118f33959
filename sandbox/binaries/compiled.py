"""The way that needs nothing but a Go module proxy: build the programs from the modules that go.mod and go.sum pin."""

import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from sandbox.binaries.assets import AssetsError
from sandbox.binaries.cache import Cache
from sandbox.binaries.pins import GO_MODULE, Pins, read_pins
from sandbox.binaries.release_module import make_module
from sandbox.binaries.toolchain import Toolchain, ensure_go
from sandbox.progress import Say, in_words
from sandbox.tether import tethered

SAY_EVERY_SECONDS = 5
LOG_LINES_SHOWN = 10
# Kubernetes' release scripts stamp both; kubectl refuses to compare versions that are not stamped.
STAMPED = ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version")
# As in Kubernetes' release scripts; the last lets the linker drop what gRPC's tracing would hold.
TAGS = "selinux,notest,grpcnotrace"


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A program and the Go package that is its source."""

    program: str
    package: str


# The slowest first: it compiles most of what the others share.
TARGETS = (
    Target(program="kube-apiserver", package="k8s.io/kubernetes/cmd/kube-apiserver"),
    Target(program="kube-controller-manager", package="k8s.io/kubernetes/cmd/kube-controller-manager"),
    Target(program="kubectl", package="k8s.io/kubernetes/cmd/kubectl"),
    Target(program="etcd", package="go.etcd.io/etcd/server/v3"),
)
NODE_TARGETS = (
    Target(program="kubelet", package="k8s.io/kubernetes/cmd/kubelet"),
    Target(program="kube-scheduler", package="k8s.io/kubernetes/cmd/kube-scheduler"),
)


def build(
    stage: Path,
    *,
    pins: Pins,
    cache: Cache,
    environ: Mapping[str, str],
    say: Say,
    targets: tuple[Target, ...] = TARGETS,
) -> None:
    """Fills `stage` with the programs: the control plane's take about five minutes on two cores, a node's two after them.

    Less if Go's own cache knows parts of them.
    """
    toolchain = ensure_go(needed=pins.go, cache=cache, environ=environ, say=say)
    environ = build_environment(toolchain.environment(environ))
    _build_release_programs(
        stage, toolchain, kubernetes=pins.kubernetes, targets=targets, module=GO_MODULE, environ=environ, say=say
    )
    toolchain.remove()


def build_release(stage: Path, *, kubernetes: str, cache: Cache, environ: Mapping[str, str], say: Say) -> None:
    """As `build`, for a control plane of any release, from a go.mod that is made for it. Raises `AssetsError`."""
    toolchain = ensure_go(needed=read_pins().go, cache=cache, environ=environ, say=say)
    environ = build_environment(toolchain.environment(environ))
    with tempfile.TemporaryDirectory(prefix="dbclusterref-module-") as scratch:
        module = Path(scratch)
        packages = [target.package for target in TARGETS]
        make_module(module, kubernetes=kubernetes, packages=packages, tags=TAGS, go=toolchain.go, environ=environ)
        _build_release_programs(
            stage, toolchain, kubernetes=kubernetes, targets=TARGETS, module=module, environ=environ, say=say
        )
    toolchain.remove()


def _build_release_programs(
    stage: Path,
    toolchain: Toolchain,
    *,
    kubernetes: str,
    targets: tuple[Target, ...],
    module: Path,
    environ: Mapping[str, str],
    say: Say,
) -> None:
    say(f"  building {len(targets)} programs with {toolchain.go}; minutes on two cores, most of them for the first")

    def command(target: Target, to: Path) -> list[str]:
        return build_command(target, go=toolchain.go, to=to, kubernetes=kubernetes)

    _build_each(stage, targets=targets, command=command, module=module, environ=environ, say=say)


def _build_each(
    stage: Path,
    *,
    targets: tuple[Target, ...],
    command: Callable[[Target, Path], list[str]],
    module: Path,
    environ: Mapping[str, str],
    say: Say,
) -> None:
    for number, target in enumerate(targets, start=1):
        log = stage / "build.log"
        label = f"[{number} of {len(targets)}] {target.program}"
        _run(command(target, stage / target.program), label=label, log=log, environ=environ, say=say, module=module)
        log.unlink()


def ensure_tools(
    key: str,
    *,
    what: str,
    module: Path,
    targets: tuple[Target, ...],
    cache: Cache,
    environ: Mapping[str, str],
    say: Say,
    prove: Callable[[Path], object] = lambda _: None,
    copied: Mapping[str, tuple[str, str]] = MappingProxyType({}),
) -> Path:
    """Return the directory of the cache that holds the programs; build them there if need be, once.

    `prove` is given each program that was built, and raises `AssetsError` for one that does not run. `copied` has folders that
    are to lie beside the programs: name, Go module, folder in the module.
    """
    final = cache.root / key
    if final.is_dir():
        return final
    with cache.locked(key, say=say):
        if final.is_dir():
            return final
        say(f"{what}: building from Go modules; a few minutes on two cores, once")
        go = re.search(r"^go (\S+)", (module / "go.mod").read_text(), re.MULTILINE)
        assert go, "go.mod names no version of Go"
        with cache.staged(final) as stage:
            build_tools(stage, module=module, targets=targets, go=go[1], cache=cache, environ=environ, say=say, copied=copied)
            for target in targets:
                prove(stage / target.program)
    say(f"{what}: ready in {final}")
    return final


def ensure_pinned(
    key: str,
    target: Target,
    *,
    what: str,
    module: Path,
    environ: Mapping[str, str],
    say: Say,
    copied: Mapping[str, tuple[str, str]] = MappingProxyType({}),
) -> Path:
    """As `ensure_tools`, for one program whose package is a Go module: the version that go.mod pins becomes part of the key."""
    version = re.search(rf"{re.escape(target.package)} v(\S+)", (module / "go.mod").read_text())
    assert version, f"go.mod does not name {target.package}"
    return ensure_tools(
        f"{key}-v{version[1]}-{sys.platform}-{platform.machine().lower()}",
        what=what,
        module=module,
        targets=(target,),
        cache=Cache.of_user(environ),
        environ=environ,
        say=say,
        copied=copied,
    )


def build_tools(
    stage: Path,
    *,
    module: Path,
    targets: tuple[Target, ...],
    go: str,
    cache: Cache,
    environ: Mapping[str, str],
    say: Say,
    copied: Mapping[str, tuple[str, str]] = MappingProxyType({}),
) -> None:
    """Fills `stage` with programs that go.mod and go.sum in `module` pin; `go` is the version it needs."""
    toolchain = ensure_go(needed=go, cache=cache, environ=environ, say=say)
    environ = build_environment(toolchain.environment(environ))

    def command(target: Target, to: Path) -> list[str]:
        flags = ("-v", "-mod=readonly", "-trimpath", "-buildvcs=false", "-ldflags=-s -w")
        return [str(toolchain.go), "build", *flags, "-o", str(to), target.package]

    _build_each(stage, targets=targets, command=command, module=module, environ=environ, say=say)
    for name, (source, folder) in copied.items():
        find = [str(toolchain.go), "list", "-mod=readonly", "-m", "-f", "{{.Dir}}", source]
        found = subprocess.run(find, cwd=module, env=environ, capture_output=True, text=True, check=False)
        if found.returncode:
            raise AssetsError(f"{source} could not be found: {found.stderr.strip()}")
        (stage / name).mkdir()
        for file in (Path(found.stdout.strip()) / folder).iterdir():
            shutil.copyfile(file, stage / name / file.name)  # the module cache is read-only, its copy is not
    toolchain.remove()


def build_command(target: Target, *, go: Path, to: Path, kubernetes: str) -> list[str]:
    """For the module's own directory. Flags, unlike GOFLAGS, leave alone what the user set there."""
    major, minor, _ = kubernetes.split(".", 2)
    stamps = {"gitVersion": f"v{kubernetes}", "gitMajor": major, "gitMinor": minor, "gitTreeState": "clean"}
    linker = ["-s", "-w", *(f"-X {package}.{name}={value}" for package in STAMPED for name, value in stamps.items())]
    return [
        *(str(go), "build", "-v", "-mod=readonly", "-trimpath", "-buildvcs=false", f"-tags={TAGS}"),
        *(f"-ldflags={' '.join(linker)}", "-o", str(to), target.package),
    ]


def build_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """The user's, GOPROXY included, except for what decides which compiler runs and what it makes."""
    kept = {name: value for name, value in environ.items() if name not in {"GOROOT", "GOOS", "GOARCH", "GOWORK"}}
    return {**kept, "CGO_ENABLED": "0", "GOTOOLCHAIN": "local", "GOWORK": "off"}


def _run(command: list[str], *, label: str, log: Path, environ: Mapping[str, str], say: Say, module: Path = GO_MODULE) -> None:
    started = time.monotonic()
    with log.open("wb") as output:
        process = subprocess.Popen(
            tethered(command),
            cwd=module,
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        while process.poll() is None:
            try:
                process.wait(SAY_EVERY_SECONDS)
            except subprocess.TimeoutExpired:
                say(f"  {label}: {in_words(time.monotonic() - started)}, {_describe_progress(log)}")
    finally:
        if process.poll() is None:  # interrupted: the compilers that `go` started go with it
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    if process.returncode != 0:
        raise AssetsError("\n".join([f"{label} failed:", *_read_lines(log)[-LOG_LINES_SHOWN:]]))
    say(f"  {label}: built in {in_words(time.monotonic() - started)}")


def _read_lines(log: Path) -> list[str]:
    return log.read_text(errors="replace").splitlines()


def _describe_progress(log: Path) -> str:
    """`go build -v` writes a line for each package it compiles and one that begins with `go:` for each module it downloads."""
    lines = _read_lines(log)
    downloaded = sum(line.startswith("go: downloading") for line in lines)
    compiled = len(lines) - sum(line.startswith("go:") for line in lines)
    parts = [f"{downloaded} modules downloaded"] if downloaded else []
    return ", ".join([*parts, f"{compiled} packages compiled"])
