"""What can go wrong before DigitalOcean answers at all, with real sockets."""

import socket
import ssl
from collections.abc import Iterator

import httpx
import pytest

from dbclusterref.digitalocean.client import DigitalOcean
from dbclusterref.errors import UpstreamUnavailable
from sandbox.digitalocean.server import serve_simulator
from tests.failures.conftest import TOKEN_CANARY
from tests.support.builders import UUID

pytestmark = pytest.mark.sockets


@pytest.fixture(scope="module")
def plain_http() -> Iterator[str]:
    with serve_simulator() as simulator:
        yield simulator.url


@pytest.fixture
def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.mark.parametrize("what", ["refused", "no such name", "no TLS there"])
async def test_no_connection_is_named_without_an_address_or_token(what: str, plain_http: str, closed_port: int) -> None:
    url = {
        "refused": f"http://127.0.0.1:{closed_port}",
        "no such name": "http://no-such-host.invalid",
        "no TLS there": plain_http.replace("http://", "https://"),
    }[what]
    seen: list[int] = []
    async with httpx.AsyncClient(trust_env=False, verify=ssl.create_default_context()) as client:
        with pytest.raises(UpstreamUnavailable) as caught:
            await DigitalOcean(client, base_url=url).get_cluster(
                TOKEN_CANARY, UUID, observe=lambda status, _budget: seen.append(status)
            )
    assert seen == [0]
    assert TOKEN_CANARY not in repr(caught.value)
    assert "127.0.0.1" not in caught.value.message
