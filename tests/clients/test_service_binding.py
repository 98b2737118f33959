"""The Service Binding library for Python reads the mounted directory."""

import json

import pytest

from tests.clients.conftest import Cloud, Mount
from tests.clients.credentials import HOSTILE

READER = """
import json
from pyservicebinding import binding
print(json.dumps(binding.ServiceBinding().bindings(__import__("sys").argv[1], "digitalocean")))
"""


@pytest.mark.parametrize(
    ("engine", "kind"),
    [
        ("pg", "postgresql"),
        ("advanced_pg", "postgresql"),
        ("mysql", "mysql"),
        ("advanced_mysql", "mysql"),
        ("redis", "redis"),
        ("valkey", "redis"),
        ("kafka", "kafka"),
        ("opensearch", "opensearch"),
    ],
)
def test_the_reader_finds_the_binding_by_type_and_provider(cloud: Cloud, mount: Mount, engine: str, kind: str) -> None:
    cluster = cloud.control.create_cluster(engine=engine, password=HOSTILE)["id"]
    binding = mount(cluster, secret={"keySets": ["Binding"]})
    root = {"SERVICE_BINDING_ROOT": str(binding.directory.parent)}
    found = json.loads(binding.python(READER, kind, environ=root))
    assert [one["password"] for one in found] == [HOSTILE]
    assert found[0].keys() == {path.name for path in binding.directory.iterdir() if not path.name.startswith("..")}
