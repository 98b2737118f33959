import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator

import httpx
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parsed

from dbclusterref.commands import probes
from dbclusterref.commands.probes import serve_probes
from dbclusterref.errors import SettingsError
from dbclusterref.metrics import Metrics
from tests.support.plain_http import NO_CERTIFICATES

pytestmark = pytest.mark.sockets


class Served:
    def __init__(self) -> None:
        self.unhealthy: list[str] = []
        self.unready: list[str] = []
        self.metrics = Metrics()
        self.port = 0

    async def get(self, path: str, **headers: str) -> httpx.Response:
        async with httpx.AsyncClient(trust_env=False, verify=NO_CERTIFICATES) as client:
            return await client.get(f"http://127.0.0.1:{self.port}{path}", headers=headers)


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    served = Served()
    server = await serve_probes(
        host="127.0.0.1",
        port=0,
        healthy=lambda: served.unhealthy,
        ready=lambda: served.unready,
        metrics=served.metrics.render,
    )
    served.port = server.port
    yield served
    await server.close()


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


async def test_a_probe_is_asked_again_each_time(served: Served) -> None:
    assert (await served.get("/healthz")).status_code == 200
    served.unhealthy = ["late"]
    assert (await served.get("/healthz")).status_code == 503


async def test_metrics_come_as_openmetrics_where_that_is_asked_for(served: Served) -> None:
    accept = "application/openmetrics-text;version=1.0.0;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
    reply = await served.get("/metrics", Accept=accept)
    assert reply.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0; charset=utf-8")
    assert reply.text.endswith("# EOF\n")
    families = {family.name: family for family in parsed(reply.text)}  # type: ignore[no-untyped-call]
    assert families["dbclusterref_unexpected_errors"].type == "counter"


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
        await serve_probes(host="127.0.0.1", port=served.port, healthy=list, ready=list, metrics=lambda _: (b"", "text/plain"))
    for word in ("--metrics-address", f"127.0.0.1:{served.port}", "choose another port"):
        assert word in str(raised.value)


async def test_connections_are_closed_in_time_whatever_was_sent_on_them(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probes, "LONGEST_CONNECTION", 0.2)
    for sent in (b"", b"GET /healthz HTTP/1.1\r\nHost:"):
        reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
        writer.write(sent)
        with contextlib.suppress(ConnectionResetError):
            async with asyncio.timeout(5):
                assert await reader.read() == b""
        writer.close()


async def test_probes_answer_while_others_hold_more_connections_than_there_may_be(served: Served) -> None:
    held = [await asyncio.open_connection("127.0.0.1", served.port) for _ in range(probes.MOST_CONNECTIONS * 2)]
    assert (await served.get("/healthz")).status_code == 200
    assert (await served.get("/metrics")).status_code == 200
    for _, writer in held:
        writer.close()


async def test_a_connection_ends_with_its_answer(served: Served) -> None:
    assert (await served.get("/healthz")).headers["connection"] == "close"


async def test_without_a_host_both_families_are_served() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = await serve_probes(host="", port=port, healthy=list, ready=list, metrics=lambda _: (b"", "text/plain"))
    async with httpx.AsyncClient(trust_env=False, verify=NO_CERTIFICATES) as client:
        assert (await client.get(f"http://127.0.0.1:{server.port}/healthz")).status_code == 200
        if socket.has_ipv6:
            assert (await client.get(f"http://[::1]:{server.port}/healthz")).status_code == 200
    await server.close()


async def test_where_metrics_are_served_elsewhere_the_probes_stay() -> None:
    server = await serve_probes(host="127.0.0.1", port=0, healthy=list, ready=list, metrics=None)
    async with httpx.AsyncClient(trust_env=False, verify=NO_CERTIFICATES) as client:
        url = f"http://127.0.0.1:{server.port}"
        assert [(await client.get(url + path)).status_code for path in ("/healthz", "/readyz", "/metrics")] == [200, 200, 404]
    await server.close()


@pytest.mark.parametrize("sent", [b"Authorization: Bearer s3cret\x01", b"Authorization: Bearer s3cret\rX", b"\xffs3cret: x"])
async def test_a_malformed_request_is_answered_and_logs_nothing(
    served: Served, caplog: pytest.LogCaptureFixture, sent: bytes
) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
    writer.write(b"GET /metrics HTTP/1.1\r\nHost: x\r\n" + sent + b"\r\n\r\n")
    assert b"400 Bad Request" in await reader.readline()
    writer.close()
    assert caplog.text == "", "whoever sent it is told; the log is not theirs to fill, and has no token in it"


async def test_a_bug_in_an_answer_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    def broken(_accept: str) -> tuple[bytes, str]:
        raise ZeroDivisionError("a bug")

    server = await serve_probes(host="127.0.0.1", port=0, healthy=list, ready=list, metrics=broken)
    async with httpx.AsyncClient(trust_env=False, verify=NO_CERTIFICATES) as client:
        assert (await client.get(f"http://127.0.0.1:{server.port}/metrics")).status_code == 500
    await server.close()
    assert "ZeroDivisionError: a bug" in caplog.text
