"""One server: a program that runs as an unprivileged user, listens on a port kept for it, and ends with this process."""

import os
import pwd
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from sandbox.controlplane.certificates import Credential
from sandbox.controlplane.ports import LOOPBACK
from sandbox.controlplane.process import Process
from sandbox.servers.programs import find_program

HOST = "localhost"
POLL_SECONDS = 0.02
READY_WITHIN = 60.0
STOP_WITHIN = 20.0
UNPRIVILEGED = "nobody"


class ServerError(Exception):
    """A server did not come up, or a tool refused; the message holds its last words."""


class KeptPort:
    """A port of the loopback interface that nobody else is given while we live.

    A socket that is bound with SO_REUSEADDR and never listens keeps the number from all who ask for any free one, and lets a
    server, which sets that option too, listen on it (PostgreSQL, PgBouncer, MariaDB and Redis do not set SO_REUSEPORT).
    """

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._socket.bind((LOOPBACK, 0))
        self.number: int = self._socket.getsockname()[1]

    def release(self) -> None:
        """Lets anybody have the port again."""
        self._socket.close()


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a server listens, and what goes before its command line so that it does so there (`nsenter …`)."""

    address: str
    prefix: tuple[str, ...] = ()


LOOPBACK_ALONE = Place(address=LOOPBACK)


class Server:
    """A server's life. `is_ready` is asked until it agrees; `end_with` is the signal for a quick and orderly end."""

    def __init__(
        self,
        *,
        name: str,
        directory: Path,
        end_with: signal.Signals = signal.SIGTERM,
        place: Place = LOOPBACK_ALONE,
    ) -> None:
        self.name = name
        self.place = place
        self.directory = directory
        self._port = KeptPort()
        self._end_with = end_with
        self._process: Process | None = None

    @property
    def host(self) -> str:
        """What clients call it by; its certificate has the name."""
        return HOST if self.place is LOOPBACK_ALONE else self.place.address

    @property
    def port(self) -> int:
        """Where it listens."""
        return self._port.number

    @property
    def process_id(self) -> int | None:
        """None while it does not run."""
        return self._process.pid if self._process else None

    def run(self, command: Sequence[str | Path], *, is_ready: Callable[[], bool]) -> None:
        """Starts it and waits until it serves. Raises ServerError with the end of its log."""
        log = self.directory / f"{self.name}.log"
        placed = [*self.place.prefix, *unprivileged(command, dies_with_us=True)]
        self._process = Process(name=self.name, command=placed, log=log)
        self._process.start()
        deadline = time.monotonic() + READY_WITHIN
        while not is_ready():
            self._process.check()
            if time.monotonic() > deadline:
                raise ServerError(f"{self.name} does not serve after {READY_WITHIN:.0f} s. {self._process.last_words()}")
            time.sleep(POLL_SECONDS)

    def signal(self, number: signal.Signals) -> None:
        """Sends it a signal (SIGHUP: read the configuration again)."""
        assert self._process is not None
        self._process.send(number)

    def stop(self) -> None:
        """Ends it; harmless where it does not run."""
        if self._process is not None:
            self._process.send(self._end_with)
            deadline = time.monotonic() + STOP_WITHIN
            while self._process.pid is not None and time.monotonic() < deadline:
                time.sleep(POLL_SECONDS)
            self._process.kill()
            self._process = None
        self._port.release()

    def accepts(self) -> bool:
        """Whether somebody listens on the port."""
        try:
            with socket.create_connection((LOOPBACK, self.port), timeout=1):
                return True
        except OSError:
            return False


def unprivileged(command: Sequence[str | Path], *, dies_with_us: bool = False) -> list[str]:
    """The command line that runs a program as `nobody` where we are root, else as it is."""
    words = [str(word) for word in command]
    if os.getuid() != 0:
        return words
    account = pwd.getpwnam(UNPRIVILEGED)
    # A change of user makes the kernel forget the promise that `tether` had from it, so setpriv asks for it again.
    promise = ["--pdeathsig", "KILL"] if dies_with_us else []
    user = ["--reuid", str(account.pw_uid), "--regid", str(account.pw_gid), "--clear-groups"]
    return [str(find_program("setpriv")), *user, *promise, "--", *words]


def own(*paths: Path) -> None:
    """Gives files to the user whom the servers run as."""
    if os.getuid() == 0:
        account = pwd.getpwnam(UNPRIVILEGED)
        for path in paths:
            os.chown(path, account.pw_uid, account.pw_gid)


def write(path: Path, content: bytes | str, *, mode: int = 0o600) -> Path:
    """Writes a file that the servers' user owns; by default nobody else may read it."""
    path.touch(mode=mode)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    own(path)
    return path


def write_credential(directory: Path, credential: Credential) -> tuple[Path, Path]:
    """Writes a certificate and its key; returns their paths."""
    return (
        write(directory / "server.crt", credential.certificate, mode=0o644),
        write(directory / "server.key", credential.key),
    )


def run_tool(command: Sequence[str | Path], *, text: str = "", directory: Path) -> str:
    """Runs a tool as the servers' user to its end; returns what it printed. Raises ServerError with what it complained of."""
    done = subprocess.run(
        unprivileged(command),
        input=text,
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
        cwd=directory,
        env={"HOME": str(directory), "TMPDIR": str(directory), "LC_ALL": "C.UTF-8", "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
    )
    if done.returncode:
        raise ServerError(f"{Path(command[0]).name}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout
