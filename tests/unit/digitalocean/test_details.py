from typing import Any

import pytest

from dbclusterref.digitalocean.demand import Requested, Routine
from dbclusterref.digitalocean.details import LATE_INTERVALS, MISSING_MAX_AGE, KeptDetails, details_of, in_words, named_in
from dbclusterref.digitalocean.model import Database
from dbclusterref.digitalocean.replicas import Replicas
from dbclusterref.errors import DatabaseNotFound
from tests.support.builders import UUID, a_cluster, a_pool, a_reference

ORDERS = ("database", UUID, "orders")


@pytest.mark.parametrize(
    ("spec", "cluster", "asked_for"),
    [
        ({}, {}, []),
        ({"user": "app"}, {}, []),
        ({"user": "app"}, {"engine": "kafka"}, ["user"]),
        ({"user": "late", "pool": "p"}, {}, ["user", "pool"]),
        ({"user": "late", "database": "orders"}, {"db_names": ["defaultdb"]}, ["user", "database"]),
        ({"database": "orders"}, {"db_names": ["orders"]}, []),
        ({"database": "orders"}, {"engine": "mongodb"}, []),
        ({"user": "late", "pool": "p"}, {"private_connection": None, "status": "creating"}, []),
        ({"database": "orders"}, {"private_connection": None, "status": "forking"}, []),
        ({"database": "orders"}, {"private_connection": None}, ["database"]),
    ],
)
def test_only_what_the_cluster_object_does_not_say_is_asked_for(
    spec: dict[str, Any], cluster: dict[str, Any], asked_for: list[str]
) -> None:
    assert [what[0] for what in details_of(a_reference(**spec), a_cluster(**cluster))] == asked_for


def test_before_the_cluster_is_read_everything_that_the_spec_names_may_have_to_be_asked_for() -> None:
    assert list(named_in(a_reference(user="app", database="orders"))) == [("user", UUID, "app"), ORDERS]
    assert list(named_in(a_reference())) == []


def test_what_is_read_has_a_name_in_messages() -> None:
    kinds = ("cluster", "ca", "user", "pool", "database", "replicas")
    words = ["the cluster", "the CA", "user x", "connection pool x", "database x", "the read-only replicas"]
    assert [in_words((kind, UUID, "x")) for kind in kinds] == words


def test_an_answer_is_kept_while_its_cluster_is_as_it_was() -> None:
    now = 1e6
    kept = KeptDetails(lambda: now)
    kept.keep(ORDERS, Database(name="orders"), asked_at=now, of=b"cluster", listed=False)
    assert kept.get(ORDERS, of=b"cluster", wanted=Routine(now - 10)) == Database(name="orders")
    assert kept.get(ORDERS, of=b"changed", wanted=Routine(now)) is None
    now += MISSING_MAX_AGE - 1
    assert kept.get(ORDERS, of=b"cluster", wanted=Routine(now)), "whatever the refresh interval"
    assert kept.get(ORDERS, of=b"cluster", wanted=Requested(now)) is None
    now += 2
    assert kept.get(ORDERS, of=b"cluster", wanted=Routine(now)) is None


def test_what_is_known_to_be_missing_is_raised_and_a_pool_is_no_older_than_was_asked_for() -> None:
    now, pool = 1e6, ("pool", UUID, "orders-pool")
    kept = KeptDetails(lambda: now)
    with pytest.raises(DatabaseNotFound):
        kept.keep(ORDERS, DatabaseNotFound("No."), asked_at=now, of=b"", listed=False)
    kept.keep(pool, a_pool(), asked_at=now, of=b"", listed=False)
    now += 30
    with pytest.raises(DatabaseNotFound):
        kept.get(ORDERS, of=b"", wanted=Routine(now))
    assert kept.get(pool, of=b"", wanted=Routine(now - 31)) == a_pool()
    assert kept.get(pool, of=b"", wanted=Routine(now - 29)) is None
    assert pool in kept


def test_a_missing_name_that_nobody_asks_for_any_more_is_soon_forgotten() -> None:
    now, pool = 1e6, ("pool", UUID, "orders-pool")
    kept = KeptDetails(lambda: now)
    for name in ("still-named", "no-longer-named"):
        with pytest.raises(DatabaseNotFound):
            kept.keep(("database", UUID, name), DatabaseNotFound("No."), asked_at=now, of=b"", listed=True)
    kept.keep(pool, a_pool(), asked_at=now, of=b"", listed=False)
    for _ in range(3):
        now += MISSING_MAX_AGE * 1.1  # as rarely as a reference looks that waits for a person
        with pytest.raises(DatabaseNotFound):
            kept.get(("database", UUID, "still-named"), of=b"", wanted=Routine(now))
        kept.forget_unused(frozenset({UUID}))
    assert set(kept._kept) == {("database", UUID, "still-named"), pool}


def test_answers_that_come_late_are_late_until_one_comes_in_time_by_each_references_interval() -> None:
    now = 1e6
    kept = KeptDetails(lambda: now)
    replicas = ("replicas", UUID)

    def answer(*, after: float, requested: bool = False) -> None:
        nonlocal now
        now += after
        for _ in range(2):  # two who share the read keep it twice
            kept.keep(replicas, Replicas(serving=()), asked_at=now, of=b"", listed=False, requested=requested)

    answer(after=0)
    answer(after=3600)
    assert not kept.comes_late(replicas, interval=60), "nobody has waited: it was suspended"
    kept.mark_late(replicas, interval=60)
    for _ in range(3):
        answer(after=(LATE_INTERVALS - 0.5) * 60)
        assert [kept.comes_late(replicas, interval=interval) for interval in (10, 60, 61)] == [True, True, False]
    answer(after=60)
    assert [kept.comes_late(replicas, interval=interval) for interval in (10, 60)] == [True, False]
    answer(after=3600, requested=True)
    assert not kept.comes_late(replicas, interval=10)


def test_what_was_never_answered_cannot_be_marked() -> None:
    kept = KeptDetails(lambda: 1e6)
    kept.mark_late(ORDERS, interval=60)
    assert not kept.comes_late(ORDERS, interval=60)
