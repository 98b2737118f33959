"""PostgreSQL's own client, with nothing but the Secret."""

import pytest

from sandbox.servers import PgBouncer
from tests.clients.binding import at
from tests.clients.conftest import Cloud, Mount, Postgres
from tests.clients.credentials import DATABASE, HOSTILE, POOL, USER
from tests.clients.whoami import POSTGRESQL, PRIMARY, STANDBY

PSQL = ("psql", "-X", "-A", "-t", "-c", POSTGRESQL)


def test_psql_connects_with_the_environment_alone(postgres: Postgres, mount: Mount) -> None:
    assert mount(postgres.cluster).run(*PSQL) == PRIMARY


def test_psql_connects_with_the_mounted_uri_alone(postgres: Postgres, mount: Mount) -> None:
    binding = mount(postgres.cluster, secret={"keySets": ["Binding"]})
    assert binding.run("psql", "-X", "-A", "-t", binding.file("uri"), "-c", POSTGRESQL, environ={}) == PRIMARY


def test_a_shell_hands_the_mounted_uri_to_psql_unharmed(postgres: Postgres, mount: Mount) -> None:
    assert mount(postgres.cluster).shell(f'psql -X -A -t "$(cat uri)" -c "{POSTGRESQL}"') == PRIMARY


def test_psql_verifies_the_servers_certificate_by_the_mounted_ca(postgres: Postgres, mount: Mount) -> None:
    binding = mount(postgres.cluster, secret={"keySets": ["Binding"], "mountPath": ""})
    uri = f"{binding.file('uri')}&sslrootcert={binding.directory}/{binding.file('sslrootcert')}"
    for mode in ("verify-ca", "verify-full"):
        assert (
            binding.run("psql", "-X", "-A", "-t", uri.replace("=require", f"={mode}"), "-c", POSTGRESQL, environ={}) == PRIMARY
        )


def test_psql_refuses_a_server_of_another_authority_by_the_mount_path_alone(
    postgres: Postgres, rotating_postgres: Postgres, mount: Mount
) -> None:
    stranger = mount(rotating_postgres.cluster)
    theirs, ours = str(postgres.pair.primary.port), str(rotating_postgres.pair.primary.port)
    impostor = {**stranger.environ, "PGPORT": theirs}
    assert stranger.run(*PSQL) == PRIMARY
    assert "certificate verify failed" in stranger.attempt(*PSQL, environ=impostor).stderr
    psql = ("psql", "-X", "-A", "-t", "-c", POSTGRESQL)
    for key in ("uri", "ha-uri", "DATABASE_URL"):
        uri = stranger.environ[key]
        assert stranger.run(*psql, uri, environ={}) == PRIMARY
        refused = stranger.attempt(*psql, uri.replace(f":{ours}", f":{theirs}"), environ={})
        assert "certificate verify failed" in refused.stderr, key


def test_psql_takes_any_server_where_encryption_alone_is_asked_for(
    postgres: Postgres, rotating_postgres: Postgres, mount: Mount
) -> None:
    stranger = mount(rotating_postgres.cluster, secret={"tls": "Encrypt"})
    uri = stranger.file("uri").replace(f":{rotating_postgres.pair.primary.port}", f":{postgres.pair.primary.port}")
    assert stranger.run("psql", "-X", "-A", "-t", "-c", POSTGRESQL, uri, environ={}) == PRIMARY


def test_a_wrong_password_is_refused(postgres: Postgres, mount: Mount) -> None:
    binding = mount(postgres.cluster)
    assert "password authentication failed" in binding.attempt(*PSQL, environ={**binding.environ, "PGPASSWORD": "x"}).stderr


@pytest.mark.parametrize(("key", "expected"), [("standby-uri", STANDBY), ("ro-uri", STANDBY), ("ha-uri", PRIMARY)])
def test_each_uri_leads_to_its_node(postgres: Postgres, mount: Mount, key: str, expected: str) -> None:
    binding = mount(postgres.cluster)
    assert binding.run("psql", "-X", "-A", "-t", binding.file(key), "-c", POSTGRESQL, environ={}) == expected


def test_psql_finds_the_replica_that_answers_among_several(cloud: Cloud, postgres: Postgres, mount: Mount) -> None:
    there = at(postgres.pair.standby, "private_connection")
    nobody_listens = {"private_connection": {**there["private_connection"], "port": 1}}
    cloud.control.add_replica(postgres.cluster, "a-gone", connections=nobody_listens)
    cloud.control.add_replica(postgres.cluster, "b-there", connections=there)
    recipe = "postgresql://{replica-userinfo}@{replica-hosts}/{replica-database:url}?{tls-query}"
    secret = {"endpoints": ["Private", "Replicas"], "keySets": ["Binding", "Files"], "template": {"REPLICAS_URL": recipe}}
    binding = mount(postgres.cluster, secret=secret)
    assert binding.run("psql", "-X", "-A", "-t", binding.file("REPLICAS_URL"), "-c", POSTGRESQL, environ={}) == STANDBY
    cloud.control.remove_replica(postgres.cluster, "a-gone")
    binding = mount(postgres.cluster, secret=secret)
    assert binding.run("psql", "-X", "-A", "-t", binding.file("replica-uri"), "-c", POSTGRESQL, environ={}) == STANDBY
    service = {"PGSERVICEFILE": str(binding.directory / "pg_service.conf"), "PGSERVICE": "replica"}
    assert binding.run(*PSQL, environ=service) == STANDBY
    cloud.control.remove_replica(postgres.cluster, "b-there")


def test_the_replica_url_leads_to_the_standby(postgres: Postgres, mount: Mount) -> None:
    binding = mount(postgres.cluster, secret={"keySets": ["Env"]})
    assert (
        binding.run("psql", "-X", "-A", "-t", binding.environ["DATABASE_REPLICA_URL"], "-c", POSTGRESQL, environ={}) == STANDBY
    )


def test_the_ha_uri_finds_the_promoted_standby_before_the_secret_is_refreshed(own_postgres: Postgres, mount: Mount) -> None:
    binding = mount(own_postgres.cluster)
    own_postgres.pair.primary.stop()
    own_postgres.pair.standby.promote()
    psql = ("psql", "-X", "-A", "-t")
    assert binding.run(*psql, binding.file("ha-uri"), "-c", POSTGRESQL, environ={}) == PRIMARY
    assert binding.run(*psql, binding.file("ro-uri"), "-c", POSTGRESQL, environ={}) == PRIMARY, (
        "prefer-standby settles for what is left"
    )


def test_after_a_fail_over_the_refreshed_secret_leads_to_the_new_primary(
    cloud: Cloud, own_postgres: Postgres, mount: Mount
) -> None:
    binding = mount(own_postgres.cluster)
    own_postgres.pair.primary.stop()
    own_postgres.pair.standby.promote()
    cloud.control.fail_over(own_postgres.cluster, swap_hosts=True)
    mount(own_postgres.cluster)
    assert binding.run(*PSQL) == PRIMARY
    assert binding.environ["PGPORT"] == str(own_postgres.pair.standby.port)
    assert not binding.has("standby-uri"), "the standby is gone, and so are its keys"
    assert not binding.has("ha-uri")


def test_after_a_rotation_the_refreshed_secret_connects(cloud: Cloud, rotating_postgres: Postgres, mount: Mount) -> None:
    binding = mount(rotating_postgres.cluster)
    rotating_postgres.pair.primary.set_password(USER, "next" + HOSTILE)
    cloud.control.rotate_password(rotating_postgres.cluster, password="next" + HOSTILE)
    assert binding.attempt(*PSQL).returncode != 0
    mount(rotating_postgres.cluster)
    assert binding.run(*PSQL) == PRIMARY
    assert binding.run("psql", "-X", "-A", "-t", binding.file("uri"), "-c", POSTGRESQL, environ={}) == PRIMARY


def test_another_user_and_another_database_are_connected_to(cloud: Cloud, rotating_postgres: Postgres, mount: Mount) -> None:
    user, database = "app+1%:@", "orders?&%41"
    rotating_postgres.pair.primary.add_user(user, HOSTILE)
    rotating_postgres.pair.primary.add_database(database, owner=user)
    cloud.control.add_user(rotating_postgres.cluster, user, password=HOSTILE)
    cloud.control.add_database(rotating_postgres.cluster, database)
    binding = mount(rotating_postgres.cluster, user=user, database=database)
    expected = f"{user}@{database}:true:false"
    assert binding.run(*PSQL) == expected
    assert binding.run("psql", "-X", "-A", "-t", binding.file("uri"), "-c", POSTGRESQL, environ={}) == expected


def test_psql_finds_both_nodes_as_services_of_the_mounted_file(postgres: Postgres, mount: Mount) -> None:
    binding = mount(postgres.cluster, secret={"keySets": ["Files"]})
    environ = {"PGSERVICEFILE": str(binding.directory / "pg_service.conf")}
    psql = ("psql", "-X", "-A", "-t", "-c", POSTGRESQL)
    assert binding.run(*psql, "service=primary", environ=environ) == PRIMARY
    assert binding.run(*psql, "service=standby", environ=environ) == STANDBY


def test_psql_connects_through_the_pool_with_the_environment_and_with_the_uri(
    rotating_postgres: Postgres, bouncer: PgBouncer, mount: Mount
) -> None:
    binding = mount(rotating_postgres.cluster, pool=POOL)
    assert (binding.environ["PGPORT"], binding.environ["PGDATABASE"]) == (str(bouncer.port), POOL)
    who = "SELECT current_user || '@' || current_database()"
    assert binding.run("psql", "-X", "-A", "-t", "-c", who) == f"{USER}@{DATABASE}"
    assert binding.run("psql", "-X", "-A", "-t", binding.file("uri"), "-c", who, environ={}) == f"{USER}@{DATABASE}"


def test_after_a_rotation_the_refreshed_secret_connects_through_the_pool(
    cloud: Cloud, rotating_postgres: Postgres, bouncer: PgBouncer, mount: Mount
) -> None:
    binding = mount(rotating_postgres.cluster, pool=POOL)
    rotating_postgres.pair.primary.set_password(USER, "next")
    bouncer.set_password(USER, "next")
    cloud.control.rotate_password(rotating_postgres.cluster, password="next")
    mount(rotating_postgres.cluster, pool=POOL)
    assert binding.run("psql", "-X", "-A", "-t", "-c", "SELECT 1") == "1"
