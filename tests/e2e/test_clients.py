"""All of it at once: a real database, its address at the provider, the operator, a Secret in Kubernetes, and psql."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from sandbox.servers import MissingProgramError, Nursery, Pair
from tests.clients.binding import Binding, at
from tests.e2e.cluster import Tenant

pytestmark = [pytest.mark.e2e, pytest.mark.clients]

PASSWORD = "p@:/?#[]% &+=\"'\\ü"
PSQL = ("psql", "-X", "-A", "-t", "-c", "SELECT current_user || ':' || pg_is_in_recovery()")


@pytest.fixture(scope="module")
def nursery() -> Iterator[Nursery]:
    with Nursery() as servers:
        yield servers


@pytest.fixture(scope="module")
def pair(nursery: Nursery) -> Pair:
    try:
        return nursery.postgresql(user="doadmin", password=PASSWORD, database="defaultdb")
    except MissingProgramError as missing:
        pytest.skip(str(missing))


def test_psql_connects_with_the_operators_secret_and_does_again_after_rotation_and_fail_over(
    nursery: Nursery, pair: Pair, tenant: Tenant, tmp_path: Path
) -> None:
    cluster = tenant.control.create_cluster(
        num_nodes=2,
        password=PASSWORD,
        ca=nursery.ca,
        connections={
            **at(pair.primary, "private_connection"),
            **at(pair.standby, "standby_private_connection"),
        },
    )["id"]
    binding = Binding(tmp_path / "orders-db")

    def projected() -> Binding:
        return binding.project({key: value.encode() for key, value in tenant.data().items()})

    tenant.ready(cluster, secret={"mountPath": str(binding.directory)})
    projected()
    assert binding.run(*PSQL) == "doadmin:false"
    assert binding.run(*PSQL, binding.file("ro-uri"), environ={}) == "doadmin:true"

    pair.primary.set_password("doadmin", "next" + PASSWORD)
    tenant.control.rotate_password(cluster, password="next" + PASSWORD)
    tenant.refresh()
    assert projected().run(*PSQL) == "doadmin:false"

    pair.primary.stop()
    pair.standby.promote()
    tenant.control.fail_over(cluster, swap_hosts=True)
    tenant.refresh()
    assert projected().run(*PSQL) == "doadmin:false"
    assert not binding.has("standby-uri")
