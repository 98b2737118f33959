import pytest

from dbclusterref.commands.overview import explain, refresh, set_suspended, show_status
from dbclusterref.errors import KubernetesError
from tests.support.builders import KEY
from tests.support.reference_api import api


async def test_without_the_crd_each_command_names_it_and_the_remedy() -> None:
    made, kubernetes = api()
    made.installed = False
    for call in (
        show_status(kubernetes, namespace="", output="table", watch=False, colored=False, on_terminal=False),
        explain(kubernetes, KEY),
        refresh(kubernetes, KEY, wait=0.0),
        set_suspended(kubernetes, KEY, suspended=True),
    ):
        with pytest.raises(KubernetesError, match=r"CustomResourceDefinition .* is not installed\. Apply crds/"):
            await call
