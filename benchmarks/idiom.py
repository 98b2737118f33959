"""The baseline: what kopf's documentation shows. One timer per resource reads one cluster, patches a Secret and the status."""

import base64
import os
from datetime import UTC, datetime
from typing import Any

import aiohttp
import kopf

from dbclusterref.digitalocean.model import DatabaseCluster
from dbclusterref.digitalocean.snapshot import Snapshot
from dbclusterref.kube.client import KubernetesApi
from dbclusterref.kube.config import load_configuration
from dbclusterref.resource.reference import Reference
from dbclusterref.secret.rendering import render_secret

UPSTREAM: dict[str, aiohttp.ClientSession] = {}
API: dict[str, KubernetesApi] = {}


@kopf.on.startup()
async def start(settings: kopf.OperatorSettings, **_: Any) -> None:  # noqa: ANN401
    """Opens the connections."""
    settings.posting.enabled = False
    settings.peering.standalone = True
    API["it"] = KubernetesApi(await load_configuration(os.environ), user_agent="idiom")
    UPSTREAM["it"] = aiohttp.ClientSession(headers={"Authorization": f"Bearer {os.environ['DIGITALOCEAN_TOKEN']}"})


@kopf.timer("dbclusterref.io", "v1alpha1", "databaseclusterrefs", interval=60)
async def refresh(body: kopf.Body, spec: kopf.Spec, patch: kopf.Patch, **_: Any) -> None:  # noqa: ANN401
    """Reads and writes, each time."""
    url = f"{os.environ['DIGITALOCEAN_API_URL']}/v2/databases/{spec['clusterUUID']}"
    async with UPSTREAM["it"].get(url) as reply:
        cluster = DatabaseCluster.from_api((await reply.json())["database"])
    async with UPSTREAM["it"].get(f"{url}/ca") as reply:
        ca = base64.b64decode((await reply.json())["ca"]["certificate"])
    secret = render_secret(Reference.from_body(dict(body)), Snapshot(cluster=cluster, ca=ca))
    await API["it"].apply_secret(secret.manifest(revision=1), force=True)
    patch.status["binding"] = {"name": secret.key.name}
    patch.status["lastSyncTime"] = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
