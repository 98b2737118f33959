import base64
import hashlib
import json
from typing import Any

import pytest
from hypothesis import given, reject

from dbclusterref.digitalocean.model import DatabaseCluster
from dbclusterref.digitalocean.snapshot import Snapshot
from dbclusterref.errors import InvalidSpec
from dbclusterref.resource.objects import ObjectKey
from dbclusterref.resource.reference import Reference
from dbclusterref.resource.spec_digest import spec_digest
from dbclusterref.secret.rendering import render_secret
from dbclusterref.secret.state import ADOPT, CLUSTER_UUID, REFERENCE, SPEC_DIGEST, DesiredSecret, LiveSecret
from tests.support.builders import (
    CANARY,
    PASSWORD,
    PEM,
    UID,
    UUID,
    Body,
    a_reference,
    a_snapshot,
    applied,
    connection_body,
    reference_body,
)
from tests.support.strategies import BOUNDED, complete_cluster_bodies, reference_specs


def rendered(spec: Body | None = None, **members: Any) -> DesiredSecret:
    return render_secret(a_reference(spec), a_snapshot(**members))


# As it must be


def test_the_manifest_is_a_secret_that_kubernetes_collects_with_the_resource() -> None:
    manifest = rendered().manifest(revision=7, precondition={"uid": "live-uid"})
    data = manifest.pop("data")
    assert manifest == {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": "servicebinding.io/postgresql",
        "metadata": {
            "name": "orders-db",
            "namespace": "shop",
            "uid": "live-uid",
            "labels": {"app.kubernetes.io/managed-by": "dbclusterref"},
            "annotations": {
                "dbclusterref.io/cluster-uuid": UUID,
                "dbclusterref.io/reference": "orders-db",
                "dbclusterref.io/reference-uid": UID,
                "dbclusterref.io/revision": "7",
                "dbclusterref.io/spec-digest": spec_digest(a_reference()),
            },
            # No blockOwnerDeletion: it would ask for rights on finalizers.
            "ownerReferences": [
                {
                    "apiVersion": "dbclusterref.io/v1alpha1",
                    "kind": "DatabaseClusterRef",
                    "name": "orders-db",
                    "uid": UID,
                    "controller": True,
                }
            ],
        },
    }
    assert isinstance(data, dict)
    assert base64.b64decode(data["password"]) == PASSWORD.encode()


def test_a_secret_to_be_created_names_no_uid() -> None:
    metadata = rendered().manifest(revision=1)["metadata"]
    assert isinstance(metadata, dict)
    assert "uid" not in metadata


def test_retain_means_no_owner() -> None:
    metadata = rendered({"secret": {"deletionPolicy": "Retain"}}).manifest(revision=1)["metadata"]
    assert isinstance(metadata, dict)
    assert "ownerReferences" not in metadata


# The live Secret


SPEC: Body = {"secret": {"labels": {"team": "orders"}, "annotations": {"example.com/a": "b"}}}


def live(body: Body) -> LiveSecret:
    return LiveSecret.from_body(body)


def applied_body(spec: Body | None = None, *, revision: int = 4) -> Body:
    return applied(rendered(spec if spec is not None else SPEC).manifest(revision=revision))


def same(body: Body, spec: Body | None = None) -> tuple[bool, bool]:
    """Whether type and data, and whether the metadata, are as they should be."""
    wanted = rendered(spec if spec is not None else SPEC)
    return live(body).data_digest == wanted.data_digest, live(body).metadata_digest == wanted.metadata_digest


@pytest.mark.parametrize("spec", [{}, SPEC, {"secret": {"deletionPolicy": "Retain"}}])
def test_what_the_api_server_answers_to_an_apply_differs_in_nothing(spec: Body) -> None:
    assert same(applied_body(spec), spec) == (True, True)


@BOUNDED
@given(complete_cluster_bodies(), reference_specs())
def test_no_secret_differs_from_the_answer_to_its_own_apply(body: Body, spec: Body) -> None:
    try:
        secret = render_secret(a_reference(spec), Snapshot(cluster=DatabaseCluster.from_api(body)))
    except InvalidSpec:
        reject()  # an engine without keys for the environment, and no other keys asked for
    answered = live(applied(json.loads(json.dumps(secret.manifest(revision=1)))))
    assert (answered.data_digest, answered.metadata_digest, answered.type) == (
        secret.data_digest,
        secret.metadata_digest,
        secret.type,
    )


def test_the_revision_is_no_difference_but_is_read() -> None:
    body = applied_body(revision=9)
    assert same(body) == (True, True)
    assert live(body).revision == 9


@pytest.mark.parametrize("value", ["", "x", "-1", "1.5", "٣", "9" * 16, "9" * 5000])
def test_a_revision_somebody_scribbled_over_counts_as_none(value: str) -> None:
    body = applied_body()
    body["metadata"]["annotations"]["dbclusterref.io/revision"] = value
    assert live(body).revision == 0


def test_a_value_that_was_changed_is_a_difference_of_data() -> None:
    body = applied_body()
    body["data"]["password"] = base64.b64encode(b"other").decode()
    assert same(body) == (False, True)


def test_a_value_that_somebody_else_took_over_is_a_difference_even_if_it_is_equal() -> None:
    body = applied_body()
    del body["metadata"]["managedFields"][0]["fieldsV1"]["f:data"]["f:password"]
    assert same(body) == (False, True)


def test_a_value_that_was_removed_is_a_difference_of_data() -> None:
    body = applied_body()
    del body["data"]["password"]
    assert same(body) == (False, True)


def test_another_type_is_a_difference_of_data() -> None:
    assert same({**applied_body(), "type": "Opaque"}) == (False, True)


@pytest.mark.parametrize("kind", ["labels", "annotations"])
def test_a_label_or_annotation_that_was_stripped_is_a_difference_of_metadata(kind: str) -> None:
    body = applied_body()
    body["metadata"][kind].popitem()
    body["metadata"][kind].popitem()
    assert same(body) == (True, False)


def test_our_label_changed_by_somebody_is_a_difference_of_metadata() -> None:
    body = applied_body()
    body["metadata"]["labels"]["app.kubernetes.io/managed-by"] = "helm"
    assert same(body) == (True, False)


def test_an_owner_that_was_stripped_is_a_difference_of_metadata() -> None:
    body = applied_body()
    del body["metadata"]["ownerReferences"]
    assert same(body) == (True, False)


def test_an_owner_to_be_removed_is_a_difference_of_metadata() -> None:
    retain: Body = {"secret": {**SPEC["secret"], "deletionPolicy": "Retain"}}
    assert same(applied_body(), retain) == (True, False)


def test_what_others_add_is_no_difference() -> None:
    body = applied_body()
    metadata = body["metadata"]
    body["data"]["their-key"] = base64.b64encode(b"x").decode()
    metadata["labels"]["their-label"] = "x"
    metadata["annotations"]["their-annotation"] = "x"
    metadata["ownerReferences"].append({"apiVersion": "v1", "kind": "ConfigMap", "name": "x", "uid": "x"})
    metadata["ownerReferences"].append({"apiVersion": "dbclusterref.io/v1alpha1", "kind": "DatabaseClusterRef", "uid": "y"})
    metadata["managedFields"] += [
        {
            "manager": "kubectl-edit",
            "operation": "Update",
            "fieldsV1": {"f:data": {"f:their-key": {}}, "f:metadata": {"f:labels": {"f:their-label": {}}}},
        },
        {"manager": "dbclusterref", "operation": "Update", "fieldsV1": {"f:data": {"f:their-key": {}}}},
        {"manager": "argocd", "operation": "Apply", "fieldsV1": {"f:metadata": {"f:annotations": {"f:their-annotation": {}}}}},
    ]
    assert same(body) == (True, True)


def test_a_secret_without_managed_fields_differs() -> None:
    body = applied_body()
    del body["metadata"]["managedFields"]
    assert same(body) == (False, False)


def test_each_member_of_a_secret_has_its_field() -> None:
    said = {SPEC_DIGEST: "d1", REFERENCE: "orders-db", CLUSTER_UUID: UUID, ADOPT: "second"}
    known = live({"type": "x/y", "metadata": {"uid": "u", "resourceVersion": "7", "annotations": said}})
    assert (known.uid, known.resource_version, known.type) == ("u", "7", "x/y")
    assert (known.spec_digest, known.left_by, known.adopt) == ("d1", ("orders-db", UUID), "second")
    bare = live({"metadata": {"uid": "u", "resourceVersion": "7"}})
    assert (bare.spec_digest, bare.left_by, bare.adopt) == ("", ("", ""), "")


@pytest.mark.parametrize("annotation", [ADOPT, REFERENCE])
def test_the_longest_name_that_there_is_is_known_and_a_longer_one_is_not_taken_for_it(annotation: str) -> None:
    reference = a_reference(key=ObjectKey("shop", "x" * 253))

    def belongs(length: int) -> bool:
        said = {annotation: "x" * length, CLUSTER_UUID: UUID}
        return live({"metadata": {"uid": "u", "resourceVersion": "7", "annotations": said}}).belongs_to(reference)

    assert [belongs(length) for length in (252, 253, 254, 1000)] == [False, True, False, False]


def test_a_secret_without_a_type_is_an_opaque_one() -> None:
    typed, untyped = applied_body(), applied_body()
    typed["type"] = "Opaque"
    del untyped["type"]
    assert live(typed).data_digest == live(untyped).data_digest


def test_our_fields_are_found_after_anothers_entry_and_in_several_of_our_own() -> None:
    alone, among = applied_body(), applied_body()
    [ours] = among["metadata"]["managedFields"]
    theirs = {**ours, "manager": "kubectl", "operation": "Update", "fieldsV1": {"f:data": {"f:more": {}}}}
    among["metadata"]["managedFields"] = [theirs, ours, {**ours, "fieldsV1": {"f:metadata": {}}}]
    one, other = live(alone), live(among)
    assert (one.data_digest, one.metadata_digest) == (other.data_digest, other.metadata_digest)


@pytest.mark.parametrize(
    "fields",
    [
        {"f:metadata": {"f:ownerReferences": {'k:{"name":"x"}': {}}}},
        {"f:metadata": {"f:ownerReferences": {'k:{"uid":7}': {}, "k:[]": {}, "k:": {}, "v:1": {}, "i:0": {}}}},
        {"f:metadata": {"f:ownerReferences": "x", "f:labels": ["x"], "f:annotations": None}, "f:data": 7},
        {"f:metadata": []},
        [],
        None,
    ],
)
def test_fields_that_nobody_but_a_person_has_written_are_read_as_nothing_of_ours(fields: object) -> None:
    # Anyone who may write a Secret may write these, too; the API server takes the first of them.
    body = applied_body()
    known = live(body)
    body["metadata"]["managedFields"].append({"manager": "dbclusterref", "operation": "Apply", "fieldsV1": fields})
    assert live(body) == known


def test_a_ca_that_somebody_else_put_into_a_secret_is_not_one_of_ours() -> None:
    data = {"ca.crt": base64.b64encode(PEM).decode()}
    assert not live({"data": data, "metadata": {"uid": "u", "resourceVersion": "7"}}).has_ca


def test_a_digest_cannot_be_computed_without_this_process_key() -> None:
    digest = live({"metadata": {"uid": "u", "resourceVersion": "7"}}).data_digest
    assert len(digest) == 16
    assert digest != hashlib.blake2b(json.dumps(["Opaque"]).encode(), digest_size=16).digest()


def test_a_bare_secret_can_be_read() -> None:
    bare = live({"metadata": {"uid": "u", "resourceVersion": "1"}})
    assert (bare.type, bare.reference_uids, bare.adopt, bare.revision) == ("Opaque", (), "", 0)


# What is remembered of a CA


def remembered(secret: Body, *, ca: bytes = PEM) -> LiveSecret:
    return live(applied(render_secret(a_reference({"secret": secret}), a_snapshot(ca=ca)).manifest(revision=1)))


def test_the_ca_is_remembered_where_a_key_holds_it_unchanged() -> None:
    assert remembered({}).ca == PEM
    assert remembered({"keySets": ["Env"], "mountPath": "/b"}).ca == PEM
    assert remembered({"template": {"ca.crt": "{ca}{ca}"}}).ca == PEM


@pytest.mark.parametrize("text", ["{ca}{ca}", "constant", "{host}"])
def test_a_template_that_replaces_the_ca_is_never_taken_for_it(text: str) -> None:
    known = remembered({"template": {"ca.crt": text, "certificates": text}})
    assert (known.ca, known.has_ca) == (b"", True)


def test_a_ca_that_somebody_changed_is_not_remembered() -> None:
    body = applied(render_secret(a_reference(), a_snapshot(ca=PEM)).manifest(revision=1))
    for key in ("ca.crt", "certificates"):
        body["data"][key] = base64.b64encode(b"another").decode()
    assert live(body).ca == b""


def test_a_secret_without_a_ca_has_none() -> None:
    assert (live(applied_body()).ca, live(applied_body()).has_ca) == (b"", False)


# Whoever wrote it, little is kept


def test_little_is_kept_of_a_secret_however_large_it_is() -> None:
    big = "x" * 200_000
    body = applied_body()
    body["type"] = big
    body["metadata"]["annotations"] |= {"dbclusterref.io/adopt": big, "dbclusterref.io/reference-uid": big, "other": big}
    body["metadata"]["ownerReferences"] += [
        {"apiVersion": "dbclusterref.io/v1alpha1", "kind": "DatabaseClusterRef", "uid": f"uid-{i}"} for i in range(2000)
    ]
    ca = b"x" * 7000
    for key in ("ca.crt", "certificates"):
        body["data"][key] = base64.b64encode(ca).decode()
        body["metadata"]["managedFields"][0]["fieldsV1"]["f:data"][f"f:{key}"] = {}
    body["metadata"]["annotations"]["dbclusterref.io/ca-sha256"] = hashlib.sha256(ca).hexdigest()
    known = live(body)
    kept = [known.uid, known.resource_version, known.type, known.adopt, known.ca, *known.reference_uids]
    assert sum(map(len, kept)) < 1500
    assert not known.belongs_to(a_reference(key=ObjectKey("shop", "x" * 253), uid="another"))


@pytest.mark.parametrize(
    ("members", "immutable", "controller"),
    [
        ({}, False, ""),
        ({"immutable": True}, True, ""),
        (
            {"metadata": {"ownerReferences": [{"kind": "Deployment", "name": "web", "uid": "d", "controller": True}]}},
            False,
            "Deployment/web",
        ),
        ({"metadata": {"ownerReferences": [{"kind": "Deployment", "name": "web", "uid": "d"}]}}, False, ""),
    ],
)
def test_what_is_in_the_way_of_an_adoption_is_kept(members: Body, controller: str, *, immutable: bool) -> None:
    metadata = {"uid": "u", "resourceVersion": "1", **members.get("metadata", {})}
    found = live({**members, "metadata": metadata})
    assert (found.immutable, found.controller) == (immutable, controller)


def test_of_an_owner_with_endless_names_little_is_kept() -> None:
    owner = {"kind": "K" * 10_000, "name": "n" * 10_000, "uid": "d", "controller": True}
    assert len(live({"metadata": {"uid": "u", "resourceVersion": "1", "ownerReferences": [owner]}}).controller) < 400


def foreign(**metadata: object) -> LiveSecret:
    return live({"metadata": {"uid": "u", "resourceVersion": "1", **metadata}, "data": {"password": "eA=="}})


def test_a_secret_belongs_to_whom_its_owner_or_its_annotation_names() -> None:
    owner = {"apiVersion": "dbclusterref.io/v1alpha1", "kind": "DatabaseClusterRef", "name": "orders-db", "uid": UID}
    assert foreign(ownerReferences=[owner]).belongs_to(a_reference())
    assert foreign(annotations={"dbclusterref.io/reference-uid": UID}).belongs_to(a_reference())
    assert foreign(annotations={"dbclusterref.io/adopt": "orders-db"}).belongs_to(a_reference())


@pytest.mark.parametrize(
    "metadata",
    [
        {},
        {"labels": {"app.kubernetes.io/managed-by": "dbclusterref"}},
        {"annotations": {"dbclusterref.io/reference-uid": "another"}},
        {"annotations": {"dbclusterref.io/reference-uid": ""}},
        {"annotations": {"dbclusterref.io/adopt": "another"}},
        {"annotations": {"dbclusterref.io/adopt": ""}},
        {"ownerReferences": [{"apiVersion": "v1", "kind": "ConfigMap", "name": "orders-db", "uid": UID}]},
        {"ownerReferences": [{"apiVersion": "dbclusterref.io/v1alpha1", "kind": "DatabaseClusterRef", "uid": "another"}]},
        {"ownerReferences": [{"apiVersion": "other.io/v1", "kind": "DatabaseClusterRef", "name": "orders-db", "uid": UID}]},
        {"ownerReferences": [{"apiVersion": "dbclusterref.io/v1alpha1", "kind": "Other", "name": "orders-db", "uid": UID}]},
    ],
)
def test_a_secret_that_only_looks_like_ours_is_not(metadata: dict[str, object]) -> None:
    assert not foreign(**metadata).belongs_to(a_reference())


def test_a_resource_that_was_deleted_and_made_again_does_not_own_the_old_ones_secret() -> None:
    assert live(applied_body()).belongs_to(a_reference())
    assert not live(applied_body()).belongs_to(Reference.from_body(reference_body(uid="5f0c1d8e-0000-4000-8000-000000000002")))


def test_neither_form_of_a_secret_prints_its_values() -> None:
    secret = rendered(private_connection=connection_body(password=CANARY, uri=f"x://u:{CANARY}@h/d"))
    encoded = base64.b64encode(CANARY.encode()).decode()
    for shown in (repr(secret), repr(live(applied(secret.manifest(revision=1))))):
        assert CANARY not in shown
        assert encoded not in shown
