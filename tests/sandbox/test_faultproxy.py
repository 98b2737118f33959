"""The proxy that corrupts what the API server says, before a server of ours."""

import gzip
import json
import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest

from sandbox.controlplane.certificates import Authority
from sandbox.faultproxy import FaultProxy, ProxyFault

LISTING = {"kind": "SecretList", "metadata": {"resourceVersion": "7"}, "items": [{"metadata": {"name": "orders"}}]}


class Listing(BaseHTTPRequestHandler):
    """Answers as kube-apiserver does: compressed for who accepts that."""

    def do_GET(self) -> None:
        body = json.dumps(LISTING).encode()
        compressed = "gzip" in self.headers.get("Accept-Encoding", "")
        self.send_response(200)
        if compressed:
            self.send_header("Content-Encoding", "gzip")
            body = gzip.compress(body)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Says nothing."""


@pytest.fixture
def proxy(tmp_path: Path) -> Iterator[FaultProxy]:
    authority = Authority(name="server-ca")
    credential = authority.issue("server", hosts=("127.0.0.1",))
    pem = tmp_path / "server.pem"
    pem.write_bytes(credential.certificate + credential.key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Listing)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"https://127.0.0.1:{server.server_address[1]}"
    with FaultProxy(server=url, server_ca=authority.certificate, directory=tmp_path, chance=lambda: 0.0) as opened:
        yield opened
    server.shutdown()
    server.server_close()


@pytest.mark.sockets
@pytest.mark.parametrize("encoding", ["gzip", "identity"])
def test_a_listing_is_emptied_whether_or_not_it_may_come_compressed(proxy: FaultProxy, encoding: str) -> None:
    trust = ssl.create_default_context(cadata=proxy.ca.decode())
    with httpx.Client(base_url=proxy.url, verify=trust, trust_env=False, headers={"Accept-Encoding": encoding}) as client:
        whole = client.get("/api/v1/secrets")
        proxy.add(ProxyFault.EMPTY_LIST)
        emptied = client.get("/api/v1/secrets")

    assert whole.json() == LISTING
    assert (emptied.status_code, emptied.json()) == (200, LISTING | {"items": []})
