"""Puts together the root of an image that has Python and the operator, and nothing else: no shell, no package manager, no tool.

`python assemble.py APP ROOT`, by the base image's Python, in the base image. What is copied: the environment APP, the
interpreter with its standard library, the shared libraries that these are linked with, certificates, and a few files of /etc.
The Debian packages that the files come from are listed in /var/lib/dpkg/status.d, as scanners expect of an image without dpkg,
with their licences in /usr/share/doc.
"""

import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

NOT_NEEDED = {
    *("__pycache__", "dist-packages", "ensurepip", "idlelib", "lib2to3", "pydoc_data", "site-packages", "sitecustomize.py"),
    *("test", "tests", "tkinter", "turtledemo"),
    # What brings libraries that no server needs: a terminal's, and databases in files.
    *("curses", "dbm", "sqlite3"),
}
LIBRARIES_NOT_NEEDED = re.compile(r"(_curses|_curses_panel|_dbm|_gdbm|_sqlite3|_test.*|_tkinter|readline)\.")
# Loaded by name, and so in no list of what a program is linked with.
LOADED_LATER = ("libgcc_s.so.1", "libnss_dns.so.2", "libnss_files.so.2")
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
FILES = (
    Path("/etc/ld.so.conf"),
    Path("/etc/nsswitch.conf"),
    Path("/etc/os-release"),
    Path("/etc/ssl/openssl.cnf"),
    CERTIFICATES,
)
# A name for the number, for whatever asks for one; any other number (OpenShift's) works without.
USERS = "root:x:0:0:root:/:/sbin/nologin\nnonroot:x:65532:65532:nonroot:/nonexistent:/sbin/nologin\n"
GROUP = "root:x:0:\nnonroot:x:65532:\n"


class Root:
    """The new root. `sources` are the base image's files that went into it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.sources: set[Path] = set()
        # As in the base: /lib and /lib64 are links into /usr.
        for name in ("bin", "lib", "lib64", "sbin"):
            if Path("/", name).is_symlink():
                (path / "usr" / name).mkdir(parents=True, exist_ok=True)
                (path / name).symlink_to(f"usr/{name}")

    def at(self, path: Path) -> Path:
        """Where a file of the base has its place, with all links of its directory followed."""
        place = self.path / (path.parent.resolve() / path.name).relative_to("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        return place

    def copy(self, source: Path) -> None:
        """Copies a file; for a link, what it leads to comes under the link's name."""
        if not self.at(source).exists():
            shutil.copy2(source, self.at(source))
            self.sources.add(source.resolve())

    def copy_chain(self, source: Path) -> None:
        """Copies a link as a link, and so on to the file at its end."""
        while source.is_symlink():
            if not self.at(source).is_symlink():
                self.at(source).symlink_to(source.readlink())
            source = source.parent / source.readlink()
        self.copy(source)

    def copy_tree(self, source: Path) -> None:
        """Copies a folder but for what is not needed."""
        for path in sorted(source.iterdir()):
            if path.name in NOT_NEEDED or path.name.startswith("config-3") or LIBRARIES_NOT_NEEDED.match(path.name):
                continue
            if path.is_dir():
                self.copy_tree(path)
            else:
                self.copy(path)

    def write(self, name: str, text: str) -> None:
        """A file of our own."""
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def main(app: Path, new: Path) -> None:
    """Fill the new root."""
    root = Root(new)
    # Of the scripts that packages bring nothing is left but the operator's own: there is no shell to run them from.
    shutil.copytree(app, new / app.relative_to("/"), symlinks=True, ignore=_other_scripts(app / "bin"))
    root.copy_chain(app / "bin" / "python")
    library = Path(sysconfig.get_path("stdlib"))
    root.copy_tree(library)
    extensions = [path for path in library.glob("lib-dynload/*.so") if not LIBRARIES_NOT_NEEDED.match(path.name)]
    binaries = [Path(sys.executable).resolve(), *extensions, *app.rglob("*.so")]
    for linked in linked_libraries(binaries):
        root.copy(linked)
    for path in FILES:
        root.copy(path)
    for path in Path("/etc/ld.so.conf.d").iterdir():
        root.copy(path)
    # OpenSSL's own default, where nothing names another file.
    root.write("usr/lib/ssl/openssl.cnf", (new / "etc/ssl/openssl.cnf").read_text())
    (new / "usr/lib/ssl/cert.pem").symlink_to(CERTIFICATES)
    root.write("etc/passwd", USERS)
    root.write("etc/group", GROUP)
    (new / "tmp").mkdir()
    (new / "tmp").chmod(0o1777)
    subprocess.run(["/sbin/ldconfig", "-r", new], check=True)
    write_packages(root)


def _other_scripts(folder: Path) -> Callable[[str, list[str]], list[str]]:
    def others(where: str, names: list[str]) -> list[str]:
        return [name for name in names if not name.startswith(("python", "dbclusterref"))] if Path(where) == folder else []

    return others


def linked_libraries(binaries: Iterable[Path]) -> set[Path]:
    """What the loader loads for these, and what it loads by name beside the C library."""
    done = subprocess.run(["ldd", *binaries], capture_output=True, text=True, check=False)
    found = {Path(name) for name in re.findall(r"(/\S+) \(0x", done.stdout)}
    missing = re.findall(r"(\S+) => not found", done.stdout)
    bundled = {path.name for path in binaries}
    if absent := [name for name in missing if name not in bundled]:
        sys.exit(f"assemble: not found: {', '.join(absent)}")
    beside = next(path.parent for path in found if path.name.startswith("libc.so"))
    return found | {beside / name for name in LOADED_LATER if (beside / name).exists()}


def write_packages(root: Root) -> None:
    """For scanners: which Debian packages the files are from, in which version; and their licences for everybody."""
    for package in sorted(set(owners(root.sources))):
        shown = subprocess.run(["dpkg-query", "--status", package], capture_output=True, text=True, check=True).stdout
        root.write(f"var/lib/dpkg/status.d/{package}", shown)
        licence = Path("/usr/share/doc", package, "copyright")
        if licence.exists():
            root.write(f"usr/share/doc/{package}/copyright", licence.read_text(errors="replace"))


def owners(paths: set[Path]) -> Iterator[str]:
    """The packages of files; what dpkg does not know (Python itself, in the official image) has none."""
    # dpkg may know a file by its path of before /lib became a link.
    names = [name for path in sorted(paths) for name in (str(path), str(path).removeprefix("/usr"))]
    found = subprocess.run(["dpkg-query", "--search", *names], capture_output=True, text=True, check=False).stdout
    for line in found.splitlines():
        if not line.startswith("diversion by "):
            yield from (name.partition(":")[0].strip() for name in line.partition(": ")[0].split(","))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
