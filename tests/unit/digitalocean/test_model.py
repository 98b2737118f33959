import copy
import json
import re
import traceback
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dbclusterref.digitalocean import wire
from dbclusterref.digitalocean.model import Connection, DatabaseCluster, Endpoints, MaintenanceWindow, Pool, User
from dbclusterref.errors import UpstreamUnavailable
from tests.support.builders import CANARY, UUID, Body, a_cluster, cluster_body, connection_body
from tests.support.strategies import BOUNDED, CONNECTIONS, cluster_bodies, json_values


def connection(**members: object) -> Connection:
    found = Connection.from_json(wire.encode(connection_body(**members)), path="c")
    assert found
    return found


def test_a_cluster_is_read_whole() -> None:
    read = a_cluster(
        created_at="2026-01-05T12:00:00Z",
        version_end_of_life="2029-11-08T00:00:00Z",
        maintenance_window={"day": "tuesday", "hour": "21:00", "pending": True, "description": None},
        standby_private_connection=connection_body(host="standby"),
        connection=connection_body(host="public"),
        standby_connection=connection_body(host="public-standby"),
        users=[{"name": "doadmin", "role": "primary", "password": "sesame"}, {"name": "app"}],
    )
    assert (read.uuid, read.name, read.engine, read.version) == (UUID, "orders", "pg", "17")
    assert (read.region, read.status, read.nodes, read.size) == ("ams3", "online", 2, "db-s-1vcpu-1gb")
    assert (read.created_at, read.version_end_of_life) == ("2026-01-05T12:00:00Z", "2029-11-08T00:00:00Z")
    assert read.maintenance_window == MaintenanceWindow(day="tuesday", hour="21:00", pending=True)
    ends = (read.endpoints.private, read.endpoints.standby, read.endpoints.public, read.endpoints.public_standby)
    assert [end and end.host for end in ends] == ["private-orders.db.example.com", "standby", "public", "public-standby"]
    assert [user.name for user in read.users] == ["doadmin", "app"]


@pytest.mark.parametrize(
    ("given", "read"),
    [(["defaultdb", "shop"], ("defaultdb", "shop")), ([], ()), (None, ()), ("shop", ()), (["shop", 1], ()), (["\ud800"], ())],
)
def test_the_names_of_the_databases_are_read_whole_or_not_at_all(given: object, read: tuple[str, ...]) -> None:
    assert a_cluster(db_names=given).db_names == read


def test_two_members_make_a_cluster() -> None:
    read = DatabaseCluster.from_api({"id": UUID, "engine": "e"})
    assert (read.name, read.version, read.status, read.size, read.nodes) == ("", "", "", "", None)
    assert (read.maintenance_window, read.users, read.endpoints) == (None, (), Endpoints())


@pytest.mark.parametrize("name", ["id", "engine"])
@pytest.mark.parametrize("how", ["absent", "null", "empty"])
def test_a_cluster_without_a_required_member_is_refused_by_that_name(name: str, how: str) -> None:
    body = cluster_body()
    if how == "absent":
        del body[name]
    else:
        body[name] = None if how == "null" else ""
    with pytest.raises(UpstreamUnavailable, match=rf"required field database\.{name} is missing"):
        DatabaseCluster.from_api(body)


@pytest.mark.parametrize(
    ("members", "said"),
    [
        ({"id": 7}, "database.id is not a string"),
        ({"id": "../../x"}, "database.id is not a UUID"),
        ({"id": UUID + "\n"}, "database.id is not a UUID"),
        ({"engine": ["pg"]}, "database.engine is not a string"),
        ({"engine": "pg\nx"}, "database.engine is not the name of an engine"),
        ({"engine": "p" * 64}, "database.engine is not the name of an engine"),
        ({"engine": "\ud800"}, "database.engine is not the name of an engine"),
    ],
)
def test_a_cluster_that_cannot_be_told_apart_or_rendered_is_refused(members: dict[str, object], said: str) -> None:
    with pytest.raises(UpstreamUnavailable, match=re.escape(said)):
        a_cluster(**members)


WRONG_CONNECTIONS = [
    (["x"], "private_connection is not an object"),
    ({"host": 7}, "private_connection.host is not a string"),
    ({"host": "a b"}, "private_connection.host is not a host name or an IP address"),
    ({"host": "a\nb"}, "private_connection.host is not a host name or an IP address"),
    ({"host": "a\n"}, "private_connection.host is not a host name or an IP address"),
    ({"host": "a\0"}, "private_connection.host is not a host name or an IP address"),
    ({"host": "user@a"}, "private_connection.host is not a host name or an IP address"),
    ({"host": "a/b"}, "private_connection.host is not a host name or an IP address"),
    ({"host": "a" * 254}, "private_connection.host is not a host name or an IP address"),
    ({"port": "25060"}, "private_connection.port is not an integer"),
    ({"port": True}, "private_connection.port is not an integer"),
    ({"port": 1.5}, "private_connection.port is not an integer"),
    ({"port": -1}, "private_connection.port is not a port number"),
    ({"port": 65536}, "private_connection.port is not a port number"),
    ({"port": 10**3999}, "private_connection.port is not a port number"),
    ({"port": 10**4290}, "private_connection.port is not a port number"),
    ({"user": "a\nb"}, "private_connection.user is not text without control characters"),
    ({"password": [CANARY]}, "private_connection.password is not a string"),
    ({"password": CANARY + "\nhost=evil"}, "private_connection.password is not text without control characters"),
    ({"password": CANARY + "\x85"}, "private_connection.password is not text without control characters"),
    ({"password": CANARY + "\u2028"}, "private_connection.password is not text without control characters"),
    ({"password": CANARY + "\ud800"}, "private_connection.password is not text without control characters"),
    ({"password": CANARY + "\udfff\ud800"}, "private_connection.password is not text without control characters"),
    ({"database": "a\x1fb"}, "private_connection.database is not text without control characters"),
    ({"uri": "a\x7fb"}, "private_connection.uri is not text without control characters"),
]


@pytest.mark.parametrize(("change", "said"), WRONG_CONNECTIONS)
def test_an_impossible_connection_is_refused_by_its_path_to_whoever_asks_for_it(change: Any, said: str) -> None:
    body = connection_body(**{"uri": "", **change}) if isinstance(change, dict) else change
    read = a_cluster(private_connection=body, standby=False)
    with pytest.raises(UpstreamUnavailable, match=re.escape(f"unexpected response: database.{said}; retrying.")) as caught:
        read.endpoints.get("private")
    assert CANARY not in str(caught.value)
    assert read.endpoints.private is None
    # The others are as good as before.
    assert read.endpoints.public
    assert read.endpoints.get("public") == read.endpoints.public
    assert read.endpoints.get("standby") is None


@pytest.mark.parametrize("port", [1, 65535])
def test_every_port_that_there_is_is_one(port: int) -> None:
    assert connection(port=port).port == port


def test_what_looks_like_half_a_character_and_is_none_stays_as_it_is() -> None:
    for password in ("\\ud800", "\N{OLD ITALIC LETTER A}", "\\\N{OLD ITALIC LETTER A}\\ud800x"):
        assert connection(password=password).password == password
    halved = a_cluster(name="\ud800x", private_connection=connection_body(password="\\ud800 \\\\ud800 \N{OLD ITALIC LETTER A}"))
    assert halved.endpoints.private
    assert halved.endpoints.private.password == "\\ud800 \\\\ud800 \N{OLD ITALIC LETTER A}"


# --- what is only shown ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("member", ["name", "version", "region", "status", "size", "created_at", "version_end_of_life"])
def test_text_that_is_only_shown_is_clipped_cleaned_or_left_out(member: str) -> None:
    for sent, read in (
        (7, ""),
        (["x"], ""),
        (None, ""),
        ("x" * 256, "x" * 256),
        ("x" * 257, "x" * 255 + "…"),
        ("x" * 50_000, "x" * 255 + "…"),
        ("a\nb\x1b[31m\ud800", "a\ufffdb\ufffd[31m\ufffd"),
    ):
        assert getattr(a_cluster(**{member: sent}), member) == read


@pytest.mark.parametrize(
    ("given", "read"),
    [
        (0, 0),
        (3, 3),
        (2**63 - 1, 2**63 - 1),
        (2**63, None),
        (2**70, None),
        (10**4000, None),
        (-1, None),
        ("3", None),
        (True, None),
    ],
)
def test_a_number_of_nodes_that_cannot_be_is_not_shown(given: object, read: int | None) -> None:
    assert a_cluster(num_nodes=given).nodes == read


@pytest.mark.parametrize(
    ("given", "read"),
    [
        ({"day": "monday"}, MaintenanceWindow(day="monday", hour="", pending=False)),
        ({"hour": 2, "pending": "no"}, MaintenanceWindow(day="", hour="", pending=False)),
        ({"pending": True}, MaintenanceWindow(day="", hour="", pending=True)),
        ({}, MaintenanceWindow(day="", hour="", pending=False)),
        (None, None),
        ([], None),
        ("monday", None),
    ],
)
def test_a_maintenance_window_is_shown_as_far_as_it_can_be_read(given: object, read: MaintenanceWindow | None) -> None:
    assert a_cluster(maintenance_window=given).maintenance_window == read


@pytest.mark.parametrize(
    "user", [None, 7, {}, {"name": 1}, {"name": "x\n"}, {"name": "bad", "password": 1}, {"name": "bad", "password": "a\nb"},
             {"name": "bad", "access_key": "a\0b"}]
)  # fmt: skip
def test_a_user_that_cannot_be_read_costs_the_other_users_nothing(user: object) -> None:
    assert [found.name for found in a_cluster(users=[{"name": "app", "role": 7}, user, {"name": "b"}]).users] == ["app", "b"]


@pytest.mark.parametrize("users", [{}, "x", 7])
def test_users_that_are_no_list_are_none(users: object) -> None:
    assert a_cluster(users=users).users == ()


@pytest.mark.parametrize(
    ("user", "said"),
    [
        (None, "user is not an object"),
        ({}, "required field user.name is missing"),
        ({"name": "app", "password": 7}, "user.password is not a string"),
        ({"name": "app", "password": "a\rb"}, "user.password is not text without control characters"),
        ({"name": "app", "access_cert": "a\0b"}, "user.access_cert is not text without control characters"),
        ({"name": "app", "access_key": "\ud800"}, "user.access_key is not text without control characters"),
    ],
)
def test_a_user_that_was_asked_for_is_strict(user: object, said: str) -> None:
    with pytest.raises(UpstreamUnavailable, match=re.escape(said)):
        User.from_api(user)


def test_the_lines_of_a_certificate_are_no_control_characters() -> None:
    pem = "-----BEGIN\r\n\tx\n-----END\n"
    assert User.from_api({"name": "app", "access_cert": pem}).access_cert == pem


# --- connections -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [None, {}, {"host": ""}, {"host": None, "port": 5}])
def test_a_connection_without_a_host_is_none(value: object) -> None:
    assert Connection.from_json(wire.encode(value), path="c") is None


@pytest.mark.parametrize(("port", "expected"), [(25060, 25060), (0, None), (None, None)])
def test_port_zero_is_no_port(port: object, expected: int | None) -> None:
    assert connection(port=port).port == expected


@pytest.mark.parametrize(
    ("database", "uri", "expected"),
    [
        ("given", "postgresql://u:p@h:1/path", "given"),
        ("", "postgresql://u:p@h:1/path?sslmode=require", "path"),
        (None, "postgresql://u:p@h:1/a%20b%2Fc", "a b/c"),
        ("", "postgresql://u:p@h:1/", ""),
        ("", "postgresql://u:p@h:1", ""),
        ("", "", ""),
        ("", "postgresql://[half:1/path", ""),
        # An unencoded password: its rest is no database, and must not be shown as one.
        ("", f"postgresql://u:p/{CANARY}@h:1/path", ""),
        ("", "postgresql://u:p@h:1/a%0Ab", ""),
    ],
)
def test_the_database_is_the_one_given_else_the_uris_path(database: str | None, uri: str, expected: str) -> None:
    assert connection(database=database, uri=uri).database == expected


@pytest.mark.parametrize("password", ["", None])
def test_an_empty_password_and_none_are_one(password: str | None) -> None:
    assert connection(password=password).password == ""


def test_uuids_are_compared_in_lower_case() -> None:
    assert a_cluster(id=UUID.upper()).uuid == UUID


@pytest.mark.parametrize(("db", "database"), [("shop", "shop"), (None, ""), (7, ""), ("a\nb", "")])
def test_the_database_behind_a_pool_costs_no_pool_where_it_cannot_be_read(db: object, database: str) -> None:
    assert Pool.from_api({"name": "orders-pool", "db": db}).database == database


def test_a_pool_is_read_with_its_four_endpoints() -> None:
    pool = Pool.from_api(
        {
            "name": "orders-pool",
            "private_connection": connection_body(host="a"),
            "standby_private_connection": connection_body(host="b"),
            "connection": connection_body(host="c"),
            "standby_connection": None,
        }
    )
    assert pool.endpoints.private
    assert pool.endpoints.standby
    assert (pool.name, pool.endpoints.private.host, pool.endpoints.standby.host) == ("orders-pool", "a", "b")
    assert pool.endpoints.public_standby is None


@pytest.mark.parametrize("value", [None, [], {}, {"name": 1}, {"name": "a\nb"}])
def test_what_is_no_pool_is_refused(value: object) -> None:
    with pytest.raises(UpstreamUnavailable, match="pool"):
        Pool.from_api(value)


def test_a_user_is_found_by_exact_name() -> None:
    read = a_cluster(users=[{"name": "app2"}, {"name": "app", "password": "x"}])
    assert read.user("app") == User.from_api({"name": "app", "password": "x"})
    assert read.user("APP") is None


@BOUNDED
@given(json_values)
def test_any_json_is_a_cluster_or_an_unavailable_upstream(value: object) -> None:
    for read in (DatabaseCluster.from_api, Pool.from_api):
        try:
            read(value)
        except UpstreamUnavailable:
            continue


@BOUNDED
@given(st.data())
def test_a_cluster_with_any_one_member_replaced_by_any_json_is_a_cluster_or_an_unavailable_upstream(
    data: st.DataObject,
) -> None:
    broken = _broken(data, cluster_body(users=[{"name": "app", "password": CANARY}]))
    try:
        DatabaseCluster.from_api(broken)
    except UpstreamUnavailable:
        return


@BOUNDED
@given(cluster_bodies())
def test_whatever_the_contract_allows_is_a_cluster(body: dict[str, Any]) -> None:
    json_round_trip = json.loads(json.dumps(body))
    assert DatabaseCluster.from_api(json_round_trip) == DatabaseCluster.from_api(body)


@BOUNDED
@given(st.data())
def test_no_error_and_no_repr_shows_a_password(data: st.DataObject) -> None:
    secretive = connection_body(password=CANARY, uri=f"postgresql://doadmin:{CANARY}@h:1/db")
    user = {"name": "app", "password": CANARY, "access_cert": CANARY, "access_key": CANARY}
    everywhere: Body = dict.fromkeys(CONNECTIONS, secretive)
    whole = cluster_body(users=[user], **everywhere)
    broken = _broken(data, whole, by=st.sampled_from([[CANARY], {"x": CANARY}, 7, 0.5, True, "\ud800"]))
    try:
        shown = repr(DatabaseCluster.from_api(broken))
    except UpstreamUnavailable as error:
        shown = "".join(traceback.format_exception(error, chain=True)) + repr(error) + repr(vars(error))
    assert CANARY not in shown


def _broken(data: st.DataObject, body: dict[str, Any], *, by: st.SearchStrategy[Any] = json_values) -> dict[str, Any]:
    """The body with one member, at any depth, replaced."""
    body = copy.deepcopy(body)
    place: Any = body
    while True:
        name = data.draw(st.sampled_from(sorted(place) if isinstance(place, dict) else range(len(place))))
        if isinstance(place[name], dict | list) and place[name] and data.draw(st.booleans()):
            place = place[name]
            continue
        place[name] = data.draw(by)
        return body
