"""MongoDB, Kafka and OpenSearch: their client libraries take the Secret; a server of theirs is not in the distribution."""

import base64
import json
import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from sandbox.controlplane.certificates import Authority
from sandbox.digitalocean.jsontypes import Json
from tests.clients.conftest import Cloud, Mount
from tests.clients.credentials import ASCII_HOSTILE, HOSTILE, USER

PYMONGO = """
import json, os, sys
from unittest.mock import patch
from pymongo import MongoClient
from pymongo.uri_parser import parse_uri
# The name's SRV record is what a network would give.
nodes = [("node-1.example", 27017), ("node-2.example", 27017)]
resolver = "pymongo.synchronous.srv_resolver._SrvResolver"
with patch(resolver + ".get_hosts", lambda self: nodes), patch(resolver + ".get_options", lambda self: None):
    found = parse_uri(sys.argv[1])
    client = MongoClient(sys.argv[1], connect=False)
    client.close()
print(json.dumps([found["username"], found["password"], found["database"], found["options"].get("tls"), found["fqdn"]]))
"""

CONFLUENT = """
import os, sys
from confluent_kafka import Consumer, Producer
configuration = {
    "bootstrap.servers": os.environ["KAFKA_BOOTSTRAP_SERVERS"],
    "security.protocol": os.environ["KAFKA_SECURITY_PROTOCOL"],
    "sasl.mechanism": os.environ["KAFKA_SASL_MECHANISM"],
    "sasl.username": os.environ["KAFKA_SASL_USERNAME"],
    "sasl.password": os.environ["KAFKA_SASL_PASSWORD"],
    "ssl.ca.location": sys.argv[1] + "/ca.crt",
}
Producer(configuration)
Consumer({**configuration, "group.id": "orders"}).close()
print("taken")
"""

CONFLUENT_CERTIFICATE = """
import pathlib, sys
from confluent_kafka import Producer
Producer({
    "bootstrap.servers": pathlib.Path(sys.argv[1], "bootstrap-servers").read_text(),
    "security.protocol": "ssl",
    "ssl.ca.location": sys.argv[1] + "/ca.crt",
    "ssl.certificate.location": sys.argv[1] + "/access.crt",
    "ssl.key.location": sys.argv[1] + "/access.key",
})
print("taken")
"""

OPENSEARCH = """
import os, sys
from opensearchpy import OpenSearch
client = OpenSearch(os.environ["OPENSEARCH_URL"], ca_certs=sys.argv[1] + "/ca.crt", verify_certs=True)
print(client.info()["authorization"])
"""

OPENSEARCH_FILES = """
import pathlib, sys
from opensearchpy import OpenSearch
read = lambda name: pathlib.Path(sys.argv[1], name).read_text()
client = OpenSearch(
    read("uris"), http_auth=(read("username"), read("password")), ca_certs=sys.argv[1] + "/ca.crt", verify_certs=True
)
print(client.info()["authorization"])
"""


@pytest.mark.parametrize("how", ["environ", "file"])
def test_pymongo_reads_the_uri(cloud: Cloud, mount: Mount, how: str) -> None:
    cluster = cloud.control.create_cluster(engine="mongodb")["id"]
    cloud.control.add_user(cluster, "app", password=HOSTILE)
    binding = mount(cluster, user="app")
    uri = binding.environ["MONGODB_URI"] if how == "environ" else binding.file("uri")
    found = json.loads(binding.python(PYMONGO, uri, environ={}))
    assert found == ["app", HOSTILE, "admin", True, binding.file("host")]


def test_confluents_client_takes_the_environment(cloud: Cloud, mount: Mount) -> None:
    binding = mount(cloud.control.create_cluster(engine="kafka", password=HOSTILE)["id"])
    assert binding.python(CONFLUENT, str(binding.directory)) == "taken"


def test_confluents_client_takes_the_mounted_certificate_and_key(cloud: Cloud, mount: Mount) -> None:
    cluster = cloud.control.create_cluster(engine="kafka", password=HOSTILE)["id"]
    cloud.control.add_user(cluster, "app", password=HOSTILE)
    binding = mount(cluster, user="app")
    assert binding.python(CONFLUENT_CERTIFICATE, str(binding.directory), environ={}) == "taken"


class _Info(BaseHTTPRequestHandler):
    """Answers as OpenSearch's root does, and says with which credentials it was asked."""

    def do_GET(self) -> None:
        said = self.headers.get("Authorization", "").removeprefix("Basic ")
        body = json.dumps({"version": {"number": "2.19.1"}, "authorization": base64.b64decode(said).decode()}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's own name
        pass


@pytest.fixture
def opensearch(cloud: Cloud, tmp_path: Path) -> Iterator[str]:
    """A cluster whose address answers over TLS. The client's HTTP library sends passwords in Latin-1."""
    authority = Authority(name="Project CA")
    credential = authority.issue("localhost", hosts=("localhost", "127.0.0.1"))
    pem = tmp_path / "server.pem"
    pem.write_bytes(credential.certificate + credential.key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    with ThreadingHTTPServer(("127.0.0.1", 0), _Info) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        address: dict[str, Json] = {"host": "localhost", "port": server.server_port}
        cluster = cloud.control.create_cluster(
            engine="opensearch",
            password=ASCII_HOSTILE,
            ca=authority.certificate.decode(),
            connections={"private_connection": address},
        )
        yield cluster["id"]
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("program", [OPENSEARCH, OPENSEARCH_FILES], ids=["environ", "files"])
def test_opensearch_py_logs_in(mount: Mount, opensearch: str, program: str) -> None:
    binding = mount(opensearch)
    environ = binding.environ if program is OPENSEARCH else {}
    assert binding.python(program, str(binding.directory), environ=environ) == f"{USER}:{ASCII_HOSTILE}"
