"""Writes docs/gitops-verdicts.md, what GitOps tools make of each status: `python -m tools.verdicts_page`.

The statuses come from the operator's own reducer, the verdicts from kstatus and Argo CD's Lua themselves.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import product
from pathlib import Path
from typing import Any

from dbclusterref.digitalocean.model import DatabaseCluster
from dbclusterref.errors import Blocked, Cause, Transient, UnconfirmedNotFound
from dbclusterref.reconcile.conditions import Holds, Outcome, Published, Result, Suspended, next_status
from dbclusterref.resource.objects import ObjectMeta
from dbclusterref.resource.reference import Reference
from dbclusterref.resource.status import Status
from sandbox.binaries.verdicts import judge

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "gitops-verdicts.md"
SCRIPT = ROOT / "deploy" / "argocd" / "health.lua"

NOW = datetime(2026, 1, 1, tzinfo=UTC)
YOUNG, OLD = timedelta(seconds=30), timedelta(hours=1)
"""Ages of an outage: within and beyond three refresh intervals and five minutes."""
BODY: Mapping[str, Any] = {
    "apiVersion": "dbclusterref.io/v1alpha1",
    "kind": "DatabaseClusterRef",
    "metadata": {"name": "orders-db", "namespace": "shop", "uid": "u", "generation": 2},
    "spec": {"clusterUUID": "9cc10173-e9ea-4176-9dbc-a4cee4c4ff30", "apiTokenSecretRef": {"name": "do-token"}},
}
IDENTITY = ObjectMeta.from_body(BODY)
REFERENCE = Reference.from_body(BODY)
CLUSTER = DatabaseCluster.from_api(
    {
        "id": REFERENCE.cluster_uuid,
        "name": "orders",
        "engine": "pg",
        "status": "online",
        "private_connection": {"host": "private.example.com", "port": 25060, "user": "doadmin", "password": "x"},
    }
)
PUBLISHED = Published(cluster=CLUSTER, endpoints=CLUSTER.endpoints, secret_name="orders-db", revision=1)  # noqa: S106 - a name

SECRETS: Mapping[str, Sequence[tuple[Holds, timedelta]]] = {
    "no Secret": ((Holds.MISSING, YOUNG), (Holds.MISSING, OLD)),
    "good Secret": ((Holds.THIS_SPEC, YOUNG),),
    "good Secret, but not fresh for long": ((Holds.THIS_SPEC, OLD),),
    "Secret of a former spec": tuple(product((Holds.FORMER_SPEC, Holds.RENAMED), (YOUNG, OLD))),
    "Secret changed by others, or theirs": tuple(product((Holds.CHANGED, Holds.FOREIGN), (YOUNG, OLD))),
    "Secret that may not be read": ((Holds.UNREADABLE, YOUNG), (Holds.UNREADABLE, OLD)),
}
"""What a column is about; `for long` is three refresh intervals, and at least five minutes."""

Object = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Cell:
    """Objects of which one verdict is expected. Where there are several, the table names each."""

    row: str
    column: str
    objects: tuple[Object, ...]


def causes() -> list[type[Cause]]:
    """Return every cause, transient ones first."""
    return [kind for base in (Transient, Blocked) for kind in sorted(base.__subclasses__(), key=lambda kind: kind.__name__)]


def after(old: Status, outcome: Outcome, *, holds: Holds = Holds.THIS_SPEC, age: timedelta = timedelta()) -> Status:
    """Return the status that the operator writes next."""
    result = Result(outcome=outcome, holds=holds, not_fresh_for=age)
    return next_status(old, result, identity=IDENTITY, reference=REFERENCE, now=NOW)


def status_before(holds: Holds) -> Status:
    """Return the status before anything went wrong: none where there has never been a Secret."""
    return Status() if holds is Holds.MISSING else after(Status(), PUBLISHED)


def seen(status: Status | None, *, generation: int = 2, suspend: bool = False, **metadata: object) -> Object:
    """Return the object as a GitOps tool reads it."""
    return {
        **BODY,
        "metadata": {**BODY["metadata"], "generation": generation, **metadata},
        "spec": {**BODY["spec"], "suspend": suspend},
        # What the CRD gives an object that the operator has not seen.
        "status": status.to_body() if status else {"observedGeneration": -1},
    }


def cells_of_causes() -> Iterator[Cell]:
    """Yield each cause with each Secret. A 404 is one that is not believed before a second look."""
    for kind in causes():
        name = f"{kind.reason}, first look" if kind is UnconfirmedNotFound else kind.reason
        for column, cases in SECRETS.items():
            states = (after(status_before(holds), kind("…"), holds=holds, age=age) for holds, age in cases)
            yield Cell(name, column, tuple(map(seen, states)))


def statuses_before_suspension(holds: Holds, age: timedelta) -> list[Status]:
    """Return what a resource may have said when it was suspended."""
    before = status_before(holds)
    return [before, *(after(before, kind("…"), holds=holds, age=age) for kind in causes())]


def cells_of_suspension() -> Iterator[Cell]:
    """Yield suspension with each Secret, after each cause."""
    for column, cases in SECRETS.items():
        formers = [(status, holds, age) for holds, age in cases for status in statuses_before_suspension(holds, age)]
        objects = [seen(after(former, Suspended(), holds=holds, age=age), suspend=True) for former, holds, age in formers]
        yield Cell("Suspended, after whatever reason", column, tuple(objects))


def cells_of_the_rest() -> Iterator[Cell]:
    """Yield what is no failure."""
    synced = after(Status(), PUBLISHED)
    failed = [after(status_before(holds), kind("…"), holds=holds) for kind in causes() for holds in Holds]
    yield Cell("Synced", "", (seen(synced),))
    yield Cell("not seen by the operator yet", "", (seen(None), seen(None, suspend=True)))
    changed = [*failed, synced, after(synced, Suspended())]
    yield Cell("spec changed, not seen yet: whatever was before", "", tuple(seen(one, generation=3) for one in changed))
    gone = [seen(one, deletionTimestamp="2026-01-01T00:00:00Z") for one in changed]
    yield Cell("being deleted", "", tuple(gone))


def render() -> str:
    """Return the page. One process judges every object."""
    cells = [*cells_of_causes(), *cells_of_suspension(), *cells_of_the_rest()]
    verdicts = iter(judge([one for cell in cells for one in cell.objects], script=SCRIPT))
    judged = {(cell.row, cell.column): [_words(next(verdicts), one) for one in cell.objects] for cell in cells}
    rows = dict.fromkeys(row for row, column in judged if column)
    matrix = [[row, *("; ".join(dict.fromkeys(judged[row, column])) for column in SECRETS)] for row in rows]
    rest = [[row, "; ".join(dict.fromkeys(words))] for (row, column), words in judged.items() if not column]
    count = sum(map(len, judged.values()))
    return _PAGE.format(matrix=_table(["Reason", *SECRETS], matrix), rest=_table(["Status", "Verdict"], rest), count=count)


def _words(verdict: Mapping[str, str], one: Object) -> str:
    if verdict["kstatus"] != verdict["flux"]:
        raise AssertionError(f"kstatus says {verdict['kstatus']} and Flux's copy {verdict['flux']} of {one['status']}")
    ready = next((c["status"] for c in one["status"].get("conditions", ()) if c["type"] == "Ready"), "unset")
    return f"{ready} / {verdict['kstatus']} / {verdict['argo']}"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


_PAGE = """\
# What GitOps tools make of each status

<!-- Written by `python -m tools.verdicts_page`; a test holds it equal. -->

Each cell is *Ready / kstatus / Argo CD*.

- *Ready* is what `kubectl wait --for=condition=Ready` waits for.
- *kstatus* is what Flux (`wait: true`, `dependsOn`) and other tools on kstatus see: they go on at `Current`, end at
  `Failed`, and wait at `InProgress` until their time-out.
- *Argo CD* is its health by [`deploy/argocd/health.lua`](../deploy/argocd/health.lua): a sync wave goes on at `Healthy`,
  ends at `Degraded`, and waits at `Progressing`.

The operator's own code made the {count} statuses behind this page. kstatus, Flux's copy of it (which agreed on each) and the
Lua that Argo CD runs judged them.

## A cause, and the Secret

*Not fresh for long* means for more than three refresh intervals, and at least five minutes.

{matrix}

- A **transient** cause with a good Secret stops nobody: what is in the Secret works as far as anyone knows. `Fresh=False`
  and Argo CD's message name the cause.
- When it lasts, `Ready` turns False. Argo CD then says `Degraded`, so that its alerts fire. kstatus has no word for what
  may still end without anybody acting, so Flux waits until its time-out.
- A Secret of a **former spec** is not what this generation asks for: an application that needs the new user is not rolled
  out before its Secret is there.
- A Secret that **may not be read** counts as not good: nobody knows what is in it. That happens where the operator may not
  watch Secrets (rights to named ones alone), and lacks the verb `get` on this one.
- A cause that **waits for a person** is `Failed` and `Degraded` at once, with any Secret.
- **Suspended** with a good Secret holds up no sync. Without one, nothing that waits for this resource can go on before
  somebody resumes it: that is said at once instead of after a time-out.

## Everything else

{rest}
"""


if __name__ == "__main__":
    PAGE.write_text(render())
