import pytest

from dbclusterref.resource.ca_config_map import CaConfigMap, CaConfigMapState, read_ca_config_map
from dbclusterref.resource.status import Status


@pytest.mark.parametrize("message", ["", "Said."])
@pytest.mark.parametrize("state", [*CaConfigMapState])
def test_what_is_written_is_read_again(state: CaConfigMapState, message: str) -> None:
    item = CaConfigMap(name="orders-ca", state=state, message=message)
    assert read_ca_config_map(item.to_body()) == item
    status = Status(ca_config_map=item)
    assert Status.from_body({"status": status.to_body()}) == status


@pytest.mark.parametrize(
    "value",
    [None, "x", [], {}, {"name": "x"}, {"name": "", "state": "Current"}, {"name": 1, "state": "Current"},
     {"name": "x", "state": "Odd"}, {"name": "x", "state": "Current", "message": 1}, {"name": "x", "state": {}},
     {"name": "../../other/configmaps/x", "state": "Current"}, {"name": "x?limit=1", "state": "Current"}],
)  # fmt: skip
def test_what_cannot_be_read_was_never_written(value: object) -> None:
    assert read_ca_config_map(value) is None
