import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yaml"))


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_every_make_target_of_a_workflow_exists(path: Path) -> None:
    targets = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    steps = [step for job in yaml.safe_load(path.read_text())["jobs"].values() for step in job["steps"]]
    named = {match for step in steps for match in re.findall(r"\bmake ([a-z0-9-]+)", step.get("run", ""))}
    assert named <= targets
    assert any("run" in step for step in steps)


def test_the_bug_template_asks_for_what_check_says() -> None:
    fields = yaml.safe_load((ROOT / ".github" / "ISSUE_TEMPLATE" / "bug.yaml").read_text())["body"]
    (check,) = (field for field in fields if field.get("id") == "check")
    assert "dbclusterref check" in check["attributes"]["label"]
    assert check["validations"]["required"]
