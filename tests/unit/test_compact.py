from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from dbclusterref.digitalocean.model import DatabaseCluster, User
from dbclusterref.digitalocean.snapshot import PackedSnapshot, Snapshot, pack_cluster, unpack_cluster
from dbclusterref.reconcile.conditions import Outcome, Published, Result, Suspended, next_status
from dbclusterref.resource.reference import Reference
from dbclusterref.resource.status import Status, pack_status, unpack_status
from tests.support.builders import BOUNDED, cluster, cluster_bodies, identity, reference, reference_specs, snapshot

NOW = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)


def published(found: DatabaseCluster) -> Published:
    return Published(cluster=found, endpoints=found.endpoints, secret_name="orders-db", revision=3)


def status_after(outcome: Outcome, *, of: Reference | None = None) -> Status:
    result = Result(outcome=outcome, answered_at=NOW, refreshed=True)
    return next_status(Status(), result, identity=identity(), reference=of or reference(), now=NOW)


@BOUNDED
@given(cluster_bodies())
def test_a_cluster_comes_back_as_it_was(body: dict[str, object]) -> None:
    found = DatabaseCluster.from_api(body)
    assert unpack_cluster(pack_cluster(found)) == found


@BOUNDED
@given(cluster_bodies(), reference_specs())
def test_a_status_comes_back_as_it_was(body: dict[str, object], spec: dict[str, object]) -> None:
    for outcome in (published(DatabaseCluster.from_api(body)), Suspended()):
        status = status_after(outcome, of=reference(spec))
        assert unpack_status(pack_status(status)) == status


@BOUNDED
@given(st.text(st.characters(codec="utf-8")))
def test_equal_values_have_equal_bytes_and_different_ones_have_not(name: str) -> None:
    one = pack_cluster(cluster(name=name))
    assert pack_cluster(cluster(name=name)) == one
    assert pack_cluster(cluster(name=name + "x")) != one
    one = pack_status(status_after(published(cluster(name=name))))
    assert pack_status(status_after(published(cluster(name=name)))) == one
    assert pack_status(status_after(published(cluster(name=name + "x")))) != one


def test_what_is_typical_is_small() -> None:
    found = cluster()
    assert len(pack_cluster(found)) < 200
    assert len(pack_status(status_after(published(found)))) < 200


def test_a_cluster_larger_than_the_window_comes_back_too() -> None:
    users = [{"name": f"user-{number}", "role": "normal", "password": f"pw-{number * 7919}"} for number in range(2000)]
    found = cluster(users=users)
    assert unpack_cluster(pack_cluster(found)) == found


def test_a_snapshot_comes_back_with_all_that_belongs_to_it_and_shows_no_password() -> None:
    whole = snapshot(ca="pem", user={"name": "app", "password": "sesame-2"})
    packed = PackedSnapshot.of(whole)
    assert packed.unpacked() == whole
    assert "sesame" not in repr(packed)
    bare = Snapshot(cluster=cluster(), ca_pending=True)
    assert PackedSnapshot.of(bare).unpacked() == bare
    assert isinstance(whole.user, User)
