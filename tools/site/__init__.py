"""Makes the documentation site: `python -m tools.site` (`make docs`).

The pages are written to be read on GitHub. README.md is the site's first page, and a link from any page to a file that is no
page leads to the repository. Zensical checks the links between pages and their anchors; this package checks everything else.
"""

import posixpath
import re
import shutil
import subprocess
import sysconfig
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

ROOT = Path(__file__).parents[2]
CONFIG = Path(__file__).with_name("zensical.toml")
OUTSIDE = {
    "README.md": "index.md",
    "ARCHITECTURE.md": "architecture.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
}
"""Files outside docs/ that are pages of the site, and what they are called there."""

_FENCE = re.compile(r"^( *)(```+|~~~+).*?^\1\2[^\n]*$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"(\]\()([^()\s]+)(\))")
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


class SiteError(Exception):
    """The site cannot be built as it is written; the message names each page and what is wrong there."""


def build(folder: Path, *, root: Path = ROOT, config: Path = CONFIG) -> Path:
    """Build the site below a folder, and return where its first page is. Raises SiteError for a page or link that is wrong."""
    text = config.read_text()
    project = tomllib.loads(text)["project"]
    pages = collect(root)
    problems = [*_check_navigation(project["nav"], pages), *_stage(folder / "pages", pages, root=root, project=project)]
    if problems:
        raise SiteError("\n".join(problems))
    (folder / config.name).write_text(text)
    zensical = Path(sysconfig.get_path("scripts")) / "zensical"
    command = [str(zensical), "build", "--strict", "--clean", "--config-file", str(folder / config.name)]
    built = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if built.returncode:
        said = _COLOUR.sub("", built.stdout + built.stderr)
        raise SiteError(said.split("Traceback")[0].strip() or said)
    return folder / str(project["site_dir"]) / "index.html"


def collect(root: Path) -> dict[str, str]:
    """Return the site's pages by name, and from which file each is made."""
    docs = root / "docs"
    inside = {path.relative_to(docs).as_posix(): path.relative_to(root).as_posix() for path in sorted(docs.rglob("*.md"))}
    return {**inside, **{page: source for source, page in OUTSIDE.items()}}


def rewrite_links(markdown: str, *, source: str, page: str, repository: str, root: Path = ROOT) -> tuple[str, list[str]]:
    """Lead each relative link of a file where it leads on GitHub, outside of code. Also returns the links that lead nowhere."""
    broken: list[str] = []

    def lead(match: re.Match[str]) -> str:
        target = _target(match[2], source=source, page=page, repository=repository, root=root)
        if target is None:
            broken.append(match[2])
        return f"{match[1]}{target}{match[3]}"

    parts, end = [], 0
    for fence in _FENCE.finditer(markdown):
        parts += [_LINK.sub(lead, markdown[end : fence.start()]), fence[0]]
        end = fence.end()
    return "".join([*parts, _LINK.sub(lead, markdown[end:])]), broken


def _target(link: str, *, source: str, page: str, repository: str, root: Path) -> str | None:
    url = urlsplit(link)
    if url.scheme or url.netloc or not url.path:
        return link
    path = posixpath.normpath(posixpath.join(posixpath.dirname(source), url.path))
    if not (root / path).exists():
        return None
    anchor = f"#{url.fragment}" if url.fragment else ""
    here = posixpath.dirname(page) or "."
    if path in OUTSIDE:
        return posixpath.relpath(OUTSIDE[path], here) + anchor
    if path.startswith("docs/") and (root / path).is_file():
        return posixpath.relpath(path.removeprefix("docs/"), here) + anchor
    return f"{repository}/{'tree' if (root / path).is_dir() else 'blob'}/main/{path}{anchor}"


def _stage(folder: Path, pages: Mapping[str, str], *, root: Path, project: Mapping[str, Any]) -> Iterator[str]:
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(root / "docs", folder)
    for page, source in pages.items():
        text, broken = rewrite_links(
            (root / source).read_text(), source=source, page=page, repository=project["repo_url"], root=root
        )
        (folder / page).write_text(text)
        yield from (f"{source}: the link {link} leads nowhere" for link in broken)


def _check_navigation(nav: list[Any], pages: Mapping[str, str]) -> Iterator[str]:
    named = list(_pages_of(nav))
    yield from (f"{pages[page]}: is not in the navigation of tools/site/zensical.toml" for page in pages.keys() - named)
    yield from (f"tools/site/zensical.toml: names {page}, which does not exist" for page in named if page not in pages)


def _pages_of(nav: Any) -> Iterator[str]:  # noqa: ANN401 - as TOML has it
    match nav:
        case str():
            yield nav
        case list():
            for item in nav:
                yield from _pages_of(item)
        case dict():
            for item in nav.values():
                yield from _pages_of(item)
