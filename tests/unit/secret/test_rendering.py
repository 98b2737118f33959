import copy
import json
import traceback
import tracemalloc
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
import yaml
import yarl
from hypothesis import given
from hypothesis import strategies as st

from dbclusterref.digitalocean.model import DatabaseCluster, Endpoints
from dbclusterref.digitalocean.replicas import Address
from dbclusterref.digitalocean.snapshot import PackedSnapshot, Snapshot
from dbclusterref.errors import (
    Cause,
    IncompleteCredentials,
    InvalidSpec,
    MissingScope,
    PasswordMissing,
    UpstreamUnavailable,
)
from dbclusterref.resource.template import ENCODINGS, PLACEHOLDERS
from dbclusterref.secret.rendering import placeholders, render_secret, size_of
from dbclusterref.secret.state import SPEC_DIGEST, DesiredSecret
from tests.support.builders import CANARY, KEY, PASSWORD, PEM, Body, a_reference, a_snapshot, connection_body, snapshot_from
from tests.support.strategies import BOUNDED, CONNECTIONS, cluster_bodies, complete_cluster_bodies, reference_specs

DATA = Path(__file__).parents[2] / "data"
CASES = sorted(file.stem for file in (DATA / "clusters").glob("*.json"))

# The table in docs/secret.md.
KEYS = {
    "type", "provider", "engine", "host", "port", "username", "password", "database", "uri", "jdbc-url", "sslmode",
    "sslrootcert", "certificates", "ca.crt", "url", "uris", "bootstrap-servers", "securityProtocol", "saslMechanism", "user",
    "access.crt", "access.key", "standby-host", "standby-port", "standby-database", "standby-uri", "standby-jdbc-url", "ha-uri",
    "ro-uri", "replica-host", "replica-port", "replica-database", "replica-uri", "replica-jdbc-url",
    "replica-hosts", "DATABASE_READ_REPLICA_URL", "DATABASE_READ_REPLICA_HOSTS", "public-host", "public-port", "public-uri",
    "public-standby-host", "public-standby-port", "public-standby-uri",
    "PGHOST", "PGPORT", "PGUSER", "PGPASSWORD", "PGDATABASE", "PGSSLMODE", "PGSSLROOTCERT", "MYSQL_HOST", "MYSQL_TCP_PORT",
    "MYSQL_PORT", "MYSQL_USER", "MYSQL_PASSWORD", "MYSQL_DATABASE", "DATABASE_URL", "DATABASE_REPLICA_URL", "REDIS_URL",
    "MONGODB_URI", "OPENSEARCH_URL", "KAFKA_BOOTSTRAP_SERVERS", "KAFKA_SECURITY_PROTOCOL", "KAFKA_SASL_MECHANISM",
    "KAFKA_SASL_USERNAME", "KAFKA_SASL_PASSWORD",
}  # fmt: skip


def text(rendered: DesiredSecret) -> dict[str, str]:
    return {name: value.decode() for name, value in rendered.data.items()}


def rendered(spec: Body | None = None, **members: Any) -> DesiredSecret:
    return render_secret(a_reference(spec), a_snapshot(**members))


def judge(spec: Body, known: Snapshot | Body) -> DesiredSecret | Cause:
    """What becomes of a snapshot, or of a cluster's body: the Secret, or why there is none."""
    try:
        found = known if isinstance(known, Snapshot) else Snapshot(cluster=DatabaseCluster.from_api(known), ca=PEM)
        return render_secret(a_reference(spec), found)
    except Cause as cause:
        return cause


# Examples: tests/data/clusters/*.json (what the API answered), references/*.yaml (where it is not the smallest one) and
# secrets/*.yaml (what must come of them), paired by name.


def described(outcome: DesiredSecret | Cause) -> Body:
    """An outcome as the files describe it."""
    if isinstance(outcome, Cause):
        return {"noSecret": outcome.reason, "message": outcome.message}
    annotations = {name: value for name, value in outcome.annotations.items() if name != SPEC_DIGEST}
    metadata = {"labels": outcome.labels, "annotations": annotations}
    return {"type": outcome.type, "metadata": metadata, "stringData": text(outcome)}


@pytest.mark.parametrize("case", CASES)
def test_a_clusters_answers_make_the_secret_beside_them(case: str) -> None:
    given_file, wanted_file = DATA / "references" / f"{case}.yaml", DATA / "secrets" / f"{case}.yaml"
    spec = yaml.safe_load(given_file.read_text())["spec"] if given_file.exists() else {}
    bodies = json.loads((DATA / "clusters" / f"{case}.json").read_text())
    assert described(judge(spec, snapshot_from(bodies))) == yaml.safe_load(wanted_file.read_text())


def test_no_command_names_a_secret_whose_name_would_be_too_long() -> None:
    judged = a_reference(key=replace(KEY, name="n" * 253))
    with pytest.raises(PasswordMissing) as raised:
        render_secret(judged, a_snapshot(engine="mongodb", private_connection=connection_body(password="")))
    assert "kubectl" not in raised.value.message


def test_no_example_stands_alone() -> None:
    assert sorted(file.stem for file in (DATA / "secrets").glob("*.yaml")) == CASES
    assert {file.stem for file in (DATA / "references").glob("*.yaml")} <= set(CASES)


# The rest of the object


def test_the_resources_own_labels_and_annotations_are_not_copied() -> None:
    mine = a_reference(metadata={"labels": {"argocd.argoproj.io/instance": "x"}, "annotations": {"example.com/a": "b"}})
    assert render_secret(mine, a_snapshot()).metadata_digest == rendered().metadata_digest


def test_the_users_template_replaces_a_built_in_key_and_is_in_both_key_sets() -> None:
    for key_sets in (["Binding"], ["Env"]):
        secret = rendered({"secret": {"keySets": key_sets, "template": {"uri": "x://{host}", "PGHOST": "y"}}})
        assert text(secret)["uri"] == "x://private-orders.db.example.com"
        assert text(secret)["PGHOST"] == "y"


@pytest.mark.parametrize(
    ("template", "complaint"),
    [
        ("{host", "spec.secret.template.URL: a stray { at character 1"),
        ("{uri-path}", "spec.secret.template.URL: unknown placeholder uri-path"),
        ("{password.real}", "spec.secret.template.URL: unknown placeholder password.real"),
    ],
)
def test_a_wrong_template_is_an_invalid_spec(template: str, complaint: str) -> None:
    with pytest.raises(InvalidSpec) as caught:
        rendered({"secret": {"template": {"URL": template}}})
    assert caught.value.message.startswith(complaint)


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        ("creating", "WaitingForCluster"),
        ("forking", "WaitingForCluster"),
        ("migrating", "WaitingForCluster"),
        ("resuming", "WaitingForCluster"),
        ("online", "IncompleteCredentials"),
        (None, "IncompleteCredentials"),
    ],
)
def test_a_cluster_without_an_address_is_waited_for_in_every_state_but_online(status: str | None, reason: str) -> None:
    with pytest.raises(Cause) as caught:
        rendered(status=status, private_connection=None)
    assert caught.value.reason == reason


def test_a_hidden_password_is_not_waited_for_while_a_cluster_is_resized() -> None:
    with pytest.raises(MissingScope):
        rendered(status="resizing", private_connection=connection_body(password=""))


@pytest.mark.parametrize("status", ["creating", "forking", "resizing", "pondering"])
def test_a_cluster_that_is_complete_has_its_secret_whatever_it_is_doing(status: str) -> None:
    assert rendered(status=status).data_digest == rendered().data_digest


@pytest.mark.parametrize("wrong", [{"port": "25060"}, {"port": 70000}, {"host": "a b"}, {"password": "a\nb"}, {"uri": 7}])
def test_a_connection_that_cannot_be_right_costs_those_secrets_alone_that_are_made_from_it(wrong: dict[str, object]) -> None:
    members = {"connection": connection_body(**wrong), "standby_private_connection": connection_body(**wrong)}
    private: Body = {"secret": {"endpoints": ["Private"]}}
    assert rendered(private, **members).data_digest == rendered(private).data_digest
    for endpoint, member in (("Public", "connection"), ("Standby", "standby_private_connection")):
        with pytest.raises(UpstreamUnavailable, match=f"database.{member}"):
            rendered({"secret": {"endpoints": ["Private", endpoint]}}, **members)
    with pytest.raises(UpstreamUnavailable, match=r"database\.private_connection"):
        rendered({"secret": {"endpoints": ["Private"]}}, private_connection=connection_body(**wrong))
    pool = {"name": "p", "private_connection": connection_body()}
    assert rendered({"pool": "p"}, pool=pool, private_connection=connection_body(**wrong)).data["host"]


# Properties


@BOUNDED
@given(reference_specs(), cluster_bodies())
def test_a_cluster_makes_a_secret_of_documented_keys_without_empty_values_or_a_cause(spec: Body, body: Body) -> None:
    outcome = judge(spec, body)
    if isinstance(outcome, DesiredSecret):
        assert set(outcome.data) <= KEYS | set(spec["secret"]["template"])
        assert all(outcome.data.values())
        # The password is always there, in whatever key: a Secret without it is no Secret.
        assert outcome.data.get("password") or "Env" in spec["secret"]["keySets"]


@BOUNDED
@given(reference_specs(), cluster_bodies())
def test_the_same_input_makes_the_same_secret_byte_for_byte(spec: Body, body: Body) -> None:
    one, other = judge(spec, body), judge(copy.deepcopy(spec), dict(reversed(copy.deepcopy(body).items())))
    if isinstance(one, DesiredSecret) and isinstance(other, DesiredSecret):
        assert json.dumps(one.manifest(revision=1)) == json.dumps(other.manifest(revision=1))
        assert (one.data_digest, one.metadata_digest) == (other.data_digest, other.metadata_digest)
    else:
        assert (type(one), str(one)) == (type(other), str(other))


ALL_ENDPOINTS: Body = {"secret": {"endpoints": ["Private", "Standby", "Public", "PublicStandby", "Replicas"]}}
REPLICAS = (Address(host="private-read-1", port=25060), Address(host="fd00::2", port=25061))


def parsed_twice(uri: str) -> list[tuple[str | None, int | None, str | None, str | None, str]]:
    """Host, port, user, password and database, as two parsers that were written elsewhere read them."""
    std, other = urlsplit(uri), yarl.URL(uri, encoded=True)
    return [
        (std.hostname, std.port, unquote(std.username or ""), unquote(std.password or ""), unquote(std.path[1:])),
        (other.host, other.explicit_port, other.user or "", other.password or "", unquote(other.raw_path[1:])),
    ]


@BOUNDED
@given(complete_cluster_bodies())
def test_every_uri_reads_back_as_the_connection_it_was_made_of(body: Body) -> None:
    outcome = judge(ALL_ENDPOINTS, body)
    assert isinstance(outcome, DesiredSecret)
    data = text(outcome)
    for prefix in ("", "standby-", "public-", "public-standby-"):
        host, port = data[f"{prefix}host"], int(data.get(f"{prefix}port", 0)) or None
        assert body["engine"] == "kafka" or f"{prefix}uri" in data
        sources = [data.get(f"{prefix}uri")]
        sources += [data.get(key) for key in {"": ("url", "DATABASE_URL", "REDIS_URL", "MONGODB_URI", "OPENSEARCH_URL"),
                                              "standby-": ("DATABASE_REPLICA_URL",)}.get(prefix, ())]  # fmt: skip
        for uri in filter(None, sources):
            database = "" if uri.startswith(("rediss:", "https:")) else data["database"]
            for read in parsed_twice(uri):
                assert read == (host, port, data["username"], data["password"], database)


@BOUNDED
@given(complete_cluster_bodies(st.sampled_from(["pg", "advanced_pg"])))
def test_a_uri_of_both_hosts_names_the_primary_first(body: Body) -> None:
    data = text(render_secret(a_reference(), Snapshot(cluster=DatabaseCluster.from_api(body))))
    for key, attrs in (("ha-uri", "read-write"), ("ro-uri", "prefer-standby")):
        # Several hosts are libpq's own; the newest urlsplit refuses an IPv6 address that is not the first.
        authority, _, rest = data[key].removeprefix("postgresql://").partition("/")
        userinfo, _, hosts = authority.rpartition("@")
        path, _, query = rest.partition("?")
        assert [unquote(word) for word in userinfo.split(":")] == [data["username"], data["password"]]
        pairs = [(data["host"], data["port"]), (data["standby-host"], data["standby-port"])]
        assert hosts == ",".join(f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in pairs)
        assert (unquote(path), query) == (data["database"], f"sslmode=require&target_session_attrs={attrs}")


@BOUNDED
@given(complete_cluster_bodies())
def test_a_jdbc_url_holds_no_credentials(body: Body) -> None:
    data = text(render_secret(a_reference(), Snapshot(cluster=DatabaseCluster.from_api(body))))
    for prefix in ("", "standby-"):
        url = data.get(f"{prefix}jdbc-url")
        assert (url is None) == ("sql" not in data["type"])
        if url:
            [read, again] = parsed_twice(url.removeprefix("jdbc:"))
            assert read == again == (data[f"{prefix}host"], int(data[f"{prefix}port"]), "", "", data["database"])


@BOUNDED
@given(complete_cluster_bodies(), reference_specs())
def test_nothing_public_is_written_without_being_asked_for(body: Body, spec: Body) -> None:
    outcome = judge(spec, body)
    asked = spec["secret"]["endpoints"]
    binding = "Binding" in spec["secret"]["keySets"]
    if isinstance(outcome, InvalidSpec | IncompleteCredentials):
        assert not binding, "an engine that is not known has no Env keys, and files alone are none before there is a CA"
        return
    assert isinstance(outcome, DesiredSecret)
    for prefix, endpoint in (("public-host", "Public"), ("public-standby-host", "PublicStandby"), ("standby-host", "Standby")):
        assert (prefix in outcome.data) == (binding and endpoint in asked)


def test_without_a_standby_no_key_speaks_of_one() -> None:
    keys = rendered(standby=False).data.keys()
    assert [key for key in keys if "standby" in key or key in {"ha-uri", "ro-uri", "DATABASE_REPLICA_URL"}] == []


@BOUNDED
@given(cluster_bodies(), reference_specs())
def test_no_cause_and_no_repr_shows_a_password(body: Body, spec: Body) -> None:
    for name in CONNECTIONS:
        if body.get(name) and body[name].get("password"):
            body[name] |= {"password": CANARY, "uri": f"x://u:{CANARY}@h:1/db"}
    outcome = judge(spec, body)
    shown = repr(outcome)
    if isinstance(outcome, Cause):
        shown += "".join(traceback.format_exception(outcome)) + repr(vars(outcome))
    assert CANARY not in shown


def test_every_placeholder_there_is_has_a_value_for_some_cluster() -> None:
    user = {"name": "app", "password": "x", "access_cert": "C", "access_key": "K"}
    connections: dict[str, Any] = dict.fromkeys(CONNECTIONS, connection_body())
    everything = a_snapshot(ca=PEM, user=user, replicas=REPLICAS, **connections)
    spec: Body = {"secret": {**ALL_ENDPOINTS["secret"], "mountPath": "/bindings"}}
    assert set(placeholders(a_reference(spec), everything)) == PLACEHOLDERS


def test_a_key_set_that_an_engine_knows_no_keys_of_is_said_and_not_written_empty() -> None:
    with pytest.raises(InvalidSpec, match="add Binding"):
        rendered({"secret": {"keySets": ["Env"]}}, engine="scylla")


# Sizes


def repeating(placeholder: str, *, keys: int, times: int) -> Body:
    return {"secret": {"template": {f"K{i}": placeholder * times for i in range(keys)}}}


CA_OF_2_KB = b"-----BEGIN CERTIFICATE-----\n" + b"A" * 2000 + b"\n-----END CERTIFICATE-----\n"


def test_a_template_that_repeats_a_value_is_refused_with_the_size_before_anything_is_built() -> None:
    wanted, known = a_reference(repeating("{ca}", keys=3, times=1024)), a_snapshot(ca=CA_OF_2_KB)
    tracemalloc.start()
    try:
        with pytest.raises(InvalidSpec, match=r"a Secret of 63\d{5} bytes; the maximum is 1048576"):
            render_secret(wanted, known)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 250_000  # most of it the parsed template


def test_a_secret_may_be_as_large_as_the_api_server_lets_it() -> None:
    spec: Body = {"secret": {"template": {"K": "{ca}"}, "keySets": ["Env"]}}
    room = 2**20 - sum(len(value) for name, value in rendered(spec, ca=b"x").data.items() if name != "K")
    assert len(rendered(spec, ca=b"x" * room).data["K"]) == room
    with pytest.raises(InvalidSpec, match="a Secret of 1048577 bytes"):
        rendered(spec, ca=b"x" * (room + 1))


def test_values_too_large_for_the_built_in_keys_are_upstreams_fault() -> None:
    with pytest.raises(UpstreamUnavailable, match="the maximum is 1048576"):
        rendered(ca=b"x" * 2**19)


# What a file that is read line by line may hold


@pytest.mark.parametrize("break_", ["\n", "\r\n", "\r", "\0", "\u2028"])
@pytest.mark.parametrize("member", ["host", "user", "password", "database"])
@pytest.mark.parametrize("engine", ["pg", "mysql", "kafka"])
def test_no_value_brings_a_line_into_a_configuration_file(engine: str, member: str, break_: str) -> None:
    spec: Body = {"secret": {"keySets": ["Binding", "Files"], "mountPath": "/bindings/orders"}}
    found = a_snapshot(engine=engine, ca=PEM)
    assert found.cluster.endpoints.private
    # The model refuses such values; what a person supplies does not go through it.
    change: dict[str, Any] = {member: f"x{break_}evil=1"}
    hostile = replace(found.cluster.endpoints.private, **change)
    cluster = replace(found.cluster, endpoints=Endpoints(private=hostile))
    secret = render_secret(a_reference(spec), replace(found, cluster=cluster))
    file = {"pg": "pg_service.conf", "mysql": "my.cnf", "kafka": "client.properties"}[engine]
    lines = text(secret).get(file, "").splitlines()
    assert not [line for line in lines if line.startswith("evil")]
    if not lines:
        assert secret.notes[0] == f"Left out, because the cluster has no usable value for them: {file}."


# Whether clients verify the server

MOUNTED: Body = {"mountPath": "/bindings/orders"}


def asks_to_verify(key: str, value: str) -> bool:
    """Whether a PostgreSQL or MySQL client that takes this key verifies the server."""
    return value == "verify-ca" or "sslmode=verify-ca" in value or "ssl-mode=VERIFY_CA" in value or key == "my.cnf"


@pytest.mark.parametrize("engine", ["pg", "advanced_pg"])
def test_with_a_mount_path_every_key_that_asks_for_tls_asks_to_verify(engine: str) -> None:
    everything = {"keySets": ["Binding", "Env", "Files"], **MOUNTED, **ALL_ENDPOINTS["secret"]}
    standby = dict.fromkeys(CONNECTIONS, connection_body())
    secret = rendered({"secret": everything}, engine=engine, ca=PEM, replicas=REPLICAS, **standby)
    about_tls = {key: value for key, value in text(secret).items() if "ssl" in value or "sslmode" in key.lower()}
    assert len(about_tls) == 16
    assert [key for key, value in about_tls.items() if not asks_to_verify(key, value)] == []
    assert secret.notes == ()


@pytest.mark.parametrize("engine", ["pg", "mysql"])
@pytest.mark.parametrize("secret", [{}, {**MOUNTED, "tls": "Encrypt"}], ids=["no mount path", "Encrypt"])
def test_otherwise_no_uri_names_a_file_that_may_not_be_there(engine: str, secret: Body) -> None:
    found = rendered({"secret": secret}, engine=engine, ca=PEM)
    assert not [key for key, value in text(found).items() if asks_to_verify(key, value)]
    assert "ca.crt" not in "".join(value for key, value in text(found).items() if "://" in value)


def test_while_the_ca_is_still_to_come_no_key_asks_to_verify_by_it() -> None:
    secret = rendered({"secret": MOUNTED}, ca=b"")
    assert not [key for key, value in text(secret).items() if asks_to_verify(key, value)]
    assert secret.notes == ()


def test_ready_says_that_nothing_is_verified_until_somebody_decides() -> None:
    (note,) = rendered(ca=PEM).notes
    assert note == (
        "Clients are not told to verify the server's certificate: set spec.secret.mountPath, or spec.secret.tls to Encrypt."
    )
    assert rendered({"secret": {"tls": "Encrypt"}}, ca=PEM).notes == ()
    assert rendered({"secret": {"tls": "Encrypt"}}, ca=PEM).data == rendered(ca=PEM).data


@pytest.mark.parametrize("engine", ["redis", "valkey", "mongodb", "kafka", "opensearch", "scylla"])
def test_clients_that_verify_on_their_own_are_nothing_to_speak_of(engine: str) -> None:
    assert rendered(engine=engine, ca=PEM).notes == ()
    assert rendered({"secret": MOUNTED}, engine=engine, ca=PEM).notes == ()


def test_mysqls_keys_that_cannot_ask_to_verify_are_named_until_they_are_replaced() -> None:
    (note,) = rendered({"secret": MOUNTED}, engine="mysql", ca=PEM).notes
    assert note.startswith(
        "These keys cannot tell clients to verify the server's certificate: DATABASE_REPLICA_URL, DATABASE_URL, jdbc-url, "
        "standby-jdbc-url."
    )
    assert rendered({"secret": {**MOUNTED, "keySets": ["Files"]}}, engine="mysql", ca=PEM).notes == ()
    template = {"DATABASE_URL": "mysql://{host}?ssl-ca={ca-path:url}", "jdbc-url": "x", "DATABASE_REPLICA_URL": "x"}
    (note,) = rendered({"secret": {**MOUNTED, "template": template}}, engine="mysql", ca=PEM).notes
    assert "certificate: standby-jdbc-url. Replace" in note
    assert rendered({"secret": {**MOUNTED, "tls": "Encrypt"}}, engine="mysql", ca=PEM).notes == ()


# Read-only replicas

WITH_REPLICAS: Body = {"secret": {"endpoints": ["Private", "Replicas"], "template": {"HOSTS": "{replica-hosts}"}}}


def test_replicas_have_the_primarys_credentials_and_database() -> None:
    found = text(rendered(WITH_REPLICAS, replicas=REPLICAS))
    uri = f"postgresql://doadmin:{PASSWORD}@private-read-1:25060/defaultdb?sslmode=require"
    assert {key: value for key, value in found.items() if key.startswith("replica-")} == {
        "replica-host": "private-read-1",
        "replica-port": "25060",
        "replica-database": "defaultdb",
        "replica-uri": uri,
        "replica-jdbc-url": "jdbc:postgresql://private-read-1:25060/defaultdb?sslmode=require",
        "replica-hosts": "private-read-1:25060,[fd00::2]:25061",
    }
    assert (found["DATABASE_READ_REPLICA_URL"], found["DATABASE_READ_REPLICA_HOSTS"]) == (uri, found["replica-hosts"])
    assert found["HOSTS"] == found["replica-hosts"]


def test_replicas_follow_the_user_and_the_database_that_are_asked_for() -> None:
    spec = {**WITH_REPLICAS, "user": "app", "database": "shop"}
    found = text(rendered(spec, user={"name": "app", "password": "app-pw"}, replicas=REPLICAS))
    assert found["replica-uri"] == "postgresql://app:app-pw@private-read-1:25060/shop?sslmode=require"


@pytest.mark.parametrize(("db", "database"), [({"db": "shop"}, "shop"), ({}, None)])
def test_a_pool_has_no_replicas_but_its_database_has(db: Body, database: str | None) -> None:
    pool = {"name": "orders-pool", "private_connection": connection_body(host="pool", database="orders-pool")} | db
    found = text(rendered({**WITH_REPLICAS, "pool": "orders-pool"}, pool=pool, replicas=REPLICAS))
    assert (found["host"], found["database"]) == ("pool", "orders-pool")
    assert (found["replica-host"], found.get("replica-database")) == ("private-read-1", database)
    assert ("replica-uri" in found) is bool(database), "rather none than one that leads nowhere"


def test_without_a_replica_that_serves_there_are_no_keys_which_the_message_says() -> None:
    secret = rendered({"secret": {"endpoints": ["Private", "Replicas"]}})
    assert not [key for key in text(secret) if "replica" in key.lower()]
    assert secret.notes == ("There is no read-only replica that serves: the Secret has no replica's keys.",)


def test_what_is_not_asked_for_is_not_in_the_secret() -> None:
    secret = rendered(standby=False, replicas=REPLICAS)
    assert not [key for key in text(secret) if "replica" in key.lower()]
    assert secret.notes == ()


@pytest.mark.parametrize("engine", ["redis", "valkey", "mongodb", "kafka", "opensearch"])
def test_an_engine_without_replicas_says_that_they_have_no_effect(engine: str) -> None:
    secret = rendered({"secret": {"endpoints": ["Private", "Replicas"]}}, engine=engine)
    assert secret.notes == (f"Replicas in spec.secret.endpoints has no effect: {engine} has no read-only replicas.",)


def test_a_missing_standby_and_replicas_have_nothing_to_do_with_each_other() -> None:
    spec = {"secret": {"endpoints": ["Private", "Standby", "Replicas"], "missingStandby": "UsePrimary"}}
    found = text(rendered(spec, standby=False))
    assert found["standby-host"] == found["host"]
    assert "replica-host" not in found


# Users, databases, passwords


@pytest.mark.parametrize("db_names", [None, [], ["shop", "orders"], ["shop"]])
def test_a_database_is_written_as_it_is_asked_for(db_names: list[str] | None) -> None:
    secret = rendered({"database": "orders"}, db_names=db_names)
    assert (text(secret)["database"], secret.notes) == ("orders", ())


def test_a_mongodb_database_need_not_exist_yet() -> None:
    assert text(rendered({"database": "orders"}, engine="mongodb", db_names=["admin"]))["database"] == "orders"


@pytest.mark.parametrize("engine", ["kafka", "opensearch"])
def test_an_engine_without_databases_says_that_a_database_has_no_effect(engine: str) -> None:
    secret = rendered({"database": "orders"}, engine=engine, db_names=["x"])
    assert secret.notes == (f"spec.database has no effect: {engine} has no databases.",)


def test_keys_left_out_because_they_have_no_value_are_named() -> None:
    spec = {"secret": {"template": {"READ_URL": "{standby-uri}", "CERT": "{access-cert}", "HOST": "{host}"}}}
    secret = rendered(spec, standby=False)
    assert secret.notes == ("Left out, because the cluster has no usable value for them: CERT, READ_URL.",)
    assert rendered().notes == ()


def test_keys_left_out_because_of_the_spec_name_the_field() -> None:
    template = {"OUT": "{public-host}", "BOTH": "{public-uri} {replica-hosts}", "CA": "{ca-path}", "CERT": "{access-cert}"}
    assert rendered({"secret": {"template": template}}).notes == (
        "Left out, because spec.secret.endpoints does not contain Public: OUT.",
        "Left out, because spec.secret.endpoints does not contain Public and Replicas: BOTH.",
        "Left out, because spec.secret.mountPath is not set: CA.",
        "Left out, because the cluster has no usable value for them: CERT.",
    )


def test_an_endpoint_that_the_engine_never_has_is_not_asked_for() -> None:
    secret = rendered({"secret": {"template": {"URL": "{replica-uri}"}}}, engine="valkey")
    assert "Left out, because the cluster has no usable value for them: URL." in secret.notes


def supplied(password: str, spec: Body | None = None, **members: Any) -> DesiredSecret:
    wanted = a_reference({"passwordSecretRef": {"name": "orders-password"}, **(spec or {})})
    return render_secret(wanted, replace(a_snapshot(**members), password=password))


def test_a_supplied_password_completes_what_digitalocean_does_not_show() -> None:
    hidden = connection_body(password="", uri="mongodb+srv://doadmin:@private-orders.db.example.com/admin?replicaSet=orders")
    data = text(supplied("p@ss", engine="mongodb", private_connection=hidden, standby_private_connection=hidden))
    assert (data["username"], data["password"]) == ("doadmin", "p@ss")
    assert data["uri"] == "mongodb+srv://doadmin:p%40ss@private-orders.db.example.com/defaultdb?replicaSet=orders"
    assert "p%40ss" in data["standby-uri"]


def test_a_password_that_digitalocean_shows_takes_precedence() -> None:
    assert text(supplied("other"))["password"] == PASSWORD


def test_a_mongodb_without_a_password_says_where_to_put_it() -> None:
    with pytest.raises(PasswordMissing, match=r"spec\.passwordSecretRef"):
        rendered(engine="mongodb", private_connection=connection_body(password=""))


def test_a_supplied_password_is_in_no_repr() -> None:
    assert CANARY not in repr(replace(a_snapshot(), password=CANARY))
    assert CANARY not in repr(PackedSnapshot.of(replace(a_snapshot(), password=CANARY)))


def inbound_pool() -> Body:
    return {
        "name": "orders-pool",
        "private_connection": connection_body(port=25061, user="", password="", database="orders-pool"),
    }


def test_a_pool_of_the_inbound_user_takes_the_clusters_default_user() -> None:
    data = text(rendered({"pool": "orders-pool"}, pool=inbound_pool()))
    assert (data["username"], data["password"], data["port"]) == ("doadmin", PASSWORD, "25061")


def test_a_pool_of_the_inbound_user_takes_the_user_that_is_asked_for() -> None:
    user = {"name": "app", "password": "open"}
    data = text(rendered({"pool": "orders-pool", "user": "app"}, pool=inbound_pool(), user=user))
    assert (data["username"], data["password"]) == ("app", "open")


def test_a_pools_own_user_never_gets_another_users_password() -> None:
    pool = {"name": "orders-pool", "private_connection": connection_body(user="app", password="")}
    with pytest.raises(MissingScope):
        rendered({"pool": "orders-pool"}, pool=pool)


def test_names_from_upstream_are_clipped_in_messages() -> None:
    with pytest.raises(Cause) as caught:
        rendered(name="x" * 40_000 + "\n", private_connection=None)
    assert len(caught.value.message) < 300


# The type and the CA


def test_a_secret_that_is_taken_over_keeps_the_type_opaque() -> None:
    assert rendered({"secret": {"type": "Opaque"}}).type == "Opaque"


@pytest.mark.parametrize(
    ("secret", "known"),
    [
        ({}, True),
        ({"template": {"ca.crt": "{ca}{ca}"}}, True),
        ({"template": {"ca.crt": "constant", "certificates": "constant"}}, False),
        ({"keySets": ["Env"]}, False),
        ({"keySets": ["Env"], "mountPath": "/b"}, True),
    ],
)
def test_the_ca_is_marked_where_a_key_holds_it_unchanged(secret: Body, *, known: bool) -> None:
    annotations = rendered({"secret": secret}, ca=PEM).annotations
    assert ("dbclusterref.io/ca-sha256" in annotations) == known


# What a mutation once survived


def test_a_template_over_a_placeholder_that_the_engine_has_no_value_for_is_left_out_whole() -> None:
    for engine in ("kafka", "redis"):
        secret = rendered({"secret": {"template": {"X": "url={jdbc-url}"}}}, engine=engine)
        assert "X" not in secret.data
        assert secret.notes


def test_a_mongodb_without_user_and_password_is_a_token_without_scope() -> None:
    with pytest.raises(MissingScope):
        rendered(engine="mongodb", private_connection=connection_body(user="", password=""))


def test_a_missing_port_is_not_blamed_on_the_tokens_scope() -> None:
    user = {"name": "app", "password": "open"}
    with pytest.raises(IncompleteCredentials, match="lacks port"):
        rendered({"user": "app"}, user=user, private_connection=connection_body(port=None))


def test_a_short_value_repeated_by_many_templates_is_counted_with_the_built_in_keys() -> None:
    host = ".".join(["h" * 49] * 5)
    spec: Body = {"secret": {"template": {f"K{i}": "{host}" * 680 for i in range(4)}}}
    connection = connection_body(host=host, password="s" * 60)
    assert len(rendered(spec, private_connection=connection).data["K0"]) == 169_320
    with pytest.raises(InvalidSpec, match="a Secret of 1"):
        rendered({"secret": {"template": {f"K{i}": "{uri}" * 800 for i in range(4)}}}, private_connection=connection)


def test_a_placeholder_that_is_repeated_is_measured_once(monkeypatch: pytest.MonkeyPatch) -> None:
    encoded: list[str] = []

    def count(text: str) -> str:
        encoded.append(text)
        return text

    monkeypatch.setitem(ENCODINGS, "url", count)
    templates = {f"k{number}": "{ca:url:url}" * 40 for number in range(32)}
    reference = a_reference({"secret": {"template": templates}})
    snapshot = replace(a_snapshot(), ca=CA_OF_2_KB)
    assert size_of(reference, snapshot, placeholders(reference, snapshot)) > 32 * 40 * len(CA_OF_2_KB)
    assert len(encoded) < 4 * len(set(CA_OF_2_KB)), "each character once: a spec has room for 1,300 such placeholders"
