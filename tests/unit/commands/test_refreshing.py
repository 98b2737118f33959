import pytest

from dbclusterref.commands.refreshing import UNREAD, refresh, set_suspended
from dbclusterref.resource.objects import REFRESH_REQUESTED_AT
from tests.support.builders import KEY, reference_body
from tests.support.reference_api import SYSTEM, api, body, lease, status


async def test_a_refresh_is_requested_and_its_outcome_awaited(capsys: pytest.CaptureFixture[str]) -> None:
    made, kubernetes = api(body())
    assert await refresh(kubernetes, KEY, wait=0.0, operator_namespace=SYSTEM) == 0
    assert await refresh(kubernetes, KEY, wait=5.0, operator_namespace=SYSTEM) == 0
    assert REFRESH_REQUESTED_AT in made.patches[0][1]["metadata"]["annotations"]
    assert capsys.readouterr().out.splitlines() == ["shop/orders-db: refresh requested.", "shop/orders-db: Synced: As it says."]
    _, failing = api(body(fresh=False, reason="TokenInvalid"))
    assert await refresh(failing, KEY, wait=5.0, operator_namespace=SYSTEM) == 1
    _, without = api(body(ready=False, fresh=False, reason="TokenInvalid"))
    assert await refresh(without, KEY, wait=5.0, operator_namespace=SYSTEM) == 1
    assert capsys.readouterr().out.splitlines()[-1] == "shop/orders-db: TokenInvalid: The Secret is there.", "what Ready says"


async def test_a_refresh_that_the_rate_limit_delays_ends_with_the_reason(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dbclusterref.commands.refreshing.POLL_PERIOD", 0.0)
    made, kubernetes = api(body(fresh=False, reason="RateLimited"))
    made.acknowledges = False
    assert await refresh(kubernetes, KEY, wait=5.0, operator_namespace=SYSTEM) == 1
    said = capsys.readouterr().out.strip()
    assert said == "shop/orders-db: RateLimited: As it says. The refresh stays requested."
    made.acknowledges = True
    assert await refresh(kubernetes, KEY, wait=5.0, operator_namespace=SYSTEM) == 1
    assert capsys.readouterr().out.strip() == "shop/orders-db: RateLimited: As it says."


async def test_suspend_and_resume_change_one_field() -> None:
    made, kubernetes = api(body())
    await set_suspended(kubernetes, KEY, suspended=True)
    await set_suspended(kubernetes, KEY, suspended=False)
    assert [patch for _, patch in made.patches] == [{"spec": {"suspend": True}}, {"spec": {"suspend": False}}]


@pytest.mark.parametrize("reason", sorted(UNREAD))
async def test_a_refresh_for_which_nothing_is_read_ends_with_the_reason(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, reason: str
) -> None:
    monkeypatch.setattr("dbclusterref.commands.refreshing.POLL_PERIOD", 0.0)
    made, kubernetes = api(body(ready=False, fresh=False, reason=reason))
    made.acknowledges = False
    assert await refresh(kubernetes, KEY, wait=5.0, operator_namespace=SYSTEM) == 1
    said = capsys.readouterr().out.strip()
    assert said == f"shop/orders-db: {reason}: The Secret is there. The refresh stays requested."


async def test_a_refresh_of_a_suspended_resource_says_so_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    made, kubernetes = api(reference_body(suspend=True) | {"status": status()})
    made.acknowledges = False
    for wait in (0.0, 60.0):
        assert await refresh(kubernetes, KEY, wait=wait, operator_namespace=SYSTEM) == 1
        assert (
            "Suspended: nothing is read until it is resumed: dbclusterref resume -n shop orders-db." in capsys.readouterr().out
        )


async def test_a_refresh_without_an_operator_says_so_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    made, kubernetes = api(body())
    made.acknowledges, made.leases = False, [lease(holder="", renewed=200)]
    assert await refresh(kubernetes, KEY, wait=60.0, operator_namespace=SYSTEM) == 1
    said = capsys.readouterr().out
    assert "No operator has renewed its Lease dbclusterref-system/dbclusterref for 3m. Nothing is read until one runs." in said


async def test_a_refresh_that_takes_too_long_says_what_is_in_the_way(capsys: pytest.CaptureFixture[str]) -> None:
    made, kubernetes = api(body(fresh=False, reason="UpstreamUnavailable"))
    made.acknowledges = False
    assert await refresh(kubernetes, KEY, wait=0.05, operator_namespace=SYSTEM) == 1
    assert "not read within 0 s (UpstreamUnavailable: As it says.); see: dbclusterref explain" in capsys.readouterr().out
