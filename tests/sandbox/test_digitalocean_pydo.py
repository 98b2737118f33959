"""The provider's own client reads the simulator as the client's documentation shows."""

from collections.abc import Iterator

import pydo
import pytest

from sandbox.digitalocean import DEFAULT_TOKEN, Control, serve_simulator

pytestmark = [pytest.mark.sockets]


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with serve_simulator(seed=1, clusters=25) as running:
        yield running.url


@pytest.fixture
def control(url: str) -> Iterator[Control]:
    with Control(url) as opened:
        yield opened


@pytest.fixture
def client(url: str) -> pydo.Client:
    # retry_total=0: its ten retries inside one call would hide what the server said first.
    return pydo.Client(token=DEFAULT_TOKEN, endpoint=url, retry_total=0)


def test_it_lists_clusters(client: pydo.Client, control: Control) -> None:
    listing = client.databases.list_clusters(enforce_https=False)

    assert [one["id"] for one in listing["databases"]] == control.cluster_ids()[:20]
    assert listing["meta"]["total"] == len(control.cluster_ids())
    assert listing["links"]["pages"]["next"]


def test_it_gets_a_cluster(client: pydo.Client, control: Control) -> None:
    created = control.create_cluster(name="backend", num_nodes=2)

    found = client.databases.get_cluster(database_cluster_uuid=created["id"], enforce_https=False)

    assert found["database"] == created


def test_it_gets_the_ca(client: pydo.Client, control: Control) -> None:
    cluster = control.cluster_ids()[0]

    assert client.databases.get_ca(database_cluster_uuid=cluster, enforce_https=False)["ca"]["certificate"]


def test_it_reads_users_databases_pools_and_replicas(client: pydo.Client, control: Control) -> None:
    cluster = control.create_cluster(num_nodes=2)["id"]
    control.add_user(cluster, "app-01")
    control.add_database(cluster, "alpha")
    control.add_pool(cluster, "backend-pool", db="alpha", user="app-01")
    control.add_replica(cluster, "read-nyc3-01")
    of = {"database_cluster_uuid": cluster, "enforce_https": False}

    assert [user["name"] for user in client.databases.list_users(**of)["users"]] == ["doadmin", "app-01"]
    assert client.databases.get_user(username="app-01", **of)["user"]["role"] == "normal"
    assert [db["name"] for db in client.databases.list(**of)["dbs"]] == ["defaultdb", "alpha"]
    assert client.databases.get(database_name="alpha", **of) == {"db": {"name": "alpha"}}
    assert [pool["name"] for pool in client.databases.list_connection_pools(**of)["pools"]] == ["backend-pool"]
    assert client.databases.get_connection_pool(pool_name="backend-pool", **of)["pool"]["user"] == "app-01"
    assert [one["name"] for one in client.databases.list_replicas(**of)["replicas"]] == ["read-nyc3-01"]


def test_it_resets_a_users_password(client: pydo.Client, control: Control) -> None:
    before = control.create_cluster()

    reset = client.databases.reset_auth(database_cluster_uuid=before["id"], username="doadmin", body={}, enforce_https=False)

    assert reset["user"]["password"] == control.get(before["id"])["connection"]["password"]
    assert reset["user"]["password"] != before["connection"]["password"]


def test_it_returns_the_error_body_of_a_404(client: pydo.Client) -> None:
    nobody = "9cc10173-e9ea-4176-9dbc-a4cee4c4ff30"

    assert client.databases.get_cluster(database_cluster_uuid=nobody, enforce_https=False)["id"] == "not_found"
