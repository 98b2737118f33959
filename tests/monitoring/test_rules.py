"""The alert rules and the dashboard as files: what they name exists, and each alert leads to what to do about it."""

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from dbclusterref.commands.reasons import REASONS
from dbclusterref.metrics import Metrics
from deploy.monitoring import dashboard
from sandbox.servers import MissingProgramError, find_program

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy" / "monitoring"
FAILURES = (ROOT / "docs" / "failures.md").read_text()
RULES: list[dict[str, Any]] = yaml.safe_load((FOLDER / "alerts.yaml").read_text())["groups"][0]["rules"]
ALERTS = [rule for rule in RULES if "alert" in rule]
ANCHORS = set(re.findall(r'<a id="([^"]+)"', FAILURES))
DESCRIBED = {one.name: one for one in Metrics().catalogue}
EXPRESSIONS = [rule["expr"] for rule in RULES] + [
    query.expr for _, row in dashboard.ROWS for panel in row for query in panel.queries
]


@pytest.fixture
def promtool() -> Path:
    try:
        return find_program("promtool")
    except MissingProgramError as missing:
        pytest.skip(str(missing))


def test_prometheus_accepts_the_rules(promtool: Path) -> None:
    done = subprocess.run([promtool, "check", "rules", "--lint=all", "--lint-fatal", "alerts.yaml"], cwd=FOLDER, check=False,
                          capture_output=True, text=True)  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_rules_pass_their_unit_tests(promtool: Path) -> None:
    done = subprocess.run(
        [promtool, "test", "rules", "alerts_test.yaml"], cwd=FOLDER, check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_prometheus_own_linter_likes_the_metrics(promtool: Path) -> None:
    metrics = Metrics()
    metrics.count_kubernetes_request("get", "secrets", 200)
    metrics.set_budgets({"0a0b": (1, 5000)})
    text = b"".join(
        block
        for block in re.split(rb"(?=^# HELP )", metrics.render()[0], flags=re.MULTILINE)
        if b"# HELP dbclusterref_" in block
    )
    done = subprocess.run([promtool, "check", "metrics"], input=text, check=False, capture_output=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


@pytest.mark.parametrize("rule", ALERTS, ids=lambda rule: rule["alert"])
def test_each_alert_says_what_happened_and_leads_to_its_row(rule: dict[str, Any]) -> None:
    assert rule["labels"]["severity"] in {"critical", "warning", "info"}
    assert rule["annotations"]["summary"].endswith(".")
    page, _, anchor = rule["annotations"]["runbook_url"].partition("#")
    assert page.endswith("/blob/main/docs/failures.md")
    if "{{" not in anchor:
        assert anchor == rule["alert"].lower()
        assert anchor in ANCHORS


def test_each_reason_has_a_row_that_alerts_lead_to() -> None:
    reasons = {reason.lower() for reason in REASONS} - {"synced", "pending", "suspended"}
    assert {anchor.removeprefix("reason-") for anchor in ANCHORS if anchor.startswith("reason-")} == reasons


def test_each_row_of_an_alert_is_of_one_that_exists() -> None:
    assert {anchor for anchor in ANCHORS if anchor.startswith("dbclusterref")} <= {rule["alert"].lower() for rule in ALERTS}


@pytest.mark.parametrize("expression", EXPRESSIONS, ids=lambda text: text[:60])
def test_rules_and_dashboard_ask_for_metrics_and_labels_that_exist(expression: str) -> None:
    for name, selector in re.findall(r"\b(dbclusterref_\w+)(?:\{([^}]*)\})?", expression):
        one = DESCRIBED.get(name) or DESCRIBED[name.removesuffix("_bucket")]
        asked = set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", selector)) - {"job"}
        assert asked <= one.labels.keys()


def test_the_alerts_cover_every_counter_of_failures() -> None:
    used = set(re.findall(r"dbclusterref_\w+", " ".join(rule["expr"] for rule in RULES)))
    counted = {
        "dbclusterref_unexpected_errors_total",
        "dbclusterref_missed_changes_total",
        "dbclusterref_disbelieved_not_found_total",
    }
    assert counted <= used


def test_the_dashboard_is_what_its_program_writes() -> None:
    assert dashboard.FILE.read_text() == dashboard.rendered(), "run: python deploy/monitoring/dashboard.py"


def test_no_two_panels_of_the_dashboard_overlap() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in json.loads(dashboard.FILE.read_text())["panels"]:
        place = panel["gridPos"]
        cells = {(x, y) for x in range(place["x"], place["x"] + place["w"]) for y in range(place["y"], place["y"] + place["h"])}
        assert not cells & taken, panel["title"]
        assert max(x for x, _ in cells) < dashboard.WIDTH
        taken |= cells


def test_the_component_for_kustomize_has_the_same_rules_and_dashboard() -> None:
    deploy = Path(__file__).parents[2] / "deploy"
    component = deploy / "components" / "monitoring"
    rule = yaml.safe_load((component / "prometheus-rule.yaml").read_text())
    assert rule["spec"] == yaml.safe_load((deploy / "monitoring" / "alerts.yaml").read_text())
    assert (component / "dashboard.json").read_bytes() == (deploy / "monitoring" / "dashboard.json").read_bytes()
