"""Objects that tests begin with, as the two APIs give them (`*_body`) and as the operator holds them (`a_*`).

One set of defaults: the resource shop/orders-db names the token in Secret do-token and a PostgreSQL cluster with one standby.
What a test is about it says itself, by keyword.
"""

import base64
from collections.abc import Mapping
from typing import Any

from dbclusterref.digitalocean.model import DatabaseCluster, Pool, User
from dbclusterref.digitalocean.replicas import Address
from dbclusterref.digitalocean.snapshot import Snapshot
from dbclusterref.resource.objects import API_VERSION, KIND, ObjectKey, ObjectMeta
from dbclusterref.resource.reference import Reference

Body = dict[str, Any]

KEY = ObjectKey("shop", "orders-db")
UID = "5f0c1d8e-0000-4000-8000-000000000001"
UUID = "9cc10173-e9ea-4176-9dbc-a4cee4c4ff30"
OTHER_UUID = "1c4b1fd9-36a4-4c4b-9a4c-2d1a5b5e7f01"
TOKEN = "dop_v1_token"
TOKEN_SECRET = ObjectKey("shop", "do-token")
PASSWORD = "pw-1"
PEM = b"-----BEGIN CERTIFICATE-----\nMIIEQTCCAqmgAwIBAgIUFZ\n-----END CERTIFICATE-----\n"
CANARY = "CANARY-4f1d"
"""A password to look for where none may appear."""


# --- Kubernetes ------------------------------------------------------------------------------------------------------------


def reference_body(
    spec: Mapping[str, object] | None = None, /, *, key: ObjectKey = KEY, uid: str = UID, generation: int = 1, version: int = 1,
    metadata: Mapping[str, object] | None = None, **members: object,
) -> Body:  # fmt: skip
    """`members` are the spec's, too; a spec's member that is None is null, as users write it."""
    return {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "metadata": {
            "name": key.name,
            "namespace": key.namespace,
            "uid": uid,
            "generation": generation,
            "resourceVersion": str(version),
            **(metadata or {}),
        },
        "spec": {"clusterUUID": UUID, "apiTokenSecretRef": {"name": TOKEN_SECRET.name}, **(spec or {}), **members},
    }


def a_reference(spec: Mapping[str, object] | None = None, /, **members: Any) -> Reference:
    return Reference.from_body(reference_body(spec, **members))


def an_identity(**members: Any) -> ObjectMeta:
    return ObjectMeta.from_body(reference_body(**members))


def secret_body(data: Mapping[str, str], *, key: ObjectKey, labels: Mapping[str, str] | None = None) -> Body:
    return {
        "metadata": {"name": key.name, "namespace": key.namespace, "labels": dict(labels or {})},
        "type": "Opaque",
        "data": {name: base64.b64encode(value.encode()).decode() for name, value in data.items()},
    }


def applied(manifest: Mapping[str, Any], *, manager: str = "dbclusterref", operation: str = "Apply") -> Body:
    """What the API server answers to a server-side apply of a Secret or ConfigMap that did not exist."""
    metadata = manifest["metadata"]
    fields: Body = {
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
        "kind": manifest["kind"],
        **({"type": manifest["type"]} if "type" in manifest else {}),
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


# --- DigitalOcean ----------------------------------------------------------------------------------------------------------


def connection_body(*, host: object = "private-orders.db.example.com", password: object = PASSWORD, **members: object) -> Body:
    return {
        "host": host,
        "port": 25060,
        "user": "doadmin",
        "password": password,
        "database": "defaultdb",
        "uri": f"postgresql://doadmin:{password}@{host}:25060/defaultdb?sslmode=require",
        "ssl": True,
        **members,
    }


def cluster_body(*, uuid: str = UUID, password: str = PASSWORD, standby: bool = True, **members: object) -> Body:
    return {
        "id": uuid,
        "name": "orders",
        "engine": "pg",
        "version": "17",
        "num_nodes": 2 if standby else 1,
        "size": "db-s-1vcpu-1gb",
        "region": "ams3",
        "status": "online",
        "created_at": "2026-01-01T00:00:00Z",
        "connection": connection_body(host="orders.db.example.com", password=password),
        "private_connection": connection_body(password=password),
        **(
            {"standby_private_connection": connection_body(host="private-replica-orders.db.example.com", password=password)}
            if standby
            else {}
        ),
        "users": [
            {"name": "doadmin", "role": "primary", "password": password},
            {"name": "app", "role": "normal", "password": f"app-{password}"},
        ],
        **members,
    }


def a_cluster(**members: Any) -> DatabaseCluster:
    return DatabaseCluster.from_api(cluster_body(**members))


def pool_body(name: str = "orders-pool", *, password: str = PASSWORD) -> Body:
    return {"name": name, "private_connection": connection_body(host="pool-orders.db.example.com", password=password)}


def a_pool(name: str = "orders-pool", *, password: str = PASSWORD) -> Pool:
    return Pool.from_api(pool_body(name, password=password))


def replica_body(name: str = "read-1", **members: object) -> Body:
    """A read-only replica in the cluster's region, with credentials that nobody should use: the primary's are right."""
    private = connection_body(host=f"private-{name}-orders.db.example.com", user="replica", password="CANARY")
    return {"name": name, "region": "ams3", "status": "online", "private_connection": private, **members}


def a_snapshot(*, ca: bytes = b"", user: Mapping[str, object] | None = None, pool: Mapping[str, object] | None = None,
               replicas: tuple[Address, ...] = (), **members: Any) -> Snapshot:  # fmt: skip
    return Snapshot(
        replicas=replicas,
        cluster=a_cluster(**members),
        ca=ca,
        user=User.from_api(user, path="user") if user else None,
        pool=Pool.from_api(pool) if pool else None,
    )


def snapshot_from(bodies: Mapping[str, Any]) -> Snapshot:
    """Read what the API's four reads answered, merged into one object: `database`, `ca`, `user`, `pool`."""
    return Snapshot(
        cluster=DatabaseCluster.from_api(bodies["database"]),
        ca=base64.b64decode(bodies["ca"]["certificate"]) if "ca" in bodies else b"",
        user=User.from_api(bodies["user"], path="user") if "user" in bodies else None,
        pool=Pool.from_api(bodies["pool"]) if "pool" in bodies else None,
    )
