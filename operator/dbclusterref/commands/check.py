"""`dbclusterref check`: tries what `run` would need, without running it."""

import contextlib
import re
from collections.abc import Mapping, Sequence
from typing import TextIO

from dbclusterref.commands.http_client import make_client
from dbclusterref.commands.reference_access import NO_CRD
from dbclusterref.commands.settings import Settings
from dbclusterref.digitalocean.client import PER_PAGE, DigitalOcean
from dbclusterref.digitalocean.tokens import OperatorToken
from dbclusterref.errors import Cause, KubernetesError, TokenInvalid, UnconfirmedNotFound
from dbclusterref.kube.client import KubernetesApi
from dbclusterref.kube.config import load_configuration, own_namespace
from dbclusterref.resource.objects import GROUP, PLURAL
from dbclusterref.resource.restart import WorkloadKind
from dbclusterref.watch.access import SECRET_VERBS

Right = tuple[str, str, str, str]
"""Verb, group, resource, subresource."""

RIGHTS: Sequence[Right] = (
    ("list", GROUP, PLURAL, ""),
    ("watch", GROUP, PLURAL, ""),
    ("patch", GROUP, PLURAL, "status"),
    *((verb, "", "secrets", "") for verb in SECRET_VERBS),
    ("create", "events.k8s.io", "events", ""),
)
"""Every right the operator uses in the namespaces it watches."""
LEASE_RIGHTS: Sequence[Right] = tuple((verb, "coordination.k8s.io", "leases", "") for verb in ("get", "create", "update"))
"""What it also uses in its own namespace, with --leader-elect."""
WORKLOAD_RIGHTS: Sequence[Right] = tuple((verb, "apps", kind.plural, "") for kind in WorkloadKind for verb in ("get", "patch"))
"""What it also uses in the namespaces it watches, with --restart-workloads."""
CONFIG_MAP_RIGHTS: Sequence[Right] = tuple((verb, "", "configmaps", "") for verb in ("get", "create", "patch", "delete"))
"""What it also uses in the namespaces it watches, with --ca-config-maps."""

Grants = Sequence[tuple[str, ...] | None]
"""For each cluster the namespaces that its tags name; None where the token is shown no tags."""

NO_TOKEN = "none"  # noqa: S105 - sent where there is none, to be refused
NO_CLUSTER = "00000000-0000-0000-0000-000000000000"
_BY_SETTING = "with --api-url or DIGITALOCEAN_API_URL"


class _Report:
    """A line for each thing tried."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self.failed = False

    def say(self, what: str, *, good: bool) -> None:
        self._out.write(f"{'ok  ' if good else 'FAIL'}  {what}\n")
        self.failed |= not good


async def check(settings: Settings, environ: Mapping[str, str], *, out: TextIO, service_account: str = "") -> int:
    """Try what `run` would need, a line each; return 1 if anything fails.

    `service_account` is NAMESPACE/NAME of the account whose rights are tested, instead of those of whoever runs this.
    """
    report = _Report(out)
    kubernetes = KubernetesApi(await load_configuration(environ), user_agent="dbclusterref-check")
    try:
        await _check_kubernetes(kubernetes, settings, environ, service_account=service_account, report=report)
    except KubernetesError as error:
        report.say(error.message, good=False)
    finally:
        await kubernetes.close()
    await _check_digitalocean(settings, own=settings.operator_token(own_namespace(environ)), report=report)
    return 1 if report.failed else 0


async def _check_kubernetes(
    kubernetes: KubernetesApi, settings: Settings, environ: Mapping[str, str], *, service_account: str, report: _Report
) -> None:
    installed = await kubernetes.has_resource()
    report.say(f"Kubernetes API at {kubernetes.server}", good=True)
    report.say(f"CustomResourceDefinition {PLURAL}.{GROUP}" if installed else NO_CRD, good=installed)
    whose = ""
    if service_account:
        namespace, _, name = service_account.partition("/")
        whose = f"system:serviceaccount:{namespace}:{name}"
    user, lacks = whose or await kubernetes.user_name() or "the current user", False
    report.say(f"rights are tested for {user}", good=True)
    rights = [
        *RIGHTS,
        *(WORKLOAD_RIGHTS if settings.restart_workloads else ()),
        *(CONFIG_MAP_RIGHTS if settings.ca_config_maps else ()),
    ]
    tried = [(namespace, right) for namespace in settings.namespaces or ("",) for right in rights]
    if settings.leader_elect:
        own = settings.lease_namespace or own_namespace(environ)
        tried += [(own, right) for right in LEASE_RIGHTS]
    for namespace in settings.namespaces:
        if await kubernetes.has_namespace(namespace) is False:
            report.say(f"namespace {namespace} does not exist", good=False)
    for namespace, (verb, group, resource, subresource) in tried:
        where = f"in namespace {namespace}" if namespace else "in all namespaces"
        named = "/".join(part for part in (resource, subresource) if part)
        allowed = await kubernetes.may(
            verb, group=group, resource=resource, subresource=subresource, namespace=namespace, user=whose
        )
        report.say(f"right to {verb} {named} {where}", good=allowed)
        lacks |= not allowed
    if lacks:
        remedy = "or test the operator's own account with --service-account NAMESPACE/NAME"
        report.say(f"rights are missing: grant them to {user} as deploy/base/rbac does, {remedy}", good=False)


async def _check_digitalocean(settings: Settings, *, own: OperatorToken, report: _Report) -> None:
    token, has_token = NO_TOKEN, bool(settings.token or settings.token_file)
    if has_token:
        try:
            token = own.read()
        except Cause as cause:
            report.say(f"the operator's own token: {cause.message}", good=False)
    async with make_client(user_agent="dbclusterref-check") as client:
        upstream = DigitalOcean(client, base_url=settings.api_url, grant_tag=settings.grant_tag)
        grants: Grants | None = None
        try:
            # No cluster has this UUID: a 404 proves that the token is good, and a 401 that the API is reachable.
            with contextlib.suppress(UnconfirmedNotFound):
                await upstream.get_cluster(token, NO_CLUSTER, observe=lambda *_: None)
            if token != NO_TOKEN and settings.token_namespaces:
                page = await upstream.get_page(token, None, known=None, observe=lambda *_: None)
                grants = [cluster.granted_to for cluster in page.clusters or ()]
        except TokenInvalid:
            if token != NO_TOKEN:
                place = f"{own.file} (--token-file)" if own.file else "DIGITALOCEAN_TOKEN"
                rejected = f"the DigitalOcean API at {settings.api_url} rejected it (401). Put another one into {place}"
                report.say(
                    f"the operator's own token: {rejected}; if it belongs to another API, name that {_BY_SETTING}", good=False
                )
                return
        except Cause as cause:
            why = f"{_tried_once(cause.message)} If another API is meant, name it {_BY_SETTING}"
            report.say(f"DigitalOcean API at {settings.api_url}: {why}", good=False)
            return
    report.say(f"DigitalOcean API at {settings.api_url}", good=True)
    if token != NO_TOKEN:
        report.say("the operator's own token", good=True)
        if grants:
            _check_grants(grants, settings, report=report)
    elif not has_token:
        report.say("no token of the operator's own: every resource needs spec.apiTokenSecretRef", good=True)


def _tried_once(message: str) -> str:
    """Return an operator's message without what only the operator does."""
    return re.sub(r"[;,] retrying( automatically)?\.", ".", message)


def _check_grants(grants: Grants, settings: Settings, *, report: _Report) -> None:
    if all(namespaces is None for namespaces in grants):
        report.say(
            "the operator's own token cannot see tags, so no cluster is granted to any namespace; give it the scope tag:read",
            good=False,
        )
        return
    granted = [namespaces for namespaces in grants if namespaces]
    named = sorted({namespace for namespaces in granted for namespace in namespaces})
    which = f"of the first {PER_PAGE} clusters" if len(grants) >= PER_PAGE else f"of {len(grants)} clusters"
    to = f" to {', '.join(named)}" if named else ""
    report.say(f"tags {settings.grant_tag.of('NAMESPACE')}: {len(granted)} {which} are granted{to}", good=True)
