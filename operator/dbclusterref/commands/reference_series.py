"""The series of single references, made for one scrape and kept by nobody."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from dbclusterref.metrics import REFERENCE_CONDITION, REFERENCE_LAST_SUCCESS, Metrics

CONDITIONS = ("Ready", "Fresh", "Stalled")


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferenceSeries:
    """One reference. `last_success` is Unix time, None where there was no success."""

    namespace: str
    name: str
    conditions: tuple[bool, bool, bool]
    """As CONDITIONS names them."""
    last_success: float | None


class ReferenceCollector(Collector):
    """Collects what `read` returns at each scrape."""

    def __init__(self, metrics: Metrics, read: Callable[[], Iterable[ReferenceSeries]]) -> None:
        self._metrics = metrics
        self._read = read

    def describe(self) -> Iterator[GaugeMetricFamily]:
        """Return the names without any series: registering must not read anything."""
        return iter(self._families())

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Return the series of the references that `read` returns now."""
        condition, success = self._families()
        for one in self._read():
            for kind, value in zip(CONDITIONS, one.conditions, strict=True):
                condition.add_metric((one.namespace, one.name, kind), value)
            if one.last_success is not None:
                success.add_metric((one.namespace, one.name), one.last_success)
        yield condition
        yield success

    def _families(self) -> list[GaugeMetricFamily]:
        described = {one.name: one for one in self._metrics.catalogue}
        return [
            GaugeMetricFamily(name, described[name].help, labels=tuple(described[name].labels))
            for name in (REFERENCE_CONDITION, REFERENCE_LAST_SUCCESS)
        ]
