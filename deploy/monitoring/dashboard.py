"""The Grafana dashboard as code: `python deploy/monitoring/dashboard.py` writes dashboard.json beside it.

It needs nothing but Python. A test asks a real Prometheus every query, and holds dashboard.json equal.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FILE = Path(__file__).with_name("dashboard.json")
WIDTH = 24
DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """One expression; `legend` as Grafana writes it."""

    expr: str
    legend: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """One panel. `unit` is Grafana's name of it; `red_from` colours a number from there on."""

    title: str
    help: str
    queries: tuple[Query, ...]
    unit: str = "short"
    kind: str = "timeseries"
    width: int = 8
    height: int = 8
    stacked: bool = False
    red_from: float | None = None


def stat(title: str, expr: str, help_text: str, *, unit: str = "short", red_from: float | None = None) -> Panel:
    """Return a panel that shows one number."""
    return Panel(
        title=title, help=help_text, queries=(Query(expr=expr),), unit=unit, kind="stat", width=4, height=4, red_from=red_from
    )


def metric(name: str, labels: str = "") -> str:
    """Return a selector of one of our metrics for the chosen job."""
    return f'dbclusterref_{name}{{job="$job"{", " if labels else ""}{labels}}}'


def rate(name: str, by: str, labels: str = "") -> str:
    """Return a counter's increase a second."""
    return f"sum by ({by}) (rate({metric(name, labels)}[$__rate_interval]))"


def quantiles(name: str, *, by: str = "") -> tuple[Query, ...]:
    """Return the median and the 99th percentile of a histogram."""
    label = f"{{{{{by}}}}} " if by else ""
    keys = f"le, {by}" if by else "le"
    return tuple(
        Query(expr=f"histogram_quantile(0.{part}, {rate(f'{name}_bucket', keys)})", legend=f"{label}p{part}")
        for part in (50, 99)
    )


NOT_FRESH = metric("references", 'fresh="false"')
STALLED = metric("references", 'stalled="true"')
FAILED = rate("kubernetes_requests_total", "code", 'code!~"2.."')

ROWS: tuple[tuple[str, tuple[Panel, ...]], ...] = (
    (
        "At a glance",
        (
            stat("References", f"sum({metric('references')})", "All that are known."),
            stat("Not fresh", f"sum({NOT_FRESH}) or vector(0)", "Their Secrets may be old.", red_from=1),
            stat("Need a person", f"sum({STALLED}) or vector(0)", "Waiting does not help.", red_from=1),
            stat("Oldest answer", f"max({metric('oldest_answer_age_seconds')})", "Of DigitalOcean.", unit="s"),
            stat("Leaders", f"sum({metric('leader')})", "1, or one for each shard."),
            stat("Bugs", f"sum(increase({metric('unexpected_errors_total')}[1d]))", "Within a day; see the log.", red_from=1),
        ),
    ),
    (
        "References",
        (
            Panel(
                title="References by state", stacked=True,
                help="Anything but Synced says why. Ready and not fresh: an outage that has not cost anything yet.",
                queries=(
                    Query(
                        expr=f"sum by (ready, fresh, stalled, reason) ({metric('references')})",
                        legend="{{reason}} (ready {{ready}}, fresh {{fresh}}, stalled {{stalled}})",
                    ),
                ),
            ),
            Panel(
                title="Answers overdue", help="References whose answer is older than it should be, by refresh intervals.",
                queries=(Query(expr=f"sum by (intervals) ({metric('references_overdue')})", legend="{{intervals}} intervals"),),
            ),
            Panel(
                title="Secret writes by cause", unit="ops", help="changed: a rotation. repaired: somebody edited it.",
                queries=(Query(expr=rate("secret_writes_total", "cause"), legend="{{cause}}"),),
            ),
            Panel(
                title="Reconciliations by outcome", unit="ops", help="What each reconciliation came to.",
                queries=(Query(expr=rate("reconciles_total", "reason"), legend="{{reason}}"),),
            ),
            Panel(
                title="Reconciliation duration", unit="s", help="Reads and writes included.",
                queries=quantiles("reconcile_duration_seconds"),
            ),
            Panel(
                title="Queue", help="Work that is due, and how late the most overdue is.",
                queries=(
                    Query(expr=f"sum({metric('queue_length')})", legend="due now"),
                    Query(expr=f"max({metric('queue_overdue_seconds')})", legend="overdue, seconds"),
                ),
            ),
        ),
    ),
    (
        "DigitalOcean",
        (
            Panel(
                title="Requests by code", unit="reqps", help="0: no reply. 429: the rate limit. 401, 403: the token.",
                queries=(Query(expr=rate("digitalocean_requests_total", "code"), legend="{{code}}"),),
            ),
            Panel(
                title="Requests by route", unit="reqps", help="With many references, most reads are pages of the listing.",
                queries=(Query(expr=rate("digitalocean_requests_total", "route"), legend="{{route}}"),),
            ),
            Panel(
                title="Request duration by route", unit="s", help="Body included.",
                queries=quantiles("digitalocean_request_duration_seconds", by="route"),
            ),
            Panel(
                title="Requests left by token", width=12, help="In the hour; tokens are shown by an opaque id.",
                queries=(
                    Query(expr=f"min by (token) ({metric('digitalocean_ratelimit_remaining')})", legend="{{token}}"),
                    Query(expr=f"min({metric('digitalocean_ratelimit_lowest_remaining')} > 0)", legend="lowest"),
                ),
            ),
            Panel(
                title="Slowdown", width=12, help="Above 1, refresh intervals are not kept: a rate limit is low.",
                queries=(Query(expr=f"max by (instance) ({metric('digitalocean_slowdown')})", legend="{{instance}}"),),
            ),
        ),
    ),
    (
        "Kubernetes",
        (
            Panel(
                title="Requests by verb and resource", unit="reqps", help="Nearly none while nothing changes.",
                queries=(Query(expr=rate("kubernetes_requests_total", "verb, resource"), legend="{{verb}} {{resource}}"),),
            ),
            Panel(
                title="Requests that failed, by code", unit="reqps", help="409 and 404 are part of normal operation.",
                queries=(
                    Query(expr=f"{FAILED} or vector(0)", legend="{{code}}"),
                ),
            ),
            Panel(
                title="Writes", unit="ops", help="Secrets and statuses.",
                queries=(Query(expr=rate("kubernetes_writes_total", "kind, result"), legend="{{kind}} {{result}}"),),
            ),
            Panel(
                title="Watches", unit="s", help="Silence of the quietest watch; restarts and missed changes within an hour.",
                queries=(
                    Query(expr=f"max({metric('watch_age_seconds')})", legend="silent for"),
                    Query(expr=f"sum(increase({metric('watch_restarts_total')}[1h]))", legend="restarts an hour"),
                    Query(expr=f"sum(increase({metric('missed_changes_total')}[1h]))", legend="missed an hour"),
                ),
            ),
            Panel(
                title="Leader", help="Who leads, and how often that changed within an hour.",
                queries=(
                    Query(expr=f"max by (instance) ({metric('leader')})", legend="{{instance}}"),
                    Query(expr=f"max(increase({metric('leader_transitions_total')}[1h]))", legend="transitions an hour"),
                ),
            ),
            Panel(
                title="Events dropped", unit="ops", help="Refused, or too many.",
                queries=(Query(expr=f"sum(rate({metric('events_dropped_total')}[$__rate_interval]))", legend="dropped"),),
            ),
        ),
    ),
    (
        "Dates and process",
        (
            Panel(
                title="Days left", unit="d", help="Until the first CA certificate expires, and the first version ends.",
                queries=(
                    Query(expr=f"(min({metric('ca_not_after_timestamp_seconds')} > 0) - time()) / 86400", legend="CA"),
                    Query(
                        expr=f"(min({metric('version_end_of_life_timestamp_seconds')} > 0) - time()) / 86400", legend="version"
                    ),
                ),
            ),
            Panel(
                title="Memory", unit="bytes", help="Resident.",
                queries=(Query(expr='process_resident_memory_bytes{job="$job"}', legend="{{instance}}"),),
            ),
            Panel(
                title="Processor and event loop", help="Cores used; how late the event loop is.",
                queries=(
                    Query(expr='rate(process_cpu_seconds_total{job="$job"}[$__rate_interval])', legend="{{instance}} cores"),
                    Query(expr=metric("event_loop_lag_seconds"), legend="{{instance}} lag, seconds"),
                ),
            ),
            Panel(
                title="Versions", kind="table", width=24, height=5, help="What runs where.",
                queries=(Query(expr=metric("build_info")),),
            ),
        ),
    ),
)  # fmt: skip


def panels() -> Iterable[dict[str, Any]]:
    """Return the rows and panels, each with its place."""
    y, number = 0, 0
    for title, row in ROWS:
        number += 1
        yield {"id": number, "type": "row", "title": title, "collapsed": False, "panels": [], "gridPos": _place(0, y, WIDTH, 1)}
        x, y, tallest = 0, y + 1, 0
        for panel in row:
            if x + panel.width > WIDTH:
                x, y, tallest = 0, y + tallest, 0
            number += 1
            yield _panel(panel, number=number, place=_place(x, y, panel.width, panel.height))
            x, tallest = x + panel.width, max(tallest, panel.height)
        y += tallest


def dashboard() -> dict[str, Any]:
    """Return the whole dashboard."""
    job = {
        "name": "job", "label": "Job", "type": "query", "datasource": DATASOURCE, "refresh": 2,
        "query": "label_values(dbclusterref_leader, job)", "definition": "label_values(dbclusterref_leader, job)",
    }  # fmt: skip
    return {
        "uid": "dbclusterref",
        "title": "DatabaseClusterRef operator",
        "description": "References, DigitalOcean, Kubernetes and the process. docs/metrics.md explains each metric.",
        "tags": ["dbclusterref"],
        "schemaVersion": 39,
        "editable": True,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "templating": {
            "list": [{"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus"}, job]
        },
        "panels": list(panels()),
    }


def rendered() -> str:
    """Return dashboard.json."""
    return json.dumps(dashboard(), indent=2) + "\n"


def _place(x: int, y: int, width: int, height: int) -> dict[str, int]:
    return {"x": x, "y": y, "w": width, "h": height}


def _panel(panel: Panel, *, number: int, place: dict[str, int]) -> dict[str, Any]:
    steps: list[dict[str, Any]] = [{"color": "green", "value": None}]
    if panel.red_from is not None:
        steps.append({"color": "red", "value": panel.red_from})
    is_table = panel.kind == "table"
    defaults: dict[str, Any] = {"unit": panel.unit, "thresholds": {"mode": "absolute", "steps": steps}}
    if panel.stacked:
        defaults["custom"] = {"stacking": {"mode": "normal"}, "fillOpacity": 40}
    return {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.help,
        "gridPos": place,
        "datasource": DATASOURCE,
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "targets": [
            {
                "refId": chr(ord("A") + position),
                "expr": query.expr,
                "legendFormat": query.legend,
                "datasource": DATASOURCE,
                **({"format": "table", "instant": True} if is_table else {}),
            }
            for position, query in enumerate(panel.queries)
        ],
    }


if __name__ == "__main__":
    FILE.write_text(rendered())
