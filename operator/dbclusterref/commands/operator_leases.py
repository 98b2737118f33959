"""Whether an operator runs, as its Leases show: a condition cannot say that the process that wrote it has ended since."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from dbclusterref.errors import KubernetesError
from dbclusterref.kube.client import KubernetesApi
from dbclusterref.resource.objects import ObjectKey, as_mapping, metadata_of
from dbclusterref.resource.shard import Shard
from dbclusterref.resource.status import parse_time

SILENT = timedelta(seconds=30)
"""Without a renewal, which a leader makes every two seconds."""
SECOND_LOOK = 5.0
"""Seconds until a Lease that looks old is read again: one that changes is alive, however wrong this machine's clock is."""


class OperatorState(StrEnum):
    """Whether the operator of a resource runs."""

    RUNNING = "Running"
    NOT_RUNNING = "NotRunning"
    UNKNOWN = "Unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """One shard's Lease; `is_alive` says that somebody renews it."""

    key: ObjectKey
    shard: Shard
    renewed_at: datetime
    is_alive: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorLeases:
    """The Leases of all shards, at one moment; none where they cannot be read, or where there is no leader election."""

    namespace: str
    leases: Sequence[Lease] = ()

    def last_of(self, uid: str) -> Lease | None:
        """Return the Lease, renewed last, of an operator that serves a resource of that UID; None where none is known."""
        owning = [lease for lease in self.leases if lease.shard.owns(uid)]
        return max(owning, key=lambda lease: (lease.is_alive, lease.renewed_at), default=None)

    def state_of(self, uid: str) -> OperatorState:
        """Return whether the operator runs that serves a resource of that UID."""
        last = self.last_of(uid)
        if last is None:
            return OperatorState.UNKNOWN
        return OperatorState.RUNNING if last.is_alive else OperatorState.NOT_RUNNING


async def read_operator_leases(kubernetes: KubernetesApi, *, namespace: str, now: datetime) -> OperatorLeases:
    """Read the Leases in the operator's namespace, twice where one looks old; what cannot be read counts as not known."""
    found = await _read(kubernetes, namespace)
    looking_old = {key for key, lease in found.items() if not lease.holder or abs(now - lease.renewed_at) > SILENT}
    changed: set[ObjectKey] = set()
    # One that was given back just now changes hands; one that was given back long ago has nobody to take it.
    if any(found[key].holder or abs(now - found[key].renewed_at) <= SILENT for key in looking_old):
        await asyncio.sleep(SECOND_LOOK)
        again = await _read(kubernetes, namespace)
        changed = {key for key in looking_old if key in again and again[key].holder and again[key] != found[key]}
    return OperatorLeases(
        namespace=namespace,
        leases=tuple(
            Lease(key=key, shard=one.shard, renewed_at=one.renewed_at, is_alive=key not in looking_old or key in changed)
            for key, one in found.items()
        ),
    )


@dataclass(frozen=True, slots=True)
class _Found:
    shard: Shard
    holder: str
    renewed_at: datetime


async def _read(kubernetes: KubernetesApi, namespace: str) -> Mapping[ObjectKey, _Found]:
    try:
        bodies = await kubernetes.list_leases(namespace)
    except KubernetesError:
        return {}
    found: dict[ObjectKey, _Found] = {}
    for body in bodies:
        name = str(metadata_of(body).get("name", ""))
        spec = as_mapping(body.get("spec"))
        shard, renewed_at = Shard.of_lease(name), parse_time(spec.get("renewTime"))
        if shard and renewed_at:
            found[ObjectKey(namespace, name)] = _Found(shard, str(spec.get("holderIdentity") or ""), renewed_at)
    return found
