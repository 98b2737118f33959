"""From a reference and what was read upstream to the Secret it shall be.

Pure: the same input gives the same Secret, byte for byte.
"""

import posixpath
from collections.abc import Iterable, Mapping
from dataclasses import replace
from urllib.parse import quote, urlsplit

from dbclusterref.digitalocean.model import Connection, Endpoints
from dbclusterref.digitalocean.snapshot import Snapshot
from dbclusterref.errors import IncompleteCredentials, InvalidSpec, MissingScope, WaitingForCluster
from dbclusterref.resource.objects import API_VERSION, FIELD_MANAGER, KIND, MANAGED_BY
from dbclusterref.resource.reference import DeletionPolicy, Endpoint, KeySet, Reference
from dbclusterref.secret.engines import COMMON, WITHOUT_DATABASE, Engine, engine_of
from dbclusterref.secret.state import CLUSTER_UUID, REFERENCE_UID, DesiredSecret
from dbclusterref.secret.template import TemplateError, fill, placeholders_in

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


def render_secret(reference: Reference, snapshot: Snapshot) -> DesiredSecret:
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
    return DesiredSecret(
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
