"""buildah with a storage of our own, and what it needs to know of this machine's pip."""

import ast
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from sandbox.node.machine import SEARCH_PATH, program
from sandbox.progress import Say

PIP_SETTINGS = ("index-url", "extra-index-url", "trusted-host", "timeout", "cert")
_CERTIFICATES = "/run/pip/ca.pem"


class BuildError(Exception):
    """A build failed; the message holds the end of what it printed."""


class Buildah:
    """Images in `directory`, apart from whatever else the user builds."""

    def __init__(self, directory: Path, *, say: Say) -> None:
        self._directory = directory
        self._say = say
        self._options = [
            "--root",
            str(directory / "storage"),
            "--runroot",
            str(directory / "run"),
            "--storage-driver",
            "overlay",
        ]

    def __call__(self, *arguments: str | Path, check: bool = True, timeout: float | None = None) -> str:
        """Runs one command; returns what it printed."""
        command = [program("buildah"), *self._options, *map(str, arguments)]
        try:
            done = subprocess.run(
                command,
                capture_output=True,
                text=True,
                check=False,
                timeout=timeout,
                env={**os.environ, "PATH": SEARCH_PATH},
            )
        except subprocess.TimeoutExpired:
            raise BuildError(f"buildah {arguments[0]} did not answer within {timeout:.0f} s") from None
        if check and done.returncode:
            words = "\n".join((done.stdout + done.stderr).strip().splitlines()[-30:])
            raise BuildError(f"buildah {arguments[0]} failed:\n{words}")
        return done.stdout.strip()

    def has(self, image: str) -> bool:
        """Whether the image is there."""
        return bool(self("images", "--quiet", "--filter", f"reference={image}", check=False))

    def commit_root(self, root: Path, *names: str, config: tuple[str, ...]) -> None:
        """Makes an image of a folder or an archive of its files."""
        container = self("from", "scratch")
        self("add", "--quiet", container, root, "/")
        self("config", *config, container)
        self("commit", "--quiet", "--rm", container, names[0])
        for name in names[1:]:
            self("tag", names[0], name)

    def export(self, image: str, to: Path) -> None:
        """Writes an archive that containerd imports under the image's name."""
        self("push", "--quiet", image, f"docker-archive:{to}:{image}")

    def build(self, context: Path, *, tag: str, arguments: dict[str, str]) -> None:
        """Builds the Dockerfile in `context` as it is; the base must be there already."""
        given = [word for name, value in arguments.items() for word in ("--build-arg", f"{name}={value}")]
        self(
            "bud", "--isolation", "chroot", "--pull-never", "--layers", "--format", "oci", *self._pip_of_this_machine(), *given,
            "--tag", tag, context,
        )  # fmt: skip
        self("rmi", "--prune", check=False)

    def _pip_of_this_machine(self) -> list[str]:
        """Mounts that tell the build's pip where packages come from here; nothing of them is in a layer."""
        directory = self._directory / "pip"
        directory.mkdir(parents=True, exist_ok=True)
        settings = pip_settings(_list_pip_settings())
        if certificates := settings.get("cert"):
            (directory / "ca.pem").write_bytes(Path(certificates).read_bytes())
            settings["cert"] = _CERTIFICATES
        lines = ["[global]", *(f"{name} = {' '.join(value.split())}" for name, value in settings.items())]
        (directory / "pip.conf").write_text("\n".join(lines) + "\n")
        return ["--volume", f"{directory}:/run/pip:ro", "--volume", f"{directory / 'pip.conf'}:/etc/pip.conf:ro"]


def pip_settings(listing: str) -> dict[str, str]:
    """Where packages come from, out of what `pip config list` prints; environment variables win, as they do in pip."""
    found: dict[str, str] = {}
    for section in ("global", "install", ":env:"):
        for name, value in re.findall(rf"^{section}\.([a-z-]+)=('.*'|\".*\")$", listing, re.MULTILINE):
            if name in PIP_SETTINGS:
                found[name] = str(ast.literal_eval(value))
    return found


def _list_pip_settings() -> str:
    command = [sys.executable, "-m", "pip", "config", "list"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


Build = Callable[[Buildah], None]
