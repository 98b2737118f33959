"""PgBouncer: the connection pool in front of a PostgreSQL primary."""

import signal
from pathlib import Path

from sandbox.controlplane.certificates import Credential
from sandbox.servers.postgresql import PostgreSql
from sandbox.servers.programs import find_program
from sandbox.servers.server import Server, write, write_credential

_CONFIGURATION = """
[databases]
{pool} = host=127.0.0.1 port={upstream} dbname={database}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = scram-sha-256
auth_file = {users}
client_tls_sslmode = require
client_tls_cert_file = {certificate}
client_tls_key_file = {key}
server_tls_sslmode = require
pool_mode = transaction
ignore_startup_parameters = extra_float_digits
"""


class PgBouncer(Server):
    """One pool, in transaction mode."""

    def __init__(self, *, directory: Path) -> None:
        super().__init__(name="pgbouncer", directory=directory, end_with=signal.SIGTERM)
        self._users = directory / "userlist.txt"

    def start(
        self, credential: Credential, *, pool: str, upstream: PostgreSql, database: str, user: str, password: str
    ) -> None:
        """Serves `pool`, which leads to the upstream's database."""
        certificate, key = write_credential(self.directory, credential)
        self._write_users(user, password)
        configuration = _CONFIGURATION.format(
            pool=pool, upstream=upstream.port, database=database, port=self.port, users=self._users,
            certificate=certificate, key=key,
        )  # fmt: skip
        path = write(self.directory / "pgbouncer.ini", configuration)
        self.run([find_program("pgbouncer"), path], is_ready=self.accepts)

    def set_password(self, user: str, password: str) -> None:
        """Lets the user in with another password, which must be the upstream's as well."""
        self._write_users(user, password)
        self.signal(signal.SIGHUP)

    def _write_users(self, user: str, password: str) -> None:
        write(self._users, " ".join('"' + word.replace('"', '""') + '"' for word in (user, password)) + "\n")
