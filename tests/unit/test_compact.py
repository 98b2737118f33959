from dataclasses import dataclass
from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from dbclusterref.compact import Compactor
from dbclusterref.digitalocean.model import DatabaseCluster
from dbclusterref.reconcile.conditions import Outcome, Published, Result, Suspended, next_status
from dbclusterref.resource.reference import Reference
from dbclusterref.resource.status import Status, pack_status, unpack_status
from tests.support.builders import a_cluster, a_reference, an_identity
from tests.support.strategies import BOUNDED, cluster_bodies, reference_specs

NOW = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)


def published(found: DatabaseCluster, *, revision: int = 3) -> Published:
    return Published(cluster=found, endpoints=found.endpoints, secret_name="orders-db", revision=revision)


def status_after(outcome: Outcome, *, of: Reference | None = None) -> Status:
    result = Result(outcome=outcome, answered_at=NOW, refreshed=True)
    return next_status(Status(), result, identity=an_identity(), reference=of or a_reference(), now=NOW)


@BOUNDED
@given(cluster_bodies(), reference_specs())
def test_a_status_comes_back_as_it_was(body: dict[str, object], spec: dict[str, object]) -> None:
    for outcome in (published(DatabaseCluster.from_api(body)), Suspended()):
        status = status_after(outcome, of=a_reference(spec))
        assert unpack_status(pack_status(status)) == status


@BOUNDED
@given(st.text(st.characters(codec="utf-8")))
def test_equal_values_have_equal_bytes_and_different_ones_have_not(name: str) -> None:
    one = pack_status(status_after(published(a_cluster(region=name))))
    assert pack_status(status_after(published(a_cluster(region=name)))) == one
    assert pack_status(status_after(published(a_cluster(region=name), revision=4))) != one


def test_what_is_typical_is_small() -> None:
    assert len(pack_status(status_after(published(a_cluster())))) < 200


values = st.dictionaries(
    st.text(st.characters(codec="utf-8"), max_size=9), st.integers(-(2**60), 2**60) | st.booleans() | st.none()
)


@BOUNDED
@given(values, values)
def test_any_value_comes_back_whatever_is_typical(typical: dict[str, object], value: dict[str, object]) -> None:
    compactor = Compactor(typical, type_=dict[str, object])
    assert compactor.unpack(compactor.pack(value)) == value


def test_what_is_in_the_typical_value_costs_next_to_nothing() -> None:
    value = {f"key-{number * 7919}": number for number in range(100)}
    alike, other = Compactor(value, type_=dict[str, int]), Compactor({}, type_=dict[str, int])
    assert len(alike.pack(value)) < 40 < len(other.pack(value)) / 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    name: str
    numbers: tuple[int, ...] = ()


def test_a_value_comes_back_as_its_type() -> None:
    compactor = Compactor(Sample(name="typical"), type_=Sample)
    assert compactor.unpack(compactor.pack(Sample(name="x", numbers=(1, 2)))) == Sample(name="x", numbers=(1, 2))
