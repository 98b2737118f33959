"""Bodies, clusters and strategies that the tests of the pure floors share. Pure functions; nothing here judges anything."""

import base64
import string
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from hypothesis import settings
from hypothesis import strategies as st

from dbclusterref.digitalocean.model import DatabaseCluster, Pool, User
from dbclusterref.digitalocean.snapshot import Snapshot
from dbclusterref.resource.objects import ObjectMeta
from dbclusterref.resource.reference import Reference

Json = dict[str, Any]

CANARY = "CANARY-4f1d"
CLUSTER_UUID = "9cc10173-e9ea-4176-9dbc-a4cee4c4ff30"
UID = "5f0c1d8e-0000-4000-8000-000000000001"
PEM = "-----BEGIN CERTIFICATE-----\nMIIEQTCCAqmgAwIBAgIUFZ\n-----END CERTIFICATE-----\n"

BOUNDED = settings(max_examples=50, derandomize=True, deadline=None, database=None)
"""The same examples on every run: a red build is somebody's change, never chance."""


def reference_body(spec: Mapping[str, object] | None = None, /, **metadata: object) -> Json:
    return {
        "apiVersion": "dbclusterref.io/v1alpha1",
        "kind": "DatabaseClusterRef",
        "metadata": {"name": "orders-db", "namespace": "shop", "uid": UID, "generation": 3, **metadata},
        "spec": {"clusterUUID": CLUSTER_UUID, **(spec or {})},
    }


def reference(spec: Mapping[str, object] | None = None, /, **metadata: object) -> Reference:
    return Reference.from_body(reference_body(spec, **metadata))


def identity(**metadata: object) -> ObjectMeta:
    return ObjectMeta.from_body(reference_body(**metadata))


def connection_body(**members: object) -> Json:
    return {
        "host": "private-orders.db.example.com",
        "port": 25060,
        "user": "doadmin",
        "password": "sesame",
        "database": "defaultdb",
        "uri": "postgresql://doadmin:sesame@private-orders.db.example.com:25060/defaultdb?sslmode=require",
        "ssl": True,
        **members,
    }


def cluster_body(**members: object) -> Json:
    return {
        "id": CLUSTER_UUID,
        "name": "orders",
        "engine": "pg",
        "version": "17",
        "num_nodes": 1,
        "size": "db-s-1vcpu-1gb",
        "region": "fra1",
        "status": "online",
        "private_connection": connection_body(),
        **members,
    }


def cluster(**members: object) -> DatabaseCluster:
    return DatabaseCluster.from_api(cluster_body(**members))


def snapshot(*, ca: str = "", user: Mapping[str, object] | None = None, pool: Mapping[str, object] | None = None,
             **members: object) -> Snapshot:  # fmt: skip
    return Snapshot(
        cluster=cluster(**members),
        ca=ca.encode(),
        user=User.from_api(user, path="user") if user else None,
        pool=Pool.from_api(pool) if pool else None,
    )


def answers(bodies: Mapping[str, Any]) -> Snapshot:
    """Read what the API's four reads answered, merged into one object: `database`, `ca`, `user`, `pool`."""
    return Snapshot(
        cluster=DatabaseCluster.from_api(bodies["database"]),
        ca=base64.b64decode(bodies["ca"]["certificate"]) if "ca" in bodies else b"",
        user=User.from_api(bodies["user"], path="user") if "user" in bodies else None,
        pool=Pool.from_api(bodies["pool"]) if "pool" in bodies else None,
    )


def applied(manifest: Mapping[str, Any], *, manager: str = "dbclusterref", operation: str = "Apply") -> Json:
    """What the API server answers to a server-side apply of a Secret that did not exist."""
    metadata = manifest["metadata"]
    fields: Json = {
        "f:data": {f"f:{name}": {} for name in manifest["data"]},
        "f:metadata": {
            "f:annotations": {f"f:{name}": {} for name in metadata["annotations"]},
            "f:labels": {f"f:{name}": {} for name in metadata["labels"]},
        },
        "f:type": {},
    }
    owners = metadata.get("ownerReferences", [])
    if owners:
        fields["f:metadata"]["f:ownerReferences"] = {f'k:{{"uid":"{owner["uid"]}"}}': {} for owner in owners}
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": manifest["type"],
        "data": dict(manifest["data"]),
        "metadata": {
            "name": metadata["name"],
            "namespace": metadata["namespace"],
            "uid": "0a0b0c0d-0000-4000-8000-00000000000a",
            "resourceVersion": "4711",
            "creationTimestamp": "2026-01-05T12:00:00Z",
            "labels": dict(metadata["labels"]),
            "annotations": dict(metadata["annotations"]),
            **({"ownerReferences": [dict(owner) for owner in owners]} if owners else {}),
            "managedFields": [
                {
                    "manager": manager,
                    "operation": operation,
                    "apiVersion": "v1",
                    "time": "2026-01-05T12:00:00Z",
                    "fieldsType": "FieldsV1",
                    "fieldsV1": fields,
                }
            ],
        },
    }


# Strategies

json_scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(st.characters(exclude_categories=()), max_size=12)
)
"""What `json.loads` can give, half characters (`"\\ud800"`) among it."""

json_values: st.SearchStrategy[Any] = st.recursive(
    json_scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)

any_text = st.text(max_size=20)
_CHARACTERS = st.characters(exclude_categories=("Cs", "Cc", "Zl", "Zp"))
"""All but those that a connection's parts must not have."""
passwords = st.text(_CHARACTERS, min_size=1, max_size=24) | st.text("p@:/?#%&+ ö\"'{}[]\\", min_size=1, max_size=12)

_LABEL = st.text(string.ascii_lowercase + string.digits, min_size=1, max_size=10)
hostnames = st.lists(_LABEL, min_size=2, max_size=4).map(lambda labels: "db-" + ".".join([*labels, "example"]))
ip_addresses = st.ip_addresses().map(str)
ports = st.integers(1, 65535)
# What `spec.user` and `spec.database` may be.
names = st.from_regex(r"\A[^\s./\x00-\x20\x7f-\x9f][^\s/\x00-\x20\x7f-\x9f]{0,20}\Z")

SCHEMES = {
    "pg": "postgresql", "advanced_pg": "postgresql", "mysql": "mysql", "advanced_mysql": "mysql", "redis": "rediss",
    "valkey": "rediss", "mongodb": "mongodb+srv", "kafka": "kafka", "opensearch": "https", "scylla": "cql",
}  # fmt: skip
engines = st.sampled_from(sorted(SCHEMES))


@st.composite
def credentials(draw: st.DrawFn) -> tuple[str, str, str]:
    """User, password and database."""
    return draw(names | passwords), draw(passwords), draw(names)


@st.composite
def complete_connections(draw: st.DrawFn, engine: str, known_as: tuple[str, str, str] | None = None) -> Json:
    """A connection with everything in it; its URI is percent-encoded as DigitalOcean's are."""
    srv = engine == "mongodb"
    host = draw(hostnames if srv else hostnames | ip_addresses)
    user, password, database = known_as or draw(credentials())
    port = None if srv else draw(ports)
    address = f"[{host}]" if ":" in host else host
    location = f"{address}:{port}" if port else address
    uri = f"{SCHEMES[engine]}://{quote(user, safe='')}:{quote(password, safe='')}@{location}/{quote(database, safe='')}"
    return {
        "host": host, "port": port, "user": user, "password": password,
        "database": draw(st.sampled_from(["", database])), "uri": uri, "ssl": True, "protocol": engine,
    }  # fmt: skip


@st.composite
def connections(draw: st.DrawFn, engine: str) -> object:
    """A connection as the contract allows: absent in part or whole, null, empty, redacted, of port 0."""
    whole = draw(complete_connections(engine))
    if draw(st.integers(0, 5)) == 0:
        return draw(st.sampled_from([None, {}]))
    for name in draw(st.sets(st.sampled_from(sorted(whole)), max_size=2)):
        empty = 0 if name == "port" else None if name == "ssl" else ""
        how = draw(st.sampled_from(["absent", "null", "empty"]))
        if how == "absent":
            del whole[name]
        else:
            whole[name] = None if how == "null" else empty
    return whole


CONNECTIONS = ("private_connection", "standby_private_connection", "connection", "standby_connection")


@st.composite
def cluster_bodies(draw: st.DrawFn) -> Json:
    """Any cluster object that the contract allows."""
    engine = draw(engines)
    body = cluster_body(
        engine=engine,
        num_nodes=draw(st.integers(1, 3)),
        name=draw(any_text),
        status=draw(st.sampled_from(["creating", "online", "resizing", "migrating", "forking", "pondering", None])),
        tags=None,
        users=draw(st.sampled_from([None, [], [{"name": "app", "role": "normal", "password": "x"}]])),
        db_names=draw(st.sampled_from([None, [], ["defaultdb"], ["defaultdb", "shop"]])),
        undocumented={"a": [1]},
    )
    for name in CONNECTIONS:
        body.pop(name, None)
        if draw(st.booleans()):
            body[name] = draw(connections(engine))
    return body


@st.composite
def complete_cluster_bodies(draw: st.DrawFn, engine_slugs: st.SearchStrategy[str] = engines) -> Json:
    """A multi-node cluster with all four connections, all complete and with one set of credentials, as real ones are."""
    engine, known_as = draw(engine_slugs), draw(credentials())
    return cluster_body(
        engine=engine, num_nodes=2, **{name: draw(complete_connections(engine, known_as)) for name in CONNECTIONS}
    )


@st.composite
def reference_specs(draw: st.DrawFn) -> Json:
    """The parts of a spec that shape the Secret."""
    spec: Json = {
        "secret": {
            "keySets": draw(st.lists(st.sampled_from(["Binding", "Env"]), min_size=1, unique=True)),
            "endpoints": ["Private", *draw(st.sets(st.sampled_from(["Standby", "Public", "PublicStandby"])))],
            "mountPath": draw(st.sampled_from(["", "/bindings/orders"])),
            "template": draw(
                st.dictionaries(
                    st.sampled_from(["SQLALCHEMY_URL", "my.conf"]),
                    st.sampled_from(["", "{host}", "x{{{port}}}", "{standby-uri:url}", "plain", "{ca}"]),
                    max_size=2,
                )
            ),
        }
    }
    if draw(st.booleans()):
        spec["database"] = draw(names)
    return spec
