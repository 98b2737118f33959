"""A Secret as it should be and as it is in the cluster, and the digests that compare them. Pure."""

import base64
import hashlib
import json
import secrets
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from dbclusterref.resource.objects import (
    API_VERSION,
    FIELD_MANAGER,
    GROUP,
    KIND,
    ObjectKey,
    annotations_of,
    as_mapping,
    metadata_of,
)
from dbclusterref.resource.reference import Reference, one_copy
from dbclusterref.secret.engines import BUILT_IN_KEYS

REFERENCE_UID = f"{GROUP}/reference-uid"
REVISION = f"{GROUP}/revision"
CLUSTER_UUID = f"{GROUP}/cluster-uuid"
REFERENCE = f"{GROUP}/reference"
SPEC_DIGEST = f"{GROUP}/spec-digest"
DELETION_POLICY = f"{GROUP}/deletion-policy"
"""On a Secret that outlives its resource, so that a person who finds it knows why."""
ADOPT = f"{GROUP}/adopt"
GRANTED_BY = f"{GROUP}/granted-by"
"""The tag at DigitalOcean that let the operator's own token read the cluster. For people: a tenant can write it."""
CA_DIGEST = f"{GROUP}/ca-sha256"
"""SHA-256 of upstream's CA, where one of CA_KEYS holds it."""

CA_KEYS = ("ca.crt", "certificates")

_LONGEST_CA = 2**13
"""Characters of base64: a chain of three certificates. Anyone may write Secrets that look like ours, and thousands of them."""
_LONGEST_NAME = 253
_LONGEST_UID = 64
_LONGEST_CONTROLLER = 320
_MOST_OWNERS = 8

ABSENT: Mapping[str, str] = {"resourceVersion": "1"}
"""Metadata that turns a server-side apply into a creation: an existing object has another version, which is a 409."""

_NOBODY = ("", "")

# Digests of Secret data stay in memory for comparison; a key of this process alone keeps them useless to anyone else.
_DIGEST_KEY = secrets.token_bytes(32)


@dataclass(frozen=True, slots=True, kw_only=True)
class DesiredSecret:
    """The Secret as it should be, without its revision, which is counted where the live one is known.

    `notes` are sentences for Ready's message: what the reader may miss in the Secret, and why.
    """

    key: ObjectKey
    type: str
    data: Mapping[str, bytes] = field(repr=False)
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    owner: Mapping[str, object] | None
    notes: tuple[str, ...] = ()

    @property
    def size(self) -> int:
        """Bytes of all values together."""
        return sum(map(len, self.data.values()))

    @property
    def data_digest(self) -> bytes:
        """A digest of type and data: what a pod would notice."""
        return _digest([self.type, *sorted(self._encoded().items())])

    @property
    def metadata_digest(self) -> bytes:
        """A digest of the metadata that this operator sets."""
        return _metadata_digest(self.labels, self.annotations, owner_uid=str(self.owner["uid"]) if self.owner else "")

    def manifest(self, *, revision: int, precondition: Mapping[str, str] | None = None) -> dict[str, object]:
        """Return the object to apply; `precondition` is metadata that only the intended Secret has: its `uid`, or ABSENT."""
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
    """What is kept in memory of a Secret in the cluster: enough to see whose it is and whether it differs.

    Anyone who may write Secrets may have written it: each member has a bounded size, whatever the Secret holds. Of its data
    only `ca` is kept, which is no secret, so that upstream need not be asked again after a restart; it is b"" unless the
    annotation CA_DIGEST says that it is upstream's. `has_ca` says that a CA of ours is in it even so. `immutable`, or
    with a `controller` ("kind/name") of another kind's, it cannot be adopted.
    """

    uid: str
    resource_version: str
    type: str
    data_digest: bytes
    metadata_digest: bytes
    reference_uids: tuple[str, ...]
    owner_uids: tuple[str, ...]
    """Those of `reference_uids` that are owners: the Secret is deleted with them."""
    made_for: str
    """The UID of the resource for which this operator wrote what is in it; "" for a copy, which its maker owns."""
    spec_digest: str
    left_by: tuple[str, str]
    """The name and the cluster of the resource that it was made for, where no owner reference says that it is still there."""
    adopt: str
    revision: int
    ca: bytes
    has_ca: bool
    of_others: tuple[str, ...]
    """The built-in keys in it that another client has written, or changed since this operator did."""
    immutable: bool
    controller: str

    @classmethod
    def from_body(cls, body: Mapping[str, object]) -> "LiveSecret":
        """Read a Secret. Only fields that this operator's field manager owns count in the digests."""
        metadata = body["metadata"]
        assert isinstance(metadata, Mapping)
        ours = owned_fields(body)
        annotations: Mapping[str, str] = metadata.get("annotations") or {}
        owners = [
            owner
            for owner in metadata.get("ownerReferences") or ()
            if owner.get("kind") == KIND and owner.get("apiVersion") == API_VERSION
        ]
        data = body.get("data") or {}
        assert isinstance(data, Mapping)
        owned_data = sorted((name, value) for name, value in data.items() if name in ours["f:data"])
        uids = [annotations.get(REFERENCE_UID, ""), *(str(owner["uid"]) for owner in owners)]
        return cls(
            uid=str(metadata["uid"]),
            resource_version=str(metadata["resourceVersion"]),
            type=sys.intern(str(body.get("type", "Opaque"))[:_LONGEST_NAME]),
            data_digest=_digest([str(body.get("type", "Opaque")), *owned_data]),
            metadata_digest=_metadata_digest(
                {name: value for name, value in (metadata.get("labels") or {}).items() if name in ours["f:labels"]},
                {name: value for name, value in annotations.items() if name in ours["f:annotations"] and name != REVISION},
                owner_uid=",".join(sorted(str(owner["uid"]) for owner in owners if owner["uid"] in ours["f:ownerReferences"])),
            ),
            # Interned, since each stands in its reference, too; a tuple is a fifth of a set.
            reference_uids=_uids(uids),
            owner_uids=_uids(str(owner["uid"]) for owner in owners),
            made_for=_made_for(annotations, ours=ours),
            spec_digest=sys.intern(annotations.get(SPEC_DIGEST, "")[:_LONGEST_UID]),
            left_by=_NOBODY if owners else _left_by(annotations),
            adopt=annotations.get(ADOPT, "")[: _LONGEST_NAME + 1],
            revision=_revision(annotations.get(REVISION, "")),
            ca=_known_ca(data, ours=ours["f:data"], digest=annotations.get(CA_DIGEST, "")),
            has_ca=any(key in ours["f:data"] & data.keys() for key in CA_KEYS),
            of_others=tuple(sys.intern(key) for key in sorted(BUILT_IN_KEYS & data.keys() - ours["f:data"])),
            immutable=bool(body.get("immutable")),
            controller=_controller(metadata.get("ownerReferences") or ()),
        )

    def belongs_to(self, reference: Reference) -> bool:
        """Return whether it is the reference's, was left by a former one, or is offered to it by the annotation ADOPT."""
        return reference.identity.uid in self.reference_uids or self.adopt == reference.key.name or self.was_left_by(reference)

    def was_left_by(self, reference: Reference) -> bool:
        """Return whether it was made for a resource of this name and cluster that is gone (Retain, orphaned, restored)."""
        return self.left_by == (reference.key.name, reference.cluster_uuid)


def made_for(secret: Mapping[str, object]) -> str:
    """Return the UID of the resource for which this operator wrote a Secret, "" where somebody else wrote it."""
    return _made_for(annotations_of(secret), ours=owned_fields(secret))


def _made_for(annotations: Mapping[str, str], *, ours: Mapping[str, frozenset[str]]) -> str:
    uid = annotations.get(REFERENCE_UID, "")
    return sys.intern(uid) if len(uid) <= _LONGEST_UID and REFERENCE_UID in ours["f:annotations"] and ours["f:data"] else ""


def _controller(owners: Iterable[Mapping[str, object]]) -> str:
    found = next((f"{owner.get('kind')}/{owner.get('name')}" for owner in owners if owner.get("controller")), "")
    return sys.intern(found[:_LONGEST_CONTROLLER])


def _left_by(annotations: Mapping[str, str]) -> tuple[str, str]:
    name, cluster = annotations.get(REFERENCE, ""), annotations.get(CLUSTER_UUID, "")
    found: tuple[str, str] = one_copy((name[: _LONGEST_NAME + 1], cluster[:_LONGEST_UID]))
    return found


def owned_keys(secret: Mapping[str, object]) -> frozenset[str]:
    """Return the keys of a Secret's data that are this operator's."""
    return owned_fields(secret)["f:data"]


def owned_fields(body: Mapping[str, object]) -> dict[str, frozenset[str]]:
    """Return the keys of data, labels and annotations, and the owners' UIDs, that this operator's field manager owns.

    Anyone who may write the object may have written its managed fields, too: what is of another form than the API server's
    own is left out.
    """
    owned: dict[str, set[str]] = {"f:data": set(), "f:labels": set(), "f:annotations": set(), "f:ownerReferences": set()}
    managed = metadata_of(body).get("managedFields")
    for entry in map(as_mapping, managed if isinstance(managed, list | tuple) else ()):
        if entry.get("manager") != FIELD_MANAGER or entry.get("operation") != "Apply":
            continue
        fields = as_mapping(entry.get("fieldsV1"))
        metadata = as_mapping(fields.get("f:metadata"))
        for part, tree in (("f:data", fields), ("f:labels", metadata), ("f:annotations", metadata)):
            owned[part] |= {name.removeprefix("f:") for name in as_mapping(tree.get(part))}
        owned["f:ownerReferences"] |= set(map(_uid_in, as_mapping(metadata.get("f:ownerReferences")))) - {""}
    return {part: frozenset(names) for part, names in owned.items()}


def _uid_in(item: str) -> str:
    """Return the UID by which managed fields name an owner, `k:{"uid":"..."}`; "" where they name something else."""
    try:
        uid = as_mapping(json.loads(item.removeprefix("k:"))).get("uid")
    except ValueError:
        return ""
    return uid if isinstance(uid, str) else ""


def _uids(found: Iterable[str]) -> tuple[str, ...]:
    """A tuple is a fifth of a set; interned, since each is kept in its reference, too."""
    fitting = dict.fromkeys(uid for uid in found if 0 < len(uid) <= _LONGEST_UID)
    return tuple(sorted(map(sys.intern, list(fitting)[:_MOST_OWNERS])))


def _known_ca(data: Mapping[str, object], *, ours: frozenset[str], digest: str) -> bytes:
    for key in CA_KEYS:
        encoded = str(data[key]) if key in ours & data.keys() else ""
        # Where a template replaced the key, what is in it is not upstream's CA, or not it alone.
        if digest and len(encoded) <= _LONGEST_CA and hashlib.sha256(base64.b64decode(encoded)).hexdigest() == digest:
            ca: bytes = one_copy(base64.b64decode(encoded))
            return ca
    return b""


def _metadata_digest(labels: Mapping[str, str], annotations: Mapping[str, str], *, owner_uid: str) -> bytes:
    return _digest([sorted(labels.items()), sorted(annotations.items()), owner_uid])


def _digest(value: object) -> bytes:
    return hashlib.blake2b(json.dumps(value).encode(), key=_DIGEST_KEY, digest_size=16).digest()


def _revision(text: str) -> int:
    # Anyone who may edit the Secret may have written it; the status holds 64 bits.
    return int(text) if text.isascii() and text.isdigit() and len(text) < 16 else 0  # noqa: PLR2004
