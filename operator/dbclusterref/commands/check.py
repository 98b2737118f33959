"""`dbclusterref check`: tries what `run` would need, without running."""

from collections.abc import Mapping
from typing import TextIO

import httpx

from dbclusterref.commands.settings import Settings
from dbclusterref.digitalocean.client import TIMEOUT, DigitalOcean
from dbclusterref.digitalocean.tokens import OperatorToken
from dbclusterref.errors import Cause, KubernetesError, UnconfirmedNotFound
from dbclusterref.kube.client import KubernetesApi
from dbclusterref.kube.config import load_configuration
from dbclusterref.resource.objects import GROUP, PLURAL

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
