"""The official archives: envtest's for etcd, kube-apiserver and kubectl, Kubernetes' own for kube-controller-manager."""

import hashlib
import tarfile
import time
from dataclasses import dataclass
from pathlib import Path

import httpx
import yaml

from sandbox.binaries.assets import AssetsError
from sandbox.binaries.pins import Pins
from sandbox.progress import Say

IN_ARCHIVE = ("etcd", "kube-apiserver", "kubectl")
# Short, for machines behind walls that answer nothing: there is another way to go.
TIMEOUT = httpx.Timeout(10, connect=5)
SAY_EVERY_SECONDS = 5
MEGABYTE = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Origins:
    """Where the projects publish; tests name a server of their own."""

    index: str = "https://raw.githubusercontent.com/kubernetes-sigs/controller-tools/HEAD/envtest-releases.yaml"
    kubernetes: str = "https://dl.k8s.io"

    def program(self, name: str, pins: Pins) -> str:
        """Of those that are published for Linux alone: all but kubectl and etcd."""
        return f"{self.kubernetes}/v{pins.kubernetes}/bin/{pins.os}/{pins.arch}/{name}"

    def controller_manager(self, pins: Pins) -> str:
        """The one that envtest's archive does not hold."""
        return self.program("kube-controller-manager", pins)


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """A file and the hash that its publisher states (hexadecimal)."""

    url: str
    algorithm: str
    hash: str


def download(stage: Path, *, pins: Pins, origins: Origins, say: Say) -> None:
    """Fills `stage` with the four programs; each archive is checked against its published hash before it is opened."""
    if pins.os != "linux":
        raise AssetsError(f"there is no official kube-controller-manager for {pins.os}")
    with httpx.Client(timeout=TIMEOUT, follow_redirects=True) as client:
        archive = find_archive(_get_text(client, origins.index), pins=pins)
        controller_manager = _find_program(client, origins.controller_manager(pins))
        packed = stage / "envtest.tar.gz"
        _fetch(client, archive, to=packed, say=say)
        _unpack(packed, stage)
        packed.unlink()
        _fetch_program(client, controller_manager, to=stage / "kube-controller-manager", say=say)


def download_programs(stage: Path, *names: str, pins: Pins, origins: Origins, say: Say) -> None:
    """Fills `stage` with single programs as Kubernetes publishes them, each checked against its published hash."""
    if pins.os != "linux":
        raise AssetsError(f"there is no official {names[0]} for {pins.os}")
    with httpx.Client(timeout=TIMEOUT, follow_redirects=True) as client:
        for name in names:
            published = _find_program(client, origins.program(name, pins))
            _fetch_program(client, published, to=stage / name, say=say)


def find_archive(index: str, *, pins: Pins) -> Published:
    """The envtest archive for the platform, from controller-tools' list of its releases."""
    name = f"envtest-v{pins.kubernetes}-{pins.os}-{pins.arch}.tar.gz"
    try:
        entry = yaml.safe_load(index)["releases"][f"v{pins.kubernetes}"][name]
        return Published(url=entry["selfLink"], algorithm="sha512", hash=entry["hash"])
    except (yaml.YAMLError, KeyError, TypeError):
        raise AssetsError(f"the list of envtest releases has no {name}") from None


def _find_program(client: httpx.Client, url: str) -> Published:
    return Published(url=url, algorithm="sha256", hash=_get_text(client, f"{url}.sha256").strip())


def _fetch_program(client: httpx.Client, published: Published, *, to: Path, say: Say) -> None:
    _fetch(client, published, to=to, say=say)
    to.chmod(0o755)


def _get_text(client: httpx.Client, url: str) -> str:
    try:
        return client.get(url).raise_for_status().text
    except httpx.HTTPError as error:
        raise AssetsError(f"{url}: {_describe(error)}") from error


def _fetch(client: httpx.Client, published: Published, *, to: Path, say: Say) -> None:
    digest = hashlib.new(published.algorithm)
    done, said = 0, time.monotonic()
    try:
        with client.stream("GET", published.url) as answer, to.open("wb") as file:
            total = int(answer.raise_for_status().headers.get("content-length", 0))
            for piece in answer.iter_bytes():
                digest.update(piece)
                file.write(piece)
                done += len(piece)
                if time.monotonic() - said > SAY_EVERY_SECONDS:
                    said = time.monotonic()
                    say(f"  {to.name}: {done // MEGABYTE} of {total // MEGABYTE} MB")
    except httpx.HTTPError as error:
        raise AssetsError(f"{published.url}: {_describe(error)}") from error
    if digest.hexdigest() != published.hash.lower():
        raise AssetsError(f"{published.url} has {published.algorithm} {digest.hexdigest()}, published is {published.hash}")


def _unpack(packed: Path, stage: Path) -> None:
    """Takes three files by their base names; where the archive says they should go does not matter."""
    with tarfile.open(packed) as archive:
        for member in archive:
            name = Path(member.name).name
            content = archive.extractfile(member) if name in IN_ARCHIVE and member.isfile() else None
            if content:
                (stage / name).write_bytes(content.read())
                (stage / name).chmod(0o755)


def _describe(error: httpx.HTTPError) -> str:
    return str(error) or type(error).__name__  # time-outs have no words of their own
