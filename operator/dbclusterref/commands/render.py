"""`dbclusterref render`: the Secret a resource would get, from saved answers, without any server."""

import argparse
import json
from pathlib import Path
from typing import TextIO

import yaml

from dbclusterref.digitalocean.model import DatabaseCluster, Pool, User
from dbclusterref.digitalocean.snapshot import Snapshot
from dbclusterref.errors import Cause, SettingsError
from dbclusterref.resource.reference import Reference
from dbclusterref.secret.rendering import render_secret

MASK = "••••••••"


def add_render_flags(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of `render`."""
    parser.add_argument("--reference", metavar="FILE", required=True, help="the DatabaseClusterRef, YAML or JSON")
    parser.add_argument("--cluster", metavar="FILE", required=True, help="what GET /v2/databases/{uuid} answered")
    parser.add_argument("--ca", metavar="FILE", help="the CA, PEM")
    parser.add_argument("--user", metavar="FILE", help="what GET .../users/{name} answered, for spec.user")
    parser.add_argument("--pool", metavar="FILE", help="what GET .../pools/{name} answered, for spec.pool")
    parser.add_argument("--reveal", action="store_true", help="show the values too, passwords among them")


def render(flags: argparse.Namespace, *, out: TextIO) -> int:
    """Writes the Secret as YAML; returns 1, with the condition's reason and message, where there would be none."""
    body = _read(flags.reference)
    metadata = body.setdefault("metadata", {})
    if not isinstance(metadata, dict) or "name" not in metadata:
        raise SettingsError(f"--reference: {flags.reference} has no metadata.name; give a whole DatabaseClusterRef.")
    metadata.setdefault("namespace", "default")
    metadata.setdefault("uid", "00000000-0000-0000-0000-000000000000")
    try:
        reference = Reference.from_body(body)
        cluster = DatabaseCluster.from_api(_read(flags.cluster).get("database"))
        snapshot = Snapshot(
            cluster=cluster,
            ca=_read_bytes(flags.ca) if flags.ca else b"",
            user=User.from_api(_read(flags.user).get("user"), path="user") if flags.user else cluster.user(reference.user),
            pool=Pool.from_api(_read(flags.pool).get("pool")) if flags.pool else None,
        )
        # Without its user or pool the Secret would be another one than the operator's.
        if reference.user and not snapshot.user:
            raise SettingsError(f"--user: {flags.cluster} has no user {reference.user} (spec.user); give that user's answer.")
        if reference.pool and not snapshot.pool:
            raise SettingsError(f"--pool: the resource names connection pool {reference.pool}; give that pool's answer.")
        secret = render_secret(reference, snapshot)
    except Cause as cause:
        out.write(f"# no Secret: {cause.reason}: {cause.message}\n")
        return 1
    manifest = secret.manifest(revision=1)
    del manifest["data"]
    shown = {name: value.decode() if flags.reveal else MASK for name, value in sorted(secret.data.items())}
    out.write(yaml.safe_dump(manifest | {"stringData": shown}, sort_keys=False, allow_unicode=True))
    return 0


def _read_bytes(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise SettingsError(f"{path} cannot be read ({type(error).__name__}); give a readable file.") from None


def _read(path: str) -> dict[str, object]:
    try:
        value = yaml.safe_load(_read_bytes(path).decode("utf-8"))
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise SettingsError(f"{path} cannot be read ({type(error).__name__}); give a YAML or JSON file.") from None
    if not isinstance(value, dict):
        raise SettingsError(f"{path} holds no object; give a YAML or JSON file as the API writes it.")
    return json.loads(json.dumps(value, default=str))  # type: ignore[no-any-return]
