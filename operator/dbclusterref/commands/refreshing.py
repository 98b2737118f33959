"""`dbclusterref refresh`, `suspend`, `resume`: what a person asks of the operator for one resource."""

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime

import click

from dbclusterref.commands.operator_leases import read_operator_leases
from dbclusterref.commands.overview import no_operator
from dbclusterref.commands.reference_access import get_reference, patch_reference
from dbclusterref.errors import (
    AccessDenied,
    InvalidSpec,
    RateLimited,
    TokenSecretForbidden,
    TokenSecretMissing,
    TooLarge,
)
from dbclusterref.kube.client import KubernetesApi
from dbclusterref.resource.objects import REFRESH_REQUESTED_AT, ObjectKey, as_mapping, metadata_of
from dbclusterref.resource.status import ConditionType, Status

POLL_PERIOD = 0.3
STILL_UNREAD = 10
"""Looks in a row that find a cause for which nothing is read until nobody waits any longer: its end may be near."""
UNREAD = {
    cause.reason for cause in (RateLimited, InvalidSpec, TooLarge, AccessDenied, TokenSecretMissing, TokenSecretForbidden)
}
"""The reasons for which DigitalOcean is not asked: no answer will acknowledge the refresh."""


async def refresh(kubernetes: KubernetesApi, key: ObjectKey, *, wait: float, operator_namespace: str) -> int:
    """Request a read; with `wait` seconds, wait for its outcome and return 1 where the Secret is not fresh after it."""
    requested = datetime.now(tz=UTC).isoformat(timespec="microseconds")
    body = await patch_reference(kubernetes, key, {"metadata": {"annotations": {REFRESH_REQUESTED_AT: requested}}})
    if why := await _why_nothing_is_read(kubernetes, key, body, operator_namespace=operator_namespace):
        click.echo(f"{key}: {why} The refresh stays requested.")
        return 1
    if not wait:
        click.echo(f"{key}: refresh requested.")
        return 0
    unread, status = 0, Status()
    try:
        async with asyncio.timeout(wait):
            while True:
                status = Status.from_body(await get_reference(kubernetes, key))
                fresh = status.conditions.get(ConditionType.FRESH)
                if fresh and status.last_handled_refresh_at == requested:
                    click.echo(f"{key}: {fresh.reason}: {_told(status)}")
                    return 0 if fresh.status else 1
                unread = unread + 1 if fresh and fresh.reason in UNREAD else 0
                if fresh and unread > STILL_UNREAD:
                    click.echo(f"{key}: {fresh.reason}: {_told(status)} The refresh stays requested.")
                    return 1
                await asyncio.sleep(POLL_PERIOD)
    except TimeoutError:
        fresh = status.conditions.get(ConditionType.FRESH)
        why = f" ({fresh.reason}: {_told(status)})" if fresh and not fresh.status else ""
        click.echo(f"{key}: not read within {wait:.0f} s{why}; see: dbclusterref explain -n {key.namespace} {key.name}")
        return 1


async def _why_nothing_is_read(
    kubernetes: KubernetesApi, key: ObjectKey, body: Mapping[str, object], *, operator_namespace: str
) -> str:
    """Return why nothing will be read before a person acts, as far as that is known at once; "" for no reason."""
    status, metadata = Status.from_body(body), metadata_of(body)
    if as_mapping(body.get("spec")).get("suspend") is True:
        return f"Suspended: nothing is read until it is resumed: dbclusterref resume -n {key.namespace} {key.name}."
    if status.reason == InvalidSpec.reason and status.observed_generation == metadata.get("generation"):
        return f"{status.reason}: {_told(status)}"
    leases = await read_operator_leases(kubernetes, namespace=operator_namespace, now=datetime.now(tz=UTC))
    dead = no_operator(leases, str(metadata.get("uid", "")), now=datetime.now(tz=UTC))
    return f"{dead} Nothing is read until one runs." if dead else ""


def _told(status: Status) -> str:
    return status.telling.message if status.telling else ""


async def set_suspended(kubernetes: KubernetesApi, key: ObjectKey, *, suspended: bool) -> int:
    """Set spec.suspend. A GitOps tool that owns the field sets it back: change it in its source then."""
    await patch_reference(kubernetes, key, {"spec": {"suspend": suspended}})
    click.echo(f"{key}: {'suspended' if suspended else 'resumed'}.")
    return 0
