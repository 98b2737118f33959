"""From a reference and what was read upstream to the Secret it shall be; and what a live Secret needs to be compared with that.

Pure: the same input gives the same Secret, byte for byte.
"""

import base64
import hashlib
import json
import posixpath
import secrets
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from urllib.parse import quote, urlsplit

from dbclusterref.cluster import Connection, Endpoints, Snapshot
from dbclusterref.engines import COMMON, WITHOUT_DATABASE, Engine, engine_of
from dbclusterref.errors import IncompleteCredentials, InvalidSpec, MissingScope, WaitingForCluster
from dbclusterref.reference import API_VERSION, GROUP, KIND, DeletionPolicy, Endpoint, KeySet, ObjectKey, Reference
from dbclusterref.template import TemplateError, fill, placeholders_in

FIELD_MANAGER = "dbclusterref"
MANAGED_BY = "app.kubernetes.io/managed-by"

REFERENCE_UID = f"{GROUP}/reference-uid"
REVISION = f"{GROUP}/revision"
CLUSTER_UUID = f"{GROUP}/cluster-uuid"
ADOPT = f"{GROUP}/adopt"

_ENDPOINT_PREFIXES = {
    Endpoint.PRIVATE: "",
    Endpoint.STANDBY: "standby-",
    Endpoint.PUBLIC: "public-",
    Endpoint.PUBLIC_STANDBY: "public-standby-",
}
_PER_ENDPOINT = ("host", "port", "hostport", "username", "password", "userinfo", "database", "uri", "jdbc-url")
PLACEHOLDERS = frozenset(
    {prefix + name for prefix in _ENDPOINT_PREFIXES.values() for name in _PER_ENDPOINT}
    | {"type", "engine", "ca", "ca-file", "ca-path", "access-cert", "access-key"}
)

# Digests of Secret data stay in memory for comparison; a key of this process alone keeps them useless to anyone else.
_DIGEST_KEY = secrets.token_bytes(32)


@dataclass(frozen=True, slots=True, kw_only=True)
class RenderedSecret:
    """The Secret as it shall be, but for its revision, which is counted where the live one is known."""

    key: ObjectKey
    type: str
    data: Mapping[str, bytes] = field(repr=False)
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    owner: Mapping[str, object] | None

    @property
    def content(self) -> bytes:
        """A digest of type and data: what a pod would notice."""
        return _digest([self.type, *sorted((name, value.hex()) for name, value in self.data.items())])

    @property
    def shape(self) -> bytes:
        """A digest of the metadata this operator answers for."""
        return _shape(self.labels, self.annotations, owner_uid=str(self.owner["uid"]) if self.owner else "")

    def manifest(self, *, revision: int, uid: str | None) -> dict[str, object]:
        """Builds the object to apply; `uid` is the live Secret's, so that no other can be hit by mistake, None to create."""
        metadata: dict[str, object] = {
            "name": self.key.name,
            "namespace": self.key.namespace,
            "labels": dict(self.labels),
            "annotations": {**self.annotations, REVISION: str(revision)},
        }
        if self.owner:
            metadata["ownerReferences"] = [dict(self.owner)]
        if uid:
            metadata["uid"] = uid
        data = {name: base64.b64encode(value).decode("ascii") for name, value in self.data.items()}
        return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "type": self.type, "data": data}


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveSecret:
    """What is kept in memory of a Secret in the cluster: enough to tell whose it is and whether it differs.

    Of its data only `ca` is kept, the CA's PEM and no secret, b"" for none: upstream need not be asked again after a restart.
    """

    uid: str
    resource_version: str
    type: str
    content: bytes
    shape: bytes
    reference_uids: tuple[str, ...]
    adopt: str
    revision: int
    ca: bytes

    @classmethod
    def from_body(cls, body: Mapping[str, object]) -> "LiveSecret":
        """Reads a Secret. Only fields that this operator's field manager owns count as content and shape."""
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
        owned_data = sorted((name, _decoded(value).hex()) for name, value in data.items() if name in ours["f:data"])
        uids = {str(owner["uid"]) for owner in owners} | {annotations.get(REFERENCE_UID, "")}
        return cls(
            uid=str(metadata["uid"]),
            resource_version=str(metadata["resourceVersion"]),
            type=sys.intern(str(body.get("type", "Opaque"))),
            content=_digest([str(body.get("type", "Opaque")), *owned_data]),
            shape=_shape(
                {name: value for name, value in (metadata.get("labels") or {}).items() if name in ours["f:labels"]},
                {name: value for name, value in annotations.items() if name in ours["f:annotations"] and name != REVISION},
                owner_uid=",".join(sorted(str(owner["uid"]) for owner in owners if owner["uid"] in ours["f:ownerReferences"])),
            ),
            # Interned, since each stands in its reference, too; a tuple is a fifth of a set.
            reference_uids=tuple(sorted(map(sys.intern, uids - {""}))),
            adopt=annotations.get(ADOPT, ""),
            revision=_revision(annotations.get(REVISION, "")),
            ca=_one_copy(_decoded(data.get("ca.crt", ""))),
        )

    def belongs_to(self, reference: Reference) -> bool:
        """Tells whether the Secret is the reference's, or is offered to it for adoption by its annotation."""
        return reference.identity.uid in self.reference_uids or self.adopt == reference.key.name


def render_secret(reference: Reference, snapshot: Snapshot) -> RenderedSecret:
    """Builds the Secret.

    Raises WaitingForCluster, MissingScope or IncompleteCredentials where what was read does not make a working Secret, and
    InvalidSpec where `spec.secret.template` is wrong: never a partial Secret.
    """
    engine = engine_of(snapshot.cluster.engine)
    values = placeholders(reference, snapshot)
    _require_complete(engine, values, reference=reference, snapshot=snapshot)
    data = _data(reference, engine=engine, values=values)
    if not data:
        raise InvalidSpec(
            f"spec.secret.keySets leaves nothing to write: there are no such keys for the engine {snapshot.cluster.engine}; "
            "add Binding."
        )
    return RenderedSecret(
        key=reference.secret_key,
        type=f"servicebinding.io/{engine.type}",
        data={name: value.encode() for name, value in data.items()},
        labels={**reference.secret.labels, MANAGED_BY: FIELD_MANAGER},
        annotations={
            **reference.secret.annotations,
            REFERENCE_UID: reference.identity.uid,
            CLUSTER_UUID: reference.cluster_uuid,
        },
        owner=_owner(reference),
    )


def placeholders(reference: Reference, snapshot: Snapshot) -> dict[str, str]:
    """Computes every placeholder that has a value for this cluster."""
    cluster = snapshot.cluster
    engine = engine_of(cluster.engine)
    endpoints = snapshot.pool.endpoints if snapshot.pool else cluster.endpoints
    values: dict[str, str] = {}
    for endpoint, connection in _wanted(reference, endpoints):
        effective = _as_asked(connection, reference=reference, snapshot=snapshot, primary=endpoints.private)
        prefix = _ENDPOINT_PREFIXES[endpoint]
        # A URI as given holds the credentials it was given with, and is no use for others.
        given_uri = connection.uri if effective == connection else ""
        shown = _endpoint_values(effective, engine=engine, given_uri=given_uri)
        values |= {prefix + name: value for name, value in shown.items()}
    ca = snapshot.ca.decode("utf-8", errors="replace")
    user = snapshot.user
    general = {
        "type": engine.type,
        "engine": cluster.engine,
        "ca": ca,
        "ca-file": "ca.crt" if ca else "",
        "ca-path": posixpath.join(reference.secret.mount_path, "ca.crt") if ca and reference.secret.mount_path else "",
        "access-cert": user.access_cert if user else "",
        "access-key": user.access_key if user else "",
    }
    return values | {name: value for name, value in general.items() if value}


def _wanted(reference: Reference, endpoints: Endpoints) -> Iterable[tuple[Endpoint, Connection]]:
    found = {
        Endpoint.PRIVATE: endpoints.private,
        Endpoint.STANDBY: endpoints.standby,
        Endpoint.PUBLIC: endpoints.public,
        Endpoint.PUBLIC_STANDBY: endpoints.public_standby,
    }
    for endpoint, connection in found.items():
        # The private primary is what `host` means: there is no Secret without it.
        if connection and (endpoint is Endpoint.PRIVATE or endpoint in reference.secret.endpoints):
            yield endpoint, connection


def _as_asked(connection: Connection, *, reference: Reference, snapshot: Snapshot, primary: Connection | None) -> Connection:
    """Puts the asked-for user and database in; a standby shares the primary's credentials where it names none itself."""
    user, password = connection.user, connection.password
    if snapshot.user:
        user, password = snapshot.user.name, snapshot.user.password
    elif primary:
        user, password = user or primary.user, password or primary.password
    database = reference.database or connection.database
    if snapshot.cluster.engine in WITHOUT_DATABASE:
        database = ""
    return replace(connection, user=user, password=password, database=database)


def _endpoint_values(connection: Connection, *, engine: Engine, given_uri: str) -> dict[str, str]:
    port = str(connection.port) if connection.port else ""
    host = f"[{connection.host}]" if ":" in connection.host else connection.host
    query = _query_of(connection.uri)
    values = {
        "host": connection.host,
        "port": port,
        "hostport": f"{host}:{port}" if port else "",
        "username": connection.user,
        "password": connection.password,
        "userinfo": f"{quote(connection.user, safe='')}:{quote(connection.password, safe='')}" if connection.password else "",
        "database": connection.database,
    }
    values = {name: value for name, value in values.items() if value}
    for_uri = {
        "uri-path": quote(connection.database, safe=""),
        "uri-query": f"?{query}" if query else "",
        "given-uri": given_uri,
    }
    values["uri"] = fill(engine.uri, values | for_uri) or ""
    values["jdbc-url"] = fill(engine.jdbc, values) or ""
    return {name: value for name, value in values.items() if value}


def _query_of(uri: str) -> str:
    try:
        return urlsplit(uri).query
    except ValueError:
        return ""


def _require_complete(engine: Engine, values: Mapping[str, str], *, reference: Reference, snapshot: Snapshot) -> None:
    cluster = snapshot.cluster
    missing = [name for name in engine.needs if name not in values]
    if not missing:
        return
    if cluster.status == "creating":
        raise WaitingForCluster(f"Cluster {cluster.name} is being created; the Secret follows when it has its address.")
    if "host" in missing:
        what = f"connection pool {snapshot.pool.name}" if snapshot.pool else f"cluster {cluster.name}"
        raise IncompleteCredentials(
            f"DigitalOcean gives no private connection for {what}; the Secret is written when it does. "
            "Check that the cluster is in a VPC network."
        )
    if "password" in missing and cluster.engine == "mongodb" and "username" in values:
        raise IncompleteCredentials(
            "DigitalOcean shows a MongoDB user's password only when the user is made or reset, never in a read, so this "
            f"operator cannot learn it for {values['username']}."
        )
    if "password" in missing and reference.user:
        raise MissingScope(
            f"DigitalOcean hides the password of user {reference.user} from this token; "
            "give the token the scope database:view_credentials."
        )
    if "password" in missing:
        raise MissingScope(
            "DigitalOcean hides the cluster's credentials from this token; give the token the scope database:view_credentials."
        )
    raise IncompleteCredentials(
        f"DigitalOcean's answer for cluster {cluster.name} lacks {', '.join(missing)}; the Secret follows when it is complete."
    )


def _data(reference: Reference, *, engine: Engine, values: Mapping[str, str]) -> dict[str, str]:
    # What points at the mounted ca.crt must find it there, whichever keys were asked for.
    templates = {"ca.crt": COMMON["ca.crt"]} if reference.secret.mount_path else {}
    if KeySet.BINDING in reference.secret.key_sets:
        templates |= {**COMMON, **engine.binding}
    if KeySet.ENV in reference.secret.key_sets:
        templates |= engine.env
    filled = {name: fill(template, values) for name, template in templates.items()}
    if KeySet.FILES in reference.secret.key_sets:
        filled |= {name: "".join(fill(part, values) or "" for part in parts) for name, parts in engine.files.items()}
    filled |= {name: _fill_users_own(name, template, values) for name, template in reference.secret.template.items()}
    return {name: value for name, value in filled.items() if value}


def _fill_users_own(name: str, template: str, values: Mapping[str, str]) -> str | None:
    try:
        unknown = placeholders_in(template) - PLACEHOLDERS
    except TemplateError as error:
        raise InvalidSpec(f"spec.secret.template.{name}: {error}.") from None
    if unknown:
        raise InvalidSpec(
            f"spec.secret.template.{name}: unknown placeholder {', '.join(sorted(unknown))}; "
            f"there are {', '.join(sorted(PLACEHOLDERS))}."
        )
    return fill(template, values)


def _owner(reference: Reference) -> Mapping[str, object] | None:
    if reference.secret.deletion_policy is DeletionPolicy.RETAIN:
        return None
    # No blockOwnerDeletion: it would ask for rights on finalizers, and make deletion wait for this operator.
    return {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "name": reference.key.name,
        "uid": reference.identity.uid,
        "controller": True,
    }


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


def _shape(labels: Mapping[str, str], annotations: Mapping[str, str], *, owner_uid: str) -> bytes:
    return _digest([sorted(labels.items()), sorted(annotations.items()), owner_uid])


def _digest(value: object) -> bytes:
    return hashlib.blake2b(json.dumps(value).encode(), key=_DIGEST_KEY, digest_size=16).digest()


def _decoded(value: object) -> bytes:
    return base64.b64decode(str(value))


@lru_cache(maxsize=64)
def _one_copy(pem: bytes) -> bytes:
    """Gives equal CAs as one object: a project's clusters share theirs."""
    return pem


def _revision(text: str) -> int:
    # Anyone who may edit the Secret may have written it; the status holds 64 bits.
    return int(text) if text.isascii() and text.isdigit() and len(text) < 16 else 0  # noqa: PLR2004
