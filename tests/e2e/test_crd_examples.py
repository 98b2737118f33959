"""Each example in the CRD's descriptions and messages, as a real API server and the operator's own reader take it."""

import json
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest
import yaml

from dbclusterref.commands.reasons import REASONS
from dbclusterref.resource.reference import Reference
from dbclusterref.secret.engines import ENGINES
from tests.e2e.cluster import ROOT, Json, Kubectl

pytestmark = pytest.mark.e2e

UUID = "9cc10173-e9ea-4176-9dbc-a4cee4c4ff30"
CRD = ROOT / "crds" / "dbclusterref.io_databaseclusterrefs.yaml"
NOT_ASKED_FOR = ("spec", "secret", "type")
"""Its example is what the operator writes where the field is left out."""


Path = tuple[str | int, ...]
"""Names of members, and 0 for a list's items."""


class Example(NamedTuple):
    """One value that a text gives as an example for the field at `path`."""

    path: Path
    value: str


def examples() -> list[Example]:
    schema = yaml.safe_load(CRD.read_text())["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return [Example(path, value) for path, text in texts(schema, ()) for value in values_in(text)]


def texts(schema: Json, path: Path) -> Iterator[tuple[Path, str]]:
    yield path, schema.get("description", "")
    for rule in schema.get("x-kubernetes-validations", ()):
        yield (*path, *rule.get("fieldPath", "").split(".")[1:]), rule["message"]
    for name, below in schema.get("properties", {}).items():
        yield from texts(below, (*path, name))
    if "items" in schema:
        yield from texts(schema["items"], (*path, 0))
    if "additionalProperties" in schema:
        yield from texts(schema["additionalProperties"], path)


def values_in(text: str) -> Iterator[str]:
    found = re.findall(r"for example (\[.*?\]|\{.*?\"\}|\{.*?\}|[^;]+?)(?=\. |, (?:so|or)\b|;|\.?$)", text)
    assert len(found) == text.count("for example"), text
    for said in found:
        yield from [said] if said[0] in "[{" else re.split(r", | or ", said)


def spec_with(example: Example) -> Json:
    """A spec in which the example stands where its text says it may."""
    _, *path = example.path
    is_placeholder = re.fullmatch(r"\{[a-z:]+\}", example.value)
    value: Any = example.value if is_placeholder else yaml.safe_load(example.value)
    if isinstance(value, str):
        keys = {key: {value: "x"} for key in ("labels", "annotations", "template")}
        names = {key: {"name": value} for key in ("apiTokenSecretRef", "passwordSecretRef")}
        value = {"KEY": value} if is_placeholder else (keys | names).get(str(path[-1]), value)
    spec: Json = {"clusterUUID": UUID, "apiTokenSecretRef": {"name": "t"}, "passwordSecretRef": {"name": "p"}, "secret": {}}
    spec["restart"] = [{"kind": "Deployment", "name": "x"}]
    spec["caConfigMap"] = {"name": "x"}
    place: Any = spec
    for name in path[:-1]:
        place = place[name]
    place[path[-1]] = value
    return spec


ALL = examples()
OF_THE_SPEC = [one for one in ALL if one.path[0] == "spec" and one.path != NOT_ASKED_FOR]


def test_the_examples_are_found() -> None:
    assert {one.value for one in ALL} >= {"30s", "5m", "1h30m", "do-token", "/bindings/orders-db", "[Private, Public]"}
    assert [one.value for one in ALL if one.path == NOT_ASKED_FOR] == [f"servicebinding.io/{ENGINES['pg'].type}"]
    assert {one.value for one in ALL if one.path == ("status", "conditions", 0, "reason")} <= REASONS.keys()
    assert {one.value for one in ALL if one.path == ("status", "cluster", "engine")} <= ENGINES.keys()


def test_each_example_of_the_spec_is_accepted_and_read(kubectl: Kubectl, namespace: str) -> None:
    kubectl("apply", "-f", str(CRD))
    kubectl.wait_for_crd()
    objects = [
        {
            "apiVersion": "dbclusterref.io/v1alpha1",
            "kind": "DatabaseClusterRef",
            "metadata": {"name": f"example-{number}", "namespace": namespace, "uid": "u"},
            "spec": spec_with(example),
        }
        for number, example in enumerate(OF_THE_SPEC)
    ]
    for one in objects:
        Reference.from_body(one)
        del one["metadata"]["uid"]  # type: ignore[attr-defined]
    listed = json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})
    kubectl("create", "--dry-run=server", "--validate=strict", "-f", "-", input=listed)
