import re
from itertools import product

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parsed

from dbclusterref.commands.reasons import REASONS
from dbclusterref.metrics import CAUSES, CODES, REFERENCE_CONDITION, REFERENCE_LAST_SUCCESS, ROUTES, Metrics, reasons

OURS = "dbclusterref_"
OPENMETRICS = "application/openmetrics-text; version=1.0.0"


def text(metrics: Metrics) -> str:
    return metrics.render()[0].decode()


def value(metrics: Metrics, metric: str, /, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(OURS + metric, labels)


def test_every_metric_has_our_prefix_and_a_help_text() -> None:
    helped = dict(re.findall(r"^# HELP (\S+) (.+)$", text(Metrics()), re.MULTILINE))
    ours = {name for name in helped if not name.startswith(("process_", "python_"))}
    assert ours
    assert [name for name in ours if not name.startswith(OURS)] == []
    assert [name for name in ours if not helped[name].endswith(".")] == []


def test_the_catalogue_describes_every_metric_and_no_other() -> None:
    metrics = Metrics()
    shown = {
        f"{family.name}_total" if family.type == "counter" else family.name: (family.type, family.documentation)
        for family in metrics.registry.collect()
        if family.name.startswith(OURS)
    }
    optional = {REFERENCE_CONDITION, REFERENCE_LAST_SUCCESS}
    assert {one.name: (one.kind, one.help) for one in metrics.catalogue if one.name not in optional} == shown


def test_the_catalogue_gives_the_meaning_of_every_label() -> None:
    metrics = Metrics()
    metrics.set_budgets({"0a": (1, 2)})
    metrics.count_kubernetes_request("get", "secrets", 200)
    for family in metrics.registry.collect():
        described = {one.name: one for one in metrics.catalogue}
        for sample in family.samples:
            if one := described.get(sample.name):
                assert sample.labels.keys() == one.labels.keys(), sample.name
    assert all(one.advice.endswith(".") for one in metrics.catalogue)


def test_names_follow_prometheus_conventions() -> None:
    for one in Metrics().catalogue:
        assert (one.kind == "counter") == one.name.endswith("_total"), one.name
        assert not re.search(r"(_ms|_millis|_minutes|_hours|_count|_sum|_bucket|_gauge|_counter)$", one.name), one.name
        timed = any(word in one.name for word in ("_age_", "_duration_", "_timestamp_", "_lag_", "_overdue_"))
        assert not timed or one.name.endswith("_seconds"), one.name


def test_no_series_says_when_another_was_created() -> None:
    metrics = Metrics()
    metrics.bugs.inc()
    assert "_created" not in text(metrics)
    assert b"_created" not in metrics.render(OPENMETRICS)[0]


def test_openmetrics_is_given_where_it_is_asked_for_and_can_be_parsed() -> None:
    metrics = Metrics()
    metrics.count_transitions(lambda: 4)
    body, content_type = metrics.render(OPENMETRICS)
    assert content_type.startswith("application/openmetrics-text")
    families = parsed(body.decode())  # type: ignore[no-untyped-call]
    samples = [sample for family in families for sample in family.samples]
    assert [sample.value for sample in samples if sample.name == "dbclusterref_leader_transitions_total"] == [4]
    assert metrics.render()[1].startswith("text/plain; version=0.0.4")


@pytest.mark.parametrize(
    ("name", "labels"),
    [
        *(("reconciles_total", {"reason": reason}) for reason in reasons()),
        *(("digitalocean_requests_total", {"route": route, "code": code}) for route, code in product(ROUTES, CODES)),
        *(("kubernetes_writes_total", {"kind": kind, "result": "failed"}) for kind in ("Secret", "Status")),
        *(("secret_writes_total", {"cause": cause}) for cause in CAUSES),
        *(("references_overdue", {"intervals": intervals}) for intervals in ("1", "3", "10")),
        ("unexpected_errors_total", {}),
        ("missed_changes_total", {}),
        ("watch_restarts_total", {}),
        ("leader_transitions_total", {}),
    ],
    ids=lambda part: part if isinstance(part, str) else " ".join(part.values()),
)
def test_what_an_alert_waits_for_exists_from_the_start(name: str, labels: dict[str, str]) -> None:
    assert value(Metrics(), name, **labels) == 0


def test_reasons_are_those_that_conditions_have() -> None:
    assert set(reasons()) == REASONS.keys() - {"Pending"}


def test_references_are_counted_by_what_holds_now() -> None:
    metrics = Metrics()
    metrics.set_references({(True, False, False, "UpstreamUnavailable"): 9})
    assert value(metrics, "references", ready="true", fresh="false", stalled="false", reason="UpstreamUnavailable") == 9
    assert value(metrics, "references", ready="true", fresh="true", stalled="false", reason="Synced") == 0
    metrics.set_references({(True, True, False, "Synced"): 9})
    assert value(metrics, "references", ready="true", fresh="false", stalled="false", reason="UpstreamUnavailable") is None
    assert value(metrics, "references", ready="true", fresh="true", stalled="false", reason="Synced") == 9


def test_the_build_is_named() -> None:
    assert re.search(
        r'^dbclusterref_build_info\{python_version="3\.\S+",revision="abc",version="\d\S*"\} 1\.0$',
        text(Metrics(revision="abc")),
        re.MULTILINE,
    )


def test_two_registries_do_not_share_counts() -> None:
    one, other = Metrics(), Metrics()
    one.bugs.inc()
    assert value(one, "unexpected_errors_total") == 1
    assert value(other, "unexpected_errors_total") == 0
