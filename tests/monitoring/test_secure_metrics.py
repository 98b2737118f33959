"""A real Prometheus scrapes over TLS, with a token, across a rotation of both."""

import asyncio
import logging
import socket
from pathlib import Path

import httpx
import pytest
import yaml

from dbclusterref.commands.secure_metrics import Certificate, TokenFile, serve_secure_metrics
from dbclusterref.metrics import Metrics
from sandbox.controlplane.certificates import Authority
from sandbox.servers import MissingProgramError, find_program

pytestmark = pytest.mark.e2e  # it needs Prometheus, not a cluster

SERVICE = "dbclusterref-metrics"
"""The name that the ServiceMonitor of `deploy/` checks."""


def issue(authority: Authority, folder: Path, name: str) -> None:
    credential = authority.issue(name, hosts=(SERVICE,))
    for file, data in (("tls.crt", credential.certificate), ("tls.key", credential.key)):
        (folder / f"{file}.new").write_bytes(data)
        (folder / f"{file}.new").replace(folder / file)


async def scrapes(url: str) -> tuple[float, float]:
    """Return whether the last scrape succeeded, and how many series it brought."""
    async with httpx.AsyncClient(trust_env=False) as client:
        found = []
        for query in ("up", "scrape_samples_scraped"):
            try:
                reply = await client.get(f"{url}/api/v1/query", params={"query": query})
                found.append(float(reply.json()["data"]["result"][0]["value"][1]))
            except (httpx.TransportError, IndexError, ValueError):
                found.append(-1.0)
    return found[0], found[1]


async def wait_until_up(url: str, *, expected: bool) -> None:
    async with asyncio.timeout(60):
        while True:
            up, samples = await scrapes(url)
            if up == float(expected) and (samples > 100 or not expected):
                return
            await asyncio.sleep(0.2)


async def test_prometheus_scrapes_over_tls_with_a_token_across_a_rotation(tmp_path: Path) -> None:
    try:
        program = find_program("prometheus")
    except MissingProgramError as error:
        pytest.skip(str(error))
    authority = Authority(name="metrics")
    issue(authority, tmp_path, "first")
    (tmp_path / "ca.crt").write_bytes(authority.certificate)
    (tmp_path / "served").write_text("former\n")
    (tmp_path / "sent").write_text("former\n")
    server = await serve_secure_metrics(
        host="127.0.0.1",
        port=0,
        certificate=Certificate(str(tmp_path / "tls.crt"), str(tmp_path / "tls.key"), logger=logging.getLogger("test")),
        token=TokenFile(str(tmp_path / "served")),
        metrics=Metrics().render,
    )
    job = {
        "job_name": "dbclusterref",
        "scheme": "https",
        "tls_config": {"ca_file": "ca.crt", "server_name": SERVICE},
        "authorization": {"credentials_file": "sent"},
        "static_configs": [{"targets": [f"127.0.0.1:{server.port}"]}],
    }
    (tmp_path / "prometheus.yml").write_text(
        yaml.safe_dump({"global": {"scrape_interval": "500ms", "scrape_timeout": "450ms"}, "scrape_configs": [job]})
    )
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    with (tmp_path / "prometheus.log").open("wb") as log:
        prometheus = await asyncio.create_subprocess_exec(
            program, f"--config.file={tmp_path / 'prometheus.yml'}", f"--web.listen-address={address}",
            f"--storage.tsdb.path={tmp_path / 'data'}",
            stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log,
        )  # fmt: skip
    try:
        await wait_until_up(f"http://{address}", expected=True)
        (tmp_path / "served").write_text("next\n")
        await wait_until_up(f"http://{address}", expected=False)
        (tmp_path / "sent").write_text("next\n")
        issue(authority, tmp_path, "second")
        await wait_until_up(f"http://{address}", expected=True)
    finally:
        prometheus.terminate()
        await prometheus.wait()
        await server.close()
