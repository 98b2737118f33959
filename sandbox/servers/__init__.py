"""Real database servers on loopback, as a managed cluster's nodes would answer: TLS by a private authority, passwords required.

    with Nursery() as nursery:
        pair = nursery.postgresql(user="doadmin", password="s3cret", database="defaultdb")
        pair.primary.port, pair.standby.port

They come from the distribution's packages, run as `nobody` where we are root (PostgreSQL refuses root), keep everything in a
temporary directory, and end with this process, however it ends. The distribution's own services are neither used nor needed.
"""

from sandbox.servers.mariadb import MariaDb
from sandbox.servers.nursery import Nursery
from sandbox.servers.pgbouncer import PgBouncer
from sandbox.servers.postgresql import Pair, PostgreSql
from sandbox.servers.programs import MissingProgramError, find_program
from sandbox.servers.redis import Redis
from sandbox.servers.server import LOOPBACK_ALONE, Place

__all__ = [
    "LOOPBACK_ALONE",
    "MariaDb",
    "MissingProgramError",
    "Nursery",
    "Pair",
    "PgBouncer",
    "Place",
    "PostgreSql",
    "Redis",
    "find_program",
]
