"""Upstreams that accept connections and never answer: a tenant with many of them delays nobody else."""

import pytest

from tests.e2e.cluster import Tenant, encoded, wait_until
from tests.e2e.sandbox import as_tenant
from tests.failures.conftest import World

pytestmark = pytest.mark.e2e

HANGING = 60
AT_ONCE = 2.0
"""Seconds in which a repair is promised, whatever upstream does."""


def test_a_tenant_of_sixty_hanging_upstreams_delays_no_repair_and_no_new_resource(world: World, tenant: Tenant) -> None:
    mine, another = (world.control.create_cluster()["id"] for _ in range(2))
    tenant.ready(mine)
    before = tenant.data()
    with as_tenant(world.sandbox) as hostile:
        clusters = [world.control.create_cluster()["id"] for _ in range(HANGING)]
        for number, cluster in enumerate(clusters):
            world.control.add_fault("hang", cluster=cluster)
            world.control.set_token(f"dop_v1_hostile-{number}")
            hostile.put_token(f"dop_v1_hostile-{number}", name=f"token-{number}")
        for number, cluster in enumerate(clusters):
            hostile.refer(
                cluster, name=f"db-{number}", own_token=False,
                apiTokenSecretRef={"name": f"token-{number}"}, refreshInterval="10s",
            )  # fmt: skip
        asked = {cluster for cluster in clusters if hostile.requests(cluster)}
        wait_until(lambda: len({c for c in clusters if hostile.requests(c)}) > len(asked), what="a read that hangs")
        for number in range(4):  # more of them would be a contest
            if number % 2:
                tenant.admin.delete(tenant.secret_path())
            else:
                tenant.admin.patch(tenant.secret_path(), {"data": {"password": encoded("theirs")}})
            wait_until(lambda: tenant.secret() is not None and tenant.data() == before, within=AT_ONCE, what="the repair")
        tenant.refer(another, name="new")
        tenant.wait_for("Synced", name="new", within=2 * AT_ONCE)
