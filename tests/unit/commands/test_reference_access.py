import pytest

from dbclusterref.commands.explanation import explain
from dbclusterref.commands.overview import show_status
from dbclusterref.commands.reference_access import read_key
from dbclusterref.commands.refreshing import refresh, set_suspended
from dbclusterref.errors import KubernetesError, SettingsError
from dbclusterref.resource.objects import ObjectKey
from tests.support.builders import KEY
from tests.support.reference_api import SYSTEM, api


async def test_without_the_crd_each_command_names_it_and_the_remedy() -> None:
    made, kubernetes = api()
    made.installed = False
    for call in (
        show_status(
            kubernetes, namespace="", operator_namespace=SYSTEM, output="table", watch=False, colored=False, on_terminal=False
        ),
        explain(kubernetes, KEY, operator_namespace=SYSTEM),
        refresh(kubernetes, KEY, wait=0.0, operator_namespace=SYSTEM),
        set_suspended(kubernetes, KEY, suspended=True),
    ):
        with pytest.raises(KubernetesError, match=r"CustomResourceDefinition .* is not installed\. Apply crds/"):
            await call


async def test_a_resource_that_does_not_exist_is_named() -> None:
    _, kubernetes = api()
    for call in (
        explain(kubernetes, KEY, operator_namespace=SYSTEM),
        refresh(kubernetes, KEY, wait=0.0, operator_namespace=SYSTEM),
        set_suspended(kubernetes, KEY, suspended=True),
    ):
        with pytest.raises(SettingsError, match="there is no DatabaseClusterRef shop/orders-db"):
            await call


@pytest.mark.parametrize(
    "name",
    ["orders-db", "dbref/orders-db", "databaseclusterref/orders-db", "databaseclusterrefs/orders-db",
     "DatabaseClusterRef/orders-db", "databaseclusterref.dbclusterref.io/orders-db"],
)  # fmt: skip
def test_a_name_is_read_as_kubectl_writes_it(name: str) -> None:
    assert read_key(name, namespace="team") == ObjectKey("team", "orders-db")
    assert read_key("shop/orders-db", namespace="team") == ObjectKey("shop", "orders-db"), "as this program prints it"
