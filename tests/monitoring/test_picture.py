from pathlib import Path
from typing import Any

from deploy.monitoring import dashboard
from tests.monitoring.picture import FILE, Scene, draw, save

TITLES = [panel.title for _, row in dashboard.ROWS for panel in row]


def a_series(query: str) -> list[dict[str, Any]]:
    """Two points of one series, as Prometheus returns them, with every label that a legend may name."""
    labels = {"version": "1.2.3", "python_version": "3.13", "reason": query[:20]}
    return [{"metric": labels, "values": [[1000.0, "1"], [1002.0, "NaN"], [1004.0, "2"]]}]


def test_every_panel_of_the_dashboard_is_drawn_with_what_its_queries_answer(tmp_path: Path) -> None:
    asked = []

    def ask(query: str) -> list[dict[str, Any]]:
        asked.append(query)
        return a_series(query)

    save(draw(ask, scenes=[Scene(at=2, name="the outage", happen=print)], start=1000), tmp_path / "picture.svg")
    text = (tmp_path / "picture.svg").read_text()
    assert [title for title in TITLES if f">{title}<" not in text] == []
    assert {query.expr for _, row in dashboard.ROWS for panel in row for query in panel.queries} <= set(asked)
    assert ">the outage<" in text
    assert "version: 1.2.3" in text


def test_the_picture_in_the_documentation_has_the_panels_that_the_dashboard_has_now() -> None:
    text = FILE.read_text()
    assert [title for title in TITLES if f">{title}<" not in text] == [], "the dashboard has changed; run: make picture"
    assert ">Synced (ready true, fresh true, stalled false)<" in text, "a real Prometheus has answered"
    assert FILE.stat().st_size < 200_000
