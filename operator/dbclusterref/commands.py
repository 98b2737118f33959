"""`render` and `check`: the operator's judgement without the operator."""

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TextIO

import httpx
import yaml

from dbclusterref.digitalocean.client import TIMEOUT, DigitalOcean
from dbclusterref.digitalocean.model import DatabaseCluster, Pool, User
from dbclusterref.digitalocean.snapshot import Snapshot
from dbclusterref.digitalocean.tokens import OperatorToken
from dbclusterref.errors import Cause, KubernetesError, SettingsError, UnconfirmedNotFound
from dbclusterref.kube.client import KubernetesApi
from dbclusterref.kube.config import load_configuration
from dbclusterref.resource.objects import GROUP, PLURAL
from dbclusterref.resource.reference import Reference
from dbclusterref.secret.rendering import render_secret
from dbclusterref.settings import Settings

MASK = "••••••••"

# Every right the operator uses: verb, group, resource, subresource.
RIGHTS = (
    ("list", GROUP, PLURAL, ""),
    ("watch", GROUP, PLURAL, ""),
    ("patch", GROUP, PLURAL, "status"),
    ("get", "", "secrets", ""),
    ("list", "", "secrets", ""),
    ("watch", "", "secrets", ""),
    ("create", "", "secrets", ""),
    ("patch", "", "secrets", ""),
    ("delete", "", "secrets", ""),
    ("create", "events.k8s.io", "events", ""),
)


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


async def check(settings: Settings, environ: Mapping[str, str], *, out: TextIO) -> int:
    """Tries what `run` would need, a line each; returns 1 if anything is wanting."""
    kubernetes = KubernetesApi(await load_configuration(environ), user_agent="dbclusterref-check")
    try:
        wanting = [*await _check_kubernetes(kubernetes, settings, out=out), *await _check_token(settings, out=out)]
    finally:
        await kubernetes.close()
    return 1 if wanting else 0


async def _check_kubernetes(kubernetes: KubernetesApi, settings: Settings, *, out: TextIO) -> list[str]:
    wanting: list[str] = []

    def tell(what: str, *, good: bool) -> None:
        out.write(f"{'ok     ' if good else 'wanting'}  {what}\n")
        if not good:
            wanting.append(what)

    try:
        installed = await kubernetes.has_resource()
        tell(f"Kubernetes API at {kubernetes.server}", good=True)
        tell(f"CustomResourceDefinition {PLURAL}.{GROUP}", good=installed)
        for namespace in settings.namespaces or ("",):
            where = f"in namespace {namespace}" if namespace else "in all namespaces"
            for verb, group, resource, subresource in RIGHTS:
                named = "/".join(part for part in (resource, subresource) if part)
                allowed = await kubernetes.may(
                    verb, group=group, resource=resource, subresource=subresource, namespace=namespace
                )
                tell(f"right to {verb} {named} {where}", good=allowed)
    except KubernetesError as error:
        tell(error.message, good=False)
    return wanting


async def _check_token(settings: Settings, *, out: TextIO) -> list[str]:
    if not settings.token and not settings.token_file:
        out.write("ok       no token of the operator's own: every resource needs spec.apiTokenSecretRef\n")
        return []
    async with httpx.AsyncClient(timeout=TIMEOUT, follow_redirects=False) as client:
        upstream = DigitalOcean(client, base_url=settings.api_url)
        try:
            token = OperatorToken(value=settings.token, file=settings.token_file).read()
            # No cluster has this UUID: a 404 is the proof that the token is good.
            await upstream.get_cluster(token, "00000000-0000-0000-0000-000000000000", observe=lambda *_: None)
        except UnconfirmedNotFound:
            pass
        except Cause as cause:
            out.write(f"wanting  the operator's own token: {cause.message}\n")
            return [cause.message]
    out.write(f"ok       the operator's own token, at {settings.api_url}\n")
    return []


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
