"""The benchmarks' results as plots: grouped bars on a logarithmic scale, since the sizes differ by factors of ten."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

Results = Mapping[str, Mapping[str, float]]
IDIOM = "kopf.timer idiom"
# What each plot shows: its title, the vertical axis, and the series by their keys in results.json.
PLOTS: Mapping[str, tuple[str, str, Mapping[str, str]]] = {
    "cold-start": (
        "Cold start",
        "seconds",
        {"cold_seconds": "operator", "bare_seconds": "bare client", "idiom_cold_seconds": IDIOM},
    ),
    "memory": ("Peak resident memory", "MiB", {"peak_mib": "operator", "idiom_peak_mib": IDIOM}),
    "idle-cpu": ("Processor while idle", "% of a core", {"idle_cpu_percent": "operator", "idiom_idle_cpu_percent": IDIOM}),
    "requests": (
        "Requests to DigitalOcean in an idle minute",
        "requests",
        {"idle_requests": "operator", "idiom_idle_requests": IDIOM},
    ),
}
# Okabe and Ito's colors, which people with a color vision deficiency can tell apart. One series has one color in all plots.
COLORS = {"operator": "#0072b2", "bare client": "#999999", IDIOM: "#e69f00"}
# matplotlib types the keys as a literal of each of its 300 parameters.
STYLE: dict[Any, Any] = {
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
    "font.family": "sans-serif",
    "font.size": 10,
    "grid.color": "#e5e5e5",
    "legend.frameon": False,
    "svg.fonttype": "none",  # text stays text, which a reader can search and select
    "svg.hashsalt": "dbclusterref",  # the same results make the same file
}
GROUP_WIDTH = 0.8


def draw(results: Results, folder: Path) -> None:
    """Write every plot."""
    with mpl.rc_context(STYLE):
        for name, (title, unit, series) in PLOTS.items():
            figure = Figure(figsize=(7, 3.8), layout="constrained")
            axes = figure.add_subplot()
            _draw_bars(axes, series, results)
            axes.set(title=title, ylabel=f"{unit} (log scale, lower is better)")
            figure.savefig(folder / f"{name}.svg", metadata={"Date": None, "Creator": None})


def _draw_bars(axes: Axes, series: Mapping[str, str], results: Results) -> None:
    width = GROUP_WIDTH / len(series)
    for number, (key, label) in enumerate(series.items()):
        left = (number - (len(series) - 1) / 2) * width
        # A size that a series was not measured at has no bar; neither has a zero, which a logarithm does not know.
        bars = [(index + left, found[key]) for index, found in enumerate(results.values()) if found.get(key, 0) > 0]
        drawn = axes.bar([x for x, _ in bars], [value for _, value in bars], width * 0.94, label=label, color=COLORS[label])
        axes.bar_label(drawn, labels=[_short(value) for _, value in bars], padding=2, fontsize=9)
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.margins(y=0.12)
    axes.set_xticks(range(len(results)), labels=_name_sizes(list(results)))
    axes.tick_params(axis="x", length=0)
    axes.legend(loc="upper left")


def _name_sizes(sizes: Sequence[str]) -> list[str]:
    return [f"{int(size):,} resources" for size in sizes]


def _short(value: float) -> str:
    """Return three significant digits, without an exponent."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
