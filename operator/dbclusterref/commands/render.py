"""`dbclusterref render`: the Secret a resource would get, from saved answers, without any server."""

import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TextIO

import yaml

from dbclusterref.digitalocean.model import Connection, DatabaseCluster, Endpoints, Pool, User
from dbclusterref.digitalocean.replicas import WITHOUT_REPLICAS, Replicas
from dbclusterref.digitalocean.snapshot import Snapshot
from dbclusterref.errors import Cause, MissingScope, PasswordMissing, SettingsError
from dbclusterref.reconcile.passwords import password_in
from dbclusterref.resource.objects import API_VERSION, KIND
from dbclusterref.resource.reference import Reference
from dbclusterref.secret.rendering import render_secret
from dbclusterref.secret.state import DesiredSecret

MASK = "••••••••"
STANDARD_INPUT = "-"
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
        found = _cluster_in(_parse(cluster), uuid=wanted.cluster_uuid, file=cluster)
        snapshot = Snapshot(
            cluster=found,
            ca=_read_bytes(ca) if ca else b"",
            user=User.from_api(_member(user, "user"), path="user") if user else found.user(wanted.user),
            pool=Pool.from_api(_member(pool, "pool")) if pool else None,
            replicas=_read_replicas(replicas).addresses(region=found.region) if replicas else (),
            password=_read_password(password, wanted) if password else "",
        )
        # Without its user or pool the Secret would be another one than the operator's.
        if wanted.user and not snapshot.user:
            raise SettingsError(f"--user: {cluster} has no user {wanted.user} (spec.user); give that user's answer.")
        if wanted.pool and not snapshot.pool:
            raise SettingsError(f"--pool: the resource names connection pool {wanted.pool}; give that pool's answer.")
        if wanted.wants_replicas and not replicas and found.engine not in WITHOUT_REPLICAS:
            raise SettingsError("--replicas: the resource asks for read-only replicas; give the answer that lists them.")
        secret = _rendered(wanted, snapshot, file=cluster)
        others = render_secret(wanted, _with_other_secrets(snapshot)).data
        secret_keys = {name for name, value in others.items() if value != secret.data[name]}
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
    out.write(yaml.safe_dump(manifest | {"stringData": shown}, sort_keys=False, allow_unicode=True))
    return 0


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
    text = _text(file)
    body = _parsed(text, file=file)
    if not isinstance(body, dict):
        raise SettingsError(f"--reference: {file} holds no object; give a DatabaseClusterRef as YAML or JSON.")
    kind = (body.get("apiVersion", API_VERSION), body.get("kind", KIND))
    if kind != (API_VERSION, KIND):
        raise SettingsError(f"--reference: {file} is a {kind[1]} of {kind[0]}; give a {KIND} of {API_VERSION}.")
    if unknown := list(_unknown_fields(yaml.compose(text, Loader=yaml.SafeLoader), KNOWN_FIELDS, path="")):
        raise SettingsError(
            f"--reference: {file}: unknown field {', '.join(unknown)}; `kubectl explain dbref.spec` lists them."
        )
    metadata = body.setdefault("metadata", {})
    if not isinstance(metadata, dict) or "name" not in metadata:
        raise SettingsError(f"--reference: {file} has no metadata.name; give a whole DatabaseClusterRef.")
    metadata.setdefault("namespace", "default")
    metadata.setdefault("uid", NO_UID)
    return body


def _unknown_fields(node: yaml.Node | None, known: Tree, *, path: str) -> Iterator[str]:
    if not isinstance(node, yaml.MappingNode):
        return
    for key, value in node.value:
        name = f"{path}{key.value}"
        if key.value not in known:
            yield f"{name} (line {key.start_mark.line + 1})"
        elif (below := known[key.value]) is not None:
            yield from _unknown_fields(value, below, path=f"{name}.")


def _read_bytes(file: str) -> bytes:
    try:
        return sys.stdin.buffer.read() if file == STANDARD_INPUT else Path(file).read_bytes()
    except OSError as error:
        raise SettingsError(f"{file} cannot be read ({type(error).__name__}); give a readable file.") from None


def _read_password(file: str, wanted: Reference) -> str:
    if wanted.password_secret is None:
        raise SettingsError("--password: the resource names no Secret for it; add spec.passwordSecretRef.")
    password = password_in(_read_bytes(file))
    if not password:
        raise SettingsError(f"--password: {file} must hold the password, one line of text.")
    return password


def _read_replicas(file: str) -> Replicas:
    answer = _parse(file)
    return Replicas.from_api(answer.get("replicas") if isinstance(answer, Mapping) else answer)


def _text(file: str) -> str:
    try:
        return _read_bytes(file).decode("utf-8")
    except UnicodeDecodeError:
        raise SettingsError(f"{file} cannot be read (UnicodeDecodeError); give a YAML or JSON file.") from None


def _parse(file: str) -> object:
    return _parsed(_text(file), file=file)


def _parsed(text: str, *, file: str) -> object:
    try:
        value: object = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise SettingsError(f"{file} cannot be read ({type(error).__name__}); give a YAML or JSON file.") from None
    # Times and the like become text, as they are in JSON.
    return json.loads(json.dumps(value, default=str))


def _member(file: str, name: str) -> object:
    answer = _parse(file)
    if not isinstance(answer, Mapping):
        raise SettingsError(f"{file} holds no object; give a YAML or JSON file as the API writes it.")
    return answer.get(name, answer)
