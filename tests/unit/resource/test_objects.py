import json

import pytest

from dbclusterref.resource.objects import REFRESH_REQUESTED_AT, ObjectKey, key_of, uid_of, version_of
from tests.support.builders import an_identity, reference_body


def test_a_key_is_shown_as_kubectl_shows_it_and_sorts_by_namespace_first() -> None:
    assert str(ObjectKey("shop", "orders-db")) == "shop/orders-db"
    assert sorted([ObjectKey("b", "a"), ObjectKey("a", "b")]) == [ObjectKey("a", "b"), ObjectKey("b", "a")]


def test_the_metadata_of_an_object_is_read() -> None:
    body = reference_body(uid="u", version=7)
    assert (key_of(body), uid_of(body), version_of(body)) == (ObjectKey("shop", "orders-db"), "u", "7")
    assert version_of({"metadata": {}}) == ""


def test_equal_names_are_one_object_since_many_are_kept() -> None:
    one, other = (key_of(json.loads(json.dumps(reference_body()))) for _ in range(2))
    assert one.name is other.name
    assert one.namespace is other.namespace


def test_meta_tells_generation_refresh_request_and_deletion() -> None:
    asked = an_identity(metadata={"annotations": {REFRESH_REQUESTED_AT: "now"}, "deletionTimestamp": "t"}, generation=9)
    assert (asked.generation, asked.refresh_requested_at, asked.deleting) == (9, "now", True)
    plain = an_identity()
    assert (plain.refresh_requested_at, plain.deleting) == ("", False)


def test_a_body_without_metadata_is_a_bug_and_not_a_resource() -> None:
    with pytest.raises((AssertionError, KeyError)):
        key_of({"metadata": None})
