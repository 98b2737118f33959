import copy
import json
import traceback
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dbclusterref.digitalocean.model import Connection, DatabaseCluster, MaintenanceWindow, Pool, User
from dbclusterref.errors import UpstreamUnavailable
from tests.support.builders import (
    BOUNDED,
    CANARY,
    CLUSTER_UUID,
    CONNECTIONS,
    cluster,
    cluster_bodies,
    cluster_body,
    connection_body,
    json_values,
)


def connection(**members: object) -> Connection:
    found = Connection.from_api(connection_body(**members), path="c")
    assert found
    return found


def test_a_cluster_is_read_whole() -> None:
    read = cluster(
        created_at="2026-01-05T12:00:00Z",
        version_end_of_life="2029-11-08T00:00:00Z",
        maintenance_window={"day": "tuesday", "hour": "21:00", "pending": True, "description": None},
        standby_private_connection=connection_body(host="standby"),
        connection=connection_body(host="public"),
        standby_connection=connection_body(host="public-standby"),
        users=[{"name": "doadmin", "role": "primary", "password": "sesame"}, {"name": "app"}],
    )
    assert (read.uuid, read.name, read.engine, read.version) == (CLUSTER_UUID, "orders", "pg", "17")
    assert (read.region, read.status, read.nodes, read.size) == ("fra1", "online", 1, "db-s-1vcpu-1gb")
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
    assert cluster(db_names=given).db_names == read


def test_five_members_make_a_cluster() -> None:
    read = DatabaseCluster.from_api({"name": "n", "engine": "e", "num_nodes": 1, "size": "s", "region": "r"})
    assert (read.uuid, read.version, read.status, read.maintenance_window, read.users) == ("", "", "", None, ())


@pytest.mark.parametrize("name", ["name", "engine", "num_nodes", "size", "region"])
@pytest.mark.parametrize("how", ["absent", "null"])
def test_a_cluster_without_a_required_member_is_refused_by_that_name(name: str, how: str) -> None:
    body = cluster_body()
    if how == "null":
        body[name] = None
    else:
        del body[name]
    with pytest.raises(UpstreamUnavailable, match=rf"database\.{name},"):
        DatabaseCluster.from_api(body)


@pytest.mark.parametrize(
    ("members", "path"),
    [
        ({"num_nodes": "1"}, "database.num_nodes is not a whole number"),
        ({"num_nodes": True}, "database.num_nodes is not a whole number"),
        ({"num_nodes": 1.5}, "database.num_nodes is not a whole number"),
        ({"name": 7}, "database.name is not a string"),
        ({"users": {}}, "database.users is not a list"),
        ({"users": [{"name": "app"}, {"name": 1}]}, r"database.users\[1\].name is not a string"),
        ({"users": [None]}, r"database.users\[0\] is not an object"),
        ({"maintenance_window": {"pending": "no"}}, "database.maintenance_window.pending is not true or false"),
        ({"private_connection": []}, "database.private_connection is not an object"),
        ({"connection": connection_body(password=[CANARY])}, "database.connection.password is not a string"),
        ({"private_connection": connection_body(password="\ud800")}, "database.private_connection.password is not text"),
    ],
)
def test_a_member_of_the_wrong_type_is_refused_by_its_path(members: dict[str, object], path: str) -> None:
    with pytest.raises(UpstreamUnavailable, match=path) as caught:
        cluster(**members)
    assert CANARY not in str(caught.value)


@pytest.mark.parametrize("value", [None, {}, {"host": ""}, {"host": None, "port": 5}])
def test_a_connection_without_a_host_is_none(value: object) -> None:
    assert Connection.from_api(value, path="c") is None


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
    ],
)
def test_the_database_is_the_one_given_else_the_uris_path(database: str | None, uri: str, expected: str) -> None:
    assert connection(database=database, uri=uri).database == expected


@pytest.mark.parametrize("password", ["", None])
def test_an_empty_password_and_none_are_one(password: str | None) -> None:
    assert connection(password=password).password == ""


def test_uuids_are_compared_in_lower_case() -> None:
    assert cluster(id=CLUSTER_UUID.upper()).uuid == CLUSTER_UUID


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


@pytest.mark.parametrize("value", [None, [], {}, {"name": 1}])
def test_what_is_no_pool_is_refused(value: object) -> None:
    with pytest.raises(UpstreamUnavailable, match="pool"):
        Pool.from_api(value)


def test_a_user_is_found_by_exact_name() -> None:
    read = cluster(users=[{"name": "app2"}, {"name": "app", "password": "x"}])
    assert read.user("app") == User.from_api({"name": "app", "password": "x"}, path="u")
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
    whole = cluster_body(users=[user], **dict.fromkeys(CONNECTIONS, secretive))
    broken = _broken(data, whole, by=st.sampled_from([[CANARY], {"x": CANARY}, 7, 0.5, True, "\ud800" + CANARY]))
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
