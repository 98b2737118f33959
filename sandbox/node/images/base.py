"""The image that the Dockerfile starts from: the real one where a registry answers, else a stand-in of Debian's own Python."""

import re
import subprocess
import tempfile
from pathlib import Path

from sandbox.node.images.buildah import Buildah, BuildError
from sandbox.node.machine import program
from sandbox.progress import Say

STAND_IN = "localhost/python-stand-in"
PULL_SECONDS = 20.0
PACKAGES = ("ca-certificates", "netbase", "tzdata")
_INSTALL_PIP = (
    "/tmp/v/bin/python -m pip --quiet --python /usr/local/bin/python install --no-index"  # noqa: S108 - of the new root
    " --find-links /usr/share/python-wheels --root-user-action ignore pip"
)
ENVIRONMENT = ("PATH=/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8")


def ensure_base(name: str, *, buildah: Buildah, say: Say) -> str:
    """Brings the base image; returns the name that it has in buildah's storage."""
    stand_in = f"{STAND_IN}:{re.sub('[^a-z0-9.-]', '-', name.rpartition(':')[2])}"
    for there in (name, stand_in):
        if buildah.has(there):
            return there
    try:
        buildah("pull", "--quiet", name, timeout=PULL_SECONDS)
    except BuildError as error:
        say(f"  {name} cannot be pulled ({str(error).splitlines()[-1]})")
    else:
        return name
    say("  making a stand-in for it of Debian's own Python with mmdebstrap, about a minute")
    with tempfile.TemporaryDirectory() as scratch:
        archive = Path(scratch) / "base.tar"
        _bootstrap(name, archive)
        config = [word for value in ENVIRONMENT for word in ("--env", value)]
        buildah.commit_root(archive, stand_in, config=(*config, "--cmd", "python3"))
    return stand_in


def _bootstrap(name: str, archive: Path) -> None:
    """What the official image has and Debian's has not: `python` in /usr/local/bin, and a pip that may work on it."""
    found = re.search(r"python:(3\.\d+)\S*-slim-([a-z]+)", name)
    if not found:
        raise BuildError(f"there is no stand-in for {name}: it is not one of Python's slim images of a Debian release")
    python, suite = f"python{found[1]}", found[2]
    hooks = [
        f'ln -s /usr/bin/{python} "$1/usr/local/bin/{python}"',
        f'ln -s {python} "$1/usr/local/bin/python3" && ln -s python3 "$1/usr/local/bin/python"',
        f'rm -f "$1/usr/lib/{python}/EXTERNALLY-MANAGED"',
        # Debian's ensurepip works in an environment only
        'chroot "$1" /usr/local/bin/python -m venv /tmp/v',
        f'chroot "$1" {_INSTALL_PIP}',
        'rm -rf "$1/tmp/v" "$1/root/.cache"',
    ]
    packages = ",".join((*PACKAGES, python, f"{python}-venv", "python3-pip-whl"))
    command = [program("mmdebstrap"), "--quiet", "--variant=minbase", f"--include={packages}", "--format=tar"]
    command += [f"--customize-hook={hook}" for hook in hooks]
    done = subprocess.run([*command, suite, str(archive)], capture_output=True, text=True, check=False)
    if done.returncode:
        words = "\n".join(done.stderr.strip().splitlines()[-10:])
        raise BuildError(f"mmdebstrap could not make Debian {suite}:\n{words}")
