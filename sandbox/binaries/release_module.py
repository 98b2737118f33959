"""A Go module for any release of Kubernetes: what `sandbox/controlplane/go.mod` is for the pinned one, made on the spot.

Kubernetes' own go.mod names each dependency's version, and its `build/dependencies.yaml` the etcd it is tested with. What is
downloaded is checked against Go's checksum database, unless the user has turned that off (GOSUMDB).
"""

import json
import re
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from sandbox.binaries.assets import AssetsError

KUBERNETES = "k8s.io/kubernetes"
ETCD = "go.etcd.io/etcd/server/v3"
GO_SECONDS = 900
"""For one command, downloads included."""


def list_releases(go: Path, *, environ: Mapping[str, str]) -> list[str]:
    """Every version that the Go module proxy names, release candidates included, such as 1.36.2. Raises `AssetsError`."""
    found = _ask(go, "list", "-m", "-versions", "-json", KUBERNETES, environ=environ)
    return [version.removeprefix("v") for version in found.get("Versions", [])]


def make_module(
    directory: Path, *, kubernetes: str, packages: Sequence[str], tags: str, go: Path, environ: Mapping[str, str]
) -> None:
    """Write go.mod and go.sum, from which `packages` of that release can be built. Raises `AssetsError`."""
    source = _ask(go, "mod", "download", "-json", f"{KUBERNETES}@v{kubernetes}", environ=environ)
    dependencies = (Path(source["Dir"]) / "build" / "dependencies.yaml").read_text()
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "go.mod").write_text(
        render_go_mod(Path(source["GoMod"]).read_text(), kubernetes=kubernetes, etcd=find_etcd(dependencies))
    )
    # Resolves every package that will be compiled, and so completes both files; the builds change neither.
    _run([go, "list", "-mod=mod", "-deps", f"-tags={tags}", *packages], environ=environ, directory=directory)


def find_etcd(dependencies: str) -> str:
    """Return the version of etcd that a release of Kubernetes is tested with, from its `build/dependencies.yaml`."""
    for one in yaml.safe_load(dependencies)["dependencies"]:
        if one["name"] == "etcd":
            return str(one["version"])
    raise AssetsError("build/dependencies.yaml names no etcd")


def render_go_mod(of_kubernetes: str, *, kubernetes: str, etcd: str) -> str:
    """Return a go.mod that builds what Kubernetes' own does, with its staging modules as they are published."""
    go = _find(r"^go (\S+)", of_kubernetes)
    staging = re.findall(r"^\s(k8s\.io/\S+) v0\.0\.0$", of_kubernetes, re.MULTILINE)
    published = f"v0.{kubernetes.split('.', 1)[1]}"
    # The behaviour that the release was compiled for, whatever the compiler's own default is.
    godebug = _find(r"^godebug (default=\S+)", of_kubernetes) or f"default=go{'.'.join(go.split('.')[:2])}"
    lines = [
        f"module dbclusterref.io/sandbox/kubernetes-v{kubernetes}",
        f"go {go}",
        f"godebug {godebug}",
        f"require {KUBERNETES} v{kubernetes}",
        f"require {ETCD} v{etcd}",
        *(f"replace {module} => {module} {published}" for module in staging),
    ]
    return "\n".join([*lines, ""])


def _find(pattern: str, text: str) -> str:
    found = re.search(pattern, text, re.MULTILINE)
    return found[1] if found else ""


def _ask(go: Path, *arguments: str, environ: Mapping[str, str]) -> dict[str, Any]:
    answer: dict[str, Any] = json.loads(_run([go, *arguments], environ=environ, directory=Path("/")))
    return answer


def _run(command: Sequence[str | Path], *, environ: Mapping[str, str], directory: Path) -> str:
    try:
        done = subprocess.run(
            command,
            cwd=directory,
            env=environ,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=GO_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise AssetsError(str(error)) from error
    if done.returncode:
        # `go mod download -json` writes its error into its answer.
        last = (done.stderr.strip() or done.stdout.strip()).splitlines()[-10:]
        raise AssetsError("\n".join([f"{' '.join(map(str, command[:5]))} failed:", *last]))
    return done.stdout
