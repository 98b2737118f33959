"""At the memory limit that `deploy/` sets, whatever a tenant may make."""

import base64
import logging
import os
import secrets
import string
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.e2e.cluster import MANAGED_BY, Json, Tenant, wait_until
from tests.e2e.running import Operator
from tests.failures.conftest import CANARY, World, through
from tests.support.memory_limit import MemoryLimit, NoControlGroupError, deployed_limit, memory_limit

pytestmark = pytest.mark.e2e

UUID = "9cc10173-e9ea-4176-9dbc-a4cee4c4ff30"


@pytest.fixture
def limit() -> Iterator[MemoryLimit]:
    try:
        with memory_limit(deployed_limit()) as group:
            yield group
    except NoControlGroupError as error:
        pytest.skip(str(error))


def text(size: int) -> str:
    """Which compression does not make smaller."""
    return "".join(secrets.choice(string.ascii_letters) for _ in range(size))


def large_secrets(tenant: Tenant) -> None:
    data = base64.b64encode(os.urandom(780_000)).decode()
    for number in range(121):
        body: Json = {"metadata": {"name": f"large-{number}", "labels": {MANAGED_BY: "dbclusterref"}}, "data": {"x": data}}
        tenant.admin.create(f"/api/v1/namespaces/{tenant.namespace}/secrets", body)


def large_annotations(tenant: Tenant) -> None:
    annotations = {f"example.com/{number}": text(25_000) for number in range(10)}
    for number in range(120):
        metadata = {"name": f"large-{number}", "labels": {MANAGED_BY: "dbclusterref"}, "annotations": annotations}
        tenant.admin.create(f"/api/v1/namespaces/{tenant.namespace}/secrets", {"metadata": metadata})


def large_specs(tenant: Tenant) -> None:
    maps = {
        "template": {f"key-{number}": text(450) for number in range(32)},
        "annotations": {f"example.com/{number}": text(450) for number in range(32)},
    }
    for number in range(272):
        tenant.refer(UUID, name=f"large-{number}", suspend=True, secret=maps)


def large_annotations_on_resources(tenant: Tenant) -> None:
    annotations = {f"example.com/{number}": text(25_000) for number in range(10)}
    for number in range(120):
        tenant.refer(UUID, name=f"large-{number}", suspend=True)
        tenant.admin.patch(tenant.path(f"large-{number}"), {"metadata": {"annotations": annotations}})


@pytest.fixture
def start_limited(world: World, tenant: Tenant, limit: MemoryLimit, tmp_path: Path) -> Iterator[Callable[[], Operator]]:
    started: list[Operator] = []

    def start() -> Operator:
        operator = Operator(
            f"--namespaces={tenant.namespace}",
            kubeconfig=through(world.proxy, tmp_path / "kubeconfig", sandbox=world.sandbox),
            api_url=world.sandbox.digitalocean,
            log=tmp_path / "operator.log",
            environ={"DBCLUSTERREF_TIMING": "resync=10"},
            under=limit.under,
        )
        started.append(operator)
        wait_until(lambda: operator.answers("/readyz"), within=120, what="readiness")
        return operator

    yield start
    for operator in started:
        operator.kill()


@pytest.mark.parametrize("make", [large_secrets, large_annotations, large_specs, large_annotations_on_resources])
@pytest.mark.parametrize("when", ["before the start", "while it runs"])
def test_what_a_tenant_can_make_does_not_end_the_operator_at_its_real_memory_limit(  # noqa: PLR0917
    world: World,
    tenant: Tenant,
    limit: MemoryLimit,
    start_limited: Callable[[], Operator],
    make: Callable[[Tenant], None],
    when: str,
) -> None:
    cluster = world.control.create_cluster(engine="pg", num_nodes=2, password=f"{CANARY}-first")["id"]
    if when == "before the start":
        make(tenant)
    operator = start_limited()
    if when == "while it runs":
        make(tenant)
    tenant.refer(cluster)
    tenant.wait_for("Synced", within=60)
    tenant.admin.delete(tenant.secret_path())
    wait_until(tenant.secret, what="the repair")
    tenant.refresh(within=60)
    operator.stop()
    assert "restored from a backup" not in operator.log.read_text()
    assert limit.kills == 0
    logging.getLogger(__name__).info("peak: %d MiB", limit.peak // 2**20)


LARGEST = 32
"""References whose Secrets are as large as the API server takes."""


def test_many_secrets_of_the_largest_size_are_written_at_once_within_the_real_memory_limit(
    world: World, tenant: Tenant, limit: MemoryLimit, start_limited: Callable[[], Operator]
) -> None:
    cluster = world.control.create_cluster(engine="pg", num_nodes=2)["id"]
    copies = 1_000_000 // len(world.control.ca(cluster)) // 8
    template = {f"k{number}": "{ca}" * copies for number in range(8)} | {"changes": "{password}"}
    names = [f"largest-{number}" for number in range(LARGEST)]
    for name in names:
        tenant.refer(cluster, name=name, secret={"template": template})
    operator = start_limited()

    def wait_until_all_hold(password: str) -> None:
        for name in names:
            wait_until(lambda: tenant.data(name).get("changes") == password, within=60, what=name)  # noqa: B023
        assert operator.is_running

    password = world.control.get(cluster)["private_connection"]["password"]
    wait_until_all_hold(password)
    assert len(tenant.data(names[0])["k0"]) * 8 > 900_000
    password = world.control.rotate_password(cluster)["private_connection"]["password"]
    for name in names:
        tenant.ask_for_refresh(name=name)
    wait_until_all_hold(password)
    tenant.admin.delete(f"/api/v1/namespaces/{tenant.namespace}/secrets?labelSelector={MANAGED_BY}=dbclusterref")
    wait_until_all_hold(password)
    operator.stop()
    assert limit.kills == 0
    logging.getLogger(__name__).info("peak: %d MiB", limit.peak // 2**20)
