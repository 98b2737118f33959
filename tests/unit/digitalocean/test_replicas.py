from typing import Any

import pytest

from dbclusterref.digitalocean.replicas import MOST_REPLICAS, Address, Replicas, addresses_in, listed
from dbclusterref.errors import UpstreamUnavailable
from tests.support.builders import connection_body, replica_body


def hosts(*bodies: dict[str, Any]) -> list[str]:
    addresses = Replicas.from_api(list(bodies)).addresses(region="ams3")
    return [address.host.removeprefix("private-").removesuffix("-orders.db.example.com") for address in addresses]


def test_those_that_serve_are_in_an_order_that_does_not_depend_on_the_lists() -> None:
    bodies = [
        replica_body("a-far", region="nyc3"),
        replica_body("b-resizing", status="resizing"),
        replica_body("d"),
        replica_body("c"),
        replica_body("e-migrating", status="migrating"),
    ]
    expected = ["c", "d", "b-resizing", "e-migrating", "a-far"]
    assert hosts(*bodies) == hosts(*reversed(bodies)) == expected


@pytest.mark.parametrize(
    ("status", "serves"),
    [("online", True), (None, True), ("creating", False), ("forking", False), ("a_new_word", False)],
)
def test_a_replica_that_has_no_data_yet_or_of_whose_state_nothing_is_known_does_not_serve(
    status: str | None, *, serves: bool
) -> None:
    assert hosts(replica_body(status=status)) == (["read-1"] if serves else [])


@pytest.mark.parametrize("private", [None, {}, connection_body(host="")])
def test_a_replica_without_a_private_address_is_left_out(private: object) -> None:
    assert hosts(replica_body(private_connection=private), replica_body("read-2")) == ["read-2"]


@pytest.mark.parametrize("content", [None, []])
def test_there_may_be_none(content: object) -> None:
    assert Replicas.from_api(content).serving == ()


@pytest.mark.parametrize(
    ("body", "path"),
    [
        (replica_body(name=""), "replicas[1].name"),
        (replica_body(private_connection={"host": "a b"}), "replicas[1].private_connection.host"),
        (replica_body(private_connection={"host": "a", "port": "CANARY"}), "replicas[1].private_connection.port"),
        ("CANARY", "replicas[1]"),
    ],
)
def test_one_that_cannot_be_read_makes_the_list_unusable_rather_than_shorter(body: Any, path: str) -> None:
    with pytest.raises(UpstreamUnavailable) as raised:
        Replicas.from_api([replica_body("good"), body])
    assert path in raised.value.message
    assert "CANARY" not in raised.value.message
    assert raised.value.answered


def test_nothing_secret_is_kept() -> None:
    assert "CANARY" not in repr(Replicas.from_api([replica_body()]))


def test_so_many_are_kept_and_no_more() -> None:
    assert len(hosts(*(replica_body(f"read-{number:03}") for number in range(100)))) == MOST_REPLICAS


def test_a_list_of_addresses_is_one_text_and_is_read_back() -> None:
    addresses = (Address(host="a", port=1), Address(host="fd00::1", port=2), Address(host="b", port=None))
    assert listed(addresses) == "a:1,[fd00::1]:2,b"
    assert addresses_in(listed(addresses)) == addresses


@pytest.mark.parametrize("text", ["", ",", "a b:1", "a:99999", "x" * 300, "a:1:2", "\n"])
def test_what_is_no_address_is_left_out(text: str) -> None:
    assert addresses_in(f"{text},good:5") == (Address(host="good", port=5),)
