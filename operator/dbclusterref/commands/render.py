"""`dbclusterref render`: the Secret a resource would get, from saved answers, without any server."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TextIO

import yaml

from dbclusterref.commands.documents import STANDARD_INPUT, documents_in, read_bytes, read_document, read_text
from dbclusterref.digitalocean.model import Connection, DatabaseCluster, Endpoints, Pool, User
from dbclusterref.digitalocean.replicas import WITHOUT_REPLICAS, Replicas
from dbclusterref.digitalocean.snapshot import Snapshot
from dbclusterref.errors import Cause, MissingScope, PasswordMissing, SettingsError
from dbclusterref.reconcile.passwords import LONGEST_PASSWORD, password_in
from dbclusterref.resource.objects import API_VERSION, KIND
from dbclusterref.resource.reference import Reference
from dbclusterref.secret.rendering import render_secret
from dbclusterref.secret.state import DesiredSecret

_ANY_CA = b"-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n"
MASK = "••••••••"
NO_UID = "00000000-0000-0000-0000-000000000000"
"""For a resource that was never applied: an owner reference to it would let the garbage collector delete the Secret."""

Tree = Mapping[str, "Tree | None"]

_NAMED: Tree = {"name": None, "key": None}
KNOWN_FIELDS: Tree = {
    "apiVersion": None,
    "kind": None,
    "metadata": None,
    "status": None,
    "spec": {
        "clusterUUID": None,
        "apiTokenSecretRef": _NAMED,
        "passwordSecretRef": _NAMED,
        "refreshInterval": None,
        "suspend": None,
        "restart": None,
        "caConfigMap": {"name": None},
        "user": None,
        "database": None,
        "pool": None,
        "secret": {
            "name": None,
            "type": None,
            "keySets": None,
            "endpoints": None,
            "missingStandby": None,
            "mountPath": None,
            "tls": None,
            "labels": None,
            "annotations": None,
            "deletionPolicy": None,
            "template": None,
        },
    },
}
"""The fields of a DatabaseClusterRef; None for what has none of its own. A test holds it equal to the CRD's schema."""


def render(
    *,
    reference: str,
    cluster: str,
    ca: str | None,
    user: str | None,
    pool: str | None,
    replicas: str | None,
    password: str | None,
    reveal: bool,
    out: TextIO,
) -> int:
    """Write the Secret as YAML; return 1, with the condition's reason and message, where there would be none.

    The arguments name files; one of them may be `-`, standard input. Raises SettingsError for what cannot be read, or does not
    belong together.
    """
    if [reference, cluster, ca, user, pool, replicas, password].count(STANDARD_INPUT) > 1:
        raise SettingsError("only one option may read standard input (-); give files for the others.")
    body = _read_reference(reference)
    try:
        wanted = Reference.from_body(body)
        found = _cluster_in(read_document(cluster), uuid=wanted.cluster_uuid, file=cluster)
        snapshot = Snapshot(
            cluster=found,
            ca=read_bytes(ca) if ca else b"",
            user=User.from_api(_member(user, "user"), path="user") if user else found.user(wanted.user),
            pool=Pool.from_api(_member(pool, "pool")) if pool else None,
            replicas=_read_replicas(replicas).addresses(region=found.region) if replicas else (),
            password=_read_password(password, wanted) if password else "",
        )
        # Without its user or pool the Secret would be another one than the operator's.
        if wanted.user and not snapshot.user:
            raise SettingsError(
                f"--user: {cluster}, of --cluster, lists no user {wanted.user} (spec.user); give that user's own answer."
            )
        if wanted.pool and not snapshot.pool:
            raise SettingsError(f"--pool: the resource names connection pool {wanted.pool}; give that pool's answer.")
        if wanted.wants_replicas and not replicas and found.engine not in WITHOUT_REPLICAS:
            raise SettingsError("--replicas: the resource asks for read-only replicas; give the answer that lists them.")
        secret = _rendered(wanted, snapshot, file=cluster)
        others = render_secret(wanted, _with_other_secrets(snapshot)).data
        secret_keys = {name for name, value in others.items() if value != secret.data[name]}
        without_ca = "" if ca else _without_ca(secret, render_secret(wanted, replace(snapshot, ca=_ANY_CA, packed=b"")))
    except Cause as cause:
        out.write(f"# no Secret: {cause.reason}: {cause.message}\n")
        return 1
    manifest = secret.manifest(revision=1)
    del manifest["data"]
    metadata = manifest["metadata"]
    assert isinstance(metadata, dict)
    if wanted.identity.uid == NO_UID:
        metadata.pop("ownerReferences", None)
    masked = secret_keys and not reveal
    shown = {name: MASK if masked and name in secret_keys else value.decode() for name, value in sorted(secret.data.items())}
    if masked:
        out.write("# Secret values are masked; --reveal shows them.\n")
    out.writelines(f"# {comment}\n" for comment in filter(None, (*secret.notes, without_ca)))
    # Through JSON, which knows plain values only: a YAML writer refuses an enumeration's member, though it is a text.
    plain = json.loads(json.dumps(manifest | {"stringData": shown}))
    out.write(yaml.safe_dump(plain, sort_keys=False, allow_unicode=True))
    return 0


def _without_ca(secret: DesiredSecret, complete: DesiredSecret) -> str:
    """Say what the Secret lacks because --ca was not given; "" where that makes no difference."""
    missing = sorted(complete.data.keys() - secret.data.keys())
    different = sorted(name for name, value in secret.data.items() if complete.data.get(name) != value)
    parts = [
        *([f"these keys are missing: {', '.join(missing)}"] if missing else []),
        *([f"these differ: {', '.join(different)}"] if different else []),
    ]
    return f"Without --ca {', and '.join(parts)}." if parts else ""


def _rendered(wanted: Reference, snapshot: Snapshot, *, file: str) -> DesiredSecret:
    try:
        return render_secret(wanted, snapshot)
    except (PasswordMissing, MissingScope):
        if wanted.password_secret is None or snapshot.password:
            raise
        raise SettingsError(
            f"--password: {file} shows no password, and the resource names Secret {wanted.password_secret.name} for it "
            "(spec.passwordSecretRef); give a file that holds it."
        ) from None


def _with_other_secrets(snapshot: Snapshot) -> Snapshot:
    """Return the snapshot with every secret replaced: a key whose value differs then holds one, whatever its encoding."""

    def connection(one: Connection | None) -> Connection | None:
        return replace(one, password=_other(one.password), uri=_other(one.uri)) if one else None

    def endpoints(four: Endpoints) -> Endpoints:
        return Endpoints(
            private=connection(four.private),
            standby=connection(four.standby),
            public=connection(four.public),
            public_standby=connection(four.public_standby),
        )

    def user(one: User) -> User:
        return replace(one, password=_other(one.password), access_key=_other(one.access_key))

    cluster = snapshot.cluster
    return replace(
        snapshot,
        cluster=replace(cluster, endpoints=endpoints(cluster.endpoints), users=tuple(map(user, cluster.users))),
        packed=b"",
        user=user(snapshot.user) if snapshot.user else None,
        pool=replace(snapshot.pool, endpoints=endpoints(snapshot.pool.endpoints)) if snapshot.pool else None,
        password=_other(snapshot.password),
    )


def _other(secret: str) -> str:
    return f"{secret}x" if secret else ""


def _cluster_in(answer: object, *, uuid: str, file: str) -> DatabaseCluster:
    """Find the cluster in an answer of the API (`database` or `databases`), in doctl's list, or as the bare object."""
    members = answer if isinstance(answer, Mapping) else {}
    if "database" in members:
        candidates = [members["database"]]
    elif isinstance(listed := members.get("databases", answer), list):
        candidates = listed
    else:
        candidates = [answer]
    clusters = {one.get("id"): one for one in candidates if isinstance(one, Mapping)}
    if uuid not in clusters:
        what = f"cluster {', '.join(map(str, clusters))}" if len(clusters) == 1 else f"{len(clusters)} other clusters"
        raise SettingsError(f"--cluster: {file} holds {what}, not {uuid} (spec.clusterUUID); give that cluster's answer.")
    return DatabaseCluster.from_api(clusters[uuid])


def _read_reference(file: str) -> dict[str, object]:
    text = read_text(file)
    body, node = _reference_among(
        documents_in(text, file=file), list(yaml.compose_all(text, Loader=yaml.SafeLoader)), file=file
    )
    kind = (body.get("apiVersion", API_VERSION), body.get("kind", KIND))
    if kind != (API_VERSION, KIND):
        raise SettingsError(f"--reference: {file} is a {kind[1]} of {kind[0]}; give a {KIND} of {API_VERSION}.")
    if unknown := list(_unknown_fields(node, KNOWN_FIELDS, path="")):
        raise SettingsError(
            f"--reference: {file}: unknown field {', '.join(unknown)}; `kubectl explain dbref.spec` lists them."
        )
    metadata = body.setdefault("metadata", {})
    if not isinstance(metadata, dict) or "name" not in metadata:
        raise SettingsError(f"--reference: {file} has no metadata.name; give a whole DatabaseClusterRef.")
    metadata.setdefault("namespace", "default")
    metadata.setdefault("uid", NO_UID)
    return body


def _reference_among(
    documents: Sequence[object], nodes: Sequence[yaml.Node | None], *, file: str
) -> tuple[dict[str, object], yaml.Node | None]:
    """Return the reference and its node: the only document there is, or the one DatabaseClusterRef among several."""
    found = [(one, node) for one, node in zip(documents, nodes, strict=True) if isinstance(one, dict)]
    if not found:
        raise SettingsError(f"--reference: {file} holds no object; give a DatabaseClusterRef as YAML or JSON.")
    if len(found) > 1:
        references = [(one, node) for one, node in found if one.get("kind") == KIND]
        if not references:
            raise SettingsError(f"--reference: {file} holds {len(found)} documents and no {KIND}; give a file with one.")
        found = references
    if len(found) > 1:
        raise SettingsError(f"--reference: {file} holds {len(found)} {KIND}s; give a file with one.")
    return found[0]


def _unknown_fields(node: yaml.Node | None, known: Tree, *, path: str) -> Iterator[str]:
    if not isinstance(node, yaml.MappingNode):
        return
    for key, value in node.value:
        name = f"{path}{key.value}"
        if key.value not in known:
            yield f"{name} (line {key.start_mark.line + 1})"
        elif (below := known[key.value]) is not None:
            yield from _unknown_fields(value, below, path=f"{name}.")


def _read_password(file: str, wanted: Reference) -> str:
    if wanted.password_secret is None:
        raise SettingsError("--password: the resource names no Secret for it; add spec.passwordSecretRef.")
    password = password_in(read_bytes(file))
    if not password:
        raise SettingsError(
            f"--password: {file} must hold the password, one line of text of at most {LONGEST_PASSWORD} characters."
        )
    return password


def _read_replicas(file: str) -> Replicas:
    answer = read_document(file)
    return Replicas.from_api(answer.get("replicas") if isinstance(answer, Mapping) else answer)


def _member(file: str, name: str) -> object:
    answer = read_document(file)
    if not isinstance(answer, Mapping):
        raise SettingsError(f"{file} holds no object; give a YAML or JSON file as the API writes it.")
    return answer.get(name, answer)
