"""Whatever DigitalOcean answers, the Secret stays as it was; each failure is called by its name and ends without help."""

import base64
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from dbclusterref.digitalocean.poller import LISTING_TRIES
from sandbox.digitalocean.requestlog import LogEntry
from tests.e2e.cluster import Json, Tenant, wait_until
from tests.failures.conftest import CANARY, World, stays

pytestmark = pytest.mark.e2e


@dataclass(frozen=True, kw_only=True)
class Row:
    """A fault of the simulator's and what is to be seen of it."""

    name: str
    kind: str
    reason: str
    stalled: bool = False
    rule: dict[str, Any] = field(default_factory=dict)
    within: float = 15.0


ONE = r"/v2/databases/[^/]+$"
UNAVAILABLE = "UpstreamUnavailable"
ROWS = (
    Row(name="401", kind="status", reason="TokenInvalid", stalled=True, rule={"status": 401}),
    Row(name="403", kind="status", reason="Forbidden", stalled=True, rule={"status": 403}),
    Row(name="403 as a page of HTML", kind="status", reason=UNAVAILABLE, rule={"status": 403, "body": "<html>no</html>"}),
    Row(name="404 once", kind="status", reason="ClusterNotFound", rule={"status": 404, "count": 1}),
    Row(name="404 in plain text once", kind="plain_404", reason="ClusterNotFound", rule={"count": 1}),
    Row(
        name="429 with retry-after", kind="status", reason="RateLimited", rule={"status": 429, "headers": {"retry-after": "2"}}
    ),
    Row(name="500", kind="status", reason=UNAVAILABLE, rule={"status": 500}),
    Row(name="502", kind="status", reason=UNAVAILABLE, rule={"status": 502}),
    Row(name="503", kind="status", reason=UNAVAILABLE, rule={"status": 503}),
    Row(name="504 as a page of HTML", kind="gateway_timeout", reason=UNAVAILABLE),
    Row(name="200 as HTML", kind="status", reason=UNAVAILABLE, rule={"status": 200, "body": "<html>maintenance</html>"}),
    Row(name="truncated JSON", kind="truncate", reason=UNAVAILABLE),
    Row(name="connection reset", kind="reset", reason=UNAVAILABLE),
    Row(name="silence in the middle of the body", kind="stall", reason=UNAVAILABLE, within=30.0),
    Row(name="a gzip bomb", kind="bomb", reason=UNAVAILABLE),
    Row(name="a body without end", kind="endless", reason=UNAVAILABLE),
    Row(name="200 without database", kind="no_database", reason=UNAVAILABLE),
    Row(name="200 for another cluster", kind="other_uuid", reason=UNAVAILABLE),
    Row(name="a redirect elsewhere", kind="redirect", reason=UNAVAILABLE),
    Row(name="200 with an empty object", kind="status", reason=UNAVAILABLE, rule={"status": 200, "body": {"database": {}}}),
    Row(name="200 with a list", kind="status", reason=UNAVAILABLE, rule={"status": 200, "body": "[1, 2]"}),
)


@dataclass(frozen=True, kw_only=True)
class Elsewhere:
    """Another host, which nobody has any business with; `requests` is what it was asked all the same."""

    url: str
    requests: list[str]


@pytest.fixture
def elsewhere() -> Iterator[Elsewhere]:
    requests: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            requests.append(f"{self.command} {self.path}")
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, name="elsewhere")
        thread.start()
        # By another name than the simulator's: that is what makes another host.
        yield Elsewhere(url=f"http://localhost:{server.server_port}", requests=requests)
        server.shutdown()
        thread.join()


@pytest.fixture
def cluster(world: World) -> Json:
    return world.control.create_cluster(engine="pg", num_nodes=2, password=f"{CANARY}-first")


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_the_secret_stays_and_the_failure_is_named(world: World, tenant: Tenant, cluster: Json, row: Row) -> None:
    uuid = cluster["id"]
    tenant.ready(uuid, refreshInterval="10s")
    check = stays(tenant)
    counted = world.operator.metric("dbclusterref_reconciles_total", reason=row.reason)
    rule: dict[str, Any] = {"path": ONE, "cluster": uuid, **row.rule}
    if row.kind in {"other_uuid", "redirect"}:
        rule["target"] = world.control.create_cluster()["id"] if row.kind == "other_uuid" else world.sandbox.digitalocean
    world.control.add_fault(row.kind, **rule)
    if row.reason == "RateLimited":
        tenant.ask_for_refresh()
    else:
        tenant.refresh(within=row.within)
    check()
    if "once" not in row.name:
        tenant.wait_for(row.reason, kind="Fresh")
        ready, stalled = tenant.condition("Ready"), tenant.condition("Stalled")
        assert (ready["status"], stalled["status"]) == (("False", "True") if row.stalled else ("True", "False"))
    wait_until(lambda: [one for one in tenant.events() if one["reason"] == row.reason], what="the Event")
    assert world.operator.metric("dbclusterref_reconciles_total", reason=row.reason) > counted
    check()

    world.control.rotate_password(uuid, password=f"{CANARY}-second")
    world.control.clear_faults()
    tenant.refresh(within=25.0)
    wait_until(lambda: tenant.data()["password"] == f"{CANARY}-second", within=25.0, what="the new password")
    assert tenant.condition("Ready")["status"] == "True"
    assert tenant.condition("Stalled")["status"] == "False"


@pytest.mark.parametrize(
    "change",
    [
        {"port": 70000},
        {"port": "25060"},
        {"port": 10**25},
        {"host": "a b"},
        {"host": "evil.example/"},
        {"password": f"{CANARY}\nhost=evil.example"},
        {"user": "a\0b"},
    ],
    ids=repr,
)
def test_an_impossible_value_never_replaces_a_good_one(
    world: World, tenant: Tenant, cluster: Json, change: dict[str, Any]
) -> None:
    uuid = cluster["id"]
    tenant.ready(uuid)
    check = stays(tenant)
    world.control.update(uuid, connections={"private_connection": change})
    tenant.refresh()
    tenant.wait_for(UNAVAILABLE, kind="Fresh")
    condition = tenant.condition("Fresh")
    assert f"database.private_connection.{next(iter(change))} is not " in condition["message"]
    assert CANARY not in condition["message"]
    check()
    world.control.update(uuid, connections={"private_connection": None})
    tenant.refresh()
    tenant.wait_for("Synced", kind="Fresh")
    check()


def test_what_is_only_shown_never_costs_a_secret(world: World, tenant: Tenant, cluster: Json) -> None:
    uuid = cluster["id"]
    tenant.ready(uuid)
    users: list[Any] = [{"name": "other", "role": 7}, {"name": 7}, None]
    wrong: dict[str, Any] = {
        "name": "n" * 50_000,
        "size": None,
        "version": 17,
        "num_nodes": 10**25,
        "users": users,
        "region": ["fra1"],
    }
    world.control.update(uuid, members={**wrong, "maintenance_window": {"day": "monday", "hour": 7}})
    world.control.update(uuid, connections={"connection": {"port": "25060"}})
    world.control.rotate_password(uuid, password=f"{CANARY}-second")
    tenant.refresh()
    wait_until(lambda: tenant.data()["password"] == f"{CANARY}-second", what="the new password")
    tenant.wait_for("Synced", kind="Fresh")


def test_a_lone_401_calls_nobody(world: World, tenant: Tenant, cluster: Json) -> None:
    uuid = cluster["id"]
    tenant.ready(uuid)
    check = stays(tenant)
    world.control.add_fault("status", path=ONE, cluster=uuid, status=401, count=1)
    tenant.refresh()
    assert [entry.status for entry in tenant.requests(uuid) if entry.kind == "cluster"][-2:] == [401, 200]
    assert tenant.condition("Fresh")["reason"] == "Synced"
    assert not [one for one in tenant.events() if one["reason"] == "TokenInvalid"]
    check()


@pytest.mark.parametrize("style", ["empty", "null", "absent"])
def test_a_redacted_password_never_replaces_a_good_one(world: World, tenant: Tenant, cluster: Json, style: str) -> None:
    tenant.ready(cluster["id"])
    check = stays(tenant)
    world.control.redact(cluster["id"], style=style)
    tenant.refresh()
    tenant.wait_for("MissingScope", kind="Stalled")
    check()
    world.control.redact(cluster["id"], style=None)
    tenant.refresh()
    tenant.wait_for("Synced")
    check()


def test_a_password_that_is_redacted_in_the_uri_alone_costs_nothing(world: World, tenant: Tenant, cluster: Json) -> None:
    tenant.ready(cluster["id"])
    check = stays(tenant)
    redacted = {
        kind: {"uri": cluster[kind]["uri"].replace(quote(f"{CANARY}-first", safe=""), "")}
        for kind in ("private_connection", "standby_private_connection")
    }
    changed = world.control.update(cluster["id"], connections=redacted)
    assert changed["private_connection"]["uri"] != cluster["private_connection"]["uri"]
    assert tenant.refresh()["lastHandledRefreshAt"]
    assert tenant.condition("Fresh")["reason"] == "Synced"
    check()


def test_an_empty_host_while_the_cluster_is_created_makes_no_secret(world: World, tenant: Tenant) -> None:
    cluster = world.control.create_cluster(status="creating", addressed=False, password=f"{CANARY}-new")
    tenant.refer(cluster["id"], refreshInterval="10s")
    tenant.wait_for("WaitingForCluster", kind="Reconciling")
    assert tenant.secret() is None
    world.control.update(cluster["id"], status="online", addressed=True)
    tenant.wait_for("Synced")
    assert tenant.data()["password"] == f"{CANARY}-new"


def test_the_ca_failing_alone_costs_nothing_once_it_is_known(world: World, tenant: Tenant, cluster: Json) -> None:
    tenant.ready(cluster["id"])
    ca = tenant.data()["ca.crt"]
    world.control.add_fault("status", path=r"/ca$", cluster=cluster["id"], status=500)
    world.control.rotate_password(cluster["id"], password=f"{CANARY}-second")
    tenant.ask_for_refresh()
    wait_until(lambda: tenant.data()["password"] == f"{CANARY}-second", what="the new password")
    assert tenant.data()["ca.crt"] == ca
    # A refresh that was requested reads the CA, too: that it could not is said, and costs nothing.
    tenant.wait_for(UNAVAILABLE, kind="Fresh")
    assert tenant.condition("Ready")["status"] == "True"


def test_the_ca_failing_alone_at_the_first_read_makes_no_secret_without_it(world: World, tenant: Tenant, cluster: Json) -> None:
    fault = world.control.add_fault("status", path=r"/ca$", cluster=cluster["id"], status=500)
    tenant.refer(cluster["id"], refreshInterval="10s")
    tenant.wait_for(UNAVAILABLE, kind="Reconciling")
    assert next(entry.status for entry in tenant.requests(cluster["id"]) if entry.kind == "cluster") == 200
    assert tenant.secret() is None
    world.control.clear_fault(fault)
    tenant.wait_for("Synced")
    assert tenant.data()["ca.crt"].startswith("-----BEGIN CERTIFICATE-----")


def test_a_missing_cluster_is_believed_after_a_second_look_and_its_secret_stays(
    world: World, tenant: Tenant, cluster: Json
) -> None:
    tenant.ready(cluster["id"], refreshInterval="10s")
    check = stays(tenant)
    world.control.delete_cluster(cluster["id"])
    tenant.refresh()
    assert tenant.condition("Stalled")["status"] == "False"
    tenant.wait_for("ClusterNotFound", kind="Stalled")
    wait_until(lambda: tenant.condition("Stalled")["status"] == "True", what="the confirmation")
    gets = [entry for entry in tenant.requests(cluster["id"]) if entry.status == 404]
    assert len(gets) >= 2
    check()


def test_a_cluster_made_again_under_another_uuid_leaves_the_old_secret_in_service(
    world: World, tenant: Tenant, cluster: Json
) -> None:
    tenant.ready(cluster["id"], refreshInterval="10s")
    check = stays(tenant)
    world.control.delete_cluster(cluster["id"])
    second = world.control.create_cluster(name=cluster["name"], password=f"{CANARY}-second")
    tenant.refresh()
    wait_until(lambda: tenant.condition("Stalled")["status"] == "True", what="the confirmation")
    check()
    tenant.ready(second["id"], name="orders-second")
    assert tenant.data("orders-second")["password"] == f"{CANARY}-second"
    check()


def test_many_clusters_that_vanish_at_once_are_taken_for_trouble_upstream(world: World, tenant: Tenant) -> None:
    names = [f"db-{number}" for number in range(6)]
    clusters = [world.control.create_cluster(password=f"{CANARY}-{name}")["id"] for name in names]
    for name, uuid in zip(names, clusters, strict=True):
        tenant.refer(uuid, name=name, refreshInterval="10s")
    for name in names:
        tenant.wait_for("Synced", name=name)
    checks = [stays(tenant, name=name) for name in names]
    fault = world.control.add_fault("status", token=tenant.token, status=404)
    for name in names:
        tenant.refresh(name=name)
    for name in names:
        tenant.wait_for("UpstreamUnavailable", name=name, kind="Fresh", within=60.0)
        assert tenant.condition("Ready", name)["status"] == "True"
        assert tenant.condition("Stalled", name)["status"] == "False"
    # Until the listing, which fails as well, is given up, its failure may be the one that is shown.
    wait_until(lambda: world.operator.metric("dbclusterref_disbelieved_not_found_total") > 0, what="the disbelief", within=90.0)
    for check in checks:
        check()
    world.control.clear_fault(fault)
    for name in names:
        tenant.refresh(name=name)
        assert tenant.condition("Fresh", name)["status"] == "True"


def ask_and_let_it_be_seen(world: World, tenant: Tenant) -> None:
    """Asks for a read at once, and waits until the operator has worked on the resource."""

    def worked() -> float:
        return world.operator.metric("dbclusterref_reconcile_duration_seconds_count")

    before = worked()
    tenant.ask_for_refresh()
    wait_until(lambda: worked() > before, what="a reconciliation")


def test_a_quota_that_is_used_up_until_a_given_time_is_waited_for(world: World, tenant: Tenant, cluster: Json) -> None:
    tenant.ready(cluster["id"], refreshInterval="10s")
    check = stays(tenant)
    reset = int(time.time()) + 4
    headers = {"ratelimit-remaining": "0", "ratelimit-reset": str(reset), "retry-after": ""}
    world.control.add_fault("status", path=ONE, cluster=cluster["id"], status=429, headers=headers, count=1)
    world.control.rotate_password(cluster["id"], password=f"{CANARY}-second")
    tenant.ask_for_refresh()
    tenant.wait_for("RateLimited", kind="Fresh")
    assert tenant.condition("Ready")["status"] == "True"
    wait_until(lambda: [one for one in tenant.events() if one["reason"] == "RateLimited"], what="the Event")
    asked = len(tenant.requests(cluster["id"]))
    ask_and_let_it_be_seen(world, tenant)
    if time.time() < reset - 1:  # or this machine was too slow to ask in time
        assert len(tenant.requests(cluster["id"])) == asked, "nobody asks before the time that was given, forced or not"
        check()
    wait_until(lambda: tenant.data()["password"] == f"{CANARY}-second", what="the new password, without being asked for")
    assert time.time() >= reset
    tenant.wait_for("Synced", kind="Fresh")


def test_a_quota_that_is_used_up_for_an_unknown_time_keeps_that_token_alone_away(
    world: World, tenant: Tenant, cluster: Json
) -> None:
    tenant.ready(cluster["id"], refreshInterval="10s")
    check = stays(tenant)
    silent = dict.fromkeys(("ratelimit-limit", "ratelimit-remaining", "ratelimit-reset", "retry-after"), "")
    limited = world.operator.metric("dbclusterref_reconciles_total", reason="RateLimited")
    world.control.add_fault("status", token=tenant.token, status=429, headers=silent)
    world.control.rotate_password(cluster["id"], password=f"{CANARY}-second")
    tenant.ask_for_refresh()
    tenant.wait_for("RateLimited", kind="Fresh")
    wait_until(lambda: [one for one in tenant.events() if one["reason"] == "RateLimited"], what="the Event")
    assert world.operator.metric("dbclusterref_reconciles_total", reason="RateLimited") > limited
    asked = len(tenant.requests(cluster["id"]))
    ask_and_let_it_be_seen(world, tenant)
    assert tenant.condition("Fresh")["reason"] == "RateLimited"
    assert len(tenant.requests(cluster["id"])) == asked, "the minute is not over, forced or not"
    assert tenant.condition("Ready")["status"] == "True"
    check()
    # Another token has a quota of its own: nobody waits for the first one's.
    world.control.set_token(f"{tenant.token}-second")
    tenant.put_token(f"{tenant.token}-second")
    tenant.refresh()
    wait_until(lambda: tenant.data()["password"] == f"{CANARY}-second", what="the new password")
    tenant.wait_for("Synced", kind="Fresh")


# --- the listing


@dataclass(frozen=True, kw_only=True)
class Fleet:
    """Enough references of one token that the listing is cheaper than single reads, with clusters on three pages."""

    uuids: list[str]
    names: list[str]

    @property
    def last(self) -> tuple[str, str]:
        return self.names[-1], self.uuids[-1]


@pytest.fixture
def fleet(world: World, tenant: Tenant) -> Fleet:
    """Synced, and read by way of the listing."""
    world.control.configure(paging="fixed")
    world.control.set_token(tenant.token, team=tenant.namespace, per_hour=100_000, per_minute=100_000)
    style: dict[str, str | bool] = {"marker": CANARY}
    uuids = world.control.seed_clusters(45, engine="pg", num_nodes=2, team=tenant.namespace, password_style=style)
    found = Fleet(uuids=uuids, names=[f"db-{number:02}" for number in range(len(uuids))])
    for name, uuid in zip(found.names, uuids, strict=True):
        tenant.refer(uuid, name=name, refreshInterval="10s")
    for name in found.names:
        tenant.wait_for("Synced", name=name)
    wait_until(lambda: len(pages(world, tenant)) >= 4, within=90, what="the second walk over the listing")
    return found


def pages(world: World, tenant: Tenant) -> list[LogEntry]:
    """The requests for pages of the listing."""
    entries = world.control.requests(limit=50_000).entries
    return [entry for entry in entries if entry.kind == "list" and entry.token == tenant.token]


def test_a_listing_whose_second_page_fails_is_done_without(world: World, tenant: Tenant, fleet: Fleet) -> None:
    name, uuid = fleet.last
    checks = [stays(tenant, name=one) for one in fleet.names[:-1]]
    fault = world.control.add_fault("status", token=tenant.token, path=r"[?&]page=2\b", status=500)
    wait_until(lambda: acted(world, fault) >= LISTING_TRIES, what="the tries")
    world.control.rotate_password(uuid, password=f"{CANARY}-second")
    wait_until(lambda: tenant.data(name)["password"] == f"{CANARY}-second", what="the new password of one on the last page")
    walked = len(pages(world, tenant))
    for one in fleet.names:
        tenant.wait_for("Synced", name=one, kind="Fresh")
        assert tenant.condition("Ready", one)["reason"] == "Synced"
    world.control.rotate_password(uuid, password=f"{CANARY}-third")
    wait_until(lambda: tenant.data(name)["password"] == f"{CANARY}-third", what="the next one")
    assert len(pages(world, tenant)) == walked, "the listing is left alone for ten minutes"
    for check in checks:
        check()


def test_the_api_token_never_goes_to_another_host_that_a_listing_names(
    world: World, tenant: Tenant, fleet: Fleet, elsewhere: Elsewhere
) -> None:
    checks = [stays(tenant, name=one) for one in fleet.names]
    fault = world.control.add_fault("foreign_next", token=tenant.token, path=r"per_page=", target=elsewhere.url)
    wait_until(lambda: acted(world, fault) >= LISTING_TRIES, what="the tries")
    name, uuid = fleet.last
    for check in checks:
        check()
    world.control.rotate_password(uuid, password=f"{CANARY}-second")
    wait_until(lambda: tenant.data(name)["password"] == f"{CANARY}-second", what="the new password, by a read of its own")
    for check in checks[:-1]:
        check()
    assert elsewhere.requests == []
    httpx.get(f"{elsewhere.url}/here", trust_env=False)
    assert elsewhere.requests == ["GET /here"], "it would have heard of it"


def acted(world: World, fault: int) -> int:
    """How many requests a fault has affected."""
    found: int = next(one["acted"] for one in world.control.faults() if one["id"] == fault)
    return found


def test_a_budget_of_zero_costs_no_secret(world: World, tenant: Tenant, cluster: Json) -> None:
    tenant.ready(cluster["id"], refreshInterval="10s")
    check = stays(tenant)
    fault = world.control.add_fault("budget", cluster=cluster["id"], headers={"ratelimit-remaining": "0"})
    tenant.refresh()
    assert acted(world, fault)
    check()
    world.control.clear_faults()
    tenant.refresh(within=30.0)
    check()


@pytest.mark.parametrize("how", ["deleted", "emptied", "wrong"])
def test_a_token_that_goes_wrong_costs_no_secret(world: World, tenant: Tenant, cluster: Json, how: str) -> None:
    tenant.ready(cluster["id"])
    check = stays(tenant)
    path = tenant.secret_path("do-token")
    if how == "deleted":
        tenant.admin.delete(path)
    else:
        tenant.put_token("" if how == "emptied" else "no-such-token")
    tenant.refresh()
    reason = "TokenInvalid" if how == "wrong" else "TokenSecretMissing"
    tenant.wait_for(reason, kind="Stalled")
    wait_until(lambda: [one for one in tenant.events() if one["reason"] == reason], what="the Event")
    check()
    tenant.put_token()
    tenant.refresh()
    tenant.wait_for("Synced")
    check()


def test_a_rotated_token_is_used_at_the_next_read(world: World, tenant: Tenant, cluster: Json) -> None:
    tenant.ready(cluster["id"])
    check = stays(tenant)
    world.control.set_token(f"{tenant.token}-second")
    world.control.revoke_token(tenant.token)
    tenant.put_token(f"{tenant.token}-second")
    tenant.refresh()
    assert tenant.condition("Fresh")["reason"] == "Synced"
    check()


def test_the_api_token_never_follows_a_redirect(world: World, tenant: Tenant, cluster: Json, elsewhere: Elsewhere) -> None:
    tenant.ready(cluster["id"])
    check = stays(tenant)
    world.control.add_fault("redirect", cluster=cluster["id"], target=elsewhere.url)
    tenant.refresh()
    tenant.wait_for(UNAVAILABLE, kind="Fresh")
    check()
    assert elsewhere.requests == []
    httpx.get(f"{elsewhere.url}/here", trust_env=False)
    assert elsewhere.requests == ["GET /here"], "it would have heard of it"


def test_the_secret_data_is_what_upstream_says_to_the_byte(world: World, tenant: Tenant, cluster: Json) -> None:
    tenant.ready(cluster["id"])
    secret = tenant.secret()
    assert secret is not None
    assert base64.b64decode(secret["data"]["password"]).decode() == f"{CANARY}-first"


def test_a_namespace_that_was_not_named_is_denied_the_operators_own_token(world: World, tenant: Tenant, cluster: Json) -> None:
    tenant.refer(cluster["id"], own_token=False)
    tenant.wait_for("AccessDenied", kind="Stalled")
    assert tenant.secret() is None
    assert tenant.requests(cluster["id"]) == []
