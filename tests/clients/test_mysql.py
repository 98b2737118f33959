"""MySQL's clients, against MariaDB, which speaks the same protocol; the server refuses unencrypted connections."""

import subprocess
from pathlib import Path

import pytest

from sandbox.servers import MariaDb
from tests.clients.conftest import Cloud, Mount, Single
from tests.clients.credentials import ASCII_HOSTILE, HOSTILE, USER
from tests.clients.whoami import EXPECTED, MYSQL

PYMYSQL = """
import os, ssl, sys, pymysql
with pymysql.connect(
    host=os.environ["MYSQL_HOST"], port=int(os.environ["MYSQL_TCP_PORT"]), user=os.environ["MYSQL_USER"],
    password=os.environ["MYSQL_PASSWORD"], database=os.environ["MYSQL_DATABASE"], ssl_ca=os.environ["ca.crt-path"],
) as connection, connection.cursor() as cursor:
    cursor.execute(sys.argv[1])
    print(cursor.fetchone()[0])
"""

PYMYSQL_FILES = """
import pathlib, sys, pymysql
read = lambda name: pathlib.Path(sys.argv[2], name).read_text()
with pymysql.connect(
    host=read("host"), port=int(read("port")), user=read("username"), password=read("password"), database=read("database"),
    ssl_ca=sys.argv[2] + "/ca.crt", ssl_verify_cert=True, ssl_verify_identity=True,
) as connection, connection.cursor() as cursor:
    cursor.execute(sys.argv[1])
    print(cursor.fetchone()[0])
"""

# Built on the C library, and so brought by Debian for its own interpreter rather than by PyPI for ours.
DEBIANS_PYTHON = "/usr/bin/python3"

MYSQLCLIENT = """
import os, sys, MySQLdb
connection = MySQLdb.connect(
    host=os.environ["MYSQL_HOST"], port=int(os.environ["MYSQL_TCP_PORT"]), user=os.environ["MYSQL_USER"],
    passwd=os.environ["MYSQL_PASSWORD"], db=os.environ["MYSQL_DATABASE"], ssl={"ca": os.environ["ca.crt-path"]},
)
cursor = connection.cursor()
cursor.execute(sys.argv[1])
print(cursor.fetchone()[0])
"""

MYSQLCLIENT_OPTION_FILE = """
import sys, MySQLdb
cursor = MySQLdb.connect(read_default_file=sys.argv[2] + "/my.cnf", read_default_group="mysql").cursor()
cursor.execute(sys.argv[1])
print(cursor.fetchone()[0])
"""

SQLALCHEMY = """
import os, sys, sqlalchemy
with sqlalchemy.create_engine(os.environ["SQLALCHEMY_URL"]).connect() as connection:
    print(connection.exec_driver_sql(sys.argv[1]).scalar())
"""

DJANGO = """
import sys, dj_database_url, pymysql
settings = dj_database_url.config("DJANGO_DATABASE_URL")
assert settings["ENGINE"] == "django.db.backends.mysql", settings["ENGINE"]
# as django.db.backends.mysql.base.DatabaseWrapper.get_connection_params does
with pymysql.connect(
    database=settings["NAME"], user=settings["USER"], password=settings["PASSWORD"], host=settings["HOST"],
    port=int(settings["PORT"]), **settings["OPTIONS"],
) as connection, connection.cursor() as cursor:
    cursor.execute(sys.argv[1])
    print(cursor.fetchone()[0])
"""

DATABASE_URL_AS_IT_IS = """
import dj_database_url, sqlalchemy
settings = dj_database_url.config()
assert not settings.get("OPTIONS"), settings["OPTIONS"]
url = sqlalchemy.engine.make_url(__import__("os").environ["DATABASE_URL"])
same = (url.host, url.port, url.username, url.password, url.database)
assert same == tuple(settings[name] for name in ("HOST", "PORT", "USER", "PASSWORD", "NAME"))
print(settings["PASSWORD"])
"""


def test_the_command_line_client_connects_with_the_environment(mariadb: Single[MariaDb], mount: Mount) -> None:
    binding = mount(mariadb.cluster, secret={"keySets": ["Env"]})
    options = [f"--user={binding.environ['MYSQL_USER']}", f"--ssl-ca={binding.directory}/ca.crt"]
    # The client reads MYSQL_HOST and MYSQL_TCP_PORT automatically; user, password and database must be given.
    options += [f"--password={binding.environ['MYSQL_PASSWORD']}", binding.environ["MYSQL_DATABASE"]]
    assert binding.run("mariadb", "--no-defaults", "-BN", *options, "-e", MYSQL) == EXPECTED


def test_the_command_line_client_connects_with_the_mounted_option_file_alone(mariadb: Single[MariaDb], mount: Mount) -> None:
    binding = mount(mariadb.cluster, secret={"keySets": ["Files"]})
    defaults = f"--defaults-file={binding.directory}/my.cnf"
    assert binding.run("mariadb", defaults, "-BN", "-e", MYSQL, environ={}) == EXPECTED


@pytest.mark.parametrize("password", ["plain", 'a"b', "a\\b", "a\\nb", "a'b", "a#b", "a;b", " a ", "ü€🔑", "a=b[c]", HOSTILE])
def test_any_password_survives_the_option_file(
    cloud: Cloud, rotating_mariadb: Single[MariaDb], mount: Mount, password: str
) -> None:
    rotating_mariadb.server.set_password(USER, password)
    cloud.control.rotate_password(rotating_mariadb.cluster, password=password)
    binding = mount(rotating_mariadb.cluster, secret={"keySets": ["Files", "Env"]})
    defaults = f"--defaults-file={binding.directory}/my.cnf"
    assert binding.run("mariadb", defaults, "-BN", "-e", MYSQL, environ={}) == EXPECTED


def test_pymysql_connects_with_the_environment(mariadb: Single[MariaDb], mount: Mount) -> None:
    binding = mount(mariadb.cluster, secret={"template": {"ca.crt-path": "{ca-path}"}})
    assert binding.python(PYMYSQL, MYSQL) == EXPECTED


def test_pymysql_connects_with_the_mounted_files_and_verifies_the_server(mariadb: Single[MariaDb], mount: Mount) -> None:
    binding = mount(mariadb.cluster, secret={"keySets": ["Binding"]})
    assert binding.python(PYMYSQL_FILES, MYSQL, str(binding.directory), environ={}) == EXPECTED


@pytest.fixture(scope="module")
def debians_python() -> str:
    """Debian's interpreter, if it has mysqlclient."""
    probe = [DEBIANS_PYTHON, "-c", "import MySQLdb"]
    if not Path(DEBIANS_PYTHON).exists() or subprocess.run(probe, check=False, capture_output=True).returncode:
        pytest.skip("mysqlclient is not installed (as root: apt-get install python3-mysqldb)")
    return DEBIANS_PYTHON


def test_mysqlclient_connects_with_the_environment(mariadb: Single[MariaDb], mount: Mount, debians_python: str) -> None:
    binding = mount(mariadb.cluster, secret={"template": {"ca.crt-path": "{ca-path}"}})
    assert binding.run(debians_python, "-c", MYSQLCLIENT, MYSQL) == EXPECTED


def test_mysqlclient_connects_with_the_mounted_option_file_alone(
    mariadb: Single[MariaDb], mount: Mount, debians_python: str
) -> None:
    binding = mount(mariadb.cluster, secret={"keySets": ["Files"]})
    assert binding.run(debians_python, "-c", MYSQLCLIENT_OPTION_FILE, MYSQL, str(binding.directory), environ={}) == EXPECTED


def test_sqlalchemy_connects_by_the_pymysql_recipe(mariadb: Single[MariaDb], mount: Mount) -> None:
    recipe = "mysql+pymysql://{userinfo}@{hostport}/{database:url}?ssl_ca={ca-path:url}"
    binding = mount(mariadb.cluster, secret={"template": {"SQLALCHEMY_URL": recipe}})
    assert binding.python(SQLALCHEMY, MYSQL) == EXPECTED


def test_django_connects_by_the_mysql_recipe(mariadb: Single[MariaDb], mount: Mount) -> None:
    recipe = "mysql://{userinfo}@{hostport}/{database:url}?ssl-ca={ca-path:url}"
    binding = mount(mariadb.cluster, secret={"template": {"DJANGO_DATABASE_URL": recipe}})
    assert binding.python(DJANGO, MYSQL) == EXPECTED


def test_database_url_means_the_same_to_django_and_to_sqlalchemy(mariadb: Single[MariaDb], mount: Mount) -> None:
    assert mount(mariadb.cluster, secret={"keySets": ["Env"]}).python(DATABASE_URL_AS_IT_IS) == ASCII_HOSTILE


def test_after_a_rotation_the_refreshed_secret_connects(cloud: Cloud, rotating_mariadb: Single[MariaDb], mount: Mount) -> None:
    binding = mount(rotating_mariadb.cluster, secret={"keySets": ["Binding"]})
    rotating_mariadb.server.set_password(USER, "next")
    cloud.control.rotate_password(rotating_mariadb.cluster, password="next")
    mount(rotating_mariadb.cluster, secret={"keySets": ["Binding"]})
    assert binding.python(PYMYSQL_FILES, MYSQL, str(binding.directory), environ={}) == EXPECTED


def test_another_user_and_another_database_are_connected_to(
    cloud: Cloud, rotating_mariadb: Single[MariaDb], mount: Mount
) -> None:
    user, database = "app+1%:&", "orders?&%41"
    rotating_mariadb.server.add_user(user, ASCII_HOSTILE)
    rotating_mariadb.server.add_database(database)
    cloud.control.add_user(rotating_mariadb.cluster, user, password=ASCII_HOSTILE)
    cloud.control.add_database(rotating_mariadb.cluster, database)
    recipe = "mysql+pymysql://{userinfo}@{hostport}/{database:url}?ssl_ca={ca-path:url}"
    binding = mount(rotating_mariadb.cluster, user=user, database=database, secret={"template": {"SQLALCHEMY_URL": recipe}})
    assert binding.python(SQLALCHEMY, MYSQL) == f"{user}@{database}"
