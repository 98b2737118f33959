import json
import re
import tracemalloc
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
    SecretKeyRef,
    SecretType,
    Tls,
    is_reserved,
)
from dbclusterref.resource.template import parse_template
from tests.support.builders import UID, UUID, a_reference, an_identity, reference_body
from tests.support.strategies import BOUNDED, json_values


def test_the_smallest_resource_gets_the_documented_defaults() -> None:
    read = a_reference({"apiTokenSecretRef": None})
    assert (read.cluster_uuid, read.token_secret, read.refresh_interval, read.suspend) == (UUID, None, 60.0, False)
    assert (read.user, read.database, read.pool) == ("", "", "")
    assert read.secret.name == "orders-db"
    assert read.secret.key_sets == {KeySet.BINDING, KeySet.ENV}
    assert read.secret.endpoints == {Endpoint.PRIVATE, Endpoint.STANDBY}
    assert (read.secret.mount_path, read.secret.deletion_policy) == ("", DeletionPolicy.DELETE)
    assert (read.secret.labels, read.secret.annotations, read.secret.template) == ({}, {}, {})


def test_a_resource_is_read_whole() -> None:
    read = a_reference(
        {
            "apiTokenSecretRef": {"name": "do-token", "key": "do"},
            "passwordSecretRef": {"name": "orders-password"},
            "refreshInterval": "1m30s",
            "suspend": True,
            "user": "app",
            "pool": "orders-pool",
            "secret": {
                "name": "binding",
                "type": "Opaque",
                "keySets": ["Env"],
                "endpoints": ["Private", "PublicStandby"],
                "mountPath": "/bindings",
                "tls": "Encrypt",
                "labels": {"team": "orders"},
                "annotations": {"example.com/a": "b"},
                "deletionPolicy": "Retain",
                "template": {"URL": "{host}"},
            },
        }
    )
    assert read.token_secret == SecretKeyRef(name="do-token", key="do")
    assert read.password_secret == SecretKeyRef(name="orders-password", key="password")
    assert (read.refresh_interval, read.suspend, read.user, read.pool) == (90.0, True, "app", "orders-pool")
    assert (read.key, read.secret_key) == (ObjectKey("shop", "orders-db"), ObjectKey("shop", "binding"))
    assert read.secret.key_sets == {KeySet.ENV}
    assert read.secret.type is SecretType.OPAQUE
    assert read.secret.endpoints == {Endpoint.PRIVATE, Endpoint.PUBLIC_STANDBY}
    assert (read.secret.mount_path, read.secret.tls) == ("/bindings", Tls.ENCRYPT)
    assert read.secret.deletion_policy is DeletionPolicy.RETAIN
    assert (read.secret.labels, read.secret.annotations) == ({"team": "orders"}, {"example.com/a": "b"})
    assert read.secret.template == {"URL": "{host}"}


def test_what_is_null_is_as_if_it_were_absent() -> None:
    names = ("apiTokenSecretRef", "passwordSecretRef", "refreshInterval", "suspend", "user", "database", "pool", "secret")
    absent = Reference.from_body({**reference_body(), "spec": {"clusterUUID": UUID}})
    assert a_reference(dict.fromkeys(names)) == absent
    inner = ("name", "type", "keySets", "endpoints", "mountPath", "tls", "labels", "annotations", "deletionPolicy", "template")
    assert a_reference({"secret": dict.fromkeys(inner)}) == a_reference()


def test_unknown_fields_are_tolerated() -> None:
    assert a_reference({"later": {"x": 1}, "secret": {"later": 1}}) == a_reference()


def test_the_tokens_key_is_token_by_default() -> None:
    assert a_reference({"apiTokenSecretRef": {"name": "do-token"}}).token_secret == SecretKeyRef(name="do-token", key="token")


@pytest.mark.parametrize(
    ("spec", "complaint"),
    [
        ({"clusterUUID": ""}, "spec.clusterUUID must be a lower-case UUID"),
        ({"clusterUUID": None}, "spec.clusterUUID must be a lower-case UUID"),
        ({"clusterUUID": UUID.upper()}, "spec.clusterUUID must be a lower-case UUID"),
        ({"clusterUUID": UUID + "\n"}, "spec.clusterUUID must be a lower-case UUID"),
        ({"clusterUUID": f"../{UUID}"}, "spec.clusterUUID must be a lower-case UUID"),
        ({"clusterUUID": 7}, "spec.clusterUUID must be a string"),
        ({"apiTokenSecretRef": {}}, "spec.apiTokenSecretRef.name is missing"),
        ({"apiTokenSecretRef": {"name": "../do-token"}}, "spec.apiTokenSecretRef.name is not a valid Secret name"),
        ({"apiTokenSecretRef": {"name": "do/token"}}, "spec.apiTokenSecretRef.name is not a valid Secret name"),
        ({"apiTokenSecretRef": "do-token"}, "spec.apiTokenSecretRef must be an object"),
        ({"refreshInterval": "soon"}, "spec.refreshInterval is not a duration"),
        ({"refreshInterval": 60}, "spec.refreshInterval must be a string"),
        ({"suspend": "yes"}, "spec.suspend must be true or false"),
        ({"user": ["app"]}, "spec.user must be a string"),
        ({"user": "a/b"}, "spec.user is not a valid DigitalOcean name"),
        ({"user": "a\n"}, "spec.user is not a valid DigitalOcean name"),
        ({"database": ".."}, "spec.database is not a valid DigitalOcean name"),
        ({"pool": "a b"}, "spec.pool is not a valid DigitalOcean name"),
        ({"database": "a", "pool": "b"}, "spec.database and spec.pool are mutually exclusive"),
        ({"secret": []}, "spec.secret must be an object"),
        ({"caConfigMap": "x"}, "spec.caConfigMap must be an object"),
        ({"caConfigMap": {}}, "spec.caConfigMap.name is not a valid ConfigMap name"),
        ({"caConfigMap": {"name": "../x"}}, "spec.caConfigMap.name is not a valid ConfigMap name"),
        ({"secret": {"name": "Orders"}}, "spec.secret.name is not a valid Secret name"),
        ({"secret": {"name": "orders/x"}}, "spec.secret.name is not a valid Secret name"),
        ({"secret": {"keySets": ["env"]}}, "spec.secret.keySets[0] has an invalid value; allowed: Binding, Env, Files"),
        ({"secret": {"keySets": "Env"}}, "spec.secret.keySets must be a list"),
        ({"secret": {"endpoints": [["Private"]]}}, "spec.secret.endpoints[0] must be a string"),
        ({"secret": {"deletionPolicy": "Orphan"}}, "spec.secret.deletionPolicy has an invalid value; allowed: Delete, Retain"),
        ({"secret": {"labels": {"a": 1}}}, "spec.secret.labels[...] must be a string"),
        ({"secret": {"labels": {"argocd.argoproj.io/instance": "x"}}}, "spec.secret.labels: argocd.argoproj.io/instance"),
        ({"secret": {"annotations": {"dbclusterref.io/adopt": "x"}}}, "spec.secret.annotations: dbclusterref.io/adopt"),
        ({"passwordSecretRef": {"name": ""}}, "spec.passwordSecretRef.name is missing"),
        ({"passwordSecretRef": {"name": "p", "key": "../p"}}, "spec.passwordSecretRef.key is not a valid key of a Secret"),
        ({"passwordSecretRef": {"name": "orders-db"}}, "spec.passwordSecretRef names the Secret that this resource writes"),
        ({"apiTokenSecretRef": {"name": "orders-db"}}, "spec.apiTokenSecretRef names the Secret that this resource writes"),
        ({"secret": {"type": "kubernetes.io/tls"}}, "spec.secret.type has an invalid value; allowed: Opaque"),
        ({"secret": {"keySets": ["Env", ""]}}, "spec.secret.keySets[1] has an invalid value"),
        ({"secret": {"tls": "Off"}}, "spec.secret.tls has an invalid value; allowed: Verify, Encrypt"),
        ({"secret": {"mountPath": "bindings"}}, "spec.secret.mountPath must be an absolute path"),
        ({"secret": {"mountPath": "/b\nhost=evil"}}, "spec.secret.mountPath must be an absolute path"),
        ({"user": "a\x07"}, "spec.user is not a valid DigitalOcean name"),
        ({"user": "a\ud800"}, "spec.user is not a valid DigitalOcean name"),
        ({"user": "a" * 129}, "spec.user is not a valid DigitalOcean name"),
        ({"secret": {"annotations": {"a": "\ud800"}}}, "spec.secret.annotations must be text in UTF-8"),
        ({"secret": {"template": {"A": "\ud800"}}}, "spec.secret.template must be text in UTF-8"),
        ({"secret": {"template": {"type": "x"}}}, "spec.secret.template may not replace type"),
        ({"secret": {"template": {"provider": "x"}}}, "spec.secret.template may not replace provider"),
        ({"secret": {"template": {"a/b": "x"}}}, "spec.secret.template has a key that is not valid in a Secret"),
        ({"secret": {"template": {"": "x"}}}, "spec.secret.template has a key that is not valid in a Secret"),
        ({"secret": {"template": {".": "x"}}}, "spec.secret.template has a key that is not valid in a Secret"),
        ({"secret": {"template": {"..data": "x"}}}, "spec.secret.template has a key that is not valid in a Secret"),
    ],
)
def test_what_cannot_be_is_refused_by_its_field(spec: dict[str, object], complaint: str) -> None:
    with pytest.raises(InvalidSpec) as caught:
        a_reference(spec)
    assert complaint in caught.value.message


def test_keys_with_dots_are_keys_a_secret_can_have() -> None:
    keys = {".env": "x", "a..b": "x", "app.conf": "x"}
    assert a_reference({"secret": {"template": keys}}).secret.template == keys


@pytest.mark.parametrize("spec", [None, "x", []])
def test_a_resource_without_a_spec_is_refused(spec: object) -> None:
    with pytest.raises(InvalidSpec, match="spec must be an object"):
        Reference.from_body({**reference_body(), "spec": spec})


@pytest.mark.parametrize(
    "key",
    [
        "argocd.argoproj.io/instance",
        "kubectl.kubernetes.io/last-applied-configuration",
        "meta.helm.sh/release-name",
        "applyset.kubernetes.io/part-of",
        "kapp.k14s.io/app",
        "objectset.rio.cattle.io/hash",
        "cli-utils.sigs.k8s.io/inventory-id",
        "config.k8s.io/owning-inventory",
        "replicator.v1.mittwald.de/replicate-to",
        "reflector.v1.k8s.emberstack.com/reflection-allowed",
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
    body = {**reference_body(metadata={"annotations": {"dbclusterref.io/refresh-requested-at": "now"}}), "spec": 7}
    assert ObjectMeta.from_body(body) == ObjectMeta(
        key=ObjectKey("shop", "orders-db"), uid=UID, generation=1, refresh_requested_at="now", deleting=False
    )


def test_a_deletion_timestamp_means_deleting() -> None:
    assert an_identity(metadata={"deletionTimestamp": "2026-01-05T12:00:00Z"}).deleting


def test_a_key_prints_as_kubectl_writes_it() -> None:
    assert str(ObjectKey("shop", "orders-db")) == "shop/orders-db"


def test_every_wrong_key_of_a_template_is_named_at_once_with_what_was_meant() -> None:
    templates = {"A": "{user}@{host}", "B": "{host:base64}", "C": "{", "D": "{Password}", "OK": "{host}"}
    with pytest.raises(InvalidSpec) as caught:
        a_reference({"secret": {"template": templates}})
    message = caught.value.message
    for part in (
        "spec.secret.template.A: unknown placeholder user (did you mean `{username}`?)",
        "spec.secret.template.B: unknown encoding base64 of placeholder host",
        "spec.secret.template.C: a stray { at character 1",
        "spec.secret.template.D: unknown placeholder Password (did you mean `{password}`?)",
        "Placeholders are host, port, ",
    ):
        assert part in message
    assert "template.OK" not in message


def test_a_template_full_of_mistakes_makes_no_endless_message() -> None:
    text = "".join(f"{{wrong{i:03}}}" for i in range(400))
    with pytest.raises(InvalidSpec, match="and 397 more") as caught:
        a_reference({"secret": {"template": {"A": text}}})
    assert len(caught.value.message) < 1000


def test_of_many_wrong_templates_the_first_are_named_and_the_others_counted() -> None:
    templates = {f"k{number:02}{'x' * 240}": "".join(f"{{{'y' * 60}{i}}}" for i in range(3)) for number in range(32)}
    with pytest.raises(InvalidSpec, match="; and 22 more") as caught:
        a_reference({"secret": {"template": templates}})
    assert len(caught.value.message) < 8000, "each resource keeps its own"


@pytest.mark.parametrize("field", ["template", "annotations", "labels"])
def test_a_map_that_is_too_large_is_refused_with_its_size(field: str) -> None:
    def holding(size: int) -> dict[str, object]:
        return {"secret": {field: {f"k{i}": "x" * ((size - 8) // 4) for i in range(4)}}}

    assert len(dict(getattr(a_reference(holding(16384)).secret, field))) == 4
    with pytest.raises(InvalidSpec, match=f"spec.secret.{field} holds 16388 bytes; the maximum is 16384"):
        a_reference(holding(16388))


def test_a_large_map_costs_little_memory_and_reads_as_it_was_written() -> None:
    texts = {f"k{i}": "{host}" * 600 + "🔑" for i in range(4)}
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        kept = [a_reference({"secret": {"template": dict(texts)}}) for _ in range(20)]
        cost = (tracemalloc.get_traced_memory()[0] - before) / len(kept)
    finally:
        tracemalloc.stop()
    assert kept[0].secret.template == texts
    # As Python strings, with four bytes a character, 58 kB.
    assert cost < 4096


def examples_in(message: str) -> list[str]:
    return re.findall(r"`([^`]*)`", message)


@pytest.mark.parametrize("text", ["{", "}", "{host:base64}", "{host:url:url:url}", "{passwort}", "{db-host}"])
def test_every_template_that_a_message_shows_is_a_template(text: str) -> None:
    with pytest.raises(InvalidSpec) as caught:
        a_reference({"secret": {"template": {"A": text}}})
    shown = examples_in(caught.value.message)
    assert shown
    for example in shown:
        # A brace itself is the one example without a placeholder in it.
        assert parse_template(example).names or example in {"{{", "}}"}
        assert a_reference({"secret": {"template": {"A": example}}}).secret.template == {"A": example}


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ({"clusterUUID": "x"}, "clusterUUID"),
        ({"refreshInterval": "x"}, "refreshInterval"),
        ({"refreshInterval": "1s"}, "refreshInterval"),
        ({"refreshInterval": "99h"}, "refreshInterval"),
        ({"user": "a/b"}, "user"),
        ({"secret": {"name": "A"}}, "secret.name"),
        ({"secret": {"mountPath": "x"}}, "secret.mountPath"),
        ({"apiTokenSecretRef": {"name": "t", "key": "a/b"}}, "apiTokenSecretRef.key"),
    ],
)
def test_every_value_that_a_message_shows_is_accepted(spec: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidSpec) as caught:
        a_reference(spec)
    examples = examples_in(caught.value.message)
    assert examples
    outer, _, inner = field.partition(".")
    for example in examples:
        a_reference({outer: {**spec[outer], inner: example} if inner else example})


def test_a_long_refresh_request_is_kept_as_its_beginning_and_a_digest() -> None:
    def requested(value: str) -> str:
        return an_identity(metadata={"annotations": {"dbclusterref.io/refresh-requested-at": value}}).refresh_requested_at

    assert requested("x" * 128) == "x" * 128
    assert requested("x" * 200_000) == requested("x" * 200_000) != requested("x" * 200_001)
    assert len(requested("x" * 200_000)) <= 128


SPEC_FIELDS = [
    "clusterUUID", "apiTokenSecretRef", "passwordSecretRef", "refreshInterval", "suspend", "user", "database", "pool", "secret",
]  # fmt: skip
SECRET_FIELDS = [
    "name", "type", "keySets", "endpoints", "mountPath", "tls", "labels", "annotations", "deletionPolicy", "template",
]  # fmt: skip


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
