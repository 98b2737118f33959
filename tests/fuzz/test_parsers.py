"""Whatever comes in at an edge, only the project's own exceptions come out, and they never quote what came in."""

# ruff: noqa: PT017 - that nothing else is raised is the point, not that something is
import base64
import json
from collections.abc import Mapping
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dbclusterref.digitalocean.client import DigitalOcean
from dbclusterref.digitalocean.model import DatabaseCluster, Pool, User
from dbclusterref.digitalocean.rate_limit import RateLimitHeaders
from dbclusterref.digitalocean.snapshot import Snapshot
from dbclusterref.errors import Cause, InvalidSpec, SettingsError
from dbclusterref.resource.reference import Reference
from dbclusterref.resource.status import Status
from dbclusterref.resource.template import TemplateError, fill
from dbclusterref.secret.rendering import render_secret
from dbclusterref.secret.state import LiveSecret
from dbclusterref.timing import Timing
from tests.support.builders import (
    BOUNDED,
    CLUSTER_UUID,
    cluster_bodies,
    cluster_body,
    connection_body,
    json_values,
    reference_body,
    reference_specs,
)

FUZZ = settings(BOUNDED, max_examples=60)
CANARY = "CaNaRy-7c1e+/?"


def leaks(text: str) -> bool:
    encoded = base64.b64encode(CANARY.encode()).decode()
    return "CaNaRy" in text or encoded[:12] in text


@st.composite
def damaged(draw: st.DrawFn, whole: Mapping[str, Any]) -> dict[str, Any]:
    """A body with some members, at any depth, replaced by anything."""
    body: dict[str, Any] = json.loads(json.dumps(whole))
    for _ in range(draw(st.integers(1, 3))):
        place: Any = body
        while True:
            name = draw(st.sampled_from(sorted(place)))
            if isinstance(place[name], dict) and place[name] and draw(st.booleans()):
                place = place[name]
                continue
            break
        if draw(st.booleans()):
            place[name] = draw(json_values)
        else:
            del place[name]
        if not body:
            break
    return body


def canary_cluster() -> dict[str, Any]:
    uri = f"postgresql://doadmin:{CANARY}@private-orders.db.example.com:25060/defaultdb?sslmode=require"
    connection = connection_body(password=CANARY, uri=uri)
    return cluster_body(
        private_connection=connection,
        connection=connection,
        standby_private_connection=connection,
        users=[{"name": "app", "role": "normal", "password": CANARY, "access_key": CANARY}],
    )


@given(damaged(canary_cluster()))
@FUZZ
def test_a_damaged_cluster_is_read_or_refused_without_a_leak(body: dict[str, Any]) -> None:
    try:
        cluster = DatabaseCluster.from_api(body)
        secret = render_secret(Reference.from_body(reference_body()), Snapshot(cluster=cluster))
    except Cause as cause:
        assert not leaks(str(cause) + repr(cause))
    else:
        assert not leaks(repr(cluster) + repr(secret))
        assert all(secret.data.values())


@given(json_values)
@FUZZ
def test_anything_at_all_in_place_of_an_api_object_is_refused_by_name(value: Any) -> None:
    for read in (
        lambda: DatabaseCluster.from_api(value),
        lambda: User.from_api(value, path="user"),
        lambda: Pool.from_api(value),
    ):
        try:
            read()
        except Cause as cause:
            assert cause.reason == "UpstreamUnavailable"


@given(cluster_bodies(), reference_specs())
@FUZZ
def test_whatever_the_contract_allows_renders_or_is_named(body: dict[str, Any], spec: dict[str, Any]) -> None:
    try:
        reference = Reference.from_body(reference_body(spec))
        secret = render_secret(reference, Snapshot(cluster=DatabaseCluster.from_api(body)))
    except Cause:
        return
    assert secret.data
    assert all(secret.data.values())


@given(st.binary(max_size=200) | json_values.map(lambda value: json.dumps(value).encode()), st.integers(200, 599))
@FUZZ
async def test_any_reply_becomes_a_value_or_a_cause(content: bytes, status: int) -> None:
    headers = {"content-type": "application/json"}
    transport = httpx.MockTransport(lambda _request: httpx.Response(status, content=content, headers=headers))
    async with httpx.AsyncClient(transport=transport) as client:
        api = DigitalOcean(client, base_url="http://do.example")
        for call in (
            lambda: api.get_cluster("t", CLUSTER_UUID, observe=lambda *_: None),
            lambda: api.get_ca("t", CLUSTER_UUID, observe=lambda *_: None),
            lambda: api.get_user("t", CLUSTER_UUID, "app", observe=lambda *_: None),
            lambda: api.get_pool("t", CLUSTER_UUID, "pool", observe=lambda *_: None),
        ):
            try:
                await call()
            except Cause as cause:
                assert cause.message


@pytest.mark.parametrize("status", [200, 401, 403, 404, 429, 500])
async def test_no_failure_quotes_what_it_was_sent(status: int) -> None:
    for content in (f'{{"database": "{CANARY}"', f'{{"database": {{"name": {{"x": "{CANARY}"}}}}}}', f"<html>{CANARY}</html>"):
        transport = httpx.MockTransport(lambda _request, content=content: httpx.Response(status, content=content))
        async with httpx.AsyncClient(transport=transport) as client:
            with pytest.raises(Cause) as caught:
                await DigitalOcean(client, base_url="http://do.example").get_cluster(
                    CANARY, CLUSTER_UUID, observe=lambda *_: None
                )
        assert not leaks(caught.value.message + repr(caught.value))


@given(
    st.dictionaries(
        st.sampled_from(["ratelimit-limit", "ratelimit-remaining", "ratelimit-reset", "retry-after"]),
        st.text(max_size=30) | st.integers().map(str) | st.floats().map(str),
    )
)
@FUZZ
def test_any_headers_become_a_budget(headers: dict[str, str]) -> None:
    budget = RateLimitHeaders.from_headers(headers)
    assert budget.retry_after is None or 0 <= budget.retry_after < 1e15


@given(
    damaged(reference_body({"user": "app", "secret": {"name": "x", "labels": {"a": "b"}, "template": {"K": "{host}"}}})["spec"])
)
@FUZZ
def test_a_damaged_spec_is_read_or_refused_by_name(spec: dict[str, Any]) -> None:
    body = reference_body() | {"spec": spec}
    try:
        Reference.from_body(body)
    except InvalidSpec as cause:
        assert cause.message


@given(json_values)
@FUZZ
def test_any_status_is_read(value: Any) -> None:
    status = Status.from_body({"status": value})
    assert Status.from_body({"status": status.to_body()}) == status


@given(
    st.dictionaries(st.text(max_size=5), st.text(max_size=8), max_size=3),
    st.dictionaries(st.text(max_size=5), st.binary(max_size=9).map(lambda raw: base64.b64encode(raw).decode()), max_size=3),
    st.text(max_size=8),
)
@FUZZ
def test_any_live_secret_is_read(annotations: dict[str, str], data: dict[str, str], revision: str) -> None:
    metadata = {
        "uid": "u",
        "resourceVersion": "1",
        "annotations": annotations | {"dbclusterref.io/revision": revision},
        "managedFields": [{"manager": "dbclusterref", "operation": "Apply", "fieldsV1": {"f:data": {"f:x": {}}}}],
    }
    live = LiveSecret.from_body({"metadata": metadata, "data": data, "type": "Opaque"})
    assert live.revision >= 0


@given(st.text(max_size=40), st.dictionaries(st.sampled_from(["host", "password"]), st.text(max_size=5)))
@FUZZ
def test_any_template_is_filled_or_refused(template: str, values: dict[str, str]) -> None:
    try:
        fill(template, values)
    except TemplateError as error:
        assert str(error)


@given(st.text(max_size=40) | st.from_regex(r"(resync|lease_duration)=[0-9.e-]{1,6}", fullmatch=True))
@FUZZ
def test_any_timing_is_taken_or_refused(text: str) -> None:
    try:
        assert Timing.from_text(text).resync > 0
    except SettingsError as error:
        assert "DBCLUSTERREF_TIMING" in str(error)
