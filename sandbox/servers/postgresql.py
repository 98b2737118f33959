"""PostgreSQL: a primary and, if wanted, a standby that streams from it."""

import signal
from dataclasses import dataclass
from pathlib import Path

from sandbox.controlplane.certificates import Credential
from sandbox.servers.programs import find_program
from sandbox.servers.server import HOST, LOOPBACK_ALONE, Place, Server, ServerError, own, run_tool, write, write_credential

SUPERUSER = "postgres"

_CONFIGURATION = """
listen_addresses = '{address}'
unix_socket_directories = '{directory}'
ssl = on
ssl_cert_file = '{certificate}'
ssl_key_file = '{key}'
password_encryption = 'scram-sha-256'
fsync = off
shared_buffers = 16MB
max_connections = 40
wal_keep_size = 64
"""

# The administrator comes in by the socket, which only the servers' user reaches; everyone else as at the provider.
_ACCESS = """
local all,replication postgres trust
hostssl all all all scram-sha-256
"""


class PostgreSql(Server):
    """One node."""

    def __init__(self, *, name: str, directory: Path, place: Place = LOOPBACK_ALONE) -> None:
        super().__init__(name=name, directory=directory, end_with=signal.SIGINT, place=place)
        self.data = directory / name

    def start(self, credential: Credential) -> None:
        """Starts the node on the data directory that is there."""
        certificate, key = write_credential(self.data, credential)
        own_part = _CONFIGURATION.format(address=self.place.address, directory=self.directory, certificate=certificate, key=key)
        write(self.data / "postgresql.auto.conf", f"{self._streaming()}{own_part}port = {self.port}\n")
        write(self.data / "pg_hba.conf", _ACCESS)
        self.run([find_program("postgres"), "-D", self.data], is_ready=self._answers)

    def sql(self, text: str, *, database: str = "postgres", **variables: str) -> str:
        """Runs SQL as the superuser; `:'name'` and `:"name"` stand for variables, quoted by psql. Returns bare rows."""
        given = [word for name, value in variables.items() for word in ("--set", f"{name}={value}")]
        return run_tool(
            [
                find_program("psql"), "-X", "--quiet", "--tuples-only", "--no-align", "--set", "ON_ERROR_STOP=1", *given,
                "--host", self.directory, "--port", str(self.port), "--username", SUPERUSER, "--dbname", database,
            ],
            text=text,
            directory=self.directory,
        ).strip()  # fmt: skip

    def set_password(self, user: str, password: str) -> None:
        """Gives a user another password."""
        self.sql("ALTER ROLE :\"user\" PASSWORD :'password'", user=user, password=password)

    def add_user(self, user: str, password: str) -> None:
        """Makes a user."""
        self.sql("CREATE ROLE :\"user\" LOGIN CREATEDB PASSWORD :'password'", user=user, password=password)

    def add_database(self, name: str, *, owner: str) -> None:
        """Makes a database."""
        self.sql('CREATE DATABASE :"name" OWNER :"owner"', name=name, owner=owner)

    def promote(self) -> None:
        """Makes a primary of a standby; done when it is one."""
        self.sql("SELECT pg_promote(wait => true)")

    def _answers(self) -> bool:
        try:
            return self.sql("SELECT 1") == "1"
        except ServerError:
            return False

    def _streaming(self) -> str:
        """Where a standby streams from, as pg_basebackup wrote it."""
        given = (self.data / "postgresql.auto.conf").read_text().splitlines(keepends=True)
        return "".join(line for line in given if line.startswith("primary_conninfo"))


@dataclass(frozen=True, kw_only=True)
class Pair:
    """A primary and its standby."""

    primary: PostgreSql
    standby: PostgreSql


def start_primary(directory: Path, credential: Credential, *, place: Place = LOOPBACK_ALONE) -> PostgreSql:
    """Makes an empty database and serves it."""
    primary = PostgreSql(name="primary", directory=directory, place=place)
    options = ["--no-sync", "--no-instructions", "--encoding=UTF8", "--locale=C.UTF-8", f"--username={SUPERUSER}"]
    run_tool([find_program("initdb"), *options, "-D", primary.data], directory=directory)
    primary.start(credential)
    return primary


def start_standby(primary: PostgreSql, credential: Credential) -> PostgreSql:
    """Copies the primary and serves the copy, which streams from it."""
    standby = PostgreSql(name="standby", directory=primary.directory, place=primary.place)
    run_tool(
        [
            find_program("pg_basebackup"), "--write-recovery-conf", "--checkpoint=fast", "--no-sync", "-D", standby.data,
            "--host", primary.directory, "--port", str(primary.port), "--username", SUPERUSER,
        ],
        directory=primary.directory,
    )  # fmt: skip
    own(standby.data)
    standby.start(credential)
    return standby


__all__ = ["HOST", "Pair", "PostgreSql", "start_primary", "start_standby"]
