"""The results as a Markdown table: one row for each thing measured, one column for each size."""

from collections.abc import Callable, Mapping

Found = Mapping[str, float]
Results = Mapping[str, Found]


def _short(value: float) -> str:
    return f"{value:.1f}" if value < 10 else f"{value:,.0f}"


def _seconds(name: str) -> Callable[[Found], str]:
    return lambda found: _short(found[name])


def _ratio(above: str, below: str) -> Callable[[Found], str]:
    return lambda found: _short(found[above] / max(found[below], 1e-9))


def _percent(name: str) -> Callable[[Found], str]:
    return lambda found: f"{100 * found[name]:.0f} %"


def _range(name: str, show: Callable[[float], str]) -> Callable[[Found], str]:
    return lambda found: f"{show(found[f'min_{name}'])} to {show(found[f'max_{name}'])}"


ROWS: Mapping[str, Callable[[Found], str]] = {
    "cold start: rate, of the bare client's": _percent("ratio_cold_to_bare"),
    "in each of the runs": _range("ratio_cold_to_bare", lambda value: f"{100 * value:.0f} %"),
    "without the process's own start": _percent("ratio_writing_to_bare"),
    "cold start, seconds": _seconds("cold_seconds"),
    "processor seconds: operator, API server with etcd": lambda found: (
        f"{_short(found['cold_cpu_seconds'])}, {_short(found['cold_server_cpu_seconds'])}"
    ),
    "bare client, seconds": _seconds("bare_seconds"),
    "processor seconds: bare client, API server with etcd": lambda found: (
        f"{_short(found['bare_cpu_seconds'])}, {_short(found['bare_server_cpu_seconds'])}"
    ),
    "warm restart, seconds": _seconds("warm_seconds"),
    "warm restart, writes": lambda found: f"{found['warm_writes']:.0f}",
    "idle minute, writes": lambda found: f"{found['idle_writes']:.0f}",
    "idle minute, requests to DigitalOcean": lambda found: f"{found['idle_requests']:.0f}",
    "idle minute, processor, % of a core": lambda found: f"{found['idle_cpu_percent']:.2f}",
    "rotation wave: Secrets, seconds": lambda found: f"{found['wave_secrets']:.0f}, {found['wave_seconds']:.0f}",
    "drift burst: Secrets, median, p99 seconds": lambda found: (
        f"{found['drift_repaired']:.0f}, {found['drift_median_seconds']:.2f}, {found['drift_p99_seconds']:.2f}"
    ),
    "peak memory: cold start, in all, after a warm restart, MiB": lambda found: (
        f"{found['cold_peak_mib']:.0f}, {found['peak_mib']:.0f}, {found['warm_peak_mib']:.0f}"
    ),
    "cold start, seconds, in each of the runs": _range("cold_seconds", _short),
    "idiom ÷ operator: peak memory": _ratio("idiom_peak_mib", "peak_mib"),
    "idiom ÷ operator: processor while idle": _ratio("idiom_idle_cpu_percent", "idle_cpu_percent"),
    "idiom ÷ operator: requests while idle": _ratio("idiom_idle_requests", "idle_requests"),
    "idiom: cold start, resources and seconds": lambda found: (
        f"{found['idiom_cold_written']:.0f}, {found['idiom_cold_seconds']:.0f}"
    ),
}


def table(results: Results) -> str:
    """Writes it."""
    head = [" ", *(f"{int(size):,}" for size in results)]
    rows = [head, ["---"] * len(head), *([title, *(row(found) for found in results.values())] for title, row in ROWS.items())]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in rows)
