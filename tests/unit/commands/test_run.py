import json
from pathlib import Path
from typing import NoReturn

import kopf
import pytest

from dbclusterref.commands.run import TASK_FAILED, run
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
