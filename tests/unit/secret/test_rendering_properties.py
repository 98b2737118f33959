"""Rendering, over clusters drawn from DigitalOcean's own API description, and over changes of one cluster's shape."""

import json
import os
import re
from pathlib import Path
from typing import Any
from unittest.mock import patch
from urllib.parse import SplitResult, quote, unquote, urlsplit

import dj_database_url
import psycopg.conninfo
import pytest
import sqlalchemy
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kombu.utils.url import parse_url as parse_with_kombu
from pymongo.uri_parser import parse_uri as parse_with_pymongo
from redis.connection import parse_url as parse_with_redis

from dbclusterref.digitalocean.model import DatabaseCluster, Pool
from dbclusterref.digitalocean.snapshot import Snapshot
from dbclusterref.errors import (
    Cause,
    IncompleteCredentials,
    MissingScope,
    PasswordMissing,
    UpstreamUnavailable,
    WaitingForCluster,
)
from dbclusterref.resource.reference import KeySet
from dbclusterref.secret.engines import ENGINES
from dbclusterref.secret.rendering import render_secret
from tests.support import secret_docs
from tests.support.builders import PEM, UUID, a_reference, a_snapshot, cluster_body, connection_body
from tests.support.strategies import BOUNDED, SCHEMES, examples, hostnames, names, passwords, ports

ROOT = Path(__file__).parents[3]
DESCRIPTION = Path(os.environ.get("DBCLUSTERREF_CONTRACT", ROOT.parent / "shared" / "digitalocean" / "databases-openapi.json"))
CLUSTER = "/v2/databases/{database_cluster_uuid}"
EVERYTHING: dict[str, object] = {
    "keySets": [*KeySet],
    "endpoints": ["Private", "Standby", "Public", "PublicStandby"],
    "mountPath": "/bindings/orders",
}


# From the description


def cluster_schema() -> dict[str, Any]:
    if not DESCRIPTION.exists():
        pytest.skip("the API's description, databases-openapi.json, is not here; DBCLUSTERREF_CONTRACT may name it")
    answer = json.loads(DESCRIPTION.read_text())["paths"][CLUSTER]["get"]["responses"]["200"]
    found: dict[str, Any] = answer["content"]["application/json"]["schema"]["properties"]["database"]
    return found


def drawn_from(schema: dict[str, Any]) -> st.SearchStrategy[Any]:
    """What conforms to a schema, as far as this description's words go; what it calls nullable is null at times."""
    if "allOf" in schema:
        (only,) = [part for part in schema["allOf"] if "properties" in part or "type" in part]
        return drawn_from(only)
    strategy = _of_type(schema)
    return st.none() | strategy if schema.get("nullable") else strategy


def _of_type(schema: dict[str, Any]) -> st.SearchStrategy[Any]:
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    match schema["type"]:
        case "object":
            members = {name: drawn_from(member) for name, member in schema.get("properties", {}).items()}
            required = {name: members.pop(name) for name in schema.get("required", ())}
            return st.fixed_dictionaries(required, optional=members)
        case "array":
            return st.lists(drawn_from(schema["items"]), max_size=2)
        case "string":
            return st.just("") | st.just(schema.get("example", "")).map(str) | st.text(max_size=12)
        case simple:
            return {"integer": st.integers(0, 2**31), "number": st.floats(allow_nan=False), "boolean": st.booleans()}[simple]


@pytest.fixture(scope="module")
def bodies() -> st.SearchStrategy[Any]:
    return drawn_from(cluster_schema())


@settings(BOUNDED, max_examples=examples(120), suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(data=st.data())
def test_any_cluster_of_the_description_makes_a_documented_secret_or_says_what_it_lacks(
    bodies: st.SearchStrategy[Any], data: st.DataObject
) -> None:
    # The description calls the UUID optional and any string a host: the one is always there, the other must be one.
    body = data.draw(bodies) | {"id": UUID}
    # Three members of any connection are what decides: give most clusters a chance.
    for name in data.draw(st.sets(st.sampled_from(["private_connection", "standby_private_connection", "connection"]))):
        body[name] = connection_body(password=data.draw(passwords), database=data.draw(names))
    wanted = a_reference(
        {"secret": {**EVERYTHING, "keySets": data.draw(st.sampled_from([["Binding"], ["Env", "Files"], [*KeySet]]))}}
    )
    cluster = DatabaseCluster.from_api(body)
    one = Snapshot(cluster=cluster, ca=data.draw(st.sampled_from([b"", PEM])))
    try:
        rendered = render_secret(wanted, one)
    except Cause as cause:
        wrong = isinstance(cause, UpstreamUnavailable) and re.search(r"database\.\w*connection\.\w+ is not ", cause.message)
        assert wrong or isinstance(cause, IncompleteCredentials | MissingScope | WaitingForCluster)  # noqa: PT017 - may be none
        return
    assert all(rendered.data.values())
    documented = {key for key_set in wanted.secret.key_sets for key in secret_docs.keys_of(cluster.engine, key_set)}
    assert rendered.data.keys() <= documented | {"ca.crt"}
    assert render_secret(wanted, Snapshot(cluster=DatabaseCluster.from_api(body), ca=one.ca)) == rendered


# URIs read back

Parts = tuple[str, int | None, str, str, str]


def _split(uri: str) -> Parts:
    parts: SplitResult = urlsplit(uri)
    path = unquote(parts.path.removeprefix("/"))
    return parts.hostname or "", parts.port, unquote(parts.username or ""), unquote(parts.password or ""), path


def _sqlalchemy(uri: str) -> Parts:
    url = sqlalchemy.make_url(uri)
    return url.host or "", url.port, url.username or "", str(url.password or ""), url.database or ""


def _libpq(uri: str) -> Parts:
    found = psycopg.conninfo.conninfo_to_dict(uri)
    return str(found["host"]), int(found["port"] or 0), str(found["user"]), str(found["password"]), str(found["dbname"])


def _django(uri: str) -> Parts:
    found: dict[str, Any] = {**dj_database_url.parse(uri.partition("?")[0])}
    return found["HOST"], int(found["PORT"]), found["USER"], found["PASSWORD"], found["NAME"]


def _redis(uri: str) -> Parts:
    found: dict[str, Any] = {**parse_with_redis(uri)}  # type: ignore[no-untyped-call]
    return found["host"], found["port"], found.get("username", ""), found["password"], ""


def _kombu(uri: str) -> Parts:
    found = parse_with_kombu(uri)
    return found["hostname"], found["port"], found["userid"] or "", found["password"], found["virtual_host"] or ""


def _pymongo(uri: str) -> Parts:
    resolver = "pymongo.synchronous.srv_resolver._SrvResolver"
    nodes = [("node-1.example", 27017)]
    with patch(f"{resolver}.get_hosts", lambda _: nodes), patch(f"{resolver}.get_options", lambda _: None):
        found = parse_with_pymongo(uri)
    return str(found["fqdn"]), None, str(found["username"]), str(found["password"]), found["database"] or ""


READERS = {
    "pg": (_split, _sqlalchemy, _libpq, _django),
    "mysql": (_split, _sqlalchemy, _django),
    "redis": (_split, _redis, _kombu),
    "valkey": (_split, _redis, _kombu),
    "mongodb": (_split, _pymongo),
    "opensearch": (_split, _sqlalchemy),
}
DATABASELESS = {"redis", "valkey", "opensearch"}


@pytest.mark.parametrize("engine", READERS)
@settings(BOUNDED, max_examples=examples(80))
@given(st.tuples(hostnames, ports, names, passwords, names))
def test_every_uri_reads_back_in_parsers_that_know_nothing_of_each_other(
    engine: str, parts: tuple[str, int, str, str, str]
) -> None:
    host, port, user, password, database = parts
    # libpq's strings end at a NUL, in a URI as anywhere; no server takes one in a password.
    password = password.replace("\0", "0")
    database = "" if engine in DATABASELESS else database if engine != "mongodb" else "shop"
    location = host if engine == "mongodb" else f"{host}:{port}"
    uri = f"{SCHEMES[engine]}://{quote(user, safe='')}:{quote(password, safe='')}@{location}/{quote(database, safe='')}"
    given_port = None if engine == "mongodb" else port
    whole = connection_body(host=host, port=given_port, user=user, password=password, database=database, uri=uri)
    one = a_snapshot(engine=engine, private_connection=whole, standby_private_connection=whole)
    data = render_secret(a_reference(), one).data
    for key in (
        "uri",
        "standby-uri",
        "url",
        "DATABASE_URL",
        "DATABASE_REPLICA_URL",
        "REDIS_URL",
        "MONGODB_URI",
        "OPENSEARCH_URL",
    ):
        for read in READERS[engine] if key in data else ():
            assert read(data[key].decode()) == (host, given_port, user, password, database), f"{key}, {read.__name__}"


# Nothing left over from an earlier shape


def keys_after(**members: Any) -> frozenset[str]:
    return frozenset(render_secret(a_reference({"secret": EVERYTHING}), a_snapshot(ca=PEM, **members)).data)


def test_a_standby_that_went_takes_its_keys_and_its_service_with_it() -> None:
    assert keys_after() - keys_after(standby=False) == {
        "standby-host", "standby-port", "standby-database", "standby-uri", "standby-jdbc-url", "ha-uri", "ro-uri",
        "DATABASE_REPLICA_URL",
    }  # fmt: skip
    data = render_secret(a_reference({"secret": EVERYTHING}), a_snapshot(ca=PEM, standby=False)).data
    assert b"[standby]" not in data["pg_service.conf"]
    assert data["pg_service.conf"].count(b"sslrootcert") == 1


def test_a_conversion_from_redis_to_valkey_changes_one_key_and_not_the_secrets_type() -> None:
    redis, valkey = (render_secret(a_reference(), a_snapshot(engine=engine)) for engine in ("redis", "valkey"))
    assert redis.type == valkey.type == "servicebinding.io/redis"
    assert {key for key in redis.data.keys() | valkey.data.keys() if redis.data.get(key) != valkey.data.get(key)} == {"engine"}


def test_a_private_network_that_went_leaves_the_last_secret_alone() -> None:
    for gone in (None, {}, connection_body(host="")):
        with pytest.raises(IncompleteCredentials, match="no private connection"):
            render_secret(a_reference(), a_snapshot(connection=connection_body(), private_connection=gone))


def test_a_pool_of_another_name_replaces_every_trace_of_the_former() -> None:
    def data_of(name: str) -> dict[str, bytes]:
        pool = {"name": name, "private_connection": connection_body(database=name, port=25061, uri=f"postgresql://h/{name}")}
        wanted = a_reference({"pool": name, "secret": EVERYTHING})
        one = Snapshot(cluster=DatabaseCluster.from_api(cluster_body()), ca=PEM, pool=Pool.from_api(pool))
        return {**render_secret(wanted, one).data}

    former, new = data_of("former-pool"), data_of("new-pool")
    assert former.keys() == new.keys()
    assert b"former-pool" not in b"".join(new.values())
    assert new["PGDATABASE"] == b"new-pool"


@pytest.mark.parametrize("engine", [*ENGINES, "scylla"])
def test_partial_data_never_makes_a_partial_secret(engine: str) -> None:
    whole = connection_body()
    for name in ("host", "port", "user", "password"):
        for nothing in ("absent", None, 0 if name == "port" else ""):
            part = {**whole, name: nothing} if nothing != "absent" else {key: whole[key] for key in whole if key != name}
            one = a_snapshot(engine=engine, private_connection=part)
            try:
                data = render_secret(a_reference(), one).data
            except (IncompleteCredentials, MissingScope, PasswordMissing):
                continue
            assert name in {"user", "port"}, f"{engine} does without {name}"
            assert data["host"]
            assert data["password"]


def test_a_mongodb_without_password_is_told_apart_from_a_token_without_scope() -> None:
    with pytest.raises(PasswordMissing, match="only when it is made or reset"):
        render_secret(a_reference(), a_snapshot(engine="mongodb", private_connection=connection_body(password="")))
    with pytest.raises(MissingScope, match="database:view_credentials"):
        render_secret(a_reference(), a_snapshot(engine="pg", private_connection=connection_body(password="")))


def test_kafka_and_opensearch_are_complete_without_a_database_and_kafka_not_without_a_port() -> None:
    for engine in ("kafka", "opensearch"):
        assert "database" not in render_secret(a_reference(), a_snapshot(engine=engine)).data
    with pytest.raises(IncompleteCredentials, match="lacks port"):
        render_secret(a_reference(), a_snapshot(engine="kafka", private_connection=connection_body(port=0, uri="")))
