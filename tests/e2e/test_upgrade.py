"""The operator of an earlier commit and this one, one after the other on the same objects, and back again."""

import io
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.cluster import ROOT, Tenant, wait_until
from tests.e2e.conftest import StartOperator
from tests.e2e.running import Operator

pytestmark = pytest.mark.e2e

FORMER = "f6719713d8634efe8344c4414ba0ed4c85ae3bd9"
"""The last commit before the image could run in a pod: what anybody could have installed until then."""


@pytest.fixture(scope="module")
def former(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The source root of the former operator."""
    archive = subprocess.run(["git", "archive", FORMER, "operator"], cwd=ROOT, capture_output=True, check=False)
    if archive.returncode:
        pytest.skip(f"commit {FORMER} is not in this clone's history (git archive: {archive.stderr.decode().strip()})")
    directory = tmp_path_factory.mktemp("former")
    with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as tar:
        tar.extractall(directory, filter="data")
    return directory / "operator"


@pytest.fixture
def tenant(lone: Tenant) -> Tenant:
    """Somebody with a resource of each sort."""
    plain = lone.control.create_cluster(name="plain", num_nodes=2)["id"]
    lone.refer(plain, name="plain")
    lone.refer(plain, name="template", secret={"template": {"DSN": "{uri}"}, "keySets": ["Env"]})
    lone.refer(plain, name="suspended")
    lone.refer("00000000-0000-4000-8000-00000000dead", name="missing")
    # Former operators do not know `tls`: it keeps the keys that they wrote.
    lone.refer(plain, name="mounted", secret={"mountPath": "/bindings/plain", "tls": "Encrypt"})
    mysql = lone.control.create_cluster(name="mysql", engine="mysql")["id"]
    lone.refer(mysql, name="mysql", secret={"name": "mysql-credentials", "deletionPolicy": "Retain"})
    return lone


NAMES = ("plain", "template", "mounted", "mysql")


def serve(tenant: Tenant, operator: Operator) -> None:
    """Waits until an operator has served everything, suspends what is to be suspended, and ends the operator."""
    tenant.wait_for("Synced", name="suspended")
    tenant.admin.patch(tenant.path("suspended"), {"spec": {"suspend": True}})
    wait_until(lambda: settled(tenant), what="everything served", within=60)
    operator.stop()


def settled(tenant: Tenant) -> bool:
    reasons = {name: tenant.condition("Fresh", name)["reason"] for name in (*NAMES, "suspended", "missing")}
    stalled = tenant.condition("Stalled", "missing")["status"]
    return stalled == "True" and set(reasons.values()) == {"Synced", "Suspended", "ClusterNotFound"}


def secrets(tenant: Tenant) -> dict[str, tuple[str, Any, Any]]:
    """Each Secret's UID, content and revision: what a pod notices."""
    listed = tenant.admin.get(f"/api/v1/namespaces/{tenant.namespace}/secrets")["items"]
    return {
        one["metadata"]["name"]: (
            one["metadata"]["uid"], one["data"], one["metadata"].get("annotations", {}).get("dbclusterref.io/revision"),
        )
        for one in listed
    }  # fmt: skip


def turns(tenant: Tenant) -> dict[str, list[tuple[str, str, str, str]]]:
    """When each condition last turned, and what it says in one word: what Argo CD, Flux and a waiting person notice."""
    return {
        name: [
            (one["type"], one["status"], one["reason"], one["lastTransitionTime"]) for one in tenant.status(name)["conditions"]
        ]
        for name in (*NAMES, "suspended", "missing")
    }


def versions(tenant: Tenant) -> list[str]:
    listed = tenant.admin.get(f"/api/v1/namespaces/{tenant.namespace}/secrets")["items"]
    listed += tenant.admin.get(tenant.references_path)["items"]
    return [one["metadata"]["resourceVersion"] for one in listed]


def look_at_each(tenant: Tenant, operator: Operator) -> None:
    """Waits until a freshly started operator has reconciled everything, twice where the first found something to write."""
    names = ("dbclusterref_reconcile_duration_seconds_count", "dbclusterref_reconcile_seconds_count")  # the former one's, too
    wait_until(lambda: sum(map(operator.metric, names)) >= len(turns(tenant)), what="a look at each")
    wait_until(lambda: settled(tenant), what="the same statuses again")


def test_an_upgrade_changes_no_content_turns_no_condition_and_makes_no_event(
    tenant: Tenant, start_operator: StartOperator, former: Path
) -> None:
    """Statuses and annotations may be written once, since messages have changed; afterwards a restart writes nothing."""
    old = start_operator(source=former)
    serve(tenant, old)
    before, turned, told = secrets(tenant), turns(tenant), len(tenant.events())

    new = start_operator()
    look_at_each(tenant, new)
    new.stop()
    assert secrets(tenant) == before
    assert turns(tenant) == turned
    assert len(tenant.events()) == told

    written = versions(tenant)
    again = start_operator()
    look_at_each(tenant, again)
    again.stop()
    assert versions(tenant) == written, "a restart of the same version writes nothing"


def test_a_downgrade_keeps_every_secret_in_service(tenant: Tenant, start_operator: StartOperator, former: Path) -> None:
    new = start_operator()
    serve(tenant, new)
    before = secrets(tenant)

    old = start_operator(source=former)
    look_at_each(tenant, old)
    old.stop()
    assert {name: content for name, (_, content, _) in secrets(tenant).items()} == {
        name: content for name, (_, content, _) in before.items()
    }
