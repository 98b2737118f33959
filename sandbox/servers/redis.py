"""Redis, which stands for Valkey too: one wire protocol, one set of clients."""

import socket
import ssl
from pathlib import Path

from sandbox.controlplane.certificates import Credential
from sandbox.servers.programs import find_program
from sandbox.servers.server import LOOPBACK_ALONE, Place, Server, run_tool, write, write_credential

_CONFIGURATION = """
bind {address}
port 0
tls-port {port}
tls-cert-file {certificate}
tls-key-file {key}
tls-ca-cert-file {ca}
tls-auth-clients no
dir {directory}
save ""
appendonly no
requirepass {password}
"""


class Redis(Server):
    """One server that speaks TLS alone; its user is `default`."""

    def __init__(self, *, directory: Path, place: Place = LOOPBACK_ALONE) -> None:
        super().__init__(name="redis", directory=directory, place=place)
        self._ca = directory / "authority.crt"

    def start(self, credential: Credential, *, authority: bytes, password: str) -> None:
        """Serves an empty database."""
        certificate, key = write_credential(self.directory, credential)
        write(self._ca, authority, mode=0o644)
        configuration = _CONFIGURATION.format(
            address=self.place.address, port=self.port, certificate=certificate, key=key, ca=self._ca,
            directory=self.directory, password=_quoted(password),
        )  # fmt: skip
        path = write(self.directory / "redis.conf", configuration)
        self.run([find_program("redis-server"), path], is_ready=self._speaks)

    def set_password(self, former: str, password: str) -> None:
        """Gives the default user another password."""
        run_tool(
            [
                find_program("redis-cli"), "--no-auth-warning", "-e", "--tls", "--cacert", self._ca, "-h", self.host,
                "-p", str(self.port), "-a", former, "CONFIG", "SET", "requirepass", password,
            ],
            directory=self.directory,
        )  # fmt: skip

    def _speaks(self) -> bool:
        try:
            with (
                socket.create_connection((self.host, self.port), timeout=1) as plain,
                ssl.create_default_context(cafile=str(self._ca)).wrap_socket(plain, server_hostname=self.host) as secure,
            ):
                secure.sendall(b"PING\r\n")
                return secure.recv(64).startswith(b"-NOAUTH")
        except OSError:
            return False


def _quoted(text: str) -> str:
    r"""As the configuration's own escape, which holds any byte: "\x41"."""
    return '"' + "".join(f"\\x{byte:02x}" for byte in text.encode()) + '"'
