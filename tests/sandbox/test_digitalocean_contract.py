"""Every route's reply, for every engine, against the provider's own description."""

import json
import os
import pathlib
from collections.abc import Mapping
from typing import Any

import jsonschema
import pytest

from sandbox.digitalocean.control import obey
from sandbox.digitalocean.engines import ENGINES
from sandbox.digitalocean.jsontypes import Json
from sandbox.digitalocean.simulator import Simulator
from sandbox.digitalocean.tokens import DEFAULT_TOKEN

ROOT = pathlib.Path(__file__).parents[2]
DESCRIPTION = pathlib.Path(
    os.environ.get("DBCLUSTERREF_CONTRACT", ROOT.parent / "shared" / "digitalocean" / "databases-openapi.json")
)
CLUSTER = "/v2/databases/{database_cluster_uuid}"
ROUTES = (
    ("GET", "/v2/databases"),
    ("GET", CLUSTER),
    ("GET", f"{CLUSTER}/ca"),
    ("GET", f"{CLUSTER}/users"),
    ("GET", f"{CLUSTER}/users/{{username}}"),
    ("POST", f"{CLUSTER}/users/{{username}}/reset_auth"),
    ("GET", f"{CLUSTER}/dbs"),
    ("GET", f"{CLUSTER}/dbs/{{database_name}}"),
    ("GET", f"{CLUSTER}/pools"),
    ("GET", f"{CLUSTER}/pools/{{pool_name}}"),
    ("GET", f"{CLUSTER}/replicas"),
)
LIMITED_TOKEN = "limited"


@pytest.fixture(scope="module")
def description() -> dict[str, Any]:
    if not DESCRIPTION.is_file():
        pytest.skip(f"the provider's description is not at {DESCRIPTION} (DBCLUSTERREF_CONTRACT names another place)")
    found: dict[str, Any] = json.loads(DESCRIPTION.read_text(encoding="utf-8"))
    return found


def control(simulator: Simulator, method: str, path: str, body: Json) -> Any:
    reply = obey(simulator, method, f"/control{path}", query={}, body=body)
    assert reply.status == 200, reply.body
    return json.loads(reply.body)


def furnished(engine: str) -> tuple[Simulator, Mapping[str, str]]:
    """A simulator with one cluster that has one of everything, and what its paths name."""
    simulator = Simulator(seed=0, clock=lambda: 1_700_000_000.0)
    created = control(simulator, "POST", "/clusters", {"engine": engine, "num_nodes": 3, "tags": ["production"]})
    cluster = created["cluster"]["id"]
    for kind, body in (
        ("users", {"name": "app"}),
        ("databases", {"name": "orders"}),
        ("pools", {"name": "pool", "db": "defaultdb"}),
        ("replicas", {"name": "read-1"}),
    ):
        control(simulator, "POST", f"/clusters/{cluster}/{kind}", dict(body))
    control(simulator, "POST", "/tokens", {"value": LIMITED_TOKEN, "scopes": ["database:read", "database:update"]})
    return simulator, {
        "database_cluster_uuid": cluster,
        "username": "app",
        "database_name": "orders",
        "pool_name": "pool",
    }


def response_of(description: Mapping[str, Any], method: str, route: str, status: int) -> dict[str, Any]:
    responses = description["paths"][route][method.lower()]["responses"]
    found: dict[str, Any] = responses.get(str(status), responses["default"])
    return found


def without_nullable(schema: Any) -> Any:
    """OpenAPI 3.0's `nullable` in the words of JSON Schema."""
    if isinstance(schema, list):
        return [without_nullable(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    plain = {name: without_nullable(value) for name, value in schema.items() if name not in {"nullable", "example"}}
    return {"anyOf": [plain, {"type": "null"}]} if schema.get("nullable") is True else plain


def validate(body: Any, response: Mapping[str, Any]) -> None:
    schema = without_nullable(response["content"]["application/json"]["schema"])
    validator = jsonschema.Draft202012Validator(schema, format_checker=jsonschema.FormatChecker())
    assert [f"{error.json_path}: {error.message}" for error in validator.iter_errors(body)] == []


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(("method", "route"), ROUTES)
@pytest.mark.parametrize("token", [DEFAULT_TOKEN, LIMITED_TOKEN])
def test_every_reply_is_as_the_provider_describes_it(
    description: dict[str, Any], engine: str, method: str, route: str, token: str
) -> None:
    simulator, names = furnished(engine)

    reply = simulator.handle(method, route.format(**names), token=token).reply

    response = response_of(description, method, route, reply.status)
    validate(json.loads(reply.body), response)
    assert set(response["headers"]) <= set(reply.headers)
    facts = ENGINES[engine]
    supported = {"users": facts.has_users, "dbs": facts.has_databases, "pools": facts.has_pools}
    supported["replicas"] = facts.has_replicas
    expected = 200 if all(ok or f"/{kind}" not in route for kind, ok in supported.items()) else 422
    assert reply.status == expected


@pytest.mark.parametrize(
    ("token", "path", "status"),
    [("stranger", "/v2/databases", 401), (DEFAULT_TOKEN, "/v2/databases/nobody", 404)],
)
def test_errors_are_as_the_provider_describes_them(description: dict[str, Any], token: str, path: str, status: int) -> None:
    simulator, _ = furnished("pg")

    reply = simulator.handle("GET", path, token=token).reply

    assert reply.status == status
    validate(json.loads(reply.body), response_of(description, "GET", CLUSTER, status))


def test_every_route_of_the_description_is_answered(description: dict[str, Any]) -> None:
    described = {
        (method.upper(), route)
        for route, item in description["paths"].items()
        for method in item
        if method in {"get", "post", "put", "patch", "delete"}
    }

    assert described == set(ROUTES)


@pytest.mark.parametrize("shape", [None, {}])
def test_a_connection_that_is_null_or_empty_is_still_told_from_a_wrong_one(description: dict[str, Any], shape: Json) -> None:
    """The description has no `nullable` there, and the field has shown null: the difference is known and wanted."""
    simulator, names = furnished("pg")
    cluster = names["database_cluster_uuid"]
    control(simulator, "PATCH", f"/clusters/{cluster}", {"members": {"standby_connection": shape}})

    body = json.loads(simulator.handle("GET", f"/v2/databases/{cluster}", token=DEFAULT_TOKEN).reply.body)

    response = response_of(description, "GET", CLUSTER, 200)
    if shape is None:
        with pytest.raises(AssertionError, match="standby_connection"):
            validate(body, response)
    else:
        validate(body, response)
