"""Reads docs/secret.md as the tests need it: the key table, the recipes, and the tests it names."""

import re
from pathlib import Path

import yaml

from dbclusterref.secret.engines import ENGINES

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "secret.md").read_text()

_SHORT = {"pg": ("pg", "advanced_pg"), "mysql": ("mysql", "advanced_mysql"), "redis": ("redis", "valkey")}
_KEY = re.compile(r"`([^`]+)`")


def keys_of(engine: str, key_set: str) -> frozenset[str]:
    """The keys that the table gives an engine's Secret."""
    found: set[str] = set()
    for set_, keys, _, engines in _rows("| Set | Key |"):
        words = engines.split(", ")
        slugs = {slug for word in words for slug in _SHORT.get(word, (word,))}
        if set_ == key_set and slugs & {engine if engine in ENGINES else "other", "all"}:
            found |= set(_KEY.findall(keys))
    return frozenset(found)


def recipes() -> dict[str, dict[str, str]]:
    """Each engine's recipes."""
    section = TEXT.split("### Recipes")[1].split("\n## ")[0]
    titles = {"PostgreSQL": "pg", "MySQL": "mysql", "Redis": "redis", "Kafka": "kafka"}
    blocks = re.findall(r"^(\w+)[^\n]*(?:\n[^\n`]+)*:\n\n```yaml\n(.*?)```", section, re.MULTILINE | re.DOTALL)
    return {titles[title]: yaml.safe_load(block) for title, block in blocks}


def tests_named() -> list[tuple[str, str]]:
    """File and function of every test that the text names."""
    return re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", TEXT)


def _rows(header: str) -> list[list[str]]:
    lines = TEXT.split(header)[1].splitlines()[2:]
    return [[cell.strip() for cell in line.strip().strip("|").split("|")] for line in _until_blank(lines)]


def _until_blank(lines: list[str]) -> list[str]:
    return lines[: lines.index("")]
