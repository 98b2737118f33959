"""Whatever comes in at an edge, only the project's own exceptions come out, and they never quote what came in."""

# ruff: noqa: PT017 - that nothing else is raised is the point, not that something is
import base64
import gzip
import json
import traceback
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from dbclusterref.digitalocean.client import DigitalOcean
from dbclusterref.digitalocean.model import DatabaseCluster, Pool, User
from dbclusterref.digitalocean.rate_limit import RateLimitHeaders
from dbclusterref.digitalocean.replicas import Replicas, addresses_in, listed
from dbclusterref.digitalocean.snapshot import Snapshot, pack_cluster, unpack_cluster
from dbclusterref.errors import Cause, InvalidSpec, SettingsError
from dbclusterref.resource.reference import Reference
from dbclusterref.resource.status import Status
from dbclusterref.resource.template import TemplateError, fill
from dbclusterref.secret.rendering import placeholders, render_secret, size_of
from dbclusterref.secret.state import LiveSecret
from dbclusterref.timing import Timing
from tests.support.builders import UUID, cluster_body, connection_body, reference_body, replica_body
from tests.support.replies import arriving
from tests.support.strategies import BOUNDED, cluster_bodies, examples, json_values, reference_specs

FUZZ = settings(BOUNDED, max_examples=examples(60))
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
        lambda: Replicas.from_api(value),
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


def edge_answering(status: int, content: bytes, headers: Mapping[str, str]) -> DigitalOcean:
    transport = httpx.MockTransport(lambda _request: arriving(status, content, headers=headers, piece=7))
    return DigitalOcean(httpx.AsyncClient(transport=transport), base_url="http://do.example", ask_again_after=0.0)


def calls(api: DigitalOcean) -> tuple[Callable[[], Awaitable[object]], ...]:
    """Every read there is."""
    return (
        lambda: api.get_cluster(CANARY, UUID, observe=lambda *_: None),
        lambda: api.get_ca(CANARY, UUID, observe=lambda *_: None),
        lambda: api.get_user(CANARY, UUID, "app", observe=lambda *_: None),
        lambda: api.get_pool(CANARY, UUID, "pool", observe=lambda *_: None),
        lambda: api.get_database(CANARY, UUID, "orders", observe=lambda *_: None),
        lambda: api.get_replicas(CANARY, UUID, observe=lambda *_: None),
        lambda: api.get_page(CANARY, None, known=None, observe=lambda *_: None),
    )


replies = st.binary(max_size=200) | json_values.map(lambda value: json.dumps(value).encode())
encodings = st.sampled_from([{}, {"content-encoding": "gzip"}, {"content-encoding": "br"}, {"set-cookie": f"a={CANARY}"}])


@given(replies, st.sampled_from([200, 200, 200, 201, 204, 302, 401, 403, 404, 422, 429, 500, 599]), encodings)
@FUZZ
async def test_any_reply_becomes_a_value_or_a_cause(content: bytes, status: int, headers: dict[str, str]) -> None:
    for call in calls(edge_answering(status, content, headers)):
        try:
            await call()
        except Cause as cause:
            assert cause.message


@given(
    damaged(
        {
            "database": canary_cluster(),
            "databases": {"0": canary_cluster(), "1": canary_cluster()},
            "ca": {"certificate": base64.b64encode(b"-----BEGIN CERTIFICATE-----").decode()},
            "user": {"name": "app", "password": CANARY},
            "pool": {"name": "pool", "private_connection": connection_body(password=CANARY)},
            "db": {"name": "orders"},
            "replicas": {"0": replica_body(), "1": replica_body("read-2", status="creating")},
            "links": {"pages": {"next": "http://do.example/?page=2"}},
            "meta": {"total": 2},
        }
    ),
    st.sampled_from([200, 200, 401, 403, 404, 500]),
    st.tuples(st.floats(0, 1), st.binary(max_size=3)),
    st.sampled_from([{}, {"content-encoding": "gzip"}]),
)
@FUZZ
async def test_a_damaged_reply_becomes_a_value_or_a_cause_without_a_leak(
    body: dict[str, Any], status: int, junk: tuple[float, bytes], headers: dict[str, str]
) -> None:
    for name in ("databases", "replicas"):
        if isinstance(body.get(name), dict):
            body[name] = list(body[name].values())
    content = json.dumps(body).encode()
    place = int(junk[0] * len(content))
    content = content[:place] + junk[1] + content[place:]
    for call in calls(edge_answering(status, gzip.compress(content) if headers else content, headers)):
        try:
            value = await call()
        except Cause as cause:
            assert not leaks(str(cause) + repr(cause) + "".join(traceback.format_exception(cause)))
        else:
            assert not leaks(repr(value))
            if isinstance(value, DatabaseCluster):
                assert unpack_cluster(pack_cluster(value)) == value


CORPUS = sorted((Path(__file__).parent / "corpus").iterdir())


@pytest.mark.parametrize("status", [200, 401, 403, 404, 500])
@pytest.mark.parametrize("reply", [file.read_bytes() for file in CORPUS], ids=[file.name for file in CORPUS])
async def test_a_reply_that_was_trouble_once_becomes_a_value_or_a_cause_without_a_leak(reply: bytes, status: int) -> None:
    """The corpus: each file is a body that some parser of ours once failed on, or that was made to try one."""
    for call in calls(edge_answering(status, reply, {})):
        try:
            value = await call()
        except Cause as cause:
            assert not leaks(str(cause) + repr(cause) + "".join(traceback.format_exception(cause)))
        else:
            assert not leaks(repr(value))


urls = st.text(max_size=30) | st.from_regex(r"https?://[^/]{0,12}/v2/databases\?\S{0,12}", fullmatch=True)


@given(urls | st.text(st.characters(exclude_categories=()), max_size=9).map(lambda text: f"http://do.example/?{text}"))
@FUZZ
async def test_any_next_page_is_asked_for_on_our_own_host_or_refused(url: str) -> None:
    asked: list[httpx.URL] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.url)
        return arriving(200, json.dumps({"databases": [], "links": {"pages": {"next": url}}}).encode())

    async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as client:
        api = DigitalOcean(client, base_url="http://do.example")
        try:
            first = await api.get_page("t", None, known=None, observe=lambda *_: None)
            if first.next:
                await api.get_page("t", first.next, known=None, observe=lambda *_: None)
        except Cause:
            return
    assert {(url.scheme, url.host, url.path) for url in asked} == {("http", "do.example", "/v2/databases")}


@given(
    st.sampled_from(["host", "user", "password", "database", "uri"]),
    st.text(st.characters(exclude_categories=()), max_size=8),
    st.integers() | st.integers(-1, 65537),
)
@FUZZ
def test_no_impossible_value_reaches_a_secret_and_no_line_begins_where_none_should(member: str, text: str, port: int) -> None:
    connection = connection_body(**{"port": port, member: text or None})
    spec = {"secret": {"keySets": ["Binding", "Env", "Files"], "mountPath": "/bindings/x"}}
    reference = Reference.from_body(reference_body(spec))
    ca = b"-----BEGIN CERTIFICATE-----\n"
    plain = render_secret(reference, Snapshot(cluster=DatabaseCluster.from_api(cluster_body()), ca=ca))
    try:
        cluster = DatabaseCluster.from_api(cluster_body(private_connection=connection))
        secret = render_secret(reference, Snapshot(cluster=cluster, ca=ca))
    except Cause:
        return
    assert 1 <= int(secret.data["port"]) <= 65535
    for key, value in secret.data.items():
        assert value.count(b"\n") == plain.data[key].count(b"\n")
        assert not set(value) & set(b"\x00\r\x1b")
        value.decode()


@pytest.mark.parametrize("status", [200, 401, 403, 404, 429, 500])
async def test_no_failure_quotes_what_it_was_sent(status: int) -> None:
    for content in (f'{{"database": "{CANARY}"', f'{{"database": {{"name": {{"x": "{CANARY}"}}}}}}', f"<html>{CANARY}</html>"):
        with pytest.raises(Cause) as caught:
            await calls(edge_answering(status, content.encode(), {}))[0]()
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
    assert budget.retry_after is None or 0 <= budget.retry_after <= 300


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


@given(st.text(max_size=40) | st.from_regex(r"[a-z0-9.\[\]:,-]{0,40}", fullmatch=True))
@FUZZ
def test_any_list_of_replicas_in_a_status_is_read(text: str) -> None:
    addresses = addresses_in(text)
    assert addresses_in(listed(addresses)) == addresses


@given(json_values)
@FUZZ
def test_any_status_is_read(value: Any) -> None:
    status = Status.from_body({"status": value})
    assert Status.from_body({"status": status.to_body()}) == status


@given(
    st.dictionaries(st.text(max_size=5), st.text(max_size=8), max_size=3),
    st.dictionaries(st.text(max_size=5), st.binary(max_size=9).map(lambda raw: base64.b64encode(raw).decode()), max_size=3),
    st.text(max_size=8),
    st.dictionaries(st.text(max_size=5).map("f:{}".format) | st.text(max_size=5).map("k:{}".format), json_values, max_size=3)
    | json_values,
    st.sampled_from(["f:data", "f:labels", "f:annotations", "f:ownerReferences"]),
)
@FUZZ
def test_any_live_secret_is_read(
    annotations: dict[str, str], data: dict[str, str], revision: str, fields: object, part: str
) -> None:
    metadata = {
        "uid": "u",
        "resourceVersion": "1",
        "annotations": annotations | {"dbclusterref.io/revision": revision},
        "managedFields": [
            {"manager": "dbclusterref", "operation": "Apply", "fieldsV1": tree}
            for tree in ({"f:data": {"f:x": {}}}, {part: fields, "f:metadata": {part: fields}}, fields)
        ],
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


PLACEHOLDERS = ("ca", "ca:quoted:properties", "password:url", "uri:properties", "standby-host", "{{", "é", "x")


@given(
    st.dictionaries(
        st.from_regex(r"[A-Za-z][-._a-zA-Z0-9]{0,20}", fullmatch=True),
        st.tuples(st.sampled_from(PLACEHOLDERS), st.integers(1, 1000)),
        max_size=32,
    ),
    st.integers(0, 3000),
)
@example({f"k{number}": ("ca", 1000) for number in range(32)}, 3000)
@example({f"k{number}": ("ca:quoted:properties", 178) for number in range(4)}, 1600)
@example({"k": ("ca", 1000)}, 1048)
@FUZZ
def test_no_spec_makes_a_secret_beyond_the_limit_and_its_size_is_known_before_it_is_made(
    parts: dict[str, tuple[str, int]], length: int
) -> None:
    template = {key: (part if part in {"{{", "é", "x"} else f"{{{part}}}") * times for key, (part, times) in parts.items()}
    ca = b"-----BEGIN CERTIFICATE-----\n" + b'A\\"\n' * (length // 4)
    snapshot = Snapshot(cluster=DatabaseCluster.from_api(cluster_body()), ca=ca)
    try:
        reference = Reference.from_body(reference_body({"secret": {"template": template}}))
        secret = render_secret(reference, snapshot)
    except InvalidSpec as cause:
        assert str(cause)
        return
    own = sum(len(value) for key, value in secret.data.items() if key in template)
    assert secret.size <= 2**20
    # What waits in line for memory is judged by this size.
    assert own <= size_of(reference, snapshot, placeholders(reference, snapshot)) <= secret.size


@given(st.binary(max_size=400), st.integers(0, 300_000), st.integers(1, 70_000), st.sampled_from(["gzip", "identity"]))
@example(b"", 65536, 65536, "gzip")
@example(b"x", 65536, 65536, "identity")
@example(b"", 131072, 7000, "gzip")
@FUZZ
async def test_a_body_reads_the_same_however_it_is_cut_and_zipped(end: bytes, blanks: int, piece: int, encoding: str) -> None:
    body = b" " * blanks + json.dumps({"database": cluster_body(name=end.decode("latin-1"))}).encode()
    content, headers = gzip.compress(body) if encoding == "gzip" else body, {"content-encoding": encoding}
    transport = httpx.MockTransport(lambda _request: arriving(200, content, headers=headers, piece=piece))
    async with httpx.AsyncClient(transport=transport) as client:
        read = await DigitalOcean(client, base_url="http://do.example").get_cluster("t", UUID, observe=lambda *_: None)
    assert read.uuid == UUID
