import shlex

import pytest

from dbclusterref.digitalocean.not_found import pool_not_found, user_not_found
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


@pytest.mark.parametrize("engine", ["redis", "valkey"])
def test_an_engine_without_users_is_named(engine: str) -> None:
    message = user_not_found("app", cluster=a_cluster(engine=engine)).message
    assert f"spec.user names app, but a {engine} cluster has no database users. Remove spec.user" in message


@pytest.mark.parametrize("engine", ["redis", "valkey", "mysql", "advanced_mysql", "mongodb", "kafka", "opensearch"])
def test_an_engine_without_pools_is_named(engine: str) -> None:
    message = pool_not_found("app", cluster=a_cluster(engine=engine)).message
    assert f"spec.pool names app, but a {engine} cluster has no connection pools" in message
    assert "Remove spec.pool." in message


@pytest.mark.parametrize("engine", ["pg", "advanced_pg", "brand_new"])
def test_a_missing_pool_is_told_with_the_way_to_find_those_there_are(engine: str) -> None:
    message = pool_not_found("ap", cluster=a_cluster(engine=engine)).message
    assert message.startswith("Cluster orders has no connection pool ap. ")
    assert f"`doctl databases pool list {UUID}`" in message
