"""Spelling (codespell) and the words this project does not use (tools/words/banned.txt), in every text file of the repository.

tools/words/exempt.txt lists what is not checked. An entry that exempts nothing any more fails the check, so the list shrinks.
"""

import argparse
import fnmatch
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
LISTS = Path("tools/words")
SPELLING = "spelling"
# Not prose of ours: lock files, checksums, the licence, pictures, and these lists.
SKIPPED = ("*.svg", "*.sum", "*.sha256", "requirements/*", "LICENSE", "tools/words/*", "docs/benchmarks/results.json")


@dataclass(frozen=True, slots=True, kw_only=True)
class Banned:
    """One line of banned.txt."""

    word: str
    pattern: re.Pattern[str]
    beginnings: tuple[str, ...]
    """What a text in lower case holds if the pattern matches: much quicker to look for."""
    instead: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Hit:
    """`line` counts from 1."""

    path: str
    line: int
    word: str
    text: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.text}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Exemption:
    """One line of exempt.txt: a path (a folder ends in `/`, `*` is a wildcard), for one word or, without one, for all."""

    path: str
    word: str

    def covers(self, hit: Hit) -> bool:
        """Return whether this line exempts the hit."""
        if self.word not in {"", hit.word}:
            return False
        return hit.path.startswith(self.path) if self.path.endswith("/") else fnmatch.fnmatch(hit.path, self.path)

    def __str__(self) -> str:
        return f"{self.path} {self.word}".strip()


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status: 0 if there is nothing to report, 1 otherwise."""
    parser = argparse.ArgumentParser(prog="tools/words.py", description=__doc__)
    parser.add_argument("--count", action="store_true", help="print how many hits each exemption still covers")
    parser.add_argument("paths", nargs="*", help="files to check; all that git tracks if left out")
    options = parser.parse_args(arguments)
    paths = [path for path in list_files(ROOT, options.paths) if not is_skipped(path)]
    hits = [*find_banned(ROOT, paths, read_banned(ROOT)), *find_misspelled(ROOT, paths)]
    exemptions = read_exemptions(ROOT)
    covered = {exemption: sum(exemption.covers(hit) for hit in hits) for exemption in exemptions}
    if options.count:
        for exemption, number in covered.items():
            print(f"{number:6} {exemption}")
    left = [hit for hit in hits if not any(exemption.covers(hit) for exemption in exemptions)]
    for hit in left:
        print(hit)
    # A run on some files cannot know what the others still need.
    stale = [] if options.paths else [exemption for exemption, number in covered.items() if not number]
    for exemption in stale:
        print(f"{LISTS}/exempt.txt: {exemption!s} exempts nothing; delete the line")
    return 1 if left or stale else 0


def list_files(root: Path, chosen: Sequence[str] = ()) -> list[str]:
    """Return what git tracks, and what is new and not ignored; below the chosen files and folders, if there are any."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", *chosen]
    listed = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True).stdout
    return sorted(path for path in listed.split("\0") if path and (root / path).is_file())


def is_skipped(path: str) -> bool:
    """Return whether the file is not prose of ours."""
    return any(fnmatch.fnmatch(path, pattern) for pattern in SKIPPED)


def read_banned(root: Path) -> list[Banned]:
    """Raises `ValueError` for a line without a replacement."""
    return [parse_banned(line) for line in _lines(root / LISTS / "banned.txt")]


def parse_banned(line: str) -> Banned:
    """Parse `word -> replacement` or `[form|form] -> replacement`."""
    word, arrow, instead = line.partition(" -> ")
    if not arrow:
        raise ValueError(f"{LISTS}/banned.txt: {line!r} names no replacement")
    forms = word.strip("[]").split("|")
    # `_` ends a word here, so that names in the code are found as well; a first capital is, too, but not `is None`.
    spelled = "|".join(rf"[{form[0].upper()}{form[0]}]{re.escape(form[1:])}".replace(r"\ ", r"\s+") for form in forms)
    return Banned(
        word=forms[0],
        pattern=re.compile(rf"(?<![A-Za-z])(?:{spelled})(?![A-Za-z])"),
        beginnings=tuple({form.split()[0].lower() for form in forms}),
        instead=instead,
    )


def read_exemptions(root: Path) -> list[Exemption]:
    """Return the list in the file's order."""
    found = []
    for line in _lines(root / LISTS / "exempt.txt"):
        path, _, word = line.partition(" ")
        found.append(Exemption(path=path, word=word.strip()))
    return found


def find_banned(root: Path, paths: Iterable[str], banned: Sequence[Banned]) -> Iterator[Hit]:
    """Find words across line breaks, too; a file that is not text has none."""
    for path in paths:
        try:
            text = (root / path).read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        lowered = text.lower()
        for one in banned:
            if not any(beginning in lowered for beginning in one.beginnings):
                continue
            for match in one.pattern.finditer(text):
                line = text.count("\n", 0, match.start()) + 1
                said = f'"{" ".join(match[0].split())}": write {one.instead}'
                yield Hit(path=path, line=line, word=one.word, text=said)


def find_misspelled(root: Path, paths: Sequence[str]) -> Iterator[Hit]:
    """Ask codespell; what it is to ignore stands in pyproject.toml."""
    if not paths:
        return
    command = [sys.executable, "-m", "codespell_lib", *paths]
    ran = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    # codespell ends with 65 where it found something; anything else is a failure to run.
    if ran.returncode not in {0, 65}:
        raise RuntimeError(f"codespell failed: {ran.stderr.strip()}")
    for line in ran.stdout.splitlines():
        found = re.fullmatch(r"(?P<path>.+?):(?P<line>\d+): (?P<said>.+)", line)
        if found:
            path = found["path"].removeprefix("./")
            yield Hit(path=path, line=int(found["line"]), word=SPELLING, text=f"spelling: {found['said']}")


def _lines(path: Path) -> list[str]:
    lines = (line.strip() for line in path.read_text(encoding="utf-8").splitlines())
    return [line for line in lines if line and not line.startswith("#")]


if __name__ == "__main__":
    sys.exit(main())
