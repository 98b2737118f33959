"""Removes the Kubernetes client's generated classes that the operator never imports: two thirds of what pip installed.

`python trim.py`, by the interpreter of the environment that is to be trimmed. It imports all of the operator, and keeps what
that brought; `prove.py` shows that what is left is enough.
"""

import importlib
import pkgutil
import sys
from pathlib import Path

import kubernetes

import dbclusterref

GENERATED = ("models", "api")


def main() -> None:
    """Print how much went."""
    for module in pkgutil.walk_packages(dbclusterref.__path__, "dbclusterref."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    imported = {Path(file) for module in list(sys.modules.values()) if (file := getattr(module, "__file__", None))}
    removed = size = 0
    for client in ("client", "aio/client"):
        for folder in GENERATED:
            for path in (Path(kubernetes.__path__[0]) / client / folder).glob("*.py"):
                if path.name != "__init__.py" and path not in imported:
                    removed, size = removed + 1, size + path.stat().st_size
                    path.unlink()
    if not removed:
        sys.exit("trim: found no generated classes; has the Kubernetes client another layout?")
    print(f"trim: {removed} modules removed, {size // 1_000_000} MB of source")


if __name__ == "__main__":
    main()
