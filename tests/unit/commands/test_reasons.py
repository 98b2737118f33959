import re
from collections.abc import Iterator
from pathlib import Path

from dbclusterref import errors
from dbclusterref.commands.reasons import REASONS
from dbclusterref.errors import Cause

PAGE = (Path(__file__).parents[3] / "docs" / "conditions.md").read_text()


def reasons_of_causes() -> Iterator[str]:
    for one in vars(errors).values():
        if isinstance(one, type) and issubclass(one, Cause) and hasattr(one, "reason"):
            yield one.reason


def test_every_reason_is_explained_and_none_that_does_not_exist() -> None:
    assert REASONS.keys() == {"Synced", "Suspended", "Pending", *reasons_of_causes()}


def test_the_page_names_every_reason_that_a_condition_can_have() -> None:
    rows = re.findall(r"^\| (`[A-Z].*?) \| ", PAGE, re.MULTILINE)
    named = {name for row in rows for name in re.findall(r"`([A-Za-z]+)`", row)}
    assert REASONS.keys() - {"Pending"} <= named


def test_nobody_is_asked_to_delete_a_resource_whose_secret_may_be_in_use() -> None:
    assert "create a second DatabaseClusterRef" in REASONS["ClusterNotFound"].remedy
    for reason, one in REASONS.items():
        assert "elete" not in one.remedy or "nothing uses" in one.remedy, reason


def test_an_explanation_is_in_sentences() -> None:
    for reason in REASONS.values():
        assert reason.meaning.endswith(".")
        assert reason.then.endswith(".")
