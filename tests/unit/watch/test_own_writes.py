import json
from typing import Any

import pytest

from dbclusterref.watch.stream_filter import MOST, OwnWrites


def line(kind: str, version: str, **members: Any) -> bytes:
    """As the API server writes it: no spaces."""
    body = written(version) | members
    return json.dumps({"type": kind, "object": body}, separators=(",", ":")).encode()


def written(version: str, *, uid: str = "uid-1") -> dict[str, Any]:
    return {"kind": "Secret", "metadata": {"name": "orders-db", "uid": uid, "resourceVersion": version}}


@pytest.fixture
def own_writes() -> OwnWrites:
    own_writes = OwnWrites()
    own_writes.expect(written("7"))
    return own_writes


@pytest.mark.parametrize("kind", ["ADDED", "MODIFIED"])
def test_what_a_write_of_ours_made_is_recognized_once(own_writes: OwnWrites, kind: str) -> None:
    assert own_writes.is_own(line(kind, "7"))
    assert not own_writes.is_own(line(kind, "7"))


@pytest.mark.parametrize("version", ["8", "77", "6"])
def test_what_another_write_made_is_not_own(own_writes: OwnWrites, version: str) -> None:
    assert not own_writes.is_own(line("MODIFIED", version))
    assert own_writes.is_own(line("MODIFIED", "7"))


def test_another_object_of_the_same_version_is_a_change_where_each_kind_has_an_etcd_of_its_own(own_writes: OwnWrites) -> None:
    assert not own_writes.is_own(line("MODIFIED", "7", metadata={"uid": "uid-2", "resourceVersion": "7"}))
    assert own_writes.is_own(line("MODIFIED", "7"))


@pytest.mark.parametrize("kind", ["DELETED", "BOOKMARK", "ERROR", "NEW"])
def test_only_a_change_is_an_own_write(own_writes: OwnWrites, kind: str) -> None:
    assert not own_writes.is_own(line(kind, "7"))


def test_a_label_that_passes_for_a_version_of_ours_hides_nothing(own_writes: OwnWrites) -> None:
    assert not own_writes.is_own(line("MODIFIED", "8", labels={"resourceVersion": "7"}))
    assert not own_writes.is_own(line("MODIFIED", "8", data={"note": '"resourceVersion":"7"'}))


def test_a_line_that_is_spelt_in_another_way_is_passed_on(own_writes: OwnWrites) -> None:
    assert not own_writes.is_own(b'{"type": "MODIFIED", "object": {"metadata": {"resourceVersion": "7"}}}')
    assert not own_writes.is_own(b"")


def test_own_writes_that_never_come_are_forgotten_the_oldest_first(own_writes: OwnWrites) -> None:
    for version in range(8, 8 + MOST):
        own_writes.expect(written(str(version)))
    assert not own_writes.is_own(line("ADDED", "7"))
    assert own_writes.is_own(line("ADDED", "8"))


def test_all_are_forgotten_where_versions_are_given_out_again(own_writes: OwnWrites) -> None:
    own_writes.forget()
    assert not own_writes.is_own(line("MODIFIED", "7"))
