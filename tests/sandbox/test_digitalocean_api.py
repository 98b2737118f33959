"""The simulator's API without sockets: routes, engines, scopes, teams, redaction, paging."""

import base64
import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlsplit

import pytest
from cryptography import x509
from hypothesis import given, settings
from hypothesis import strategies as st

from sandbox.digitalocean.api import Paging
from sandbox.digitalocean.control import obey
from sandbox.digitalocean.engines import ENGINES
from sandbox.digitalocean.generate import HOSTILE_CHARACTERS
from sandbox.digitalocean.jsontypes import Json
from sandbox.digitalocean.simulator import Simulator
from sandbox.digitalocean.tokens import ALL_SCOPES, DEFAULT_TOKEN
from sandbox.digitalocean.world import Recipe
from tests.support.strategies import examples

CONNECTIONS = ("connection", "private_connection", "standby_connection", "standby_private_connection")
PREFIXES = {
    "connection": "",
    "private_connection": "private-",
    "standby_connection": "replica-",
    "standby_private_connection": "private-replica-",
}
EVERY_ENGINE = (*ENGINES, "not-yet-invented")


@pytest.fixture
def simulator() -> Simulator:
    return make_simulator()


def make_simulator(seed: int = 0) -> Simulator:
    return Simulator(seed=seed, clock=lambda: 1_700_000_000.0)


def control(simulator: Simulator, method: str, path: str, **body: Json) -> Any:
    reply = obey(simulator, method, f"/control{path}", query={}, body=body)
    assert reply.status == 200, reply.body
    return json.loads(reply.body)


def create(simulator: Simulator, **changes: Json) -> Any:
    return control(simulator, "POST", "/clusters", **changes)["cluster"]


def call(
    simulator: Simulator,
    path: str,
    *,
    method: str = "GET",
    token: str | None = DEFAULT_TOKEN,
    query: Mapping[str, str] | None = None,
) -> tuple[int, Any]:
    reply = simulator.handle(method, f"/v2/databases{path}", token=token, query=query, base_url="http://do.test").reply
    return reply.status, json.loads(reply.body)


def read(simulator: Simulator, cluster: str, *, token: str = DEFAULT_TOKEN) -> Any:
    status, body = call(simulator, f"/{cluster}", token=token)
    assert status == 200
    return body["database"]


def give_scopes(simulator: Simulator, *scopes: str, **rights: Json) -> str:
    control(simulator, "POST", "/tokens", value="limited", scopes=list(scopes), **rights)
    return "limited"


def test_a_new_cluster_is_postgresql_on_one_node_without_a_standby(simulator: Simulator) -> None:
    found = read(simulator, create(simulator, name="orders")["id"])

    assert (found["engine"], found["num_nodes"], found["status"]) == ("pg", 1, "online")
    assert "standby_connection" not in found
    assert "standby_private_connection" not in found


@pytest.mark.parametrize("engine", EVERY_ENGINE)
def test_every_engine_names_its_four_connections_by_the_providers_prefixes(simulator: Simulator, engine: str) -> None:
    found = read(simulator, create(simulator, engine=engine, name="orders", num_nodes=2)["id"])

    public = found["connection"]["host"]
    assert {kind: found[kind]["host"] for kind in CONNECTIONS} == {kind: prefix + public for kind, prefix in PREFIXES.items()}
    assert public.startswith("orders-do-user-")


@pytest.mark.parametrize("engine", [engine for engine in EVERY_ENGINE if engine not in {"kafka", "mongodb"}])
def test_a_uri_says_exactly_what_the_other_members_say(simulator: Simulator, engine: str) -> None:
    password = f"p{HOSTILE_CHARACTERS}"
    created = create(simulator, engine=engine, num_nodes=2, password=password)

    for kind in CONNECTIONS:
        connection = read(simulator, created["id"])[kind]
        parts = urlsplit(connection["uri"])
        assert unquote(parts.username or "") == connection["user"]
        assert unquote(parts.password or "") == connection["password"] == password
        assert (parts.hostname, parts.port) == (connection["host"], connection["port"])
        assert unquote(parts.path.removeprefix("/")) == connection["database"]


@pytest.mark.parametrize(
    ("engine", "scheme", "query"),
    [
        ("pg", "postgresql", {"sslmode": "require"}),
        ("advanced_pg", "postgresql", {"sslmode": "require"}),
        ("mysql", "mysql", {"ssl-mode": "REQUIRED"}),
        ("redis", "rediss", {}),
        ("valkey", "rediss", {}),
        ("mongodb", "mongodb+srv", {"tls": "true", "authSource": "admin"}),
        ("opensearch", "https", {}),
        ("not-yet-invented", "not-yet-invented", {}),
    ],
)
def test_each_engine_has_its_uri_scheme_and_query(
    simulator: Simulator, engine: str, scheme: str, query: dict[str, str]
) -> None:
    parts = urlsplit(create(simulator, engine=engine)["connection"]["uri"])

    assert (parts.scheme, dict(parse_qsl(parts.query))) == (scheme, query)


@pytest.mark.parametrize("engine", ["redis", "valkey"])
@pytest.mark.parametrize("path", ["/users", "/users/default", "/dbs", "/dbs/defaultdb", "/replicas", "/pools"])
def test_in_memory_engines_have_no_users_databases_replicas_or_pools(simulator: Simulator, engine: str, path: str) -> None:
    created = create(simulator, engine=engine)

    status, body = call(simulator, f"/{created['id']}{path}")

    assert status == 422
    assert body["message"] == "operation is not supported for this cluster type"
    assert created["users"] is None
    assert created["db_names"] is None


@pytest.mark.parametrize("engine", [engine for engine in EVERY_ENGINE if not engine.endswith("pg")])
@pytest.mark.parametrize("path", ["/pools", "/pools/any"])
def test_pools_are_for_postgresql_alone(simulator: Simulator, engine: str, path: str) -> None:
    status, body = call(simulator, f"/{create(simulator, engine=engine)['id']}{path}")

    assert (status, body["id"]) == (422, "unprocessable_entity")


def test_mongodb_shows_the_default_users_password_in_create_and_reset_replies_but_never_in_a_get(
    simulator: Simulator,
) -> None:
    created = create(simulator, engine="mongodb")
    cluster = created["id"]

    found = read(simulator, cluster)["connection"]
    _, reset = call(simulator, f"/{cluster}/users/doadmin/reset_auth", method="POST")
    _, user = call(simulator, f"/{cluster}/users/doadmin")

    assert created["connection"]["password"]
    assert found["password"] == ""
    assert "://doadmin:@" in found["uri"]
    assert "port" not in found
    assert urlsplit(found["uri"]).port is None
    assert reset["user"]["password"] not in {"", created["connection"]["password"]}
    assert user["user"]["password"] == ""


def test_kafka_users_carry_a_certificate_of_the_clusters_authority_and_its_key(simulator: Simulator) -> None:
    created = create(simulator, engine="kafka")
    control(simulator, "POST", f"/clusters/{created['id']}/users", name="app")

    _, body = call(simulator, f"/{created['id']}/users/app")
    _, ca = call(simulator, f"/{created['id']}/ca")

    authority = x509.load_pem_x509_certificate(base64.b64decode(ca["ca"]["certificate"]))
    x509.load_pem_x509_certificate(body["user"]["access_cert"].encode()).verify_directly_issued_by(authority)
    assert body["user"]["access_key"].startswith("-----BEGIN PRIVATE KEY-----")
    assert read(simulator, created["id"])["connection"]["database"] == ""


def test_kafka_with_port_0_has_an_empty_uri(simulator: Simulator) -> None:
    connection = create(simulator, engine="kafka", port=0)["private_connection"]

    assert (connection["port"], connection["uri"]) == (0, "")


def test_opensearch_has_a_dashboard_and_kafka_a_schema_registry(simulator: Simulator) -> None:
    assert create(simulator, engine="opensearch")["ui_connection"]["uri"].startswith("https://doadmin:")
    assert create(simulator, engine="kafka")["schema_registry_connection"]["uri"].startswith("https://doadmin:")


def test_a_converted_cluster_keeps_its_identifier_and_password_and_takes_the_new_engines_version(
    simulator: Simulator,
) -> None:
    before = create(simulator, engine="redis")

    control(simulator, "PATCH", f"/clusters/{before['id']}", engine="valkey")
    after = read(simulator, before["id"])

    assert after["engine"] == "valkey"
    assert after["connection"] == before["connection"]
    assert after["version"] == ENGINES["valkey"].version != before["version"]


def test_the_database_can_be_left_to_the_uris_path(simulator: Simulator) -> None:
    connection = create(simulator, database_in_uri_only=True)["private_connection"]

    assert connection["database"] == ""
    assert urlsplit(connection["uri"]).path == "/defaultdb"


def test_without_a_private_network_there_are_no_private_connections(simulator: Simulator) -> None:
    created = create(simulator, num_nodes=2, private_network_uuid="")

    assert created["private_network_uuid"] == ""
    assert [kind for kind in CONNECTIONS if kind in created] == ["connection", "standby_connection"]


def test_a_cluster_without_an_address_yet_has_blank_connections(simulator: Simulator) -> None:
    created = create(simulator, status="creating", addressed=False)

    assert created["private_connection"] == {
        "uri": "",
        "database": "",
        "host": "",
        "port": 0,
        "user": "",
        "password": "",
        "ssl": True,
    }


def test_the_ca_is_base64_of_pem_and_can_be_set_for_a_cluster(simulator: Simulator) -> None:
    created = create(simulator)
    pem = "-----BEGIN CERTIFICATE-----\nof a real server\n-----END CERTIFICATE-----\n"

    _, own = call(simulator, f"/{created['id']}/ca")
    control(simulator, "PATCH", f"/clusters/{created['id']}", ca=pem)
    _, given_by_hand = call(simulator, f"/{created['id']}/ca")

    x509.load_pem_x509_certificate(base64.b64decode(own["ca"]["certificate"]))
    assert base64.b64decode(given_by_hand["ca"]["certificate"]).decode() == pem


def test_a_pool_is_reached_by_its_name_on_all_four_connections_with_its_users_password(simulator: Simulator) -> None:
    cluster = create(simulator, num_nodes=2)["id"]
    control(simulator, "POST", f"/clusters/{cluster}/users", name="app", password="of app")
    control(simulator, "POST", f"/clusters/{cluster}/pools", name="app-pool", db="defaultdb", user="app")

    _, body = call(simulator, f"/{cluster}/pools/app-pool")
    _, listed = call(simulator, f"/{cluster}/pools")

    for kind in CONNECTIONS:
        connection = body["pool"][kind]
        parts = (connection["database"], connection["port"], connection["user"], connection["password"])
        assert parts == ("app-pool", 25061, "app", "of app")
        assert connection["host"] == read(simulator, cluster)[kind]["host"]
        assert urlsplit(connection["uri"]).path == "/app-pool"
    assert listed["pools"] == [body["pool"]]


def test_users_databases_and_replicas_are_listed_and_found_by_name(simulator: Simulator) -> None:
    cluster = create(simulator)["id"]
    control(simulator, "POST", f"/clusters/{cluster}/users", name="app/1")
    control(simulator, "POST", f"/clusters/{cluster}/databases", name="orders")
    control(simulator, "POST", f"/clusters/{cluster}/replicas", name="read-1")

    _, users = call(simulator, f"/{cluster}/users")
    _, user = call(simulator, f"/{cluster}/users/{quote('app/1', safe='')}")
    _, dbs = call(simulator, f"/{cluster}/dbs")
    _, replicas = call(simulator, f"/{cluster}/replicas")

    assert [(one["name"], one["role"]) for one in users["users"]] == [("doadmin", "primary"), ("app/1", "normal")]
    assert user["user"] == users["users"][1] == read(simulator, cluster)["users"][1]
    assert dbs == {"dbs": [{"name": "defaultdb"}, {"name": "orders"}]}
    assert call(simulator, f"/{cluster}/dbs/orders") == (200, {"db": {"name": "orders"}})
    assert replicas["replicas"][0]["private_connection"]["host"].startswith("private-read-1-")


@pytest.mark.parametrize("path", ["/users/none", "/dbs/none", "/pools/none"])
def test_what_is_not_in_a_cluster_is_404(simulator: Simulator, path: str) -> None:
    status, body = call(simulator, f"/{create(simulator)['id']}{path}")

    assert (status, body["id"]) == (404, "not_found")


@pytest.mark.parametrize("cluster", ["9cc10173-e9ea-4176-9dbc-a4cee4c4ff30", "not-a-uuid", "%00"])
def test_an_unknown_cluster_is_404_with_the_providers_words(simulator: Simulator, cluster: str) -> None:
    status, body = call(simulator, f"/{cluster}")

    assert status == 404
    assert set(body) == {"id", "message", "request_id"}
    assert (body["id"], body["message"]) == ("not_found", "The resource you requested could not be found.")


def test_a_deleted_cluster_is_gone_and_its_identifier_is_free_again(simulator: Simulator) -> None:
    first = create(simulator)
    control(simulator, "DELETE", f"/clusters/{first['id']}")

    assert call(simulator, f"/{first['id']}")[0] == 404
    second = create(simulator, id=first["id"])
    assert read(simulator, first["id"])["connection"]["password"] == second["connection"]["password"]
    assert second["connection"]["password"] != first["connection"]["password"]


def test_unknown_paths_are_404_and_known_ones_refuse_other_methods_with_405(simulator: Simulator) -> None:
    cluster = create(simulator)["id"]

    assert call(simulator, f"/{cluster}/nothing")[0] == 404
    assert simulator.handle("GET", "/v2/droplets", token=DEFAULT_TOKEN).reply.status == 404
    assert call(simulator, f"/{cluster}", method="PUT")[0] == 405
    assert call(simulator, f"/{cluster}/users/doadmin/reset_auth")[0] == 405


@pytest.mark.parametrize("token", [None, "", "stranger"])
def test_an_unknown_token_is_401_with_the_providers_words(simulator: Simulator, token: str | None) -> None:
    status, body = call(simulator, f"/{create(simulator)['id']}", token=token)

    assert (status, body["id"], body["message"]) == (401, "unauthorized", "Unable to authenticate you.")


def test_a_revoked_token_is_401_and_a_token_put_again_works(simulator: Simulator) -> None:
    control(simulator, "POST", "/tokens", value="rotating")
    assert call(simulator, "", token="rotating")[0] == 200

    control(simulator, "DELETE", "/tokens/rotating")
    assert call(simulator, "", token="rotating")[0] == 401


def test_reading_needs_the_read_scope_and_resetting_the_update_scope(simulator: Simulator) -> None:
    cluster = create(simulator)["id"]
    token = give_scopes(simulator, "database:update")
    assert call(simulator, f"/{cluster}", token=token)[0] == 403
    assert call(simulator, "", token=token)[0] == 403

    token = give_scopes(simulator, "database:read")
    assert call(simulator, f"/{cluster}", token=token)[0] == 200
    assert call(simulator, f"/{cluster}/users/doadmin/reset_auth", method="POST", token=token)[0] == 403


@pytest.mark.parametrize(
    ("scope", "member"),
    [("tag:read", "tags"), ("project:read", "project_id"), ("vpc:read", "private_network_uuid")],
)
def test_members_that_need_a_scope_of_their_own_are_left_out_without_it(simulator: Simulator, scope: str, member: str) -> None:
    cluster = create(simulator, tags=["production"])["id"]
    token = give_scopes(simulator, *(ALL_SCOPES - {scope}))

    assert set(read(simulator, cluster)) - set(read(simulator, cluster, token=token)) == {member}


@pytest.mark.parametrize(("style", "expected"), [("empty", ""), ("null", None), ("absent", "(absent)")])
def test_without_the_credentials_scope_every_password_is_hidden_in_the_chosen_style(
    simulator: Simulator, style: str, expected: str | None
) -> None:
    created = create(simulator, engine="pg", num_nodes=2, password="s3cret")
    control(simulator, "POST", f"/clusters/{created['id']}/users", name="app", password="s3cret")
    control(simulator, "POST", f"/clusters/{created['id']}/pools", name="pool", db="defaultdb", user="app")
    token = give_scopes(simulator, *(ALL_SCOPES - {"database:view_credentials"}), redaction=style)

    found = read(simulator, created["id"], token=token)
    _, pool = call(simulator, f"/{created['id']}/pools/pool", token=token)
    _, users = call(simulator, f"/{created['id']}/users", token=token)

    for connection in (*(found[kind] for kind in CONNECTIONS), pool["pool"]["private_connection"]):
        assert connection.get("password", "(absent)") == expected
        assert f"://{connection['user']}:@{connection['host']}" in connection["uri"]
    assert [user.get("password", "(absent)") for user in users["users"]] == [expected, expected]
    assert "s3cret" not in json.dumps([found, pool, users])


def test_a_redacted_cluster_hides_its_passwords_from_tokens_with_every_scope(simulator: Simulator) -> None:
    created = create(simulator)

    control(simulator, "PATCH", f"/clusters/{created['id']}", redaction="null")
    assert read(simulator, created["id"])["connection"]["password"] is None
    control(simulator, "PATCH", f"/clusters/{created['id']}", redaction=None)
    assert read(simulator, created["id"]) == created


def test_a_token_sees_the_clusters_of_its_own_team_alone(simulator: Simulator) -> None:
    ours, theirs = create(simulator), create(simulator, team="theirs")
    control(simulator, "POST", "/tokens", value="their token", team="theirs")

    assert call(simulator, f"/{theirs['id']}")[0] == 404
    assert call(simulator, f"/{ours['id']}", token="their token")[0] == 404
    for token, cluster in ((DEFAULT_TOKEN, ours), ("their token", theirs)):
        _, listing = call(simulator, "", token=token)
        assert [one["id"] for one in listing["databases"]] == [cluster["id"]]
        assert listing["meta"] == {"total": 1}


def test_the_listing_shows_the_same_object_as_the_single_read(simulator: Simulator) -> None:
    simulator.world.seed_clusters(12, Recipe())

    _, listing = call(simulator, "")

    assert listing["databases"] == [read(simulator, one["id"]) for one in listing["databases"]]


def test_a_change_shows_at_once_in_the_listing_and_in_the_single_read(simulator: Simulator) -> None:
    cluster = simulator.world.seed_clusters(3, Recipe())[1]
    before = call(simulator, "")[1]["databases"]

    control(simulator, "POST", f"/clusters/{cluster}/rotate", password="new")

    after = call(simulator, "")[1]["databases"]
    assert after[1]["connection"]["password"] == read(simulator, cluster)["connection"]["password"] == "new"
    assert [after[0], after[2]] == [before[0], before[2]]


def walk(simulator: Simulator, query: Mapping[str, str]) -> list[list[str]]:
    """The identifiers on each page, following `next`."""
    pages = []
    while True:
        _, body = call(simulator, "", query=query)
        pages.append([one["id"] for one in body["databases"]])
        following = body["links"].get("pages", {}).get("next")
        if following is None:
            return pages
        assert following.startswith("http://do.test/v2/databases?")
        query = dict(parse_qsl(urlsplit(following).query))


@settings(deadline=None, max_examples=examples(60))
@given(clusters=st.integers(0, 45), per_page=st.integers(1, 250))
def test_following_the_pages_visits_each_cluster_exactly_once(clusters: int, per_page: int) -> None:
    simulator = make_simulator()
    expected = simulator.world.seed_clusters(clusters, Recipe(engine="redis"))

    pages = walk(simulator, {"per_page": str(per_page)})

    assert [one for page in pages for one in page] == expected
    assert all(len(page) == min(per_page, 200) for page in pages[:-1])


def test_a_page_holds_20_by_default_and_200_at_most(simulator: Simulator) -> None:
    simulator.world.seed_clusters(230, Recipe(engine="redis"))

    assert len(call(simulator, "")[1]["databases"]) == 20
    assert len(call(simulator, "", query={"per_page": "1000"})[1]["databases"]) == 200
    assert len(call(simulator, "", query={"page": "2", "per_page": "200"})[1]["databases"]) == 30
    assert call(simulator, "", query={"page": "9"})[1]["meta"] == {"total": 230}


@pytest.mark.parametrize(("paging", "pages"), [(Paging.FIXED, [20, 10]), (Paging.WHOLE, [30])])
def test_the_listing_can_ignore_per_page(simulator: Simulator, paging: Paging, pages: list[int]) -> None:
    simulator.world.seed_clusters(30, Recipe(engine="redis"))
    control(simulator, "POST", "/settings", paging=paging)

    assert [len(page) for page in walk(simulator, {"per_page": "200"})] == pages


def test_a_tag_narrows_the_listing_and_stays_in_its_links(simulator: Simulator) -> None:
    simulator.world.seed_clusters(30, Recipe(engine="redis"))
    tagged = [create(simulator, engine="redis", tags=["blue"])["id"] for _ in range(5)]

    assert walk(simulator, {"tag_name": "blue", "per_page": "2"}) == [tagged[:2], tagged[2:4], tagged[4:]]
    token = give_scopes(simulator, "database:read")
    assert call(simulator, "", query={"tag_name": "blue"}, token=token)[0] == 403


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others() -> None:
    def replies(seed: int) -> list[bytes]:
        simulator = make_simulator(seed)
        simulator.world.seed_clusters(20, Recipe())
        created = create(simulator, engine="kafka", num_nodes=3)
        control(simulator, "POST", f"/clusters/{created['id']}/rotate")
        paths = ("", f"/{created['id']}", f"/{created['id']}/ca", f"/{created['id']}/users")
        return [simulator.handle("GET", f"/v2/databases{path}", token=DEFAULT_TOKEN).reply.body for path in paths]

    first, again, other = replies(7), replies(7), replies(8)

    assert first == again
    assert all(one != another for one, another in zip(first, other, strict=True))


def test_a_seeded_cluster_does_not_depend_on_how_many_there_are_or_which_were_read(simulator: Simulator) -> None:
    few = simulator.world.seed_clusters(3, Recipe())
    many = make_simulator()

    assert many.world.seed_clusters(300, Recipe())[:3] == few
    assert read(many, few[2]) == read(simulator, few[2])


def test_a_mixed_fleet_begins_with_one_of_each_engine(simulator: Simulator) -> None:
    found = [read(simulator, one)["engine"] for one in simulator.world.seed_clusters(len(ENGINES), Recipe())]

    assert found == [*ENGINES]


def test_generated_passwords_can_carry_a_marker_and_hostile_characters(simulator: Simulator) -> None:
    style: Json = {"marker": "canary-", "hostile": True}
    ids = control(simulator, "POST", "/fleet", count=2, engine="pg", password_style=style)["ids"]
    control(simulator, "POST", f"/clusters/{ids[0]}/rotate")

    for one in ids:
        password = read(simulator, one)["connection"]["password"]
        assert password.startswith("canary-")
        assert password.endswith(HOSTILE_CHARACTERS)
