"""What every Kubernetes object has: its key and metadata; and the names by which the API knows ours. Pure."""

import hashlib
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeGuard

GROUP = "dbclusterref.io"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"
KIND = "DatabaseClusterRef"
PLURAL = "databaseclusterrefs"

REFRESH_REQUESTED_AT = f"{GROUP}/refresh-requested-at"

_LONGEST_REQUEST = 128
"""Characters of that annotation which are kept as they are: the value is only compared, and copied into the status."""

_OBJECT_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")
"""Names of Secrets, ConfigMaps and workloads, as the API server accepts them."""

FIELD_MANAGER = "dbclusterref"
MANAGED_BY = "app.kubernetes.io/managed-by"
"""The label by which our Secrets are watched; its value is FIELD_MANAGER."""


@dataclass(frozen=True, slots=True, order=True)
class ObjectKey:
    """A namespaced object's name, as `kubectl` prints it."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectMeta:
    """Which object, in which generation: all that a status or an Event needs, also where the spec cannot be read."""

    key: ObjectKey
    uid: str
    generation: int
    refresh_requested_at: str
    deleting: bool = False
    created: str = ""
    """As the API server writes it: in whole seconds of UTC, so that the order of the text is that of time."""

    @classmethod
    def from_body(cls, body: Mapping[str, object]) -> "ObjectMeta":
        """Read `metadata`, which the API server has validated."""
        metadata = body.get("metadata")
        assert isinstance(metadata, Mapping)
        annotations = metadata.get("annotations") or {}
        return cls(
            key=ObjectKey(namespace=sys.intern(str(metadata["namespace"])), name=sys.intern(str(metadata["name"]))),
            uid=sys.intern(str(metadata["uid"])),
            generation=int(metadata.get("generation", 0)),
            refresh_requested_at=_bounded(str(annotations.get(REFRESH_REQUESTED_AT, ""))),
            deleting=is_deleting(body),
            created=sys.intern(str(metadata.get("creationTimestamp") or "")),
        )


def _bounded(value: str) -> str:
    """Return a long value as its beginning and a digest: an annotation can have 256 KiB, and each resource keeps one."""
    if len(value) <= _LONGEST_REQUEST:
        return value
    digest = hashlib.sha256(value.encode(errors="replace")).hexdigest()
    return f"{value[: _LONGEST_REQUEST // 2]}…{digest[:32]}"


def as_mapping(value: object) -> Mapping[str, object]:
    """Return a member that should be an object; empty where it is missing or something else."""
    return value if isinstance(value, Mapping) else {}


def is_object_name(value: object) -> TypeGuard[str]:
    """Return whether a text may stand in a path of the API as an object's name, and leads nowhere else."""
    return isinstance(value, str) and _OBJECT_NAME.fullmatch(value) is not None


def metadata_of(body: Mapping[str, object]) -> Mapping[str, object]:
    """Return the object's metadata, which the API server has validated."""
    metadata = body["metadata"]
    assert isinstance(metadata, Mapping)
    return metadata


def annotations_of(body: Mapping[str, object]) -> Mapping[str, str]:
    """Return the object's annotations, which the API server has validated."""
    annotations = metadata_of(body).get("annotations") or {}
    assert isinstance(annotations, Mapping)
    return annotations


def data_of(body: Mapping[str, object]) -> Mapping[str, object]:
    """Return the data of a Secret, which the API server has validated."""
    data = body.get("data") or {}
    assert isinstance(data, Mapping)
    return data


def key_of(body: Mapping[str, object]) -> ObjectKey:
    """Return the object's key; interned, since keys are kept and a Secret often has its resource's name."""
    metadata = metadata_of(body)
    return ObjectKey(sys.intern(str(metadata["namespace"])), sys.intern(str(metadata["name"])))


def uid_of(body: Mapping[str, object]) -> str:
    """Return the UID."""
    return str(metadata_of(body)["uid"])


def version_of(body: Mapping[str, object]) -> str:
    """Return the resource version, "" where the object has none yet."""
    return str(metadata_of(body).get("resourceVersion", ""))


def is_deleting(body: Mapping[str, object]) -> bool:
    """Return whether the object is deleted as soon as its finalizers allow it."""
    return "deletionTimestamp" in metadata_of(body)


def is_newer(version: str, *, than: str) -> bool:
    """Return whether a version is newer than another; one that is no number counts as newer.

    Since Kubernetes 1.35 resource versions are documented to be comparable as numbers.
    """
    return not (version.isdigit() and than.isdigit()) or int(version) > int(than)


def is_labelled(body: Mapping[str, object]) -> bool:
    """Return whether a Secret carries the label by which ours are watched."""
    return as_mapping(metadata_of(body).get("labels")).get(MANAGED_BY) == FIELD_MANAGER
