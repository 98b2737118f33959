"""tools/image.sh, with the programs it drives played by recorders; the Dockerfile itself is built elsewhere."""

import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
IMAGE = f"ghcr.io/dbclusterref/dbclusterref:v{VERSION}"
SYSTEM_PROGRAMS = ("sh", "sed", "git", "mktemp", "rm", "dirname", "cat", "date")


class Bench:
    """A PATH with a few programs, each of which writes down how it was called."""

    def __init__(self, folder: Path) -> None:
        self.bin = folder / "bin"
        self.bin.mkdir()
        self.log = folder / "calls"
        self.log.touch()
        for name in SYSTEM_PROGRAMS:
            found = shutil.which(name)
            assert found, f"{name} is not installed"
            (self.bin / name).symlink_to(found)

    def add(self, name: str, *, context: str = "", status: int = 0) -> None:
        path = self.bin / name
        path.write_text(f'#!/bin/sh\necho "{name} $*" >>"{self.log}"\necho "{context}"\nexit {status}\n')
        path.chmod(0o755)

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [str(ROOT / "tools" / "image.sh"), *arguments]
        return subprocess.run(command, env={"PATH": str(self.bin)}, capture_output=True, text=True, check=False)

    def calls(self) -> list[str]:
        lines = self.log.read_text().splitlines()
        names = {r"/\S+/image\.tar": "ARCHIVE", r"=[0-9a-f]{40}\b": "=REVISION", r"=\d{4}(-\d\d){2}T\d\d(:\d\d){2}Z": "=NOW"}
        for pattern, name in names.items():
            lines = [re.sub(pattern, name, line) for line in lines]
        return lines


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


BUILD = f"--build-arg REVISION=REVISION --build-arg VERSION={VERSION} --build-arg CREATED=NOW --tag {IMAGE} ."


@pytest.mark.parametrize(
    ("context", "loader", "loads"),
    [
        ("kind-dev", "kind", "kind load image-archive ARCHIVE --name dev"),
        ("k3d-dev", "k3d", "k3d image import ARCHIVE --cluster dev"),
        ("minikube", "minikube", "minikube -p minikube image load ARCHIVE"),
    ],
)
@pytest.mark.parametrize("engine", ["buildah", "docker"])
def test_it_builds_and_loads_into_the_current_cluster(bench: Bench, engine: str, context: str, loader: str, loads: str) -> None:
    bench.add(engine)
    bench.add("kubectl", context=context)
    bench.add(loader)
    done = bench.run()
    assert done.returncode == 0, done.stderr
    calls = [call for call in bench.calls() if not call.startswith(("kubectl", "docker info")) and " status" not in call]
    assert calls == [
        f"buildah build --format docker {BUILD}" if engine == "buildah" else f"docker build {BUILD}",
        f"buildah push {IMAGE} docker-archive:ARCHIVE:{IMAGE}"
        if engine == "buildah"
        else f"docker save --output ARCHIVE {IMAGE}",
        loads,
    ]


def test_another_cluster_is_left_alone_and_the_way_on_is_named(bench: Bench) -> None:
    bench.add("buildah")
    bench.add("kubectl", context="do-fra1-production")
    done = bench.run()
    assert done.returncode == 0
    assert bench.calls() == [f"buildah build --format docker {BUILD}", "kubectl config current-context"]
    assert f"make image IMAGE=REGISTRY/dbclusterref:v{VERSION} PUSH=yes" in done.stdout


def test_it_pushes_when_told_to(bench: Bench) -> None:
    bench.add("docker")
    done = bench.run("--image", "registry.example/x:v1", "--push")
    assert done.returncode == 0, done.stderr
    assert bench.calls()[-1] == "docker push registry.example/x:v1"


def test_a_build_that_fails_loads_nothing(bench: Bench) -> None:
    bench.add("buildah", status=1)
    bench.add("kubectl", context="kind-dev")
    bench.add("kind")
    assert bench.run().returncode == 1
    assert bench.calls() == [f"buildah build --format docker {BUILD}"]


@pytest.mark.parametrize(
    ("programs", "words"),
    [
        ({}, "neither buildah nor docker is installed"),
        ({"docker": 1}, "its daemon does not answer"),
    ],
)
def test_what_is_missing_is_named(bench: Bench, programs: dict[str, int], words: str) -> None:
    for name, status in programs.items():
        bench.add(name, status=status)
    done = bench.run()
    assert done.returncode == 1
    assert words in done.stderr
