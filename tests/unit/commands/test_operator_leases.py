from datetime import UTC, datetime

import pytest

from dbclusterref.commands.operator_leases import OperatorState, read_operator_leases
from dbclusterref.resource.shard import Shard
from tests.support.builders import UID, Body
from tests.support.reference_api import SYSTEM, Api, api, lease

pytestmark = pytest.mark.usefixtures("at_once")


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dbclusterref.commands.operator_leases.SECOND_LOOK", 0.0)


async def state(*leases: Body, later: Body | None = None) -> OperatorState:
    class Changing(Api):
        async def list_leases(self, namespace: str) -> list[Body]:
            found = await super().list_leases(namespace)
            self.leases = [later] if later else self.leases
            return found

    made = Changing()
    made.leases = list(leases)
    found = await read_operator_leases(made, namespace=SYSTEM, now=datetime.now(tz=UTC))  # type: ignore[arg-type]
    return found.state_of(UID)


async def test_a_lease_that_was_renewed_just_now_is_a_running_operators() -> None:
    assert await state(lease(renewed=3)) is OperatorState.RUNNING


@pytest.mark.parametrize(("holder", "renewed"), [("pod-1", 60), ("", 1), ("", 600), ("pod-1", -600)])
async def test_a_lease_that_nobody_renews_is_not(holder: str, renewed: int) -> None:
    """Also one that was given back, and one that a clock wrote which is ahead of ours."""
    assert await state(lease(holder=holder, renewed=renewed)) is OperatorState.NOT_RUNNING


@pytest.mark.parametrize("renewed", [600, -600])
async def test_a_clock_that_is_wrong_makes_no_running_operator_look_dead(renewed: int) -> None:
    assert await state(lease(renewed=renewed), later=lease(renewed=renewed - 4)) is OperatorState.RUNNING


async def test_a_lease_that_changes_hands_is_looked_at_again() -> None:
    """Between the end of one process and the beginning of the next, as at each upgrade, nobody holds it."""
    assert await state(lease(holder="", renewed=1), later=lease(holder="pod-2")) is OperatorState.RUNNING


async def test_each_shard_has_an_operator_of_its_own() -> None:
    own = next(index for index in range(3) if Shard(index=index, count=3).owns(UID))
    alive = [lease(name=f"dbclusterref-{index}-of-3") for index in range(3) if index != own]
    assert await state(*alive, lease(name=f"dbclusterref-{own}-of-3", renewed=90)) is OperatorState.NOT_RUNNING
    assert await state(*alive) is OperatorState.UNKNOWN
    assert await state(lease(renewed=900), lease(name=f"dbclusterref-{own}-of-3")) is OperatorState.RUNNING, "an older split's"


async def test_without_a_lease_nothing_is_known() -> None:
    assert await state() is OperatorState.UNKNOWN
    assert await state(lease(name="others")) is OperatorState.UNKNOWN
    made, kubernetes = api()
    made.leases = None
    found = await read_operator_leases(kubernetes, namespace=SYSTEM, now=datetime.now(tz=UTC))
    assert found.state_of(UID) is OperatorState.UNKNOWN
