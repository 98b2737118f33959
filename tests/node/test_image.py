"""What a stranger's scanner looks for in the operator's image, read from the archive that the Dockerfile's build gave."""

import hashlib
import json
import re
import stat
import tarfile
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from sandbox.node import Images
from sandbox.node.images import build_operator_again
from tests.e2e.cluster import ROOT
from tests.node.measured import Report

LARGEST = 120_000_000
SHELLS_AND_TOOLS = re.compile(
    r"(usr/)?s?bin/(sh|bash|dash|busybox|apt.*|dpkg.*|perl.*|mount|su|passwd)|.*/pip3?(\.\d+)?|.*/ensurepip/.*"
)
UNCHECKED_HASH = 0b01
"""PEP 552: believed as it is."""
LABELS = {"title", "description", "source", "licenses", "version", "revision", "created", "base.name"}


@dataclass(frozen=True, kw_only=True)
class Image:
    """Its configuration, its size in bytes, and the files of its one layer by path; `digests` are of all that a file is.

    `compiled` has the flags in the head of each compiled module.
    """

    config: Mapping[str, Any]
    created: str
    size: int
    files: Mapping[str, tarfile.TarInfo]
    layers: tuple[str, ...]
    digests: Mapping[str, str]
    compiled: Mapping[str, int]
    texts: Mapping[str, str]

    def labels(self) -> dict[str, str]:
        prefix = "org.opencontainers.image."
        return {key.removeprefix(prefix): value for key, value in self.config["Labels"].items() if key.startswith(prefix)}


@pytest.fixture(scope="module")
def image(images: Images) -> Image:
    return read_image(images.operator_archive)


def read_image(path: Path) -> Image:
    with tarfile.open(path) as archive:

        def read(name: str) -> Any:
            content = archive.extractfile(name)
            assert content
            return json.load(content)

        (manifest,) = read("manifest.json")
        described = read(manifest["Config"])
        files: dict[str, tarfile.TarInfo] = {}
        digests: dict[str, str] = {}
        compiled: dict[str, int] = {}
        texts: dict[str, str] = {}
        for name in manifest["Layers"]:
            with tarfile.open(fileobj=archive.extractfile(name)) as layer:
                for member in layer:
                    files[member.name] = member
                    file = layer.extractfile(member) if member.isreg() else None  # a link is where it leads
                    content = file.read() if file else b""
                    about = f"{member.type!r} {member.mode:o} {member.uid} {member.gid} {member.mtime} {member.linkname}"
                    digests[member.name] = hashlib.sha256(about.encode() + content).hexdigest()
                    if member.name.endswith(".pyc"):
                        compiled[member.name] = int.from_bytes(content[4:8], "little")
                    if member.name in {"etc/passwd", "etc/group"}:
                        texts[member.name] = content.decode()
    return Image(
        config=described["config"],
        created=described["created"],
        size=sum(member.size for member in files.values()),
        files=files,
        layers=tuple(described["rootfs"]["diff_ids"]),
        digests=digests,
        compiled=compiled,
        texts=texts,
    )


def test_it_is_small(image: Image) -> None:
    Report.add(f"operator's image: {image.size / 1e6:.0f} MB in {len(image.files)} files, {len(image.layers)} layers")
    assert image.size < LARGEST


def test_it_has_no_setuid_and_no_setgid_file(image: Image) -> None:
    assert [
        name for name, member in image.files.items() if member.isfile() and member.mode & (stat.S_ISUID | stat.S_ISGID)
    ] == []


def test_it_has_no_shell_no_package_manager_and_no_pip(image: Image) -> None:
    assert [name for name in image.files if SHELLS_AND_TOOLS.fullmatch(name)] == []


def test_nobody_but_root_may_change_its_files(image: Image) -> None:
    writable = [
        name for name, member in image.files.items() if not member.issym() and member.mode & (stat.S_IWOTH | stat.S_IWGRP)
    ]
    assert writable == ["tmp"]
    assert {(member.uid, member.gid) for member in image.files.values()} == {(0, 0)}


def test_its_user_is_a_number_with_a_name(image: Image) -> None:
    assert image.config["User"] == "65532:65532"
    assert "nonroot:x:65532:65532:" in image.texts["etc/passwd"]
    assert "nonroot:x:65532:" in image.texts["etc/group"]


def test_its_labels_say_what_it_is_made_of(image: Image) -> None:
    labels = image.labels()
    assert set(labels) == LABELS
    assert "unknown" not in labels.values()
    assert labels["version"] == tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert labels["licenses"] == "Apache-2.0"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", labels["created"])


def test_the_generated_client_is_not_in_it(image: Image) -> None:
    generated = re.compile(r".*/kubernetes/(aio/)?client/(models|api)/.*\.py")
    kept = [name for name in image.files if generated.fullmatch(name) and not name.endswith("__init__.py")]
    assert len(kept) < 10


def test_every_module_is_compiled(image: Image) -> None:
    """The container cannot write what it compiles, and would do it at each start."""
    sources = [name for name in image.files if name.endswith(".py") and name.startswith("app/lib")]
    (tag,) = {name.rsplit(".", 2)[1] for name in image.files if name.endswith(".pyc")}
    missing = [name for name in sources if re.sub(r"([^/]+)\.py$", rf"__pycache__/\1.{tag}.pyc", name) not in image.files]
    assert len(sources) > 500
    assert missing == []
    # Others hold their source's time stamp, and are compiled again wherever the source has another one.
    assert [name for name, flags in image.compiled.items() if flags != UNCHECKED_HASH] == []


def test_it_names_the_debian_packages_that_its_files_are_from_with_their_licences(image: Image) -> None:
    prefix = "var/lib/dpkg/status.d/"
    packages = {name.removeprefix(prefix) for name in image.files if name.startswith(prefix)} - {""}
    assert {"libc6", "libssl3t64"} <= packages
    licences = {name.split("/")[3] for name in image.files if re.fullmatch(r"usr/share/doc/[^/]+/copyright", name)}
    assert packages - licences <= {"libpython3.13-stdlib", "libpython3.13-minimal", "python3.13-minimal"}


def test_its_layer_does_not_depend_on_when_it_was_built(image: Image) -> None:
    assert {member.mtime for member in image.files.values() if member.name} == {0}


def test_a_second_build_gives_the_same_layer_byte_by_byte(image: Image) -> None:
    again = read_image(build_operator_again())
    differ = {name for name in {*image.files, *again.files} if image.digests.get(name) != again.digests.get(name)}
    assert sorted(differ) == []
    assert again.layers == image.layers
