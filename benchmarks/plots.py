"""Plots as SVG, by hand: bars in groups, on a logarithmic scale where the sizes differ that much."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

WIDTH, HEIGHT, LEFT, BOTTOM, TOP = 640, 320, 60, 40, 40
COLOURS = ("#2563eb", "#9ca3af", "#f59e0b")

Results = Mapping[str, Mapping[str, float]]
IDIOM = "kopf.timer idiom"
PLOTS: Mapping[str, tuple[str, Mapping[str, str]]] = {
    "cold-start": (
        "Cold start, seconds (less is better)",
        {"cold_seconds": "operator", "bare_seconds": "bare client", "idiom_cold_seconds": IDIOM},
    ),
    "memory": ("Peak resident memory, MiB", {"peak_mib": "operator", "idiom_peak_mib": IDIOM}),
    "idle-cpu": ("Processor while idle, % of a core", {"idle_cpu_percent": "operator", "idiom_idle_cpu_percent": IDIOM}),
    "requests": (
        "Requests to DigitalOcean in an idle minute",
        {"idle_requests": "operator", "idiom_idle_requests": IDIOM},
    ),
}


def draw(results: Results, folder: Path) -> None:
    """Writes every plot."""
    for name, (title, series) in PLOTS.items():
        (folder / f"{name}.svg").write_text(_bars(title, series, results))


def _bars(title: str, series: Mapping[str, str], results: Results) -> str:
    values = [[found.get(key, 0.0) for key in series] for found in results.values()]
    most = max((value for group in values for value in group), default=1.0) or 1.0
    least = min((value for group in values for value in group if value > 0), default=1.0)
    low, high = math.floor(math.log10(least)), math.ceil(math.log10(most * 1.01))

    def height(value: float) -> float:
        return (math.log10(value) - low) / max(high - low, 1) * (HEIGHT - BOTTOM - TOP) if value > 0 else 0.0

    parts = [f'<text x="{LEFT}" y="18" font-size="14">{title}</text>']
    parts += _grid(range(low, high + 1), height)
    group_width = (WIDTH - LEFT - 20) / max(len(values), 1)
    width = group_width * 0.7 / len(series)
    for number, (size, group) in enumerate(zip(results, values, strict=True)):
        x = LEFT + number * group_width + group_width * 0.15
        parts.append(f'<text x="{x}" y="{HEIGHT - 20}" font-size="12">{int(size):,} resources</text>')
        parts += [_bar(x + i * width, width, height(value), value, COLOURS[i]) for i, value in enumerate(group)]
    parts += _legend(list(series.values()))
    style = 'font-family="sans-serif" style="background:#fff"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" {style}>{"".join(parts)}</svg>\n'


def _grid(powers: Sequence[int], height: object) -> list[str]:
    assert callable(height)
    lines = []
    for power in powers:
        y = HEIGHT - BOTTOM - height(10.0**power)
        lines.append(f'<line x1="{LEFT}" x2="{WIDTH}" y1="{y:.1f}" y2="{y:.1f}" stroke="#e5e7eb"/>')
        lines.append(f'<text x="4" y="{y + 4:.1f}" font-size="11">{10.0**power:g}</text>')
    return lines


def _bar(x: float, width: float, height: float, value: float, colour: str) -> str:
    y = HEIGHT - BOTTOM - height
    bar = f'<rect x="{x:.1f}" y="{y:.1f}" width="{width * 0.92:.1f}" height="{max(height, 1):.1f}" fill="{colour}"/>'
    return bar + f'<text x="{x:.1f}" y="{y - 3:.1f}" font-size="10">{value:.3g}</text>'


def _legend(names: Sequence[str]) -> list[str]:
    found = []
    for number, name in enumerate(names):
        x = WIDTH - 130
        y = 14 + number * 14
        found.append(f'<rect x="{x}" y="{y - 9}" width="10" height="10" fill="{COLOURS[number]}"/>')
        found.append(f'<text x="{x + 14}" y="{y}" font-size="11">{name}</text>')
    return found
