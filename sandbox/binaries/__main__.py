"""`python -m sandbox.binaries helm flux`: brings programs that tests need and prints the path of each, a line for each name."""

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from sandbox.binaries.assets import AssetsError
from sandbox.binaries.etcdutl import ensure_etcdutl
from sandbox.binaries.flux import ensure_flux
from sandbox.binaries.helm import ensure_helm
from sandbox.binaries.verdicts import ensure_verdicts
from sandbox.progress import say_on_stderr

BROUGHT_BY: Mapping[str, Callable[[], Path]] = MappingProxyType(
    {"helm": ensure_helm, "flux": ensure_flux, "etcdutl": ensure_etcdutl, "verdicts": ensure_verdicts}
)


def main(arguments: Sequence[str] | None = None, *, brought_by: Mapping[str, Callable[[], Path]] = BROUGHT_BY) -> int:
    """Exit status: 0, or 1 as soon as one of them could not be had."""
    parser = argparse.ArgumentParser(prog="python -m sandbox.binaries", description=__doc__)
    parser.add_argument("names", nargs="+", choices=tuple(brought_by), metavar="NAME", help=f"of {', '.join(brought_by)}")
    for name in parser.parse_args(arguments).names:
        try:
            print(brought_by[name]())
        except (AssetsError, OSError) as error:
            say_on_stderr(f"{name}: {error}")
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
