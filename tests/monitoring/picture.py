"""Draws docs/dashboard.svg: the dashboard's panels, with what a real Prometheus answers to their queries after two minutes
in which DigitalOcean fails, a token is rejected, passwords are rotated and Secrets are edited (`make picture`).

Grafana itself is not run. The panels, their places, queries and legends are the dashboard's own.
"""

import re
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from deploy.monitoring import dashboard
from tests.e2e.cluster import ROOT, encoded
from tests.monitoring.stage import Fleet, Prometheus, Stage, open_stage

FILE = ROOT / "docs" / "dashboard.svg"
JOB = "dbclusterref"
WINDOW = "10s"
SECONDS = 120.0
STEP = 3.0
_LEGENDS = 6
_LEGEND = re.compile(r"\{\{(\w+)\}\}")

Series = list[dict[str, Any]]
Ask = Callable[[str], Series]


@dataclass(frozen=True, kw_only=True)
class Scene:
    """At so many seconds something happens; `name` is written on the picture."""

    at: float
    name: str
    happen: Callable[[], object]


def main() -> int:
    """Plays the scenes, and draws what Prometheus has seen of them."""
    with tempfile.TemporaryDirectory() as folder, open_stage(Path(folder)) as stage:
        start, scenes = play(stage)
        drawn = draw(lambda query: answer(stage.prometheus, query, start=start), scenes=scenes, start=start)
    save(drawn, FILE)
    return 0


def play(stage: Stage) -> tuple[float, Sequence[Scene]]:
    """Let the scenes happen; returns when the first second was."""
    tenant = stage.tenant()
    stage.start(JOB, f"--namespaces={tenant.namespace}", "--leader-elect")
    shop, team = Fleet.made(tenant, "shop", clusters=12), Fleet.made(tenant, "team", clusters=6)
    shop.wait_until_synced()
    team.wait_until_synced()
    ends: list[Callable[[], object]] = []

    def begin(fleet: Fleet, **rule: Any) -> None:
        ends.append(fleet.meets("status", **rule))

    def end() -> None:
        ends.pop()()

    def edit() -> None:
        for name in shop.names[:6]:
            tenant.admin.patch(tenant.secret_path(name), {"data": {"password": encoded("edited")}})

    scenes = (
        Scene(at=15, name="rotated", happen=lambda: [tenant.control.rotate_password(uuid) for uuid in shop.clusters[:5]]),
        Scene(at=30, name="503", happen=lambda: begin(shop, status=503)),
        Scene(at=55, name="well", happen=end),
        Scene(at=65, name="401", happen=lambda: begin(team, status=401)),
        Scene(at=90, name="well", happen=end),
        Scene(at=100, name="edited", happen=edit),
    )
    start = time.time()
    for scene in scenes:
        time.sleep(max(0.0, start + scene.at - time.time()))
        scene.happen()
    time.sleep(max(0.0, start + SECONDS - time.time()))
    return start, scenes


def answer(prometheus: Prometheus, query: str, *, start: float) -> Series:
    """Ask as Grafana does, for the picture's time."""
    expression = query.replace("$job", JOB).replace("$__rate_interval", WINDOW)
    return prometheus.series(expression, start=start, end=start + SECONDS, step=STEP)


def draw(ask: Ask, *, scenes: Sequence[Scene], start: float) -> Figure:
    """Return the dashboard with what `ask` answers to each query, panels where Grafana has them."""
    mpl.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "dashboard", "font.size": 7, "path.simplify": True})
    panels = {panel["id"]: panel for panel in dashboard.panels()}
    height = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in panels.values())
    figure = Figure(figsize=(13, height * 0.27))
    written = {panel.title: panel for _, row in dashboard.ROWS for panel in row}
    for panel in panels.values():
        place = panel["gridPos"]
        left, bottom = place["x"] / dashboard.WIDTH, 1 - (place["y"] + place["h"]) / height
        width, tall = place["w"] / dashboard.WIDTH, place["h"] / height
        if panel["type"] == "row":
            figure.text(left + 0.01, bottom + tall / 3, panel["title"], fontsize=11, fontweight="bold")
            continue
        edge = 1 / height
        axes = figure.add_axes((left + 0.03, bottom + 1.3 * edge, width - 0.04, tall - 2.6 * edge))
        axes.set_title(panel["title"], loc="left", fontsize=8)
        _draw_panel(axes, written[panel["title"]], ask=ask, scenes=scenes, start=start)
    return figure


def _draw_panel(axes: Axes, panel: dashboard.Panel, *, ask: Ask, scenes: Sequence[Scene], start: float) -> None:
    found = [(_legend(query.legend, one["metric"]), one["values"]) for query in panel.queries for one in ask(query.expr)]
    if panel.kind != "timeseries":
        axes.set_axis_off()
        if panel.kind == "stat":
            _, values = found[0]
            axes.text(0, 0.2, f"{float(values[-1][1]):.3g}{panel.unit.replace('short', '')}", fontsize=16)
        else:
            labels = ask(panel.queries[0].expr)[0]["metric"]
            axes.text(0, 0.5, ", ".join(f"{key}: {labels[key]}" for key in ("version", "python_version")), fontsize=9)
        return
    shown = [(name, [(float(at) - start, float(value)) for at, value in values if value != "NaN"]) for name, values in found]
    shown = sorted(shown, key=lambda one: max((value for _, value in one[1]), default=0.0), reverse=True)
    if panel.stacked:
        times = sorted({at for _, points in shown for at, _ in points})
        known = [dict(points) for _, points in shown]
        axes.stackplot(
            times, [[one.get(at, 0.0) for at in times] for one in known], labels=[name for name, _ in shown], alpha=0.6
        )
    else:
        for name, points in shown:
            corners = _corners(points)
            axes.plot([at for at, _ in corners], [value for _, value in corners], linewidth=1, label=name)
    for scene in scenes:
        axes.axvline(scene.at, color="0.6", linewidth=0.5, linestyle=":")
        if panel.stacked:  # once is enough
            axes.annotate(scene.name, (scene.at + 0.5, 0.03), xycoords=("data", "axes fraction"), fontsize=6, color="0.2")
    axes.locator_params(nbins=4)
    axes.set_xlim(0, SECONDS)
    axes.set_ylim(0, 1.3 * axes.get_ylim()[1])  # with room for the legend
    axes.set_xlabel(f"seconds; {panel.unit}" if panel.unit != "short" else "seconds", fontsize=6)
    handles, names = axes.get_legend_handles_labels()
    axes.legend(handles[:_LEGENDS], names[:_LEGENDS], fontsize=5, loc="upper right", framealpha=0.6)


def _corners(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """The points without those in the middle of a level stretch."""
    inner = zip(points, points[1:], points[2:], strict=False)
    return [*points[:1], *(here for before, here, after in inner if not before[1] == here[1] == after[1]), *points[1:][-1:]]


def _legend(form: str, labels: dict[str, str]) -> str:
    named = {**labels, "instance": "the operator"}
    return _LEGEND.sub(lambda match: named.get(match[1], ""), form)


def save(figure: Figure, path: Path) -> None:
    """Write it as text, tenths of a point exact; each style is written once. The same data give the same file."""
    figure.savefig(path, format="svg", metadata={"Date": None})
    text = re.sub(r"(\.\d)\d+", r"\1", path.read_text())
    styles = {style: f"s{number}" for number, style in enumerate(dict.fromkeys(re.findall(r' style="([^"]*)"', text)))}
    text = re.sub(r' style="([^"]*)"', lambda match: f' class="{styles[match[1]]}"', text)
    sheet = "\n".join(f".{name} {{{style}}}" for style, name in styles.items())
    text = text.replace("<defs>", f"<style>\n{sheet}\n</style>\n<defs>", 1)
    path.write_text("\n".join(line.rstrip() for line in text.splitlines() if not line.lstrip().startswith("<!--")) + "\n")


if __name__ == "__main__":
    sys.exit(main())
