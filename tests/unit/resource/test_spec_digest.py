from typing import Any

import pytest

from dbclusterref.resource.spec_digest import same_reads, spec_digest
from tests.support.builders import a_reference

DECIDE_THE_SECRET: list[dict[str, Any]] = [
    {"user": "app"},
    {"database": "orders"},
    {"pool": "orders-pool"},
    {"apiTokenSecretRef": {"name": "other"}},
    {"apiTokenSecretRef": {"name": "token", "key": "other"}},
    {"secret": {"name": "renamed"}},
    {"secret": {"keySets": ["Env"]}},
    {"secret": {"endpoints": ["Private"]}},
    {"secret": {"endpoints": ["Private", "Standby", "Replicas"]}},
    {"secret": {"missingStandby": "UsePrimary"}},
    {"secret": {"mountPath": "/bindings"}},
    {"secret": {"tls": "Encrypt"}},
    {"secret": {"labels": {"team": "a"}}},
    {"secret": {"annotations": {"example.com/a": "b"}}},
    {"secret": {"deletionPolicy": "Retain"}},
    {"secret": {"template": {"URL": "{host}"}}},
]


def test_each_part_of_the_spec_that_decides_the_secret_has_a_digest_of_its_own() -> None:
    digests = {spec_digest(a_reference(spec)) for spec in [{}, *DECIDE_THE_SECRET]}
    assert len(digests) == len(DECIDE_THE_SECRET) + 1


@pytest.mark.parametrize(
    "spec",
    [
        {"refreshInterval": "1h"},
        {"suspend": True},
        {"restart": [{"kind": "Deployment", "name": "app"}]},
        {"caConfigMap": {"name": "orders-ca"}},
        {"secret": {"keySets": ["Env", "Binding"]}},
        {"secret": {"tls": "Verify"}},
    ],
)
def test_what_is_not_in_the_secret_and_what_is_the_default_changes_no_digest(spec: dict[str, Any]) -> None:
    assert spec_digest(a_reference(spec)) == spec_digest(a_reference())


def test_the_digest_is_the_same_in_every_process_and_for_every_object() -> None:
    assert spec_digest(a_reference({"user": "app"}, uid="another", generation=9)) == spec_digest(a_reference({"user": "app"}))
    labels = [{"a": "1", "b": "2"}, {"b": "2", "a": "1"}]
    assert len({spec_digest(a_reference({"secret": {"labels": each}})) for each in labels}) == 1
    smallest = a_reference(apiTokenSecretRef=None)
    assert spec_digest(smallest) == "006319263792896e", "it is kept on Secrets: a change costs a write of each"


READ_UPSTREAM = [*DECIDE_THE_SECRET[:5], {"secret": {"endpoints": ["Private", "Standby", "Replicas"]}}]


@pytest.mark.parametrize("spec", READ_UPSTREAM, ids=str)
def test_another_user_pool_database_token_or_the_replicas_are_another_read(spec: dict[str, Any]) -> None:
    assert not same_reads(a_reference(spec), a_reference())
    assert same_reads(a_reference(spec), a_reference(spec))


SHAPE_THE_SECRET = [one for one in DECIDE_THE_SECRET if one not in READ_UPSTREAM]


@pytest.mark.parametrize("spec", [*SHAPE_THE_SECRET, {"refreshInterval": "1h"}], ids=str)
def test_what_only_shapes_the_secret_is_the_same_read(spec: dict[str, Any]) -> None:
    assert same_reads(a_reference(spec), a_reference())
