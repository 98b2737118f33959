from typing import Any

import pytest

from dbclusterref.commands.explanation import explain
from tests.support.builders import KEY, Body, reference_body
from tests.support.reference_api import SYSTEM, api, at, body, lease, status


async def test_explain_says_meaning_remedy_and_what_happens_meanwhile(capsys: pytest.CaptureFixture[str]) -> None:
    _, kubernetes = api(body(ready=False, fresh=False, reason="TokenInvalid"))
    assert await explain(kubernetes, KEY, operator_namespace=SYSTEM) == 1
    shown = capsys.readouterr().out
    assert shown.startswith("shop/orders-db: TokenInvalid (Fresh=False for ")
    for word in (
        "Meaning:   DigitalOcean rejected",
        "To do:     Run the command of the message, which puts a valid token",
        "Meanwhile: ",
        "revision 3",
        "Answer:    ",
    ):
        assert word in shown


async def test_explain_says_that_the_status_is_of_another_generation(capsys: pytest.CaptureFixture[str]) -> None:
    _, kubernetes = api(reference_body(generation=4) | {"status": status()})
    await explain(kubernetes, KEY, operator_namespace=SYSTEM)
    assert "The status is of generation 1; the resource is at 4." in capsys.readouterr().out


READY = "Secret orders-db holds the private primary of orders (pg 17, fra1)."


def synced(notes: str = "", **members: Any) -> Body:
    told = status(**members)
    told["conditions"][0]["message"] = f"{READY} {notes}".rstrip()
    return told


async def shown(capsys: pytest.CaptureFixture[str], told: Body, *, spec: dict[str, object] | None = None) -> str:
    _, kubernetes = api(reference_body(spec) | {"status": told})
    await explain(kubernetes, KEY, operator_namespace=SYSTEM)
    return capsys.readouterr().out


async def test_a_synced_resource_needs_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    said = await shown(capsys, synced())
    assert "To do:     Nothing.\n" in said
    assert "Answer:    current\n" in said
    assert "Notes" not in said


async def test_what_ready_notes_is_not_called_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    said = await shown(capsys, synced("Left out, because the cluster has no usable value for them: URL."))
    assert f"Ready=True: {READY}\n" in said
    assert "Notes:     Left out, because the cluster has no usable value for them: URL.\n" in said
    assert "To do:     Nothing, unless the notes say what you do not want.\n" in said


@pytest.mark.parametrize("state", ["NotFound", "Forbidden", "Disabled", "Failed", "TimedOut"])
async def test_a_restart_that_cannot_be_is_something_to_do(capsys: pytest.CaptureFixture[str], state: str) -> None:
    item = {"kind": "Deployment", "name": "orders", "revision": 3, "state": state, "message": "Deployment orders: do this."}
    said = await shown(capsys, synced("Deployment orders: do this.", restarts=[item]))
    assert "To do:     Deployment orders: do this.\n" in said
    assert said.count("do this.") == 1


async def test_notes_do_not_repeat_what_is_to_be_done(capsys: pytest.CaptureFixture[str]) -> None:
    item = {"kind": "Deployment", "name": "orders", "revision": 3, "state": "Failed", "message": "Deployment orders: do this."}
    said = await shown(capsys, synced("There is no private standby. Deployment orders: do this.", restarts=[item]))
    assert "Notes:     There is no private standby.\n" in said
    assert said.count("do this.") == 1


async def test_a_ca_config_map_that_cannot_be_is_something_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    of_status = {"name": "ca", "state": "Conflict", "message": "ConfigMap ca is another's."}
    said = await shown(capsys, synced("ConfigMap ca is another's.", caConfigMap=of_status))
    assert "To do:     ConfigMap ca is another's.\n" in said


async def test_a_workload_that_does_not_exist_is_said_before_the_rotation(capsys: pytest.CaptureFixture[str]) -> None:
    spec: dict[str, object] = {"restart": [{"kind": "Deployment", "name": "ordesr"}, {"kind": "DaemonSet", "name": "there"}]}
    made, kubernetes = api(reference_body(spec) | {"status": synced()})
    made.workloads = {"DaemonSet there"}
    assert await explain(kubernetes, KEY, operator_namespace=SYSTEM) == 1
    said = capsys.readouterr().out
    assert "To do:     spec.restart names Deployment ordesr, which does not exist in namespace shop; correct it.\n" in said


async def test_a_text_that_two_conditions_have_is_said_once(capsys: pytest.CaptureFixture[str]) -> None:
    told = status(ready=False, fresh=False, reason="UserNotFound")
    long = "A redis cluster has no database users. Remove spec.user."
    told["conditions"][0]["message"] = long
    told["conditions"].append(
        {"type": "Stalled", "status": "True", "reason": "UserNotFound", "message": long, "observedGeneration": 1,
         "lastTransitionTime": at(minutes=7)}
    )  # fmt: skip
    said = await shown(capsys, told)
    assert said.count(long) == 1
    assert "  Stalled=True: as Ready says\n" in said
    assert "remove spec.user where the engine has no users" in said


async def test_without_an_operator_nothing_is_current(capsys: pytest.CaptureFixture[str]) -> None:
    made, kubernetes = api(body())
    made.leases = [lease(holder="", renewed=125)]
    assert await explain(kubernetes, KEY, operator_namespace=SYSTEM) == 1
    said = capsys.readouterr().out
    assert "No operator has renewed its Lease dbclusterref-system/dbclusterref for 2m. Nothing is read or written" in said
    assert "To do:     Start the operator: " in said
    assert "Meanwhile: Nothing, until an operator runs." in said
    assert "current" not in said


@pytest.mark.parametrize("leases", [None, []])
async def test_an_operator_that_nothing_is_known_of_is_called_neither(
    capsys: pytest.CaptureFixture[str], leases: list[dict[str, object]] | None
) -> None:
    made, kubernetes = api(body())
    made.leases = leases
    assert await explain(kubernetes, KEY, operator_namespace=SYSTEM) == 0
    said = capsys.readouterr().out
    assert "Operator:  not known: no Lease of it can be read in namespace dbclusterref-system" in said
    assert "current" not in said
