import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dbclusterref.errors import InvalidSpec
from dbclusterref.resource.objects import ObjectKey, ObjectMeta
from dbclusterref.resource.reference import (
    DeletionPolicy,
    Endpoint,
    KeySet,
    Reference,
    TokenSecretRef,
    is_reserved,
    parse_duration,
)
from tests.support.builders import BOUNDED, CLUSTER_UUID, UID, identity, json_values, reference, reference_body


def test_the_smallest_resource_gets_the_documented_defaults() -> None:
    read = reference()
    assert (read.cluster_uuid, read.token_secret, read.refresh_interval, read.suspend) == (CLUSTER_UUID, None, 60.0, False)
    assert (read.user, read.database, read.pool) == ("", "", "")
    assert read.secret.name == "orders-db"
    assert read.secret.key_sets == {KeySet.BINDING, KeySet.ENV}
    assert read.secret.endpoints == {Endpoint.PRIVATE, Endpoint.STANDBY}
    assert (read.secret.mount_path, read.secret.deletion_policy) == ("", DeletionPolicy.DELETE)
    assert (read.secret.labels, read.secret.annotations, read.secret.template) == ({}, {}, {})


def test_a_resource_is_read_whole() -> None:
    read = reference(
        {
            "apiTokenSecretRef": {"name": "do-token", "key": "do"},
            "refreshInterval": "1m30s",
            "suspend": True,
            "user": "app",
            "pool": "orders-pool",
            "secret": {
                "name": "binding",
                "keySets": ["Env"],
                "endpoints": ["Private", "PublicStandby"],
                "mountPath": "/bindings",
                "labels": {"team": "orders"},
                "annotations": {"example.com/a": "b"},
                "deletionPolicy": "Retain",
                "template": {"URL": "{host}"},
            },
        }
    )
    assert read.token_secret == TokenSecretRef(name="do-token", key="do")
    assert (read.refresh_interval, read.suspend, read.user, read.pool) == (90.0, True, "app", "orders-pool")
    assert (read.key, read.secret_key) == (ObjectKey("shop", "orders-db"), ObjectKey("shop", "binding"))
    assert read.secret.key_sets == {KeySet.ENV}
    assert read.secret.endpoints == {Endpoint.PRIVATE, Endpoint.PUBLIC_STANDBY}
    assert (read.secret.mount_path, read.secret.deletion_policy) == ("/bindings", DeletionPolicy.RETAIN)
    assert (read.secret.labels, read.secret.annotations) == ({"team": "orders"}, {"example.com/a": "b"})
    assert read.secret.template == {"URL": "{host}"}


def test_what_is_null_is_as_if_it_were_absent() -> None:
    names = ("apiTokenSecretRef", "refreshInterval", "suspend", "user", "database", "pool", "secret")
    assert reference(dict.fromkeys(names)) == reference()
    inner = ("name", "keySets", "endpoints", "mountPath", "labels", "annotations", "deletionPolicy", "template")
    assert reference({"secret": dict.fromkeys(inner)}) == reference()


def test_unknown_fields_are_tolerated() -> None:
    assert reference({"later": {"x": 1}, "secret": {"later": 1}}) == reference()


def test_the_tokens_key_is_token_by_default() -> None:
    assert reference({"apiTokenSecretRef": {"name": "do-token"}}).token_secret == TokenSecretRef(name="do-token", key="token")


@pytest.mark.parametrize(
    ("spec", "complaint"),
    [
        ({"clusterUUID": ""}, "spec.clusterUUID is not a lower-case UUID"),
        ({"clusterUUID": None}, "spec.clusterUUID is not a lower-case UUID"),
        ({"clusterUUID": CLUSTER_UUID.upper()}, "spec.clusterUUID is not a lower-case UUID"),
        ({"clusterUUID": CLUSTER_UUID + "\n"}, "spec.clusterUUID is not a lower-case UUID"),
        ({"clusterUUID": f"../{CLUSTER_UUID}"}, "spec.clusterUUID is not a lower-case UUID"),
        ({"clusterUUID": 7}, "spec.clusterUUID is not a string"),
        ({"apiTokenSecretRef": {}}, "spec.apiTokenSecretRef.name is missing"),
        ({"apiTokenSecretRef": {"name": "../do-token"}}, "spec.apiTokenSecretRef.name is no name that a Secret can have"),
        ({"apiTokenSecretRef": {"name": "do/token"}}, "spec.apiTokenSecretRef.name is no name that a Secret can have"),
        ({"apiTokenSecretRef": "do-token"}, "spec.apiTokenSecretRef is not an object"),
        ({"refreshInterval": "soon"}, "spec.refreshInterval is not a duration"),
        ({"refreshInterval": 60}, "spec.refreshInterval is not a string"),
        ({"suspend": "yes"}, "spec.suspend is neither true nor false"),
        ({"user": ["app"]}, "spec.user is not a string"),
        ({"user": "a/b"}, "spec.user is no name that DigitalOcean gives"),
        ({"user": "a\n"}, "spec.user is no name that DigitalOcean gives"),
        ({"database": ".."}, "spec.database is no name that DigitalOcean gives"),
        ({"pool": "a b"}, "spec.pool is no name that DigitalOcean gives"),
        ({"database": "a", "pool": "b"}, "spec.database and spec.pool exclude each other"),
        ({"secret": []}, "spec.secret is not an object"),
        ({"secret": {"name": "Orders"}}, "spec.secret.name is no name that a Secret can have"),
        ({"secret": {"name": "orders/x"}}, "spec.secret.name is no name that a Secret can have"),
        ({"secret": {"keySets": ["env"]}}, "spec.secret.keySets has an unknown word; allowed are Binding, Env"),
        ({"secret": {"keySets": "Env"}}, "spec.secret.keySets is not a list"),
        ({"secret": {"endpoints": [["Private"]]}}, "allowed are Private, Standby, Public, PublicStandby"),
        ({"secret": {"deletionPolicy": "Orphan"}}, "spec.secret.deletionPolicy has an unknown word"),
        ({"secret": {"labels": {"a": 1}}}, "spec.secret.labels is not a map of strings"),
        ({"secret": {"labels": {"argocd.argoproj.io/instance": "x"}}}, "spec.secret.labels: argocd.argoproj.io/instance"),
        ({"secret": {"annotations": {"dbclusterref.io/adopt": "x"}}}, "spec.secret.annotations: dbclusterref.io/adopt"),
        ({"secret": {"template": {"type": "x"}}}, "spec.secret.template may not replace type"),
        ({"secret": {"template": {"provider": "x"}}}, "spec.secret.template may not replace provider"),
        ({"secret": {"template": {"a/b": "x"}}}, "spec.secret.template has a key that no Secret can have"),
        ({"secret": {"template": {"": "x"}}}, "spec.secret.template has a key that no Secret can have"),
        ({"secret": {"template": {".": "x"}}}, "spec.secret.template has a key that no Secret can have"),
        ({"secret": {"template": {"..data": "x"}}}, "spec.secret.template has a key that no Secret can have"),
    ],
)
def test_what_cannot_be_is_refused_by_its_field(spec: dict[str, object], complaint: str) -> None:
    with pytest.raises(InvalidSpec) as caught:
        reference(spec)
    assert complaint in caught.value.message


def test_keys_with_dots_are_keys_a_secret_can_have() -> None:
    keys = {".env": "x", "a..b": "x", "app.conf": "x"}
    assert reference({"secret": {"template": keys}}).secret.template == keys


@pytest.mark.parametrize("spec", [None, "x", []])
def test_a_resource_without_a_spec_is_refused(spec: object) -> None:
    with pytest.raises(InvalidSpec, match="spec is not an object"):
        Reference.from_body({**reference_body(), "spec": spec})


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("10s", 10), ("1m", 60), ("1m30s", 90), ("1h", 3600), ("1h1m1s", 3661), ("0.5m", 30), ("20000ms", 20), ("24h", 86400)],
)
def test_durations_are_read_as_seconds(text: str, seconds: float) -> None:
    assert parse_duration(text, field_name="f") == seconds


@pytest.mark.parametrize("text", ["", "10", "s", "-1m", "1m ", " 1m", "1 m", "1d", "1m30", "1m,30s", "\u0661m", "1e3s", "infs"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(InvalidSpec, match="f is not a duration"):
        parse_duration(text, field_name="f")


@pytest.mark.parametrize(("text", "complaint"), [("9999ms", "the least is 10s"), ("0s", "the least is 10s"), ("25h", "24h"),
                                                 ("9" * 400 + "h", "24h")])  # fmt: skip
def test_a_duration_outside_its_bounds_is_refused(text: str, complaint: str) -> None:
    with pytest.raises(InvalidSpec, match=complaint):
        parse_duration(text, field_name="f")


@pytest.mark.parametrize(
    "key",
    [
        "argocd.argoproj.io/instance",
        "kubectl.kubernetes.io/last-applied-configuration",
        "meta.helm.sh/release-name",
        "kustomize.toolkit.fluxcd.io/name",
        "toolkit.fluxcd.io/x",
        "dbclusterref.io/adopt",
        "x.dbclusterref.io/adopt",
        "app.kubernetes.io/instance",
        "app.kubernetes.io/managed-by",
    ],
)
def test_what_other_tools_recognise_theirs_by_is_reserved(key: str) -> None:
    assert is_reserved(key)


@pytest.mark.parametrize(
    "key",
    ["team", "app.kubernetes.io/name", "example.com/argocd.argoproj.io", "mydbclusterref.io/x", "x.toolkit.fluxcd.io", "io/x"],
)
def test_other_keys_are_the_users_own(key: str) -> None:
    assert not is_reserved(key)


def test_an_identity_is_read_where_the_spec_cannot_be() -> None:
    body = {**reference_body(annotations={"dbclusterref.io/refresh-requested-at": "now"}), "spec": 7}
    assert ObjectMeta.from_body(body) == ObjectMeta(
        key=ObjectKey("shop", "orders-db"), uid=UID, generation=3, refresh_requested_at="now", deleting=False
    )


def test_a_deletion_timestamp_means_deleting() -> None:
    assert identity(deletionTimestamp="2026-01-05T12:00:00Z").deleting


def test_a_key_prints_as_kubectl_writes_it() -> None:
    assert str(ObjectKey("shop", "orders-db")) == "shop/orders-db"


SPEC_FIELDS = [
    "clusterUUID", "apiTokenSecretRef", "refreshInterval", "suspend", "user", "database", "pool", "secret",
]  # fmt: skip
SECRET_FIELDS = ["name", "keySets", "endpoints", "mountPath", "labels", "annotations", "deletionPolicy", "template"]


@BOUNDED
@given(
    st.dictionaries(st.sampled_from(SPEC_FIELDS), json_values, max_size=3),
    st.dictionaries(st.sampled_from(SECRET_FIELDS), json_values, max_size=3),
)
def test_any_json_is_a_reference_or_an_invalid_spec(spec: dict[str, Any], secret: dict[str, Any]) -> None:
    body = reference_body({"secret": secret, **spec})
    try:
        read = Reference.from_body(body)
    except InvalidSpec:
        return
    assert Reference.from_body(json.loads(json.dumps(body))) == read
