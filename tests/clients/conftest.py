"""Real servers, started once; a simulator that hands out their addresses; and Secrets mounted as a pod would have them."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, TypeVar

import pytest

from sandbox.digitalocean import Control, serve_simulator
from sandbox.servers import MariaDb, MissingProgramError, Nursery, Pair, PgBouncer, Redis, find_program
from tests.clients.binding import Binding, at, read_secret
from tests.clients.credentials import ASCII_HOSTILE, DATABASE, HOSTILE, POOL, USER

HERE = Path(__file__).parent


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.clients)


@dataclass(frozen=True, kw_only=True)
class Cloud:
    """A simulator, and what mounts its clusters' Secrets."""

    url: str
    control: Control = field(repr=False)


Mount = Callable[..., Binding]


@pytest.fixture(scope="session")
def cloud() -> Iterator[Cloud]:
    with serve_simulator(seed=3) as simulator, Control(simulator.url) as control:
        yield Cloud(url=simulator.url, control=control)


@pytest.fixture
def mount(cloud: Cloud, tmp_path: Path) -> Mount:
    """Mounts a cluster's Secret; `template`, `keySets` and such go to spec.secret, the others to spec. Again: refreshes it."""
    bindings: dict[str, Binding] = {}

    def mounted(cluster: str, *, secret: dict[str, object] | None = None, **spec: object) -> Binding:
        directory = tmp_path / "bindings" / "orders-db"
        spec = {**spec, "secret": {"mountPath": str(directory), **(secret or {})}}
        binding = bindings.setdefault(cluster, Binding(directory))
        return binding.project(read_secret(cloud.url, cluster, spec))

    return mounted


@pytest.fixture(scope="session")
def nursery() -> Iterator[Nursery]:
    with Nursery() as servers:
        yield servers


def require(*programs: str) -> None:
    """Skips, by name and with the remedy, where a program is not installed."""
    for program in programs:
        try:
            find_program(program)
        except MissingProgramError as missing:
            pytest.skip(str(missing))


@dataclass(frozen=True, kw_only=True)
class Postgres:
    """A pair of servers, and the cluster that has their addresses."""

    pair: Pair
    cluster: str


@pytest.fixture(scope="session")
def postgres(cloud: Cloud, nursery: Nursery) -> Postgres:
    return make_postgres(cloud, nursery)


@pytest.fixture
def own_postgres(cloud: Cloud) -> Iterator[Postgres]:
    """A pair for a test that promotes its standby."""
    with Nursery() as servers:
        yield make_postgres(cloud, servers)


@pytest.fixture(scope="session")
def lent_postgres(cloud: Cloud) -> Iterator[Postgres]:
    """See rotating_postgres."""
    with Nursery() as servers:
        yield make_postgres(cloud, servers)


@pytest.fixture
def rotating_postgres(cloud: Cloud, lent_postgres: Postgres) -> Postgres:
    """A pair whose users and password a test may change; the next test finds the password as it was."""
    lent_postgres.pair.primary.set_password(USER, HOSTILE)
    cloud.control.rotate_password(lent_postgres.cluster, password=HOSTILE)
    return lent_postgres


def make_postgres(cloud: Cloud, nursery: Nursery) -> Postgres:
    require("postgres", "initdb", "pg_basebackup", "psql")
    pair = nursery.postgresql(user=USER, password=HOSTILE, database=DATABASE)
    cluster = cloud.control.create_cluster(
        name="orders",
        engine="pg",
        num_nodes=2,
        user=USER,
        password=HOSTILE,
        database=DATABASE,
        ca=nursery.ca,
        connections={
            **at(pair.primary, "private_connection", "connection"),
            **at(pair.standby, "standby_private_connection", "standby_connection"),
        },
    )
    return Postgres(pair=pair, cluster=cluster["id"])


@pytest.fixture
def bouncer(cloud: Cloud, rotating_postgres: Postgres) -> Iterator[PgBouncer]:
    """PgBouncer before the primary of `rotating_postgres`, and its pool among the cluster's."""
    require("pgbouncer")
    primary, cluster = rotating_postgres.pair.primary, rotating_postgres.cluster
    with Nursery() as servers:
        server = servers.pgbouncer(pool=POOL, upstream=primary, database=DATABASE, user=USER, password=HOSTILE)
        # One authority signs for pool and nodes at the provider; here it is the pool's for as long.
        ca = cloud.control.ca(cluster)
        cloud.control.update(cluster, ca=servers.ca)
        connections = at(server, "private_connection", "connection")
        cloud.control.add_pool(cluster, POOL, db=DATABASE, user=USER, port=server.port, connections=connections)
        yield server
        cloud.control.remove_pool(cluster, POOL)
        cloud.control.update(cluster, ca=ca)


S = TypeVar("S", MariaDb, Redis)


@dataclass(frozen=True, kw_only=True)
class Single(Generic[S]):
    """One server and the cluster that has its address."""

    server: S
    cluster: str


@pytest.fixture(scope="session")
def mariadb(cloud: Cloud, nursery: Nursery) -> Single[MariaDb]:
    return make_mariadb(cloud, nursery)


@pytest.fixture(scope="module")
def rotating_mariadb(cloud: Cloud) -> Iterator[Single[MariaDb]]:
    """A server whose password the tests of a module may change."""
    with Nursery() as servers:
        yield make_mariadb(cloud, servers)


def make_mariadb(cloud: Cloud, nursery: Nursery) -> Single[MariaDb]:
    require("mariadbd", "mariadb-install-db", "mariadb")
    server = nursery.mariadb(user=USER, password=ASCII_HOSTILE, database=DATABASE)
    cluster = cloud.control.create_cluster(
        name="carts",
        engine="mysql",
        user=USER,
        password=ASCII_HOSTILE,
        database=DATABASE,
        ca=nursery.ca,
        connections=at(server, "private_connection"),
    )
    return Single(server=server, cluster=cluster["id"])


@pytest.fixture(scope="session")
def redis(cloud: Cloud, nursery: Nursery) -> Single[Redis]:
    return make_redis(cloud, nursery)


@pytest.fixture
def rotating_redis(cloud: Cloud) -> Iterator[Single[Redis]]:
    """A server for a test that changes its password."""
    with Nursery() as servers:
        yield make_redis(cloud, servers)


def make_redis(cloud: Cloud, nursery: Nursery) -> Single[Redis]:
    require("redis-server", "redis-cli")
    server = nursery.redis(password=HOSTILE)
    cluster = cloud.control.create_cluster(
        name="sessions", engine="valkey", password=HOSTILE, ca=nursery.ca, connections=at(server, "private_connection")
    )
    return Single(server=server, cluster=cluster["id"])
