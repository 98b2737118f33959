"""Where the distribution keeps the servers' programs, and which package brings one that is missing."""

import os
import shutil
from pathlib import Path

# Debian keeps servers out of a user's PATH, and PostgreSQL's in a directory per version.
_FURTHER_DIRECTORIES = ("/usr/sbin", "/usr/local/sbin", "/sbin")
_VERSIONED = Path("/usr/lib/postgresql")

PACKAGES = {
    "postgres": "postgresql",
    "initdb": "postgresql",
    "pg_basebackup": "postgresql-client",
    "pg_ctl": "postgresql",
    "psql": "postgresql-client",
    "pgbouncer": "pgbouncer",
    "mariadbd": "mariadb-server",
    "mariadb-install-db": "mariadb-server",
    "mariadb": "mariadb-client",
    "redis-server": "redis-server",
    "redis-cli": "redis-tools",
    "setpriv": "util-linux",
    "java": "default-jdk-headless",
    "javac": "default-jdk-headless",
    "mvn": "maven",
    "prometheus": "prometheus",
    "promtool": "prometheus",
}


class MissingProgramError(Exception):
    """A program is not installed; the message says how to get it."""


def find_program(name: str) -> Path:
    """The program's full path. Raises MissingProgramError."""
    found = shutil.which(name, path=os.pathsep.join([*_postgresql(), os.environ.get("PATH", ""), *_FURTHER_DIRECTORIES]))
    if found is None:
        raise MissingProgramError(f"{name} is not installed; as root: apt-get install {PACKAGES[name]}")
    return Path(found)


def _postgresql() -> list[str]:
    """The newest version's directory first, so that server and tools are of one version."""
    versions = [path for path in _VERSIONED.glob("*/bin") if path.parent.name.isdigit()]
    return [str(path) for path in sorted(versions, key=lambda path: int(path.parent.name), reverse=True)]
