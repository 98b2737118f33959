"""What docs/applications.md says of the names that `envFrom` brings."""

import re
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[3]
PAGE = " ".join((ROOT / "docs" / "applications.md").read_text().split())
NUMBERS = {9: "nine"}


def test_the_page_counts_the_names_of_the_default_key_sets_and_those_that_no_shell_expands() -> None:
    (secret,) = yaml.safe_load_all((ROOT / "tests" / "data" / "secrets" / "pg-multi-node.yaml").read_text())
    names = secret.get("data") or secret["stringData"]
    unfit = [name for name in names if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name)]
    assert f"has {len(names)} keys, of which {NUMBERS[len(unfit)]} hold a `-` or a `.`" in PAGE
    assert all(set(name) & set("-.") for name in unfit)
