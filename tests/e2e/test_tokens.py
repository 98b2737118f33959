"""Where the API token comes from, and who may use the operator's own."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.cluster import Tenant
from tests.e2e.conftest import MakeTenant, StartOperator

pytestmark = pytest.mark.e2e

HEALS_WITHIN = 10.0


@pytest.mark.parametrize(
    ("disturb", "message"),
    [
        (lambda tenant: tenant.admin.delete(tenant.secret_path("do-token")), "Secret do-token does not exist in namespace"),
        (lambda tenant: tenant.put_token(""), "Secret do-token, key token, is empty"),
        (lambda tenant: tenant.put_token("  \n"), "Secret do-token, key token, is empty"),
        (
            lambda tenant: tenant.admin.patch(tenant.secret_path("do-token"), {"data": {"token": None, "tokn": "eA=="}}),
            "Secret do-token has no key token",
        ),
    ],
    ids=["no Secret", "an empty token", "a blank token", "another key"],
)
def test_a_missing_token_is_named_and_found_once_it_is_there(
    tenant: Tenant, disturb: Callable[[Tenant], object], message: str
) -> None:
    cluster = tenant.control.create_cluster()["id"]
    disturb(tenant)
    tenant.refer(cluster)
    tenant.wait_for("TokenSecretMissing")
    assert message in tenant.condition("Ready")["message"]
    assert tenant.condition("Stalled")["status"] == "True"
    assert tenant.secret() is None

    tenant.put_token()
    tenant.wait_for("Synced", within=HEALS_WITHIN)


def test_a_token_that_is_no_token_is_told_from_a_missing_one(tenant: Tenant) -> None:
    cluster = tenant.control.create_cluster()["id"]
    tenant.put_token("do not print this")
    tenant.refer(cluster)
    tenant.wait_for("TokenInvalid")
    assert "do not print this" not in str(tenant.reference())
    assert tenant.requests(cluster) == []


def test_a_token_under_a_key_of_the_users_choice_is_found(tenant: Tenant) -> None:
    cluster = tenant.control.create_cluster()["id"]
    tenant.put_token(name="tokens", key="digitalocean")
    tenant.ready(cluster, apiTokenSecretRef={"name": "tokens", "key": "digitalocean"})


def test_an_unknown_token_is_told_and_the_good_secret_stays(tenant: Tenant) -> None:
    cluster = tenant.control.create_cluster()["id"]
    tenant.ready(cluster)
    before = tenant.secret()
    tenant.control.revoke_token(tenant.token)
    tenant.refresh()
    assert tenant.condition("Stalled")["reason"] == "TokenInvalid"
    assert tenant.secret() == before


def test_the_operators_own_token_serves_only_the_namespaces_that_were_named(
    make_lone: MakeTenant, start_operator: StartOperator, tmp_path: Path
) -> None:
    named, globbed, other = make_lone(), make_lone(), make_lone()
    named.control.set_token("own-token")
    (tmp_path / "token").write_text("own-token\n")
    globs = f"{named.namespace},{globbed.namespace[:-1]}?"
    for tenant in (named, globbed, other):
        tenant.refer(tenant.control.create_cluster(tags=tenant.grant)["id"], own_token=False)
    start_operator(f"--token-file={tmp_path / 'token'}", f"--token-namespaces={globs}")

    named.wait_for("Synced")
    globbed.wait_for("Synced")
    other.wait_for("AccessDenied")
    message = other.condition("Ready")["message"]
    assert "spec.apiTokenSecretRef" in message
    assert "--token-namespaces" in message
    assert other.secret() is None


def test_without_a_list_of_namespaces_nobody_has_the_operators_own_token(lone: Tenant, start_operator: StartOperator) -> None:
    lone.control.set_token("own-token")
    lone.refer(lone.control.create_cluster(tags=lone.grant)["id"], own_token=False)
    start_operator(environ={"DIGITALOCEAN_TOKEN": "own-token"})
    lone.wait_for("AccessDenied")


def test_a_rotated_token_file_is_taken_up_without_a_restart(
    lone: Tenant, start_operator: StartOperator, tmp_path: Path
) -> None:
    cluster = lone.control.create_cluster(tags=lone.grant)["id"]
    file = tmp_path / "token"
    for token in ("first-own", "second-own"):
        lone.control.set_token(token)
    file.write_text("first-own")
    start_operator(f"--token-file={file}", "--token-namespaces=*")
    lone.ready(cluster, own_token=False)
    file.write_text("second-own")
    lone.control.revoke_token("first-own")
    lone.refresh()
    assert lone.condition("Fresh")["status"] == "True"
    assert [one.token for one in lone.requests(cluster)][-1] == "second-own"


def test_only_the_named_namespaces_are_watched(make_lone: MakeTenant, start_operator: StartOperator) -> None:
    watched, too, other = make_lone(), make_lone(), make_lone()
    operator = start_operator(f"--namespaces={watched.namespace},{too.namespace}")
    operator.wait_until_logged("Secrets in every namespace, although --namespaces names only")
    cluster = other.control.create_cluster()["id"]
    other.refer(cluster)
    for tenant in (watched, too):
        tenant.ready(tenant.control.create_cluster()["id"])
        tenant.refresh()
    assert other.status() == {"observedGeneration": -1}
    assert other.requests(cluster) == []
