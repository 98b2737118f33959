"""Python's PostgreSQL drivers and frameworks, each a program of its own whose world is the Secret."""

import sys
from pathlib import Path

import pytest

from tests.clients.conftest import Cloud, Mount, Postgres
from tests.clients.credentials import USER
from tests.clients.whoami import POSTGRESQL, PRIMARY, STANDBY

PSYCOPG = """
import os, sys, psycopg
with psycopg.connect(*sys.argv[2:]) as connection:
    print(connection.execute(sys.argv[1]).fetchone()[0])
"""

ASYNCPG = """
import asyncio, sys, asyncpg
async def main():
    connection = await asyncpg.connect(*sys.argv[2:])
    print(await connection.fetchval(sys.argv[1]))
    await connection.close()
asyncio.run(main())
"""

SQLALCHEMY = """
import os, sys, sqlalchemy
engine = sqlalchemy.create_engine(os.environ[sys.argv[2]])
with engine.connect() as connection:
    print(connection.execute(sqlalchemy.text(sys.argv[1].replace(":", r"\\:"))).scalar())
"""

SQLALCHEMY_ASYNC = """
import asyncio, os, sys, sqlalchemy
from sqlalchemy.ext.asyncio import create_async_engine
async def main():
    engine = create_async_engine(os.environ[sys.argv[2]])
    async with engine.connect() as connection:
        print((await connection.execute(sqlalchemy.text(sys.argv[1].replace(":", r"\\:")))).scalar())
    await engine.dispose()
asyncio.run(main())
"""

DJANGO = """
import sys, dj_database_url, psycopg
settings = dj_database_url.config(*sys.argv[2:])
assert settings["ENGINE"] == "django.db.backends.postgresql", settings["ENGINE"]
# as django.db.backends.postgresql.base.DatabaseWrapper.get_connection_params does
with psycopg.connect(
    dbname=settings["NAME"], user=settings["USER"], password=settings["PASSWORD"],
    host=settings["HOST"], port=settings["PORT"], **settings.get("OPTIONS", {}),
) as connection:
    print(connection.execute(sys.argv[1]).fetchone()[0])
"""


@pytest.mark.parametrize("program", [PSYCOPG, ASYNCPG], ids=["psycopg", "asyncpg"])
def test_a_driver_connects_with_the_environment_alone(postgres: Postgres, mount: Mount, program: str) -> None:
    binding = mount(postgres.cluster, secret={"keySets": ["Env"]})
    arguments = [""] if program is PSYCOPG else []
    assert binding.python(program, POSTGRESQL, *arguments) == PRIMARY


@pytest.mark.parametrize("program", [PSYCOPG, ASYNCPG], ids=["psycopg", "asyncpg"])
@pytest.mark.parametrize(
    ("key", "expected"), [("uri", PRIMARY), ("standby-uri", STANDBY), ("ha-uri", PRIMARY), ("ro-uri", STANDBY)]
)
def test_a_driver_connects_with_a_mounted_uri_alone(
    postgres: Postgres, mount: Mount, program: str, key: str, expected: str
) -> None:
    binding = mount(postgres.cluster)
    assert binding.python(program, POSTGRESQL, binding.file(key), environ={}) == expected


@pytest.mark.parametrize("program", [PSYCOPG, ASYNCPG], ids=["psycopg", "asyncpg"])
@pytest.mark.parametrize("by", ["uri", "environment"])
def test_a_driver_refuses_a_server_of_another_authority(
    postgres: Postgres, rotating_postgres: Postgres, mount: Mount, program: str, by: str
) -> None:
    stranger = mount(rotating_postgres.cluster)
    theirs, ours = str(postgres.pair.primary.port), str(rotating_postgres.pair.primary.port)
    uri = stranger.file("uri").replace(f":{ours}", f":{theirs}")
    environ = {} if by == "uri" else {**stranger.environ, "PGPORT": theirs}
    arguments = [uri] if by == "uri" else [""] if program is PSYCOPG else []
    refused = stranger.attempt(Path(sys.executable), "-I", "-c", program, POSTGRESQL, *arguments, environ=environ)
    assert "certificate verify failed" in refused.stderr.lower()


def test_django_verifies_with_database_url_and_the_mounted_ca(
    postgres: Postgres, rotating_postgres: Postgres, mount: Mount
) -> None:
    url = mount(rotating_postgres.cluster, secret={"keySets": ["Env"]}).environ["DATABASE_URL"]
    elsewhere = url.replace(f":{rotating_postgres.pair.primary.port}", f":{postgres.pair.primary.port}")
    command = (Path(sys.executable), "-I", "-c", DJANGO, POSTGRESQL)
    binding = mount(rotating_postgres.cluster)
    assert binding.run(*command, environ={"DATABASE_URL": url}) == PRIMARY
    assert "certificate verify failed" in binding.attempt(*command, environ={"DATABASE_URL": elsewhere}).stderr


def test_sqlalchemy_connects_by_the_psycopg_recipe(postgres: Postgres, mount: Mount) -> None:
    recipe = "postgresql+psycopg://{userinfo}@{hostport}/{database:url}?sslmode=verify-ca&sslrootcert={ca-path:url}"
    binding = mount(postgres.cluster, secret={"template": {"SQLALCHEMY_URL": recipe}})
    assert binding.python(SQLALCHEMY, POSTGRESQL, "SQLALCHEMY_URL") == PRIMARY
    assert binding.python(SQLALCHEMY_ASYNC, POSTGRESQL, "SQLALCHEMY_URL") == PRIMARY


def test_sqlalchemy_connects_by_the_asyncpg_recipe(postgres: Postgres, mount: Mount) -> None:
    recipe = "postgresql+asyncpg://{userinfo}@{hostport}/{database:url}?ssl=require"
    binding = mount(postgres.cluster, secret={"template": {"SQLALCHEMY_URL": recipe}, "mountPath": ""})
    assert (
        binding.python(SQLALCHEMY_ASYNC, POSTGRESQL, "SQLALCHEMY_URL", environ=only(binding.environ, "SQLALCHEMY_URL"))
        == PRIMARY
    )


def test_sqlalchemy_verifies_by_the_asyncpg_recipe_with_the_mounted_ca(postgres: Postgres, mount: Mount) -> None:
    recipe = "postgresql+asyncpg://{userinfo}@{hostport}/{database:url}?ssl=verify-ca"
    binding = mount(postgres.cluster, secret={"template": {"SQLALCHEMY_URL": recipe}})
    environ = only(binding.environ, "SQLALCHEMY_URL", "PGSSLROOTCERT")
    assert binding.python(SQLALCHEMY_ASYNC, POSTGRESQL, "SQLALCHEMY_URL", environ=environ) == PRIMARY


@pytest.mark.parametrize(("variable", "expected"), [("DATABASE_URL", PRIMARY), ("DATABASE_REPLICA_URL", STANDBY)])
def test_django_connects_with_database_url(postgres: Postgres, mount: Mount, variable: str, expected: str) -> None:
    binding = mount(postgres.cluster, secret={"keySets": ["Env"], "mountPath": ""})
    environ = only(binding.environ, variable)
    assert binding.python(DJANGO, POSTGRESQL, variable, environ=environ) == expected


PIECES = ["@:/?#", "%41% +&=;", "'\"\\`$", "ü€🔑[x]{y}"]


@pytest.mark.parametrize("password", PIECES)
def test_any_password_survives_every_way_in(cloud: Cloud, rotating_postgres: Postgres, mount: Mount, password: str) -> None:
    rotating_postgres.pair.primary.set_password(USER, f"x{password}y")
    cloud.control.rotate_password(rotating_postgres.cluster, password=f"x{password}y")
    binding = mount(rotating_postgres.cluster)
    assert binding.python(EVERY_WAY, environ=binding.environ) == "4"


EVERY_WAY = """
import asyncio, os, asyncpg, dj_database_url, psycopg
ways = 0
for target in ("", os.environ["uri"]):
    with psycopg.connect(target) as connection:
        ways += connection.execute("SELECT 1").fetchone()[0]
async def main():
    connection = await asyncpg.connect(os.environ["uri"])
    return await connection.fetchval("SELECT 1")
ways += asyncio.run(main())
settings = dj_database_url.config()
with psycopg.connect(
    dbname=settings["NAME"], user=settings["USER"], password=settings["PASSWORD"],
    host=settings["HOST"], port=settings["PORT"], **settings.get("OPTIONS", {}),
) as connection:
    ways += connection.execute("SELECT 1").fetchone()[0]
print(ways)
"""


def only(environ: dict[str, str], *names: str) -> dict[str, str]:
    return {name: environ[name] for name in names}
