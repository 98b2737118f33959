"""The ConfigMap with the CA as it should be, and whose a live one is. Pure."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass

from dbclusterref.resource.objects import (
    API_VERSION,
    FIELD_MANAGER,
    GROUP,
    KIND,
    MANAGED_BY,
    ObjectKey,
    as_mapping,
    is_object_name,
    metadata_of,
)
from dbclusterref.resource.reference import DeletionPolicy, Reference
from dbclusterref.secret.rendering import owner_of
from dbclusterref.secret.state import CLUSTER_UUID, DELETION_POLICY, REFERENCE, REFERENCE_UID, owned_fields

CA_KEY = "ca.crt"
NEXT = f"{GROUP}/next-config-map"
"""On the ConfigMap of a former name, while it is there: the name of the one that takes its place, if that is there yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DesiredConfigMap:
    """The ConfigMap as it should be: the CA alone, which is no secret."""

    key: ObjectKey
    ca: str
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    owner: Mapping[str, object] | None

    @property
    def digest(self) -> bytes:
        """A digest of all of it: what is kept of ten thousand."""
        return hashlib.blake2b(json.dumps(self.manifest(precondition={})).encode(), digest_size=16).digest()

    def manifest(self, *, precondition: Mapping[str, str]) -> dict[str, object]:
        """Return the object to apply; `precondition` is metadata that only the intended one has."""
        metadata: dict[str, object] = {
            "name": self.key.name,
            "namespace": self.key.namespace,
            "labels": dict(self.labels),
            "annotations": dict(self.annotations),
            **precondition,
        }
        if self.owner:
            metadata["ownerReferences"] = [dict(self.owner)]
        return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {CA_KEY: self.ca}}

    def is_met_by(self, body: Mapping[str, object]) -> bool:
        """Return whether a live one has all of this; what others have added to it is theirs."""
        metadata = metadata_of(body)
        labels, annotations = as_mapping(metadata.get("labels")), as_mapping(metadata.get("annotations"))
        owners, wanted_owners = _owners(body), {self.owner["uid"]} if self.owner else set()
        ours = owned_fields(body)
        return (
            as_mapping(body.get("data")).get(CA_KEY) == self.ca
            and self.labels.items() <= labels.items()
            and self.annotations.items() <= annotations.items()
            and wanted_owners <= owners
            # What an earlier spec had written, and this one has not.
            and ours["f:labels"] & labels.keys() <= self.labels.keys()
            and ours["f:annotations"] & annotations.keys() <= self.annotations.keys()
            and ours["f:ownerReferences"] & owners <= wanted_owners
        )


def render_ca_config_map(reference: Reference, ca: bytes) -> DesiredConfigMap:
    """Build the ConfigMap that `spec.caConfigMap` names, with the labels and the owner that the Secret has."""
    retained = {DELETION_POLICY: "Retain"} if reference.secret.deletion_policy is DeletionPolicy.RETAIN else {}
    return DesiredConfigMap(
        key=ObjectKey(reference.key.namespace, reference.ca_config_map),
        ca=ca.decode("utf-8", errors="replace"),
        labels={**dict(reference.secret.labels.items()), MANAGED_BY: FIELD_MANAGER},
        annotations={
            REFERENCE: reference.key.name,
            REFERENCE_UID: reference.identity.uid,
            CLUSTER_UUID: reference.cluster_uuid,
            **retained,
        },
        owner=owner_of(reference),
    )


def is_of(body: Mapping[str, object], reference: Reference) -> bool:
    """Return whether a live ConfigMap is this very resource's."""
    annotations = as_mapping(metadata_of(body).get("annotations"))
    return annotations.get(REFERENCE_UID) == reference.identity.uid or reference.identity.uid in _owners(body)


def was_left_by(body: Mapping[str, object], reference: Reference) -> bool:
    """Return whether it was made for a resource of this name and cluster that is gone (Retain, orphaned, restored)."""
    annotations = as_mapping(metadata_of(body).get("annotations"))
    known = (annotations.get(REFERENCE), annotations.get(CLUSTER_UUID))
    return not _owners(body) and known == (reference.key.name, reference.cluster_uuid)


def next_name(body: Mapping[str, object]) -> str:
    """Return the annotation NEXT; "" where that is no name: others can write it, and it becomes a part of a path of the API."""
    name = as_mapping(metadata_of(body).get("annotations")).get(NEXT)
    return name if is_object_name(name) else ""


def _owners(body: Mapping[str, object]) -> set[object]:
    owners = metadata_of(body).get("ownerReferences")
    found = map(as_mapping, owners if isinstance(owners, list) else ())
    return {one.get("uid") for one in found if one.get("kind") == KIND and one.get("apiVersion") == API_VERSION}
