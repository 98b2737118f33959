"""Passwords and tokens carry a marker in these runs; it is in Secret data and nowhere else, in no form."""

import base64
import json
import urllib.parse
from collections.abc import Iterator

import pytest

from sandbox.faultproxy import ProxyFault
from tests.e2e.cluster import REFERENCES, Json, Tenant, wait_until
from tests.failures.conftest import CANARY, TOKEN_CANARY, World

pytestmark = pytest.mark.e2e


def forms(marker: str) -> Iterator[str]:
    """Plain, escaped, percent-encoded, and base64 at each of the three places a byte can have in it."""
    yield marker
    yield json.dumps(marker)[1:-1]
    yield repr(marker)[1:-1]
    yield urllib.parse.quote(marker, safe="")
    yield urllib.parse.quote(marker)
    for offset in range(3):
        encoded = base64.b64encode(b"x" * offset + marker.encode()).decode()
        # Characters that the neighbours share are left out at both ends.
        yield encoded[-(-offset * 8 // 6) : len(marker) * 8 // 6]


def found_in(text: str) -> list[str]:
    return sorted({form for marker in (CANARY, TOKEN_CANARY) for form in forms(marker) if form in text})


def test_the_search_itself_finds_every_form() -> None:
    for hidden in (
        f"x{CANARY}y",
        urllib.parse.quote(f"p:{CANARY}@h", safe=""),
        *(base64.b64encode(b"a" * shift + CANARY.encode() + b"tail").decode() for shift in range(6)),
        base64.b64encode(f"bearer {TOKEN_CANARY} tail".encode()).decode(),
    ):
        assert found_in(hidden), hidden
    assert not found_in("nothing of the kind")


@pytest.fixture
def troubled(world: World, tenant: Tenant) -> Json:
    """A reference that has seen every kind of trouble that could make something print."""
    cluster = world.control.create_cluster(
        engine="pg", num_nodes=2, password=f"{CANARY}-first", password_style={"marker": CANARY, "hostile": True}
    )
    uuid = cluster["id"]
    world.control.add_user(uuid, "app", password=f"{CANARY}-app")
    tenant.ready(uuid, user="app", secret={"template": {"OWN": "x://{username}:{password:url}@{host}"}})
    for kind in ("truncate", "no_database", "stall", "gateway_timeout", "reset"):
        fault = world.control.add_fault(kind, cluster=uuid, count=1, delay=0.2)
        tenant.refresh(within=30)
        world.control.clear_fault(fault)
    for body in (f'{{"database": "{CANARY}"}}', f"<html>{CANARY}</html>", f'{{"message": "{CANARY}-{TOKEN_CANARY}"'):
        fault = world.control.add_fault("status", cluster=uuid, status=200, body=body, count=1)
        tenant.refresh()
        world.control.clear_fault(fault)
    tenant.put_token(f"{TOKEN_CANARY} with\nspaces")
    tenant.refresh()
    tenant.put_token()
    path = f"/namespaces/{tenant.namespace}/"
    for status in (403, 409, 422, 500):
        world.proxy.add(ProxyFault.STATUS, path=path, method="PATCH", status=status, count=1)
        world.control.rotate_password(uuid, user="app", password=f"{CANARY}-{status}")
        tenant.refresh(within=30)
    world.proxy.add(ProxyFault.BROKEN_EVENT, path="watch=true", count=2)
    world.proxy.cut("watch=true")
    wrong = base64.b64encode(f"{CANARY}-edited".encode()).decode()
    tenant.admin.patch(tenant.secret_path(), {"data": {"password": wrong, "foreign": wrong}})
    tenant.refresh(within=30)
    wait_until(lambda: tenant.data()["password"] == f"{CANARY}-500", within=30, what="the password at last")
    return cluster


def test_no_password_and_no_token_is_shown_anywhere(world: World, tenant: Tenant, troubled: Json) -> None:
    log = world.operator.log.read_text()
    assert " DEBUG " in log
    assert found_in(log) == []
    metrics = world.operator.probe("/metrics")
    assert metrics is not None
    assert found_in(metrics.text) == []
    assert found_in(tenant.admin.text(f"{REFERENCES}/databaseclusterrefs")) == []
    for group in ("/api/v1/events", "/apis/events.k8s.io/v1/events"):
        assert found_in(tenant.admin.text(group)) == []
    secret = tenant.secret()
    assert secret is not None
    assert found_in(json.dumps(secret["data"]))
    assert found_in(json.dumps(secret["metadata"])) == []
