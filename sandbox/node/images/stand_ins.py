"""Images that are made of this machine's own programs: the pause image, and one with the clients that the samples run.

They stand for public images where no registry is reached, and have of them what the samples use: a shell, `cat`, `sleep` and
the database's own client. busybox is the shell, as in the Alpine images.
"""

import re
import shutil
import subprocess
from pathlib import Path

from sandbox.node.images.buildah import Buildah
from sandbox.node.images.names import PAUSE
from sandbox.node.machine import program
from sandbox.servers import find_program

CLIENTS = ("psql", "mariadb", "redis-cli")
# Loaded by name, and so in no list of what a program needs.
_LOADED_LATER = ("libnss_files.so.2", "libnss_dns.so.2", "libgcc_s.so.1")


def make_pause(buildah: Buildah, *, scratch: Path) -> None:
    """A process that sleeps; it holds a pod's namespaces."""
    root = scratch / "pause"
    _put(root, Path(program("busybox")), at="bin/busybox")
    buildah.commit_root(root, PAUSE, config=("--user", "65535:65535", "--entrypoint", '["/bin/busybox", "sleep", "infinity"]'))


def make_clients(buildah: Buildah, *, names: list[str], scratch: Path) -> None:
    """One image under the names of all that the samples use."""
    root = scratch / "clients"
    for client in CLIENTS:
        _put(root, _real_program(client), at=f"usr/bin/{client}")
    busybox = Path(program("busybox"))
    _put(root, busybox, at="bin/busybox")
    for applet in subprocess.run([busybox, "--list"], capture_output=True, text=True, check=True).stdout.split():
        if not (root / "usr/bin" / applet).exists() and applet != "busybox":
            (root / "bin" / applet).symlink_to("busybox")
    (root / "tmp").mkdir(mode=0o1777)
    (root / "etc").mkdir()
    (root / "etc" / "passwd").write_text("root:x:0:0::/:/bin/sh\n")
    buildah.commit_root(root, *names, config=("--env", "PATH=/usr/bin:/bin", "--cmd", "sh"))


def _put(root: Path, source: Path, *, at: str) -> None:
    """Copies a program and the libraries it is linked with to where it looks for them."""
    target = root / at
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy2(source, target)
    libraries = linked_libraries(source)
    beside = {path.parent for path in libraries if path.name.startswith("libc.so")}
    for library in [*libraries, *(folder / name for folder in beside for name in _LOADED_LATER)]:
        copy = root / library.relative_to("/")
        if library.exists() and not copy.exists():
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(library, copy)


def linked_libraries(path: Path) -> list[Path]:
    """Empty for one that is linked statically."""
    done = subprocess.run(["ldd", path], capture_output=True, text=True, check=False)
    return [Path(found) for found in re.findall(r"(/\S+) \(0x", done.stdout)] if done.returncode == 0 else []


def _real_program(client: str) -> Path:
    """Debian's psql is a script that looks for the newest one."""
    versions = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{client}"))
    return versions[-1] if versions else find_program(client).resolve()
