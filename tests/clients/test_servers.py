"""The servers behind these tests: named where they are missing, and gone with the process that started them."""

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from sandbox.servers import MissingProgramError, find_program, programs
from tests.clients.conftest import require
from tests.e2e.cluster import wait_until

ROOT = Path(__file__).parents[2]
HOST = """
import signal, sys
from sandbox.servers import Nursery
with Nursery() as nursery:
    pair = nursery.postgresql(user="doadmin", password="x", database="defaultdb")
    redis = nursery.redis(password="x")
    print(*(pair.primary.process_id, pair.standby.process_id, redis.process_id), flush=True)
    signal.pause()
"""


def test_a_missing_program_is_named_with_the_package_that_has_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(programs, "_FURTHER_DIRECTORIES", ())
    with pytest.raises(MissingProgramError, match="redis-server is not installed; as root: apt-get install redis-server"):
        find_program("redis-server")
    with pytest.raises(pytest.skip.Exception, match="apt-get install pgbouncer"):
        require("pgbouncer")


@pytest.fixture
def directory() -> Iterator[Path]:
    """Where a process that is killed leaves its files; the servers' user may enter it."""
    with tempfile.TemporaryDirectory(prefix="dbref-") as path:
        Path(path).chmod(0o755)
        yield Path(path)


def test_servers_die_with_a_process_that_is_killed(directory: Path) -> None:
    require("postgres", "redis-server")
    environ = {**os.environ, "TMPDIR": str(directory)}
    with subprocess.Popen([sys.executable, "-c", HOST], cwd=ROOT, env=environ, stdout=subprocess.PIPE, text=True) as host:
        assert host.stdout is not None
        started = [int(word) for word in host.stdout.readline().split()]
        assert len(started) == 3
        assert all(is_running(one) for one in started)
        host.send_signal(signal.SIGKILL)
    wait_until(lambda: not any(is_running(one) for one in started), what="the servers' end")


def is_running(process: int) -> bool:
    """Whether it is there, and not merely waiting to be collected."""
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z" and os.getpid() != process
