from typing import NoReturn

from dbclusterref.commands.reference_series import CONDITIONS, ReferenceCollector, ReferenceSeries
from dbclusterref.metrics import REFERENCE_CONDITION, REFERENCE_LAST_SUCCESS, Metrics

SERIES = ReferenceSeries(namespace="shop", name="orders-db", conditions=(True, False, False), last_success=1_700_000_000)
NEVER = ReferenceSeries(namespace="shop", name="new-db", conditions=(False, False, False), last_success=None)


def test_single_references_are_shown_only_when_asked_for_and_read_at_each_scrape() -> None:
    metrics, known = Metrics(), [SERIES, NEVER]
    assert REFERENCE_CONDITION not in metrics.render()[0].decode()
    metrics.registry.register(ReferenceCollector(metrics, lambda: known))
    value = metrics.registry.get_sample_value
    names = {"namespace": "shop", "name": "orders-db"}
    assert [value(REFERENCE_CONDITION, {**names, "type": kind}) for kind in CONDITIONS] == [1, 0, 0]
    assert value(REFERENCE_LAST_SUCCESS, names) == 1_700_000_000
    assert value(REFERENCE_LAST_SUCCESS, {**names, "name": "new-db"}) is None
    known.clear()
    assert 'name="orders-db"' not in metrics.render()[0].decode()


def test_the_series_are_as_the_catalogue_describes_them() -> None:
    metrics = Metrics()
    described = {one.name: one for one in metrics.catalogue}
    for family in ReferenceCollector(metrics, lambda: [SERIES]).collect():
        assert family.documentation == described[family.name].help
        assert all(sample.labels.keys() == described[family.name].labels.keys() for sample in family.samples)


def test_registering_reads_nothing() -> None:
    def read() -> NoReturn:
        raise AssertionError

    metrics = Metrics()
    metrics.registry.register(ReferenceCollector(metrics, read))
