"""The images a node needs: the operator's from the Dockerfile as it is, and stand-ins for what a registry would bring.

Each is made when what it is made of has changed, and kept in the user's cache. Begin with `prepare_images`.
"""

import hashlib
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from sandbox.binaries.cache import Cache
from sandbox.node.images import stand_ins
from sandbox.node.images.base import ensure_base
from sandbox.node.images.buildah import Buildah, BuildError
from sandbox.node.images.names import PAUSE, ROOT, base_image, operator_image, sample_images
from sandbox.node.images.store import unpack
from sandbox.node.machine import program
from sandbox.progress import Say, in_words, say_on_stderr
from sandbox.servers import find_program

__all__ = ["BuildError", "Images", "build_operator_again", "prepare_images"]

KEPT = 3
"""Of each kind, the newest: branches are changed between."""
COPIED = ("LICENSE", "README.md", "pyproject.toml", "requirements", "operator", "tools/image")
OPERATOR_INPUTS = ("Dockerfile", ".dockerignore", *COPIED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Images:
    """`store` is a folder of containerd's with all of them unpacked; `operator_archive` is the operator's alone."""

    store: Path
    operator_archive: Path


def prepare_images(*, environ: Mapping[str, str] = os.environ, say: Say = say_on_stderr) -> Images:
    """Makes what is missing: nothing, where nothing has changed; the operator's image in half a minute; all in two.

    Raises `BuildError`.
    """
    cache = Cache.of_user(environ, name="node")
    (cache.root / "images").mkdir(parents=True, exist_ok=True)
    buildah = Buildah(cache.root / "buildah", say=say)
    with cache.locked("images", say=say):
        operator = _make(cache, "operator", _operator_key(), lambda to: _build_operator(buildah, to, say=say), say=say)
        samples = _make(cache, "samples", _samples_key(), lambda to: _build_samples(buildah, to), say=say)
        archives = [*sorted(operator.iterdir()), *sorted(samples.iterdir())]
        version = subprocess.run([program("containerd"), "--version"], capture_output=True, check=True).stdout
        key = _digest([operator.name.encode(), samples.name.encode(), version])
        store = _make(cache, "store", key, lambda to: unpack(archives, to), say=say)
    return Images(store=store, operator_archive=next(operator.iterdir()))


def build_operator_again(*, environ: Mapping[str, str] = os.environ, say: Say = say_on_stderr) -> Path:
    """The archive of a second build of the operator's image, made once for each state of its inputs.

    What the requirements give comes from the first build; the operator's own steps run again. Raises `BuildError`.
    """
    cache = Cache.of_user(environ, name="node")
    buildah = Buildah(cache.root / "buildah", say=say)
    with cache.locked("images", say=say):
        made = _make(cache, "again", _operator_key(), lambda to: _build_operator(buildah, to, say=say, again=True), say=say)
    return next(made.iterdir())


def _make(cache: Cache, kind: str, key: str, make: Callable[[Path], None], *, say: Say) -> Path:
    folder = cache.root / "images" / f"{kind}-{key}"
    if folder.is_dir():
        os.utime(folder)
        return folder
    say(f"Node images: making {kind}")
    began = time.monotonic()
    with cache.staged(folder) as stage:
        make(stage)
    say(f"  {kind}: made in {in_words(time.monotonic() - began)}")
    for old in sorted(folder.parent.glob(f"{kind}-*"), key=lambda path: path.stat().st_mtime, reverse=True)[KEPT:]:
        shutil.rmtree(old, ignore_errors=True)
    return folder


def _build_operator(buildah: Buildah, to: Path, *, say: Say, again: bool = False) -> None:
    base = ensure_base(base_image(), buildah=buildah, say=say)
    # The image is known by what it is made of: it is the same for every commit that leaves that alone.
    created = datetime.now(tz=UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    arguments = {"PYTHON_IMAGE": base, "REVISION": _operator_key(), "CREATED": created}
    with tempfile.TemporaryDirectory() as context:
        for name in OPERATOR_INPUTS:
            _copy_input(ROOT / name, Path(context) / name)
        if again:
            # In no image, but it makes buildah run again what comes after the requirements.
            (Path(context) / "tools" / "image" / "again").write_text(created)
        tag = f"{operator_image()}-again" if again else operator_image()
        buildah.build(Path(context), tag=tag, arguments=arguments)
    buildah.export(tag, to / "operator.tar")


def _copy_input(source: Path, to: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, to, ignore=shutil.ignore_patterns("__pycache__"))
    elif source.exists():
        shutil.copy2(source, to)


def _build_samples(buildah: Buildah, to: Path) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        stand_ins.make_pause(buildah, scratch=Path(scratch))
        names = sample_images()
        stand_ins.make_clients(buildah, names=names, scratch=Path(scratch))
    for number, name in enumerate([PAUSE, *names]):
        buildah.export(name, to / f"{number}.tar")


def _operator_key() -> str:
    names: list[Path] = []
    for name in OPERATOR_INPUTS:
        path = ROOT / name
        names += [path] if path.is_file() else sorted(one for one in path.rglob("*") if one.is_file())
    kept = [path for path in names if "__pycache__" not in path.parts]
    return _digest(part for path in kept for part in (str(path.relative_to(ROOT)).encode(), path.read_bytes()))


def _samples_key() -> str:
    """The programs of this machine, and how they are put together."""
    programs = [find_program(name).resolve() for name in stand_ins.CLIENTS]
    dates = [f"{path} {path.stat().st_size} {path.stat().st_mtime_ns}".encode() for path in programs]
    return _digest([*dates, Path(stand_ins.__file__).read_bytes(), *(name.encode() for name in sample_images())])


def _digest(parts: Iterable[bytes]) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "big") + part)
    return digest.hexdigest()[:16]
