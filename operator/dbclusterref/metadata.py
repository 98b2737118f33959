"""The metadata of any Kubernetes object, which the API server itself vouches for. Pure."""

import sys
from collections.abc import Mapping

from dbclusterref.reference import ObjectKey


def metadata_of(body: Mapping[str, object]) -> Mapping[str, object]:
    """Finds it."""
    metadata = body["metadata"]
    assert isinstance(metadata, Mapping)
    return metadata


def key_of(body: Mapping[str, object]) -> ObjectKey:
    """Names the object; interned, since keys are kept and a name is often another's too."""
    metadata = metadata_of(body)
    return ObjectKey(sys.intern(str(metadata["namespace"])), sys.intern(str(metadata["name"])))


def uid_of(body: Mapping[str, object]) -> str:
    """Tells it from its namesakes, past and to come."""
    return str(metadata_of(body)["uid"])


def version_of(body: Mapping[str, object]) -> str:
    """Its resource version: which writing of it this is; "" where it has none yet."""
    return str(metadata_of(body).get("resourceVersion", ""))
