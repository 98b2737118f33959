from collections.abc import AsyncIterator

import httpx
import pytest

from dbclusterref.commands.probes import serve_probes
from dbclusterref.errors import SettingsError
from dbclusterref.metrics import Metrics

pytestmark = pytest.mark.sockets


class Served:
    def __init__(self) -> None:
        self.unhealthy: list[str] = []
        self.unready: list[str] = []
        self.metrics = Metrics()
        self.port = 0

    async def get(self, path: str) -> httpx.Response:
        async with httpx.AsyncClient(trust_env=False) as client:
            return await client.get(f"http://127.0.0.1:{self.port}{path}")


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    served = Served()
    runner, served.port = await serve_probes(
        host="127.0.0.1",
        port=0,
        healthy=lambda: served.unhealthy,
        ready=lambda: served.unready,
        metrics=served.metrics.render,
    )
    yield served
    await runner.cleanup()


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
async def test_a_probe_says_ok_where_nothing_is_wrong(served: Served, path: str) -> None:
    reply = await served.get(path)
    assert (reply.status_code, reply.text) == (200, "ok\n")


async def test_a_probe_says_503_and_what_is_wrong_a_line_each(served: Served) -> None:
    served.unhealthy = ["worker-1 has ended", "the queue is late"]
    reply = await served.get("/healthz")
    assert (reply.status_code, reply.text) == (503, "worker-1 has ended\nthe queue is late\n")
    assert (await served.get("/readyz")).status_code == 200


async def test_ready_and_healthy_are_two_questions(served: Served) -> None:
    served.unready = ["not watching yet"]
    assert (await served.get("/readyz")).status_code == 503
    assert (await served.get("/healthz")).status_code == 200


async def test_a_probe_is_asked_anew_each_time(served: Served) -> None:
    assert (await served.get("/healthz")).status_code == 200
    served.unhealthy = ["late"]
    assert (await served.get("/healthz")).status_code == 503


async def test_metrics_come_in_prometheus_own_format(served: Served) -> None:
    served.metrics.bugs.inc()
    reply = await served.get("/metrics")
    assert reply.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert "dbclusterref_unexpected_errors_total 1.0" in reply.text.splitlines()
    assert "process_resident_memory_bytes" in reply.text


async def test_any_other_path_is_not_found(served: Served) -> None:
    assert (await served.get("/")).status_code == 404


async def test_an_address_that_is_taken_is_a_setting_with_a_remedy(served: Served) -> None:
    with pytest.raises(SettingsError) as raised:
        await serve_probes(host="127.0.0.1", port=served.port, healthy=list, ready=list, metrics=bytes)
    for word in ("--metrics-address", f"127.0.0.1:{served.port}", "choose another port"):
        assert word in str(raised.value)
