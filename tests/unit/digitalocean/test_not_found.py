import shlex

import pytest

from dbclusterref.digitalocean.not_found import database_not_found, pool_not_found, user_not_found
from dbclusterref.errors import PoolNotFound, UserNotFound, WaitingForCluster
from tests.support.builders import UUID, a_cluster


def test_a_missing_user_is_told_beside_those_there_are() -> None:
    found = a_cluster(users=[{"name": "doadmin", "password": "CANARY"}, {"name": "reporting"}])
    assert user_not_found("ap", cluster=found).message == (
        "Cluster orders has no user ap. It has doadmin, reporting. Correct spec.user, or create the user: "
        f"`doctl databases user create {UUID} ap`."
    )


def test_a_cluster_that_lists_no_users_says_so() -> None:
    assert "DigitalOcean lists no users of it." in user_not_found("app", cluster=a_cluster(users=None)).message


@pytest.mark.parametrize(("count", "end"), [(10, "user-9."), (11, "user-9 and 1 more."), (500, "user-9 and 490 more.")])
def test_of_many_users_the_first_are_named_and_the_others_counted(count: int, end: str) -> None:
    message = user_not_found("app", cluster=a_cluster(users=[{"name": f"user-{n}"} for n in range(count)])).message
    assert message.partition("It has ")[2].partition(" Correct")[0] == ", ".join(f"user-{n}" for n in range(9)) + f", {end}"


def test_the_command_works_when_pasted_whatever_the_users_name() -> None:
    command = user_not_found("it's $HOME", cluster=a_cluster()).message.split("`")[1]
    assert shlex.split(command) == ["doctl", "databases", "user", "create", UUID, "it's $HOME"]


@pytest.mark.parametrize("name", ["-h", "--api-url=example.com"])
def test_a_name_that_looks_like_an_option_is_none_in_the_command(name: str) -> None:
    for said in (user_not_found(name, cluster=a_cluster()), database_not_found(name, cluster=a_cluster())):
        assert shlex.split(said.message.split("`")[1])[4:] == [UUID, "--", name]


@pytest.mark.parametrize("engine", ["redis", "valkey"])
def test_an_engine_without_users_is_named(engine: str) -> None:
    message = user_not_found("app", cluster=a_cluster(engine=engine)).message
    assert f"spec.user names app, but a {engine} cluster has no database users. Remove spec.user" in message


@pytest.mark.parametrize("engine", ["redis", "valkey", "mysql", "advanced_mysql", "mongodb", "kafka", "opensearch"])
def test_an_engine_without_pools_is_named(engine: str) -> None:
    message = pool_not_found("app", cluster=a_cluster(engine=engine)).message
    assert f"spec.pool names app, but a {engine} cluster has no connection pools" in message
    assert "Remove spec.pool." in message


def test_a_missing_database_is_told_beside_those_there_are() -> None:
    found = a_cluster(db_names=["defaultdb", "shop"])
    assert database_not_found("order", cluster=found).message == (
        "Cluster orders has no database order. It has defaultdb, shop. Correct spec.database, or create the database: "
        f"`doctl databases db create {UUID} order`."
    )


def test_a_cluster_that_lists_no_databases_says_so() -> None:
    assert "DigitalOcean lists no databases of it." in database_not_found("order", cluster=a_cluster(db_names=None)).message


def test_a_name_of_any_length_is_clipped() -> None:
    users, databases = [{"name": "u" * 10**5}], ["d" * 10**5]
    found = a_cluster(users=users, db_names=databases)
    assert "It has " + "u" * 127 + "…. " in user_not_found("app", cluster=found).message
    assert "It has " + "d" * 127 + "…. " in database_not_found("orders", cluster=found).message


def test_of_many_databases_the_first_are_named_and_the_command_works_when_pasted() -> None:
    message = database_not_found("it's", cluster=a_cluster(db_names=[f"db-{n}" for n in range(500)])).message
    assert "db-8, db-9 and 490 more." in message
    assert shlex.split(message.split("`")[1]) == ["doctl", "databases", "db", "create", UUID, "it's"]


@pytest.mark.parametrize("engine", ["pg", "advanced_pg", "brand_new"])
def test_a_missing_pool_is_told_with_the_way_to_find_those_there_are(engine: str) -> None:
    message = pool_not_found("ap", cluster=a_cluster(engine=engine)).message
    assert message.startswith("Cluster orders has no connection pool ap. ")
    assert f"`doctl databases pool list {UUID}`" in message


@pytest.mark.parametrize("status", ["creating", "forking"])
def test_what_a_cluster_that_is_being_made_lacks_may_come(status: str) -> None:
    found = a_cluster(status=status)
    for cause, what in (
        (user_not_found("app", cluster=found), "user app"),
        (pool_not_found("app", cluster=found), "connection pool app"),
        (database_not_found("app", cluster=found), "database app"),
    ):
        assert isinstance(cause, WaitingForCluster)
        assert cause.message == f"Cluster orders is in state {status} and has no {what} yet; the Secret is written when it has."


@pytest.mark.parametrize("status", ["", "online", "resizing", "migrating", "a-new-word"])
def test_what_another_cluster_lacks_is_not_waited_for(status: str) -> None:
    found = a_cluster(status=status)
    causes = (user_not_found("a", cluster=found), pool_not_found("a", cluster=found), database_not_found("a", cluster=found))
    assert all(cause.stalled for cause in causes)


def test_what_an_engine_never_has_is_not_waited_for() -> None:
    found = a_cluster(engine="valkey", status="creating")
    assert isinstance(user_not_found("app", cluster=found), UserNotFound)
    assert isinstance(pool_not_found("app", cluster=found), PoolNotFound)
