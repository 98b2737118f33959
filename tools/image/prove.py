"""Shows that what is in the image is enough: run by its own Python in its own root, `chroot ROOT python -P - <prove.py`."""

import importlib
import pkgutil
import pwd
import ssl
import sys
import tempfile
from pathlib import Path

import dbclusterref

# What is imported late, if at all, by the packages that the operator uses.
IMPORTED_LATE = ("aiohttp.web", "asyncio", "concurrent.futures.thread", "encodings.idna", "httpcore", "multiprocessing", "uuid")


def main() -> None:
    """Fail at the first thing that is missing."""
    for module in pkgutil.walk_packages(dbclusterref.__path__, "dbclusterref."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    for name in IMPORTED_LATE:
        importlib.import_module(name)
    assert ssl.create_default_context().get_ca_certs(), "OpenSSL finds no certificates"
    assert pwd.getpwuid(65532).pw_name == "nonroot"
    assert tempfile.gettempdir() == "/tmp"  # noqa: S108
    found = [name for name in ("/bin/sh", "/usr/bin/apt", "/usr/bin/perl", "/usr/local/bin/pip") if Path(name).exists()]
    assert not found, f"in the image without need: {found}"
    sys.stdout.write(f"prove: {len(sys.modules)} modules imported\n")


if __name__ == "__main__":
    main()
