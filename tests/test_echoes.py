import json
from typing import Any

import pytest

from dbclusterref.echoes import MOST, Echoes


def line(kind: str, version: str, **members: Any) -> bytes:
    """As the API server writes it: no spaces."""
    body = written(version) | members
    return json.dumps({"type": kind, "object": body}, separators=(",", ":")).encode()


def written(version: str, *, uid: str = "uid-1") -> dict[str, Any]:
    return {"kind": "Secret", "metadata": {"name": "orders-db", "uid": uid, "resourceVersion": version}}


@pytest.fixture
def echoes() -> Echoes:
    echoes = Echoes()
    echoes.expect(written("7"))
    return echoes


@pytest.mark.parametrize("kind", ["ADDED", "MODIFIED"])
def test_what_a_write_of_ours_made_is_an_echo_once(echoes: Echoes, kind: str) -> None:
    assert echoes.is_one(line(kind, "7"))
    assert not echoes.is_one(line(kind, "7"))


@pytest.mark.parametrize("version", ["8", "77", "6"])
def test_what_another_write_made_is_none(echoes: Echoes, version: str) -> None:
    assert not echoes.is_one(line("MODIFIED", version))
    assert echoes.is_one(line("MODIFIED", "7"))


def test_another_object_of_the_same_version_is_news_where_each_kind_has_an_etcd_of_its_own(echoes: Echoes) -> None:
    assert not echoes.is_one(line("MODIFIED", "7", metadata={"uid": "uid-2", "resourceVersion": "7"}))
    assert echoes.is_one(line("MODIFIED", "7"))


@pytest.mark.parametrize("kind", ["DELETED", "BOOKMARK", "ERROR", "NEW"])
def test_only_a_change_is_an_echo(echoes: Echoes, kind: str) -> None:
    assert not echoes.is_one(line(kind, "7"))


def test_a_label_that_passes_for_a_version_of_ours_hides_nothing(echoes: Echoes) -> None:
    assert not echoes.is_one(line("MODIFIED", "8", labels={"resourceVersion": "7"}))
    assert not echoes.is_one(line("MODIFIED", "8", data={"note": '"resourceVersion":"7"'}))


def test_a_line_that_is_spelt_in_another_way_is_news(echoes: Echoes) -> None:
    assert not echoes.is_one(b'{"type": "MODIFIED", "object": {"metadata": {"resourceVersion": "7"}}}')
    assert not echoes.is_one(b"")


def test_echoes_that_never_come_are_forgotten_the_oldest_first(echoes: Echoes) -> None:
    for version in range(8, 8 + MOST):
        echoes.expect(written(str(version)))
    assert not echoes.is_one(line("ADDED", "7"))
    assert echoes.is_one(line("ADDED", "8"))
