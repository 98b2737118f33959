"""The operator's own token is no way into other tenants' databases: a tag at DigitalOcean grants each cluster."""

import json
from collections import Counter
from functools import partial
from pathlib import Path

import pytest

from tests.e2e.cluster import Json, Tenant, wait_until
from tests.e2e.conftest import MakeTenant, StartOperator

pytestmark = pytest.mark.e2e

MISSING = "00000000-0000-4000-8000-0000000000ff"
SPECS: dict[str, Json] = {
    "plain": {},
    "user": {"user": "doadmin"},
    "nobody": {"user": "nobody"},
    "pool": {"pool": "x"},
}


@pytest.fixture
def own_token(tmp_path: Path) -> str:
    (tmp_path / "token").write_text("own-token")
    return f"--token-file={tmp_path / 'token'}"


def shown(tenant: Tenant, name: str, *, uuid: str) -> Json:
    """All that a tenant sees of a reference, without what names it and when."""
    status = tenant.status(name)
    for condition in status["conditions"]:
        condition["lastTransitionTime"] = "TIME"
    told = sorted({(one["reason"], one["type"], one["note"]) for one in tenant.events(name)})
    seen = {"status": status, "events": told, "secret": tenant.secret(name)}
    found: Json = json.loads(json.dumps(seen).replace(uuid, "UUID").replace(name, "NAME"))
    return found


def test_denied_and_missing_look_the_same_and_the_granted_cluster_is_read(
    make_lone: MakeTenant, start_operator: StartOperator, own_token: str
) -> None:
    shop, team = make_lone(), make_lone()
    shop.control.set_token("own-token")
    secret = shop.control.create_cluster(name="shops-own", password="not-for-team", tags=["production", *shop.grant])["id"]
    own = team.control.create_cluster(name="teams-own", tags=[tag.upper() for tag in team.grant])["id"]
    shop.refer(secret, name="granted", own_token=False)
    team.refer(own, name="granted", own_token=False)
    operator = start_operator(own_token, "--token-namespaces=e2e-*")
    shop.wait_for("Synced", name="granted")
    team.wait_for("Synced", name="granted")
    shop.control.clear_requests()
    for kind, spec in SPECS.items():
        team.refer(secret, name=f"denied-{kind}", own_token=False, refreshInterval="10s", **spec)
        team.refer(MISSING, name=f"missing-{kind}", own_token=False, refreshInterval="10s", **spec)
    for kind in SPECS:
        for name in (f"denied-{kind}", f"missing-{kind}"):
            team.wait_for("AccessDenied", name=name)
            wait_until(partial(team.events, name), what="the Event")
            assert team.condition("Stalled", name)["status"] == "True"
            assert team.status(name).keys() == {"conditions", "observedGeneration", "secretRevision"}
            assert f"the tag {team.grant[0]}" in team.condition("Ready", name)["message"]
        assert shown(team, f"denied-{kind}", uuid=secret) == shown(team, f"missing-{kind}", uuid=MISSING)
    team.refresh(name="denied-plain")
    team.refresh(name="missing-plain")
    entries = {uuid: [one for one in team.requests(uuid) if one.token == "own-token"] for uuid in (secret, MISSING)}
    assert {one.kind for one in entries[MISSING]} == {one.kind for one in entries[secret]} == {"cluster"}
    counts = Counter({uuid: len(found) for uuid, found in entries.items()})
    # Reads of one cluster that come together are one request: of either there are as many, give or take those.
    assert abs(counts[secret] - counts[MISSING]) <= len(SPECS)
    assert "not-for-team" not in json.dumps(team.admin.get(f"/api/v1/namespaces/{team.namespace}/secrets"))
    assert "shops-own" not in json.dumps(team.admin.get(team.references_path))
    assert operator.metric("dbclusterref_unexpected_errors_total") == 0


def test_a_tag_that_is_removed_ends_the_access_and_one_that_is_set_again_restores_it(
    make_lone: MakeTenant, start_operator: StartOperator, own_token: str
) -> None:
    lone = make_lone()
    lone.control.set_token("own-token")
    cluster = lone.control.create_cluster(tags=lone.grant, password="before")["id"]
    lone.refer(cluster, own_token=False, refreshInterval="10s")
    operator = start_operator(own_token, "--token-namespaces=e2e-*", "--on-revoke=delete")
    lone.wait_for("Synced")
    before = lone.secret()

    lone.control.update(cluster, tags=["production"], password="after")
    lone.wait_for("AccessDenied")
    assert lone.condition("Stalled")["status"] == "True"
    lone.control.clear_requests()
    lone.refresh()
    assert {one.kind for one in lone.requests(cluster)} == {"cluster"}
    assert lone.secret() == before
    assert lone.status()["binding"] == {"name": "orders-db"}

    lone.control.update(cluster, tags=lone.grant)
    lone.refresh()
    lone.wait_for("Synced")
    assert lone.data()["password"] == "after"

    # What no absence does, a tag of its own does.
    lone.control.update(cluster, tags=[tag.replace(":", "-revoked:") for tag in lone.grant])
    lone.refresh()
    wait_until(lambda: lone.secret() is None, what="the removal")
    wait_until(lambda: "SecretRemoved" in {one["reason"] for one in lone.events()}, what="the Event")
    wait_until(lambda: "binding" not in lone.status(), what="the status")
    assert operator.metric("dbclusterref_unexpected_errors_total") == 0


def test_another_prefix_separates_two_kubernetes_clusters_on_one_account(
    make_lone: MakeTenant, start_operator: StartOperator, own_token: str
) -> None:
    lone = make_lone()
    lone.control.set_token("own-token")
    lone.refer(lone.control.create_cluster(tags=lone.grant)["id"], name="elsewhere", own_token=False)
    lone.refer(lone.control.create_cluster(tags=[f"prod:{lone.namespace}"])["id"], name="here", own_token=False)
    start_operator(own_token, "--token-namespaces=e2e-*", "--grant-tag=prod")
    lone.wait_for("Synced", name="here")
    lone.wait_for("AccessDenied", name="elsewhere")
