from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dbclusterref.digitalocean.model import DatabaseCluster, User
from dbclusterref.digitalocean.snapshot import (
    PackedSnapshot,
    ReadCluster,
    Snapshot,
    pack_cluster,
    packed_cluster,
    unpack_cluster,
)
from tests.support.builders import PASSWORD, a_cluster, a_snapshot, connection_body
from tests.support.strategies import BOUNDED, cluster_bodies


@BOUNDED
@given(cluster_bodies())
def test_a_cluster_comes_back_as_it_was(body: dict[str, object]) -> None:
    found = DatabaseCluster.from_api(body)
    assert unpack_cluster(pack_cluster(found)) == found


@BOUNDED
@given(st.text(st.characters(codec="utf-8")))
def test_equal_clusters_have_equal_bytes_and_different_ones_have_not(name: str) -> None:
    one = pack_cluster(a_cluster(private_connection=connection_body(password=f"x{name!r}")))
    assert pack_cluster(a_cluster(private_connection=connection_body(password=f"x{name!r}"))) == one
    assert pack_cluster(a_cluster(private_connection=connection_body(password=f"y{name!r}"))) != one


@pytest.mark.parametrize("member", ["private_connection", "connection"])
def test_what_cannot_be_read_of_a_cluster_is_kept_as_such(member: str) -> None:
    found = a_cluster(**{member: connection_body(port=70000)})
    assert found.endpoints.faults
    assert unpack_cluster(pack_cluster(found)) == found


def test_what_is_typical_is_small() -> None:
    assert len(pack_cluster(a_cluster())) < 200


def test_a_cluster_larger_than_the_window_comes_back_too() -> None:
    users = [{"name": f"user-{number}", "role": "normal", "password": f"pw-{number * 7919}"} for number in range(2000)]
    found = a_cluster(users=users)
    assert unpack_cluster(pack_cluster(found)) == found


def test_a_snapshot_comes_back_with_all_that_belongs_to_it_and_shows_no_password() -> None:
    pool = {"name": "pool", "private_connection": connection_body(password="sesame-3")}
    whole = replace(a_snapshot(ca=b"pem", user={"name": "app", "password": "sesame-2"}, pool=pool), password="sesame-4")
    packed = PackedSnapshot.of(whole)
    assert packed.unpacked() == whole
    assert packed.unpacked().packed is packed.cluster
    assert whole.pool
    assert "sesame" not in repr(packed)
    bare = Snapshot(cluster=a_cluster(), ca_pending=True)
    assert PackedSnapshot.of(bare).unpacked() == bare
    assert isinstance(whole.user, User)


def test_what_is_packed_already_is_not_packed_again() -> None:
    packed = pack_cluster(a_cluster())
    assert packed_cluster(Snapshot(cluster=a_cluster(), packed=packed)) is packed
    assert packed_cluster(Snapshot(cluster=a_cluster())) == packed
    found = ReadCluster.from_cache(packed)
    assert (found.cluster, found.packed) == (a_cluster(), packed)
    assert PASSWORD not in repr(found)
