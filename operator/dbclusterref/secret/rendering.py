"""From a reference and what was read upstream to the Secret as it should be.

Pure: the same input gives the same Secret, byte for byte.
"""

import posixpath
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from hashlib import sha256
from urllib.parse import quote, urlsplit

from dbclusterref.digitalocean.model import Connection, EndpointName, Endpoints
from dbclusterref.digitalocean.not_found import password_not_shown
from dbclusterref.digitalocean.replicas import WITHOUT_REPLICAS, Address, listed
from dbclusterref.digitalocean.snapshot import Snapshot
from dbclusterref.errors import IncompleteCredentials, InvalidSpec, UpstreamUnavailable, WaitingForCluster
from dbclusterref.resource.objects import API_VERSION, FIELD_MANAGER, KIND, MANAGED_BY, ObjectMeta
from dbclusterref.resource.reference import DeletionPolicy, Endpoint, KeySet, MissingStandby, Reference, Tls
from dbclusterref.resource.spec_digest import spec_digest
from dbclusterref.resource.template import ENDPOINT_PREFIXES, PER_ENDPOINT, adds_lines, fill, parse_template, size_of_all
from dbclusterref.secret.engines import COMMON, WITHOUT_DATABASE, Engine, engine_of
from dbclusterref.secret.state import (
    CA_DIGEST,
    CA_KEYS,
    CLUSTER_UUID,
    DELETION_POLICY,
    GRANTED_BY,
    REFERENCE,
    REFERENCE_UID,
    SPEC_DIGEST,
    DesiredSecret,
)

MAXIMUM_SIZE = 2**20
"""Bytes that the values of a Secret may have together, as the API server counts them."""
_ORDINARY = 4096
"""Characters of a value that is not suspiciously long."""
_NAMED = 5
"""Names that a message lists."""

Texts = Mapping[str, str]
Files = Mapping[str, Iterable[str]]

_IN_ORDER = (Endpoint.PRIVATE, Endpoint.STANDBY, Endpoint.PUBLIC, Endpoint.PUBLIC_STANDBY, Endpoint.REPLICAS)
_PREFIX = dict(zip(_IN_ORDER, ENDPOINT_PREFIXES, strict=True))
_ENDPOINT_OF = {prefix + name: endpoint for endpoint, prefix in _PREFIX.items() for name in PER_ENDPOINT} | {
    "replica-hosts": Endpoint.REPLICAS
}


@dataclass(frozen=True, slots=True)
class Rendition:
    """A Secret with what it was made from."""

    reference: Reference
    snapshot: Snapshot
    secret: DesiredSecret = field(repr=False)

    @classmethod
    def of(cls, reference: Reference, snapshot: Snapshot, values: Texts | None = None) -> "Rendition":
        """Raise the cause where the snapshot makes no complete Secret."""
        return cls(reference, snapshot, render_secret(reference, snapshot, values))


def render_secret(reference: Reference, snapshot: Snapshot, values: Texts | None = None) -> DesiredSecret:
    """Builds the Secret, or raises the cause why what was read does not make a working one: never a partial Secret.

    `values` are its `placeholders`, where they are known.
    """
    engine = engine_of(snapshot.cluster.engine)
    if values is None:
        values = placeholders(reference, snapshot)
    _require_complete(engine, values, reference=reference, snapshot=snapshot)
    data, left_out = _data(reference, engine=engine, values=values)
    if not data and left_out:
        raise IncompleteCredentials(f"The Secret is written when the cluster has a value for one of: {_listed(left_out)}.")
    if not data:
        raise InvalidSpec(
            f"spec.secret.keySets leaves nothing to write: there are no such keys for the engine {snapshot.cluster.engine}; "
            "add Binding."
        )
    return DesiredSecret(
        key=reference.secret_key,
        type=reference.secret.type or f"servicebinding.io/{engine.type}",
        data=data,
        labels={**dict(reference.secret.labels.items()), MANAGED_BY: FIELD_MANAGER},
        annotations={
            **dict(reference.secret.annotations.items()),
            REFERENCE: reference.key.name,
            REFERENCE_UID: reference.identity.uid,
            CLUSTER_UUID: reference.cluster_uuid,
            SPEC_DIGEST: spec_digest(reference),
            **({DELETION_POLICY: "Retain"} if reference.secret.deletion_policy is DeletionPolicy.RETAIN else {}),
            **({GRANTED_BY: snapshot.granted_by} if snapshot.granted_by else {}),
            **_ca_digest(data, ca=values.get("ca", "").encode()),
        },
        owner=owner_of(reference),
        notes=(
            *_notes(reference, snapshot, left_out=left_out),
            *_notes_on_tls(reference, engine, values=values, keys=data.keys()),
        ),
    )


def size_of(reference: Reference, snapshot: Snapshot, values: Texts) -> int:
    """Return how many bytes the Secret's data would have, without making it; a few kilobytes at most are not counted."""
    own, built_in, files = _templates(reference, engine=engine_of(snapshot.cluster.engine))
    return sum(_sizes(values, own=own, built_in=built_in, files=files))


def keys_with(prefix: str, reference: Reference, *, engine: str) -> frozenset[str]:
    """Return the keys that a reference asks for and that name a placeholder of one endpoint, whether it has a value or not."""
    own, built_in, _ = _templates(reference, engine=engine_of(engine))
    return frozenset(key for key, template in {**built_in, **own}.items() if f"{{{prefix}" in template)


def _ca_digest(data: Mapping[str, bytes], *, ca: bytes) -> Mapping[str, str]:
    """After a restart the CA is taken from the Secret, and only from a key that a template has not replaced."""
    return {CA_DIGEST: sha256(ca).hexdigest()} if ca and any(data.get(key) == ca for key in CA_KEYS) else {}


def _notes(reference: Reference, snapshot: Snapshot, *, left_out: tuple[str, ...]) -> Iterable[str]:
    engine = snapshot.cluster.engine
    if reference.database and engine in WITHOUT_DATABASE:
        yield f"spec.database has no effect: {engine} has no databases."
    endpoints = snapshot.pool.endpoints if snapshot.pool else snapshot.cluster.endpoints
    missing = Endpoint.STANDBY in reference.secret.endpoints and endpoints.standby is None
    if missing and reference.secret.missing_standby is MissingStandby.USE_PRIMARY:
        yield "There is no private standby: the standby's keys lead to the primary (spec.secret.missingStandby)."
    if reference.wants_replicas and engine in WITHOUT_REPLICAS:
        yield f"Replicas in spec.secret.endpoints has no effect: {engine} has no read-only replicas."
    elif reference.wants_replicas and not snapshot.replicas:
        yield "There is no read-only replica that serves: the Secret has no replica's keys."
    by_reason: dict[str, list[str]] = {}
    for key in left_out:
        by_reason.setdefault(_why_left_out(key, reference, engine=engine), []).append(key)
    for why, keys in by_reason.items():
        yield f"Left out, because {why}: {_listed(keys)}."


def _why_left_out(key: str, reference: Reference, *, engine: str) -> str:
    """Name the field of the spec without which the key has no value, or else the cluster."""
    names = parse_template(reference.secret.template.get(key, "")).names
    never = {Endpoint.REPLICAS} if engine in WITHOUT_REPLICAS else set()
    asked_for = {Endpoint.PRIVATE, *reference.secret.endpoints}
    not_named = {_ENDPOINT_OF[name] for name in names & _ENDPOINT_OF.keys()} - asked_for - never
    if not_named:
        return f"spec.secret.endpoints does not contain {' and '.join(sorted(not_named))}"
    if "ca-path" in names and not reference.secret.mount_path:
        return "spec.secret.mountPath is not set"
    return "the cluster has no usable value for them"


def _notes_on_tls(reference: Reference, engine: Engine, *, values: Mapping[str, str], keys: Iterable[str]) -> Iterable[str]:
    """Say which keys leave it to the client whether it verifies the server; a CA that is still to come has its own sentence."""
    if engine.tls is None or reference.secret.tls is Tls.ENCRYPT or "ca" not in values:
        return
    if "ca-path" not in values:
        yield (
            "Clients are not told to verify the server's certificate: set spec.secret.mountPath, or spec.secret.tls to Encrypt."
        )
    elif unverified := engine.tls.unverified & set(keys) - reference.secret.template.keys():
        yield (
            f"These keys cannot tell clients to verify the server's certificate: {_listed(unverified)}. Replace those in use "
            "by spec.secret.template, or set spec.secret.tls to Encrypt."
        )


def placeholders(reference: Reference, snapshot: Snapshot) -> dict[str, str]:
    """Return every placeholder that has a value for this cluster."""
    cluster = snapshot.cluster
    engine = engine_of(cluster.engine)
    endpoints = snapshot.pool.endpoints if snapshot.pool else cluster.endpoints
    general = _general_values(reference, snapshot, engine=engine)
    values = dict(general)
    for endpoint, connection in _wanted(reference, endpoints):
        effective = _as_asked(connection, reference=reference, snapshot=snapshot, primary=endpoints.private)
        prefix = _PREFIX[endpoint]
        # A URI as given holds the credentials it was given with, and is no use for others.
        given_uri = connection.uri if effective == connection else ""
        shown = _endpoint_values(effective, engine=engine, given_uri=given_uri, general=general)
        values |= {prefix + name: value for name, value in shown.items()}
        if endpoint is Endpoint.PRIVATE:
            values |= _replica_values(effective, engine=engine, reference=reference, snapshot=snapshot, general=general)
    return values


def _general_values(reference: Reference, snapshot: Snapshot, *, engine: Engine) -> dict[str, str]:
    ca = snapshot.ca.decode("utf-8", errors="replace")
    user = snapshot.user
    general = {
        "type": engine.type,
        "engine": snapshot.cluster.engine,
        "ca": ca,
        "ca-file": "ca.crt" if ca else "",
        "ca-path": posixpath.join(reference.secret.mount_path, "ca.crt") if ca and reference.secret.mount_path else "",
        "access-cert": user.access_cert if user else "",
        "access-key": user.access_key if user else "",
    }
    values = {name: value for name, value in general.items() if value}
    if engine.tls and reference.secret.tls is Tls.VERIFY and "ca-path" in values:
        return values | {name: fill(template, values) or "" for name, template in engine.tls.verified.items()}
    return values | dict(engine.tls.encrypted if engine.tls else {})


def _replica_values(
    primary: Connection, *, engine: Engine, reference: Reference, snapshot: Snapshot, general: Mapping[str, str]
) -> Mapping[str, str]:
    """The first replica's values, and the addresses of all.

    User, password and database are the primary's, which a replica follows: so a rotated password is right for both at once.
    A connection pool is the primary's alone; the database that it leads to is on the replica too.
    """
    if not reference.wants_replicas or not snapshot.replicas:
        return {}
    first, prefix = snapshot.replicas[0], _PREFIX[Endpoint.REPLICAS]
    database = snapshot.pool.database if snapshot.pool else primary.database
    connection = replace(primary, host=first.host, port=first.port, database=database, uri="")
    values = _endpoint_values(connection, engine=engine, given_uri="", general=general)
    return {prefix + name: value for name, value in (values | {"hosts": listed(snapshot.replicas)}).items()}


def _wanted(reference: Reference, endpoints: Endpoints) -> Iterable[tuple[Endpoint, Connection]]:
    names: Mapping[Endpoint, EndpointName] = {
        Endpoint.PRIVATE: "private",
        Endpoint.STANDBY: "standby",
        Endpoint.PUBLIC: "public",
        Endpoint.PUBLIC_STANDBY: "public_standby",
    }
    for endpoint, name in names.items():
        # The private primary is what `host` means: there is no Secret without it.
        if endpoint is not Endpoint.PRIVATE and endpoint not in reference.secret.endpoints:
            continue
        connection = endpoints.get(name)
        if connection is None and reference.secret.missing_standby is MissingStandby.USE_PRIMARY:
            connection = {Endpoint.STANDBY: endpoints.private, Endpoint.PUBLIC_STANDBY: endpoints.public}.get(endpoint)
        if connection:
            yield endpoint, connection


def _as_asked(connection: Connection, *, reference: Reference, snapshot: Snapshot, primary: Connection | None) -> Connection:
    """Puts in the user, password and database that are asked for, or shared where the connection names none itself."""
    user, password = connection.user, connection.password
    if snapshot.user:
        user, password = snapshot.user.name, snapshot.user.password
    elif primary:
        user, password = user or primary.user, password or primary.password
    default = snapshot.cluster.endpoints.private
    if snapshot.pool and default and not user and not password:
        # A pool of the inbound user: whoever connects brings credentials of their own.
        user, password = default.user, default.password
    database = reference.database or connection.database
    if snapshot.cluster.engine in WITHOUT_DATABASE:
        database = ""
    return replace(connection, user=user, password=password or snapshot.password, database=database)


def _endpoint_values(connection: Connection, *, engine: Engine, given_uri: str, general: Mapping[str, str]) -> dict[str, str]:
    port = str(connection.port) if connection.port else ""
    query = _query_of(connection.uri)
    values = {
        "host": connection.host,
        "port": port,
        "hostport": str(Address.of(connection)) if port else "",
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
    values["uri"] = fill(engine.uri, {**general, **values, **for_uri}) or ""
    values["jdbc-url"] = fill(engine.jdbc, {**general, **values}) or ""
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
    if cluster.status == "creating" or (cluster.status not in {"", "online"} and "host" in missing):
        raise WaitingForCluster(
            f"Cluster {_clipped(cluster.name)} is in state {_clipped(cluster.status)}; the Secret is written when its "
            "connection details are complete."
        )
    if "host" in missing:
        what = f"connection pool {snapshot.pool.name}" if snapshot.pool else f"cluster {cluster.name}"
        raise IncompleteCredentials(
            f"DigitalOcean returned no private connection for {_clipped(what)}; the Secret is written when it does. "
            "Check that the cluster is in a VPC network."
        )
    if "password" in missing:
        raise password_not_shown(values.get("username", ""), reference=reference, cluster=cluster)
    raise IncompleteCredentials(
        f"The response for cluster {_clipped(cluster.name)} lacks {', '.join(missing)}; the Secret is written when it is "
        "complete. If that lasts, compare it with the connection details that DigitalOcean's console shows."
    )


def _data(reference: Reference, *, engine: Engine, values: Mapping[str, str]) -> tuple[Mapping[str, bytes], tuple[str, ...]]:
    """The Secret's data, and which of the asked-for keys are not in it because a value is missing or does not fit."""
    own, built_in, files = _templates(reference, engine=engine)
    _require_size(values, own=own, built_in=built_in, files=files)
    filled = {name: fill(template, values) for name, template in built_in.items()}
    asked_for: dict[str, str | None] = {name: _file(parts, values) for name, parts in files.items()}
    asked_for |= {name: fill(template, values) for name, template in own.items()}
    data = {name: value.encode() for name, value in (filled | asked_for).items() if value}
    return data, tuple(name for name, value in asked_for.items() if not value)


def _templates(reference: Reference, *, engine: Engine) -> tuple[Texts, Texts, Files]:
    """The user's templates, the built-in ones, and those of the files, in parts."""
    own = dict(reference.secret.template.items())
    # A user's template replaces the built-in key of its name.
    built_in = {name: template for name, template in _built_in(reference, engine).items() if name not in own}
    has_files = KeySet.FILES in reference.secret.key_sets
    files = {name: parts for name, parts in engine.files.items() if name not in own} if has_files else {}
    return own, built_in, files


def _built_in(reference: Reference, engine: Engine) -> Mapping[str, str]:
    # What points at the mounted ca.crt must find it there, whichever keys were asked for.
    templates = {"ca.crt": COMMON["ca.crt"]} if reference.secret.mount_path else {}
    if KeySet.BINDING in reference.secret.key_sets:
        templates |= {**COMMON, **engine.binding}
    if KeySet.ENV in reference.secret.key_sets:
        templates |= engine.env
    return templates


def _sizes(values: Mapping[str, str], *, own: Texts, built_in: Texts, files: Files) -> tuple[int, int]:
    """Bytes of the values that the user's templates make, and of the others."""
    size_of_own = size_of_all(own.values(), values)
    # The built-in keys repeat a value a few times. Of ordinary values they are a few kilobytes, which need no counting.
    if size_of_own <= MAXIMUM_SIZE // 2 and all(len(value) <= _ORDINARY for value in values.values()):
        return size_of_own, 0
    return size_of_own, size_of_all([*built_in.values(), *(part for parts in files.values() for part in parts)], values)


def _require_size(values: Mapping[str, str], *, own: Texts, built_in: Texts, files: Files) -> None:
    """Before anything is built: a template repeats and encodes values, so that a small spec can ask for gigabytes."""
    size_of_own, size_of_built_in = _sizes(values, own=own, built_in=built_in, files=files)
    size = size_of_own + size_of_built_in
    if size_of_built_in > MAXIMUM_SIZE:
        raise UpstreamUnavailable(
            f"The values that DigitalOcean returned make a Secret of {size_of_built_in} bytes; the maximum is {MAXIMUM_SIZE}. "
            "Retrying; if it lasts, look at the cluster at DigitalOcean."
        )
    if size > MAXIMUM_SIZE:
        raise InvalidSpec(
            f"spec.secret.template makes a Secret of {size} bytes; the maximum is {MAXIMUM_SIZE}. Shorten or remove templates."
        )


def _file(parts: Iterable[str], values: Mapping[str, str]) -> str:
    """A configuration file; a part is left out where a value is missing, or would add a line of its own."""
    filled = ((part, fill(part, values)) for part in parts)
    return "".join(text for part, text in filled if text and not adds_lines(part, text))


def _listed(names: Iterable[str]) -> str:
    """At most five names; DigitalOcean's or a user's, so of any length and number."""
    all_names = sorted(names)
    more = f" and {len(all_names) - _NAMED} more" if len(all_names) > _NAMED else ""
    return ", ".join(map(_clipped, all_names[:_NAMED])) + more


def _clipped(text: str) -> str:
    return re.sub(r"[\x00-\x1f\x7f]", " ", text[:64])


def owner_of(reference: Reference) -> Mapping[str, object] | None:
    """Return the owner reference of what is written for a resource; None where it outlives the resource."""
    return None if reference.secret.deletion_policy is DeletionPolicy.RETAIN else owner_for(reference.identity)


def owner_for(identity: ObjectMeta) -> Mapping[str, object]:
    """Return the owner reference that has an object deleted with a resource."""
    # No blockOwnerDeletion: it would ask for rights on finalizers, and make deletion wait for this operator.
    return {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "name": identity.key.name,
        "uid": identity.uid,
        "controller": True,
    }
