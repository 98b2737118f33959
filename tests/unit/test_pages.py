"""Numbers and flags in the documentation that the code decides."""

import re
from pathlib import Path

import click
import pytest

from dbclusterref.commands.settings import run_options
from dbclusterref.digitalocean.client import PER_PAGE
from dbclusterref.digitalocean.planner import AHEAD
from dbclusterref.digitalocean.rate_limit import DEFAULT_LIMIT, SHARE
from dbclusterref.reconcile.conditions import STALE_AT_LEAST, STALE_INTERVALS
from dbclusterref.reconcile.repair_backoff import AT_ONCE
from dbclusterref.resource.duration import parse_duration
from dbclusterref.timing import Timing

DOCS = Path(__file__).parents[2] / "docs"
CA_READS_AN_HOUR = 1 / 22
"""For each cluster, as docs/scaling.md counts them."""
WORDS = {3: "three", 5: "five"}


def rows_of(page: str, header: str) -> dict[str, str]:
    """A table's second column by its first."""
    lines = [*(DOCS / page).read_text().split(header)[1].splitlines()[2:], ""]
    cells = [[cell.strip().strip("`") for cell in line.strip("|").split("|")] for line in lines[: lines.index("")]]
    return {first: second for first, second, *_ in cells}


def test_the_page_of_operations_says_how_many_references_a_token_serves() -> None:
    rows = rows_of("operations.md", "| `refreshInterval` | References a token |")
    assert len(rows) == 5
    for interval, most in rows.items():
        seconds = parse_duration(interval, field_name="interval")
        for_each = 3600 / seconds / AHEAD / PER_PAGE + CA_READS_AN_HOUR
        computed = DEFAULT_LIMIT * SHARE / for_each
        assert 0.97 * computed <= int(most.replace(",", "")) <= computed, interval


def test_how_long_until_something_is_noticed_is_as_the_code_has_it() -> None:
    timing = Timing()
    noticed = rows_of("troubleshooting.md", "| What happens | Noticed | Visible as |")
    said = {
        "The cluster is deleted": f"believed {timing.confirm_not_found:.0f} seconds later",
        "A watch of the Kubernetes API falls silent": f"after {timing.watch_silence:.0f} seconds",
        "A change that no watch reported": f"within {timing.resync / 60:.0f} minutes",
        "The leader is killed": f"within {timing.lease_duration:.0f} seconds",
        "Another client keeps overwriting the Secret": f"after {AT_ONCE} repairs in {timing.conflict_window:.0f} seconds",
    }
    assert {what: text for what, text in said.items() if text not in noticed[what]} == {}
    text = (DOCS / "troubleshooting.md").read_text()
    assert f"after {WORDS[STALE_INTERVALS]} intervals, and {WORDS[STALE_AT_LEAST.seconds // 60]} minutes at least" in text
    assert f"over after {timing.conflict_calm:.0f} quiet seconds" in text


@pytest.mark.parametrize("option", [one for one in run_options(click.Command("run")).params if one.name != "help"], ids=str)
def test_the_page_of_the_command_line_has_every_flag_with_its_variable(option: click.Option) -> None:
    rows = rows_of("command-line.md", "| Flag of `dbclusterref run` | Variable | Default |")
    assert str(option.envvar) in rows[option.opts[0]]


def test_the_page_of_the_command_line_has_no_flag_that_does_not_exist() -> None:
    flags = {flag for option in run_options(click.Command("run")).params for flag in option.opts}
    assert rows_of("command-line.md", "| Flag of `dbclusterref run` | Variable | Default |").keys() <= flags


def test_every_page_and_heading_that_a_message_names_is_there() -> None:
    sources = (DOCS.parent / "operator").rglob("*.py")
    named = {found for file in sources for found in re.findall(r"\((docs/[a-z-]+\.md), ([A-Z][a-z ]+)\)", file.read_text())}
    assert named
    for page, heading in named:
        assert f"\n## {heading}\n" in (DOCS.parent / page).read_text(), page


def test_a_newcomer_reads_in_the_readme_what_make_can_start_and_pastes_what_ends() -> None:
    root = Path(__file__).parents[2]
    readme, makefile = (root / "README.md").read_text(), (root / "Makefile").read_text()
    targets = set(re.findall(r"^([a-z]+):.*## ", makefile, re.MULTILINE))
    pasted, spoken = set(re.findall(r"^make ([a-z]+)", readme, re.MULTILINE)), set(re.findall(r"`make ([a-z]+)", readme))
    assert {"demo", "test"} <= pasted
    assert {"up", "node"} <= spoken - pasted, "they run until they are ended, and what is pasted after them would wait"
    assert pasted | spoken <= targets


def test_every_exit_status_of_the_help_is_on_the_page() -> None:
    rows = rows_of("command-line.md", "| Status | Means |")
    main = (Path(__file__).parents[2] / "operator" / "dbclusterref" / "__main__.py").read_text()
    (told,) = re.findall(r"Exit status: (.*?)\.\n", main, re.DOTALL)
    assert rows.keys() == set(re.findall(r"\b(\d) ", told))
