import json
import subprocess
import sys
from pathlib import Path
from typing import NoReturn

import kopf
import pytest

from dbclusterref.commands.run import TASK_FAILED, TLS_BUFFER, run
from dbclusterref.commands.settings import Settings
from tests.support.empty_cluster import empty_cluster

pytestmark = pytest.mark.sockets


async def test_the_process_ends_with_a_status_of_its_own_where_a_task_ends_unexpectedly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail(**_: object) -> NoReturn:
        raise OSError("No username set in the environment")

    monkeypatch.setattr(kopf, "spawn_tasks", fail)
    async with empty_cluster() as url:
        kubeconfig = tmp_path / "kubeconfig"
        kubeconfig.write_text(
            json.dumps(
                {
                    "current-context": "it",
                    "contexts": [{"name": "it", "context": {"cluster": "it", "user": "it"}}],
                    "clusters": [{"name": "it", "cluster": {"server": url}}],
                    "users": [{"name": "it", "user": {"token": "t"}}],
                }
            )
        )
        status = await run(Settings(metrics_host="127.0.0.1", metrics_port=0), {"KUBECONFIG": str(kubeconfig)})
    assert status == TASK_FAILED
    lines = [line for line in caplog.messages if "unexpected" in line]
    assert len(lines) == 1
    assert lines[0].startswith("Task watch: unexpected OSError")
    assert "_watch_once" in lines[0]


_PROGRAM = """
import asyncio
from asyncio import sslproto
from dbclusterref.commands import run

before = sslproto.SSLProtocol.max_size
run._save_memory()

async def buffer():
    import ssl
    loop = asyncio.get_running_loop()
    protocol = sslproto.SSLProtocol(loop, asyncio.Protocol(), ssl.create_default_context(), None, server_hostname="x")
    return len(protocol.get_buffer(-1))

print(before, asyncio.run(buffer()))
"""


def test_a_tls_connection_has_the_small_buffer() -> None:
    # asyncio does not document it: this fails where the buffer comes from somewhere else.
    said = subprocess.run([sys.executable, "-c", _PROGRAM], capture_output=True, text=True, check=True).stdout.split()
    assert said == [str(256 * 1024), str(TLS_BUFFER)]


_FREES = """
import resource
from pathlib import Path
from dbclusterref.commands import run

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() // 2**20

run._save_memory()
large = bytearray(2_000_000)  # once it is freed, blocks as large as this come from the heap by default
del large
before, kept = resident(), []
for size in range(200_000, 1_900_000, 100_000):
    blocks = []
    for _ in range(20):
        blocks.append(b"x" * size)
        kept.append(b"y" * 20_000)  # lies in the heap above them, which cannot shrink then
    del blocks
print(resident() - before - sum(map(len, kept)) // 2**20)
"""


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="there is no /proc here")
def test_what_large_blocks_took_is_given_back() -> None:
    said = subprocess.run([sys.executable, "-c", _FREES], capture_output=True, text=True, check=True).stdout
    assert int(said) <= 2, "MiB"
