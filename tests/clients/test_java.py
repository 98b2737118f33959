"""Java's drivers and Spring's own reader of bindings; Kafka's client as far as it goes without a broker."""

from collections.abc import Callable

import pytest

from sandbox.servers import MariaDb
from tests.clients.conftest import Cloud, Mount, Postgres, Single, require
from tests.clients.credentials import HOSTILE
from tests.clients.jars import compile_clients, jars
from tests.clients.whoami import EXPECTED, MYSQL, POSTGRESQL, PRIMARY, STANDBY

Java = Callable[..., tuple[str, ...]]


@pytest.fixture(scope="session")
def java(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ...]:
    """The command line of the clients, but for what they are to do."""
    require("java", "javac", "mvn")
    path = jars()
    classes = compile_clients(path, tmp_path_factory.mktemp("classes"))
    # One small, short-lived machine per test.
    return ("java", "-Xshare:auto", "-XX:TieredStopAtLevel=1", "-Dfile.encoding=UTF-8", "-cp", f"{classes}:{path}/*", "Clients")


JDBC = {"JDBC_USER": "{username}", "JDBC_PASSWORD": "{password}"}


@pytest.mark.parametrize(("placeholder", "expected"), [("jdbc-url", PRIMARY), ("standby-jdbc-url", STANDBY)])
def test_jdbc_connects_to_postgresql_with_the_environment(
    postgres: Postgres, mount: Mount, java: tuple[str, ...], placeholder: str, expected: str
) -> None:
    binding = mount(postgres.cluster, secret={"template": {**JDBC, "JDBC_URL": f"{{{placeholder}}}"}, "mountPath": ""})
    assert binding.run(*java, "jdbc", POSTGRESQL) == expected


def test_jdbc_verifies_postgresql_by_the_mount_path_alone(
    postgres: Postgres, rotating_postgres: Postgres, mount: Mount, java: tuple[str, ...]
) -> None:
    binding = mount(rotating_postgres.cluster, secret={"template": {**JDBC, "JDBC_URL": "{jdbc-url}"}})
    assert binding.run(*java, "jdbc", POSTGRESQL) == PRIMARY
    theirs, ours = postgres.pair.primary.port, rotating_postgres.pair.primary.port
    impostor = {**binding.environ, "JDBC_URL": binding.environ["JDBC_URL"].replace(f":{ours}/", f":{theirs}/")}
    assert "SSLHandshakeException" in binding.attempt(*java, "jdbc", POSTGRESQL, environ=impostor).stderr


def test_jdbc_verifies_postgresql_by_the_recipe_with_the_mounted_ca(
    postgres: Postgres, mount: Mount, java: tuple[str, ...]
) -> None:
    recipe = "jdbc:postgresql://{hostport}/{database:url}?sslmode=verify-full&sslrootcert={ca-path:url}"
    binding = mount(postgres.cluster, secret={"template": {**JDBC, "JDBC_URL": recipe}})
    assert binding.run(*java, "jdbc", POSTGRESQL) == PRIMARY


def test_jdbc_finds_the_node_it_wants_by_the_recipe_with_both(postgres: Postgres, mount: Mount, java: tuple[str, ...]) -> None:
    recipe = "jdbc:postgresql://{standby-hostport},{hostport}/{database:url}?{tls-query}&targetServerType=primary"
    binding = mount(postgres.cluster, secret={"template": {**JDBC, "JDBC_URL": recipe}})
    assert binding.run(*java, "jdbc", POSTGRESQL) == PRIMARY


@pytest.mark.parametrize(
    "recipe",
    ["{jdbc-url}", "jdbc:mariadb://{hostport}/{database:url}?sslMode=verify-full&serverSslCert={ca-path}"],
    ids=["mysql", "mariadb"],
)
def test_jdbc_connects_to_mysql_with_the_driver_of(
    mariadb: Single[MariaDb], mount: Mount, java: tuple[str, ...], recipe: str
) -> None:
    binding = mount(mariadb.cluster, secret={"template": {**JDBC, "JDBC_URL": recipe}})
    assert binding.run(*java, "jdbc", MYSQL) == EXPECTED


def test_spring_connects_to_postgresql_with_the_mounted_binding(
    postgres: Postgres, mount: Mount, java: tuple[str, ...]
) -> None:
    binding = mount(postgres.cluster)
    assert binding.run(*java, "spring-jdbc", binding.directory.parent, POSTGRESQL, environ={}) == PRIMARY


def test_spring_connects_to_mysql_with_the_mounted_binding(
    mariadb: Single[MariaDb], mount: Mount, java: tuple[str, ...]
) -> None:
    binding = mount(mariadb.cluster)
    assert binding.run(*java, "spring-jdbc", binding.directory.parent, MYSQL, environ={}) == EXPECTED


@pytest.mark.parametrize(
    ("engine", "expected"),
    [
        ("valkey", {"spring.data.redis.url": "{uri}"}),
        ("mongodb", {"spring.data.mongodb.uri": "{uri}"}),
        ("kafka", {"spring.kafka.bootstrap-servers": "{bootstrap-servers}"}),
    ],
)
def test_spring_reads_the_mounted_binding_of(
    cloud: Cloud, mount: Mount, java: tuple[str, ...], engine: str, expected: dict[str, str]
) -> None:
    cluster = cloud.control.create_cluster(engine=engine, password=HOSTILE)["id"]
    cloud.control.add_user(cluster, "app", password=HOSTILE) if engine == "mongodb" else None
    binding = mount(cluster, **({"user": "app"} if engine == "mongodb" else {}))
    found = dict(line.split("=", 1) for line in binding.run(*java, "spring", binding.directory.parent, environ={}).splitlines())
    wanted = {name: binding.file(value.strip("{}")) for name, value in expected.items()}
    assert found.items() >= wanted.items()


def test_kafkas_client_takes_the_mounted_properties(cloud: Cloud, mount: Mount, java: tuple[str, ...]) -> None:
    cluster = cloud.control.create_cluster(
        engine="kafka", password=HOSTILE, user='do"admin\\', connections={"private_connection": {"host": "127.0.0.1"}}
    )
    binding = mount(cluster["id"], secret={"keySets": ["Files", "Binding"]})
    found = binding.run(*java, "kafka", binding.directory / "client.properties", environ={}).splitlines()
    assert found == [binding.file("bootstrap-servers"), "SASL_SSL", 'do"admin\\', HOSTILE]
