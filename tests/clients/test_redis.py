"""Redis' clients, against a server that speaks TLS alone, and that stands for Valkey as well."""

import pytest

from sandbox.servers import Redis
from tests.clients.conftest import Cloud, Mount, Single
from tests.clients.credentials import HOSTILE

REDIS_PY = """
import os, sys, redis
with redis.Redis.from_url(os.environ[sys.argv[1]], **dict(word.split("=", 1) for word in sys.argv[2:])) as client:
    print(client.ping(), client.acl_whoami())
"""

REDIS_PY_FILES = """
import pathlib, sys, redis
read = lambda name: pathlib.Path(sys.argv[1], name).read_text()
with redis.Redis(
    host=read("host"), port=int(read("port")), username=read("username"), password=read("password"), ssl=True,
    ssl_ca_certs=sys.argv[1] + "/ca.crt",
) as client:
    print(client.ping(), client.acl_whoami())
"""

KOMBU = """
import os, ssl
from kombu import Connection
with Connection(os.environ["CELERY_BROKER_URL"]) as connection:
    connection.connect()
    queue = connection.SimpleQueue("letters")
    queue.put({"hello": "world"})
    message = queue.get(timeout=5)
    message.ack()
    print(message.payload["hello"])
"""


@pytest.mark.parametrize("engine", ["valkey", "redis"])
def test_redis_cli_connects_with_the_mounted_url(cloud: Cloud, redis: Single[Redis], mount: Mount, engine: str) -> None:
    cloud.control.update(redis.cluster, engine=engine)
    binding = mount(redis.cluster)
    line = 'redis-cli --no-auth-warning --cacert ca.crt -u "$(cat url)" ping'
    assert binding.shell(line) == "PONG"


def test_redis_py_connects_with_the_environment(redis: Single[Redis], mount: Mount) -> None:
    binding = mount(redis.cluster, secret={"keySets": ["Env"]})
    assert binding.python(REDIS_PY, "REDIS_URL", f"ssl_ca_certs={binding.directory}/ca.crt") == "True default"


def test_redis_py_refuses_an_unknown_authority_by_default(redis: Single[Redis], mount: Mount) -> None:
    binding = mount(redis.cluster)
    with pytest.raises(AssertionError, match="certificate verify failed"):
        binding.python(REDIS_PY, "REDIS_URL")


def test_redis_py_connects_with_the_mounted_files(redis: Single[Redis], mount: Mount) -> None:
    binding = mount(redis.cluster, secret={"keySets": ["Binding"]})
    assert binding.python(REDIS_PY_FILES, str(binding.directory), environ={}) == "True default"


def test_redis_py_connects_by_the_recipe_with_the_ca_in_the_url(redis: Single[Redis], mount: Mount) -> None:
    recipe = "{uri}?ssl_ca_certs={ca-path:url}"
    binding = mount(redis.cluster, secret={"template": {"CACHE_URL": recipe}})
    assert binding.python(REDIS_PY, "CACHE_URL") == "True default"


def test_celerys_transport_sends_and_receives_by_the_recipe(redis: Single[Redis], mount: Mount) -> None:
    recipe = "{uri}/0?ssl_cert_reqs=required&ssl_ca_certs={ca-path:url}"
    binding = mount(redis.cluster, secret={"template": {"CELERY_BROKER_URL": recipe}})
    assert binding.python(KOMBU) == "world"


def test_after_a_rotation_the_refreshed_secret_connects(cloud: Cloud, rotating_redis: Single[Redis], mount: Mount) -> None:
    binding = mount(rotating_redis.cluster)
    rotating_redis.server.set_password(HOSTILE, "next" + HOSTILE)
    cloud.control.rotate_password(rotating_redis.cluster, password="next" + HOSTILE)
    mount(rotating_redis.cluster)
    assert binding.python(REDIS_PY_FILES, str(binding.directory), environ={}) == "True default"
