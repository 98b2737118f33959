"""MariaDB, which stands for MySQL too: one wire protocol, one set of clients."""

from pathlib import Path

from sandbox.controlplane.certificates import Credential
from sandbox.servers.programs import find_program
from sandbox.servers.server import LOOPBACK_ALONE, Place, Server, ServerError, run_tool, write, write_credential

_ADMINISTRATOR = "root"


class MariaDb(Server):
    """One server; unencrypted connections are refused."""

    def __init__(self, *, directory: Path, name: str = "mariadb", place: Place = LOOPBACK_ALONE) -> None:
        super().__init__(name=name, directory=directory, place=place)
        self._socket = directory / f"{name}.sock"

    @property
    def host(self) -> str:
        """An address: to MySQL's clients `localhost` is a socket's name."""
        return self.place.address

    def start(self, credential: Credential, *, authority: bytes) -> None:
        """Makes an empty database and serves it."""
        certificate, key = write_credential(self.directory, credential)
        ca = write(self.directory / "authority.crt", authority, mode=0o644)
        data = self.directory / self.name
        options = ["--no-defaults", f"--datadir={data}"]
        run_tool(
            [find_program("mariadb-install-db"), *options, "--auth-root-authentication-method=normal", "--skip-test-db"],
            directory=self.directory,
        )
        self.run(
            [
                find_program("mariadbd"), *options, f"--socket={self._socket}", f"--port={self.port}",
                f"--bind-address={self.place.address}",
                "--skip-log-bin", "--require-secure-transport=ON", "--innodb-flush-method=fsync",
                "--innodb-flush-log-at-trx-commit=0", "--innodb-buffer-pool-size=16M", "--character-set-server=utf8mb4",
                f"--ssl-cert={certificate}", f"--ssl-key={key}", f"--ssl-ca={ca}",
                f"--pid-file={self.directory / self.name}.pid",
            ],
            is_ready=self._answers,
        )  # fmt: skip

    def sql(self, text: str) -> str:
        """Runs SQL as the administrator; returns bare rows."""
        socket = f"--socket={self._socket}"
        options = ["--no-defaults", "--batch", "--skip-column-names", "--default-character-set=utf8mb4"]
        return run_tool(
            [find_program("mariadb"), *options, socket, f"--user={_ADMINISTRATOR}"], text=text, directory=self.directory
        ).strip()

    def add_user(self, user: str, password: str) -> None:
        """Makes a user who may do anything."""
        self.sql(f"CREATE USER {_quoted(user)}@'%' IDENTIFIED BY {_quoted(password)};")
        self.sql(f"GRANT ALL ON *.* TO {_quoted(user)}@'%';")

    def set_password(self, user: str, password: str) -> None:
        """Gives a user another password."""
        self.sql(f"ALTER USER {_quoted(user)}@'%' IDENTIFIED BY {_quoted(password)};")

    def add_database(self, name: str) -> None:
        """Makes a database."""
        self.sql(f"CREATE DATABASE `{name.replace('`', '``')}`;")

    def _answers(self) -> bool:
        try:
            return self.sql("SELECT 1;") == "1"
        except ServerError:
            return False


def _quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "''") + "'"
