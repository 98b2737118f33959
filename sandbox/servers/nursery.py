"""Starts servers, gives each a directory and a certificate by one private authority, and ends them all."""

import tempfile
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from sandbox.controlplane.certificates import Authority, Credential
from sandbox.controlplane.ports import LOOPBACK
from sandbox.servers.mariadb import MariaDb
from sandbox.servers.pgbouncer import PgBouncer
from sandbox.servers.postgresql import Pair, PostgreSql, start_primary, start_standby
from sandbox.servers.redis import Redis
from sandbox.servers.server import HOST, LOOPBACK_ALONE, Place, own


class Nursery:
    """A context manager: what was started in it ends with it.

    `place` says where the servers listen: on loopback, unless they are to serve pods.
    """

    def __init__(self, *, place: Place = LOOPBACK_ALONE) -> None:
        self._authority = Authority(name="Private Project CA")
        self._place = place
        self._stack = ExitStack()

    @property
    def ca(self) -> str:
        """The authority's PEM: what clients are to trust."""
        return self._authority.certificate.decode()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self._stack.close()

    def postgresql(self, *, user: str, password: str, database: str) -> Pair:
        """A primary with one database, and a standby that streams from it."""
        directory = self._directory()
        primary = start_primary(directory, self.credential(), place=self._place)
        self._stack.callback(primary.stop)
        primary.add_user(user, password)
        primary.add_database(database, owner=user)
        standby = start_standby(primary, self.credential())
        self._stack.callback(standby.stop)
        return Pair(primary=primary, standby=standby)

    def pgbouncer(self, *, pool: str, upstream: PostgreSql, database: str, user: str, password: str) -> PgBouncer:
        """A pool before a PostgreSQL node."""
        server = PgBouncer(directory=self._directory())
        self._stack.callback(server.stop)
        server.start(self.credential(), pool=pool, upstream=upstream, database=database, user=user, password=password)
        return server

    def mariadb(self, *, user: str, password: str, database: str) -> MariaDb:
        """A server with one database."""
        server = MariaDb(directory=self._directory(), place=self._place)
        self._stack.callback(server.stop)
        server.start(self.credential(), authority=self._authority.certificate)
        server.add_user(user, password)
        server.add_database(database)
        return server

    def redis(self, *, password: str) -> Redis:
        """An empty server."""
        server = Redis(directory=self._directory(), place=self._place)
        self._stack.callback(server.stop)
        server.start(self.credential(), authority=self._authority.certificate, password=password)
        return server

    def credential(self) -> Credential:
        """A server's certificate and key."""
        return self._authority.issue(HOST, hosts=tuple({HOST, LOOPBACK, self._place.address}))

    def _directory(self) -> Path:
        # Not below a test's own directory, which nobody but its owner may enter. A socket's path must be short, too.
        directory = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="dbref-")))
        own(directory)
        return directory
