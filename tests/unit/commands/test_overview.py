import itertools
import json
from datetime import timedelta

import pytest

from dbclusterref.commands.operator_leases import OperatorState
from dbclusterref.commands.overview import Row, age, show_status, table
from tests.support.builders import reference_body
from tests.support.reference_api import NOW, SYSTEM, api, at, body, lease


def test_a_row_says_why_the_resource_is_not_fresh_and_how_old_its_answer_is() -> None:
    row = Row.of(body(fresh=False, reason="UpstreamUnavailable"), now=NOW)
    assert (row.ready, row.fresh, row.reason, row.since, row.answer) == ("True", "False", "UpstreamUnavailable", "7m", "12m")
    assert (row.engine, row.cluster, row.secret) == ("pg", "orders", "orders-db")
    assert not row.is_well


def test_a_row_of_a_fresh_resource_has_a_current_answer() -> None:
    row = Row.of(body(), now=NOW, operator=OperatorState.RUNNING)
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
        got = await show_status(
            kubernetes, namespace="", operator_namespace=SYSTEM, output="table", watch=False, colored=False, on_terminal=False
        )
        assert got == expected
    assert capsys.readouterr().out.endswith("No DatabaseClusterRefs in any namespace.\n")


async def test_where_there_is_none_the_namespace_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    _, kubernetes = api()
    await show_status(
        kubernetes, namespace="shop", operator_namespace=SYSTEM, output="table", watch=False, colored=False, on_terminal=False
    )
    assert capsys.readouterr().out == "No DatabaseClusterRefs in namespace shop; -A looks in all.\n"


@pytest.mark.parametrize("operator", [OperatorState.UNKNOWN, OperatorState.NOT_RUNNING])
def test_no_answer_is_called_current_without_an_operator_that_is_seen_to_run(operator: OperatorState) -> None:
    row = Row.of(body(), now=NOW, operator=operator)
    assert (row.answer, row.is_well) == ("12m", operator is OperatorState.UNKNOWN)


async def test_status_says_that_no_operator_runs(capsys: pytest.CaptureFixture[str]) -> None:
    made, kubernetes = api(body())
    made.leases = [lease(holder="", renewed=125)]
    got = await show_status(
        kubernetes, namespace="", operator_namespace=SYSTEM, output="table", watch=False, colored=False, on_terminal=False
    )
    said = capsys.readouterr().out
    assert got == 1
    assert "No operator has renewed its Lease dbclusterref-system/dbclusterref for 2m." in said
    assert "current" not in said


async def test_status_as_json_is_for_machines(capsys: pytest.CaptureFixture[str]) -> None:
    _, kubernetes = api(body())
    await show_status(
        kubernetes, namespace="shop", operator_namespace=SYSTEM, output="json", watch=False, colored=True, on_terminal=True
    )
    (row,) = json.loads(capsys.readouterr().out)
    assert row == {
        "namespace": "shop", "name": "orders-db", "ready": "True", "fresh": "True", "stalled": None, "reconciling": None,
        "reason": "Synced", "message": "As it says.", "since": at(days=3), "lastSyncTime": at(minutes=12),
        "lastChangeTime": at(hours=5), "generation": 1, "observedGeneration": 1, "engine": "pg", "cluster": "orders",
        "secret": "orders-db", "secretRevision": 3, "operator": "Running",
    }  # fmt: skip
    _, kubernetes = api(reference_body())
    await show_status(
        kubernetes, namespace="shop", operator_namespace=SYSTEM, output="json", watch=False, colored=True, on_terminal=True
    )
    (row,) = json.loads(capsys.readouterr().out)
    assert (row["ready"], row["reason"], row["since"], row["observedGeneration"]) == (None, "Pending", None, None)


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
        await show_status(
            kubernetes, namespace="", operator_namespace=SYSTEM, output="table", watch=True, colored=False, on_terminal=False
        )
    assert capsys.readouterr().out.count("orders-db") == 2  # its name and its Secret's, once
