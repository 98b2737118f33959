"""Writes docs/metrics.md from the metrics themselves: `python -m tools.metrics_page`."""

from pathlib import Path

from dbclusterref.metrics import Description, Metrics

PAGE = Path(__file__).parents[1] / "docs" / "metrics.md"

_HEAD = """\
# Metrics

<!-- Generated from operator/dbclusterref/metrics.py by `python -m tools.metrics_page`; a test holds it equal. -->

`/metrics` on the address of `--metrics-address` (`:8080`), in Prometheus' text format or as OpenMetrics, as the scraper asks;
[over TLS and with a token](operations.md#metrics-over-tls) where you wish.
Alert rules, their tests and a Grafana dashboard are in [deploy/monitoring](../deploy/monitoring). Each alert has its row in
[failures.md](failures.md#alerts).

- Labels are small, closed sets. Series that name references exist only with `--metrics-per-reference`, for as many of them as
  it allows. A token is shown as an id that cannot be turned into the token.
- A counter that an alert uses exists from the start with 0: Prometheus sees no increase in a series whose first sample is 1.
- A standby shows 0 for everything that describes work, so that sums over all processes are right. With shards, each process
  counts its own share.
- Gauges are computed when they are scraped. Ten thousand references cost no memory here.
- `process_*` and `python_info` are the Prometheus client's own. There are no `_created` series.

"""


def render() -> str:
    """Return the page."""
    return _HEAD + "\n".join(map(_section, Metrics().catalogue))


def _section(one: Description) -> str:
    labels = "".join(f"- `{label}`: {meaning}\n" for label, meaning in one.labels.items())
    return f"## {one.name}\n\n{one.kind.capitalize()}. {one.help}\n\n{labels}{chr(10) if labels else ''}{one.advice}\n"


if __name__ == "__main__":
    PAGE.write_text(render())
