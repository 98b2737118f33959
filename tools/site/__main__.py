"""`python -m tools.site [FOLDER | --check]`: builds the documentation site, below dist/ where no folder is named."""

import sys
import tempfile
from pathlib import Path

from tools.site import ROOT, SiteError, build


def main(arguments: list[str]) -> int:
    """Exit status 1 where a page, a link or an anchor is wrong."""
    folder = Path(arguments[0]) if arguments else ROOT / "dist" / "docs"
    try:
        if arguments == ["--check"]:
            with tempfile.TemporaryDirectory() as scratch:
                build(Path(scratch))
        else:
            folder.mkdir(parents=True, exist_ok=True)
            print(f"Built: {build(folder)}")
    except SiteError as error:
        print(f"docs: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
