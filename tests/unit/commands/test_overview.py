import itertools
import json
from datetime import timedelta

import pytest

from dbclusterref.commands.overview import Row, age, explain, refresh, set_suspended, show_status, table
from dbclusterref.errors import SettingsError
from dbclusterref.resource.objects import REFRESH_REQUESTED_AT
from tests.support.builders import KEY, reference_body
from tests.support.reference_api import NOW, api, body, status


def test_a_row_says_why_the_resource_is_not_fresh_and_how_old_its_answer_is() -> None:
    row = Row.of(body(fresh=False, reason="UpstreamUnavailable"), now=NOW)
    assert (row.ready, row.fresh, row.reason, row.since, row.answer) == ("True", "False", "UpstreamUnavailable", "7m", "12m")
    assert (row.engine, row.cluster, row.secret) == ("pg", "orders", "orders-db")
    assert not row.is_well


def test_a_row_of_a_fresh_resource_has_a_current_answer() -> None:
    row = Row.of(body(), now=NOW)
    assert (row.reason, row.since, row.answer, row.is_well) == ("Synced", "3d", "current", True)


def test_a_resource_without_a_status_is_pending() -> None:
    row = Row.of(reference_body(), now=NOW)
    assert (row.reason, row.answer, row.is_well) == ("Pending", "never", False)


@pytest.mark.parametrize(
    ("ago", "written"), [({"seconds": 5}, "5s"), ({"seconds": 119}, "119s"), ({"minutes": 90}, "90m"), ({"hours": 30}, "30h"),
                         ({"days": 9}, "9d"), ({"seconds": -3}, "0s")],
)  # fmt: skip
def test_an_age_is_written_as_kubectl_does(ago: dict[str, int], written: str) -> None:
    assert age(NOW, NOW - timedelta(**ago)) == written


def test_columns_are_aligned_and_colors_are_only_where_they_are_wanted() -> None:
    rows = [Row.of(body(), now=NOW), Row.of(body(fresh=False, reason="RateLimited"), now=NOW)]
    plain = table(rows, colored=False)
    assert [line.index("shop") for line in plain[1:]] == [0, 0]
    starts = [line.index("orders-db") for line in plain[1:]]
    assert starts[0] == starts[1] == plain[0].index("NAME", 5)
    assert "\x1b" not in "".join(plain)
    colored = table(rows, colored=True)
    assert "\x1b" not in colored[1]
    assert "\x1b" in colored[2]


async def test_status_is_1_where_anything_needs_a_look(capsys: pytest.CaptureFixture[str]) -> None:
    for bodies, expected in (((body(),), 0), ((body(fresh=False),), 1), ((), 0)):
        _, kubernetes = api(*bodies)
        got = await show_status(kubernetes, namespace="", output="table", watch=False, colored=False, on_terminal=False)
        assert got == expected
    assert capsys.readouterr().out.endswith("No DatabaseClusterRefs found.\n")


async def test_status_as_json_is_for_machines(capsys: pytest.CaptureFixture[str]) -> None:
    _, kubernetes = api(body())
    await show_status(kubernetes, namespace="shop", output="json", watch=False, colored=True, on_terminal=True)
    (row,) = json.loads(capsys.readouterr().out)
    assert (row["namespace"], row["name"], row["ready"]) == ("shop", "orders-db", "True")


async def test_a_refresh_is_requested_and_its_outcome_awaited(capsys: pytest.CaptureFixture[str]) -> None:
    made, kubernetes = api(body())
    assert await refresh(kubernetes, KEY, wait=0.0) == 0
    assert await refresh(kubernetes, KEY, wait=5.0) == 0
    assert REFRESH_REQUESTED_AT in made.patches[0][1]["metadata"]["annotations"]
    assert capsys.readouterr().out.splitlines() == ["shop/orders-db: refresh requested.", "shop/orders-db: Synced: As it says."]
    _, failing = api(body(fresh=False, reason="TokenInvalid"))
    assert await refresh(failing, KEY, wait=5.0) == 1
    _, without = api(body(ready=False, fresh=False, reason="TokenInvalid"))
    assert await refresh(without, KEY, wait=5.0) == 1
    assert capsys.readouterr().out.splitlines()[-1] == "shop/orders-db: TokenInvalid: The Secret is there.", "what Ready says"


async def test_a_refresh_that_the_rate_limit_delays_ends_with_the_reason(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dbclusterref.commands.overview.POLL_PERIOD", 0.0)
    made, kubernetes = api(body(fresh=False, reason="RateLimited"))
    made.acknowledges = False
    assert await refresh(kubernetes, KEY, wait=5.0) == 1
    said = capsys.readouterr().out.strip()
    assert said == "shop/orders-db: RateLimited: As it says. The refresh stays requested until then."
    made.acknowledges = True
    assert await refresh(kubernetes, KEY, wait=5.0) == 1
    assert capsys.readouterr().out.strip() == "shop/orders-db: RateLimited: As it says."


async def test_suspend_and_resume_change_one_field() -> None:
    made, kubernetes = api(body())
    await set_suspended(kubernetes, KEY, suspended=True)
    await set_suspended(kubernetes, KEY, suspended=False)
    assert [patch for _, patch in made.patches] == [{"spec": {"suspend": True}}, {"spec": {"suspend": False}}]


async def test_explain_says_meaning_remedy_and_what_happens_meanwhile(capsys: pytest.CaptureFixture[str]) -> None:
    _, kubernetes = api(body(ready=False, fresh=False, reason="TokenInvalid"))
    assert await explain(kubernetes, KEY) == 1
    shown = capsys.readouterr().out
    assert shown.startswith("shop/orders-db: TokenInvalid, for ")
    for word in (
        "Meaning:   DigitalOcean rejected",
        "To do:     Put a valid token",
        "Meanwhile: ",
        "revision 3",
        "Answer:    ",
    ):
        assert word in shown


async def test_explain_says_that_the_status_is_of_another_generation(capsys: pytest.CaptureFixture[str]) -> None:
    _, kubernetes = api(reference_body(generation=4) | {"status": status()})
    await explain(kubernetes, KEY)
    assert "The status is of generation 1; the resource is at 4." in capsys.readouterr().out


async def test_a_resource_that_does_not_exist_is_named() -> None:
    _, kubernetes = api()
    for call in (explain(kubernetes, KEY), refresh(kubernetes, KEY, wait=0.0), set_suspended(kubernetes, KEY, suspended=True)):
        with pytest.raises(SettingsError, match="there is no DatabaseClusterRef shop/orders-db"):
            await call


async def test_watching_when_piped_prints_only_what_has_changed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, kubernetes = api(body())
    rounds = itertools.count()

    async def next_round(_: float) -> None:
        if next(rounds) == 1:
            raise KeyboardInterrupt

    monkeypatch.setattr("dbclusterref.commands.overview.asyncio.sleep", next_round)
    with pytest.raises(KeyboardInterrupt):
        await show_status(kubernetes, namespace="", output="table", watch=True, colored=False, on_terminal=False)
    assert capsys.readouterr().out.count("orders-db") == 2  # its name and its Secret's, once
