"""A Secret as it shall be and as it is in the cluster, and what tells them apart. Pure."""

import base64
import hashlib
import json
import secrets
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from dbclusterref.resource.objects import API_VERSION, FIELD_MANAGER, GROUP, KIND, ObjectKey
from dbclusterref.resource.reference import Reference, one_copy

REFERENCE_UID = f"{GROUP}/reference-uid"
REVISION = f"{GROUP}/revision"
CLUSTER_UUID = f"{GROUP}/cluster-uuid"
ADOPT = f"{GROUP}/adopt"

ABSENT: Mapping[str, str] = {"resourceVersion": "1"}
"""Metadata that makes of a server-side apply a creation: who is there has another version, and the API server answers 409."""

# Digests of Secret data stay in memory for comparison; a key of this process alone keeps them useless to anyone else.
_DIGEST_KEY = secrets.token_bytes(32)


@dataclass(frozen=True, slots=True, kw_only=True)
class DesiredSecret:
    """The Secret as it shall be, but for its revision, which is counted where the live one is known."""

    key: ObjectKey
    type: str
    data: Mapping[str, bytes] = field(repr=False)
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    owner: Mapping[str, object] | None

    @property
    def data_digest(self) -> bytes:
        """A digest of type and data: what a pod would notice."""
        return _digest([self.type, *sorted(self._encoded().items())])

    @property
    def metadata_digest(self) -> bytes:
        """A digest of the metadata this operator answers for."""
        return _metadata_digest(self.labels, self.annotations, owner_uid=str(self.owner["uid"]) if self.owner else "")

    def manifest(self, *, revision: int, precondition: Mapping[str, str] | None = None) -> dict[str, object]:
        """Builds the object to apply; `precondition` is metadata that only the Secret that is meant has, `uid`, or ABSENT."""
        metadata: dict[str, object] = {
            "name": self.key.name,
            "namespace": self.key.namespace,
            "labels": dict(self.labels),
            "annotations": {**self.annotations, REVISION: str(revision)},
            **(precondition or {}),
        }
        if self.owner:
            metadata["ownerReferences"] = [dict(self.owner)]
        return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "type": self.type, "data": self._encoded()}

    def _encoded(self) -> dict[str, str]:
        """Each value in base64, in the one spelling that the API server has for it."""
        return {name: base64.b64encode(value).decode("ascii") for name, value in self.data.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveSecret:
    """What is kept in memory of a Secret in the cluster: enough to tell whose it is and whether it differs.

    Of its data only `ca` is kept, the CA's PEM and no secret, so that upstream need not be asked again after a restart; it is
    b"" where there is none, or where another has written it.
    """

    uid: str
    resource_version: str
    type: str
    data_digest: bytes
    metadata_digest: bytes
    reference_uids: tuple[str, ...]
    adopt: str
    revision: int
    ca: bytes

    @classmethod
    def from_body(cls, body: Mapping[str, object]) -> "LiveSecret":
        """Read a Secret. Only fields that this operator's field manager owns count in the digests."""
        metadata = body["metadata"]
        assert isinstance(metadata, Mapping)
        ours = _owned_fields(metadata.get("managedFields") or ())
        annotations: Mapping[str, str] = metadata.get("annotations") or {}
        owners = [
            owner
            for owner in metadata.get("ownerReferences") or ()
            if owner.get("kind") == KIND and owner.get("apiVersion") == API_VERSION
        ]
        data = body.get("data") or {}
        assert isinstance(data, Mapping)
        owned_data = sorted((name, value) for name, value in data.items() if name in ours["f:data"])
        uids = {str(owner["uid"]) for owner in owners} | {annotations.get(REFERENCE_UID, "")}
        return cls(
            uid=str(metadata["uid"]),
            resource_version=str(metadata["resourceVersion"]),
            type=sys.intern(str(body.get("type", "Opaque"))),
            data_digest=_digest([str(body.get("type", "Opaque")), *owned_data]),
            metadata_digest=_metadata_digest(
                {name: value for name, value in (metadata.get("labels") or {}).items() if name in ours["f:labels"]},
                {name: value for name, value in annotations.items() if name in ours["f:annotations"] and name != REVISION},
                owner_uid=",".join(sorted(str(owner["uid"]) for owner in owners if owner["uid"] in ours["f:ownerReferences"])),
            ),
            # Interned, since each stands in its reference, too; a tuple is a fifth of a set.
            reference_uids=tuple(sorted(map(sys.intern, uids - {""}))),
            adopt=annotations.get(ADOPT, ""),
            revision=_revision(annotations.get(REVISION, "")),
            ca=one_copy(base64.b64decode(str(data["ca.crt"]))) if "ca.crt" in ours["f:data"] & data.keys() else b"",
        )

    def belongs_to(self, reference: Reference) -> bool:
        """Tells whether the Secret is the reference's, or is offered to it for adoption by its annotation."""
        return reference.identity.uid in self.reference_uids or self.adopt == reference.key.name


def _owned_fields(managed_fields: Iterable[Mapping[str, object]]) -> dict[str, frozenset[str]]:
    """Names the keys of data, labels and annotations, and the owners' UIDs, that server-side apply says are this operator's."""
    owned: dict[str, set[str]] = {"f:data": set(), "f:labels": set(), "f:annotations": set(), "f:ownerReferences": set()}
    for entry in managed_fields:
        if entry.get("manager") != FIELD_MANAGER or entry.get("operation") != "Apply":
            continue
        fields = entry.get("fieldsV1")
        assert isinstance(fields, Mapping)
        metadata = fields.get("f:metadata") or {}
        for part, tree in (("f:data", fields), ("f:labels", metadata), ("f:annotations", metadata)):
            owned[part] |= {name.removeprefix("f:") for name in tree.get(part) or {}}
        # An item of a list is named by its key there: `k:{"uid":"..."}`.
        owners = (
            json.loads(name.removeprefix("k:")) for name in metadata.get("f:ownerReferences") or {} if name.startswith("k:")
        )
        owned["f:ownerReferences"] |= {str(owner["uid"]) for owner in owners}
    return {part: frozenset(names) for part, names in owned.items()}


def _metadata_digest(labels: Mapping[str, str], annotations: Mapping[str, str], *, owner_uid: str) -> bytes:
    return _digest([sorted(labels.items()), sorted(annotations.items()), owner_uid])


def _digest(value: object) -> bytes:
    return hashlib.blake2b(json.dumps(value).encode(), key=_DIGEST_KEY, digest_size=16).digest()


def _revision(text: str) -> int:
    # Anyone who may edit the Secret may have written it; the status holds 64 bits.
    return int(text) if text.isascii() and text.isdigit() and len(text) < 16 else 0  # noqa: PLR2004
