"""The Lease: among several replicas one writes.

Written here because `kubernetes.aio.leaderelection` does not hold what it promises: it cannot create its Lease, and goes on
believing that it leads while the API server is out of reach.
Safety rests on two clocks that are never compared: a holder stops `RENEW_DEADLINE` after it last *began* a renewal that
succeeded; another takes over only when it has itself watched the Lease unchanged for the longer `LEASE_DURATION`.
A Lease that was deleted counts as any other change. Only who finds none at its very first look takes it at once: that is a
first start, and a person who deletes a Lease must not start a replica within the same seconds.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Protocol

from dbclusterref.errors import KubernetesError
from dbclusterref.resource.objects import ObjectKey
from dbclusterref.timing import Timing

LEASE_DURATION = Timing().lease_duration
RENEW_DEADLINE = Timing().renew_deadline
RETRY_PERIOD = Timing().retry_period
"""Seconds; as Kubernetes' own components use."""

Json = dict[str, object]


class LeaseApi(Protocol):
    """The calls on Leases."""

    async def get_lease(self, key: ObjectKey, *, timeout: float) -> Json | None: ...  # noqa: D102
    async def create_lease(self, key: ObjectKey, lease: Json, *, timeout: float) -> Json: ...  # noqa: D102
    async def replace_lease(self, key: ObjectKey, lease: Json, *, timeout: float) -> Json: ...  # noqa: D102


class LeaderElector:
    """Competes for the Lease. `clock` is monotonic, in seconds; `now` is the time of day, for people to read."""

    def __init__(
        self,
        api: LeaseApi,
        *,
        key: ObjectKey,
        identity: str,
        clock: Callable[[], float],
        now: Callable[[], datetime],
        logger: logging.Logger,
        on_change: Callable[[bool], None],
        timing: Timing | None = None,
    ) -> None:
        self._api = api
        self._key = key
        self._identity = identity
        self._clock = clock
        self._now = now
        self._logger = logger
        self._on_change = on_change
        self._timing = timing or Timing()
        self._held_until = float("-inf")
        self._lease: Json | None = None
        self._unchanged_since = float("-inf")
        self._released = False
        # One conversation about the Lease at a time: a release must not cross a renewal.
        self._turn = asyncio.Lock()

    def is_leading(self) -> bool:
        """Tells whether this process may write at this moment; asked before every write."""
        return self._clock() < self._held_until

    def seconds_left(self) -> float:
        """How long this process may go on writing without another renewal; not positive where it may not."""
        return self._held_until - self._clock()

    async def run(self) -> None:
        """Acquires the Lease, keeps it, and returns when it is lost: the process must then end and begin anew."""
        while not await self._try():  # noqa: ASYNC110 - the Lease is elsewhere: it can only be asked again
            await asyncio.sleep(self._timing.retry_period)
        self._logger.info("Leading: holds Lease %s as %s.", self._key, self._identity)
        self._on_change(True)  # noqa: FBT003
        while self.is_leading():
            await asyncio.sleep(self._timing.retry_period)
            await self._try()
        self._on_change(False)  # noqa: FBT003
        self._logger.error("Lost Lease %s; ending, to begin anew as a standby.", self._key)

    async def release(self) -> None:
        """Gives the Lease up, so that another need not wait for it to expire; writes must have ended before."""
        async with self._turn:
            self._released = True
            was_leading = self.is_leading()
            self._held_until = float("-inf")
            if not was_leading or self._lease is None:
                return
            try:
                await self._replace(holder="", duration=1)
            except KubernetesError as error:
                self._logger.warning("Lease %s was not released (%s); it expires by itself.", self._key, error.message)

    async def _try(self) -> bool:
        async with self._turn:
            return not self._released and await self._take_or_renew()

    async def _take_or_renew(self) -> bool:
        """An API server out of reach is a failed try like any other."""
        began = self._clock()
        try:
            if not self.is_leading():
                await self._look()
                if not self._is_free(began):
                    return False
            if self._lease is None:
                self._lease = await self._api.create_lease(
                    self._key, self._body(self._identity, self._timing.lease_duration), timeout=self._timing.retry_period
                )
            else:
                await self._replace(holder=self._identity, duration=self._timing.lease_duration)
        except KubernetesError as error:
            if error.status in {404, 409} and self.is_leading():
                await self._look_again()
            self._logger.debug("Lease %s: %s", self._key, error.message)
            return False
        self._held_until = began + self._timing.renew_deadline
        return True

    async def _look_again(self) -> None:
        """Somebody wrote or deleted the Lease we hold: if it has another holder now, or is gone, it is lost at once."""
        try:
            await self._look()
        except KubernetesError:
            return
        if self._holder() != self._identity:
            self._held_until = float("-inf")

    async def _look(self) -> None:
        seen = await self._api.get_lease(self._key, timeout=self._timing.retry_period)
        if seen != self._lease:
            self._lease = seen
            # When the answer came, not when it was asked for: the holder may have renewed between the two, however far apart.
            self._unchanged_since = self._clock()

    def _is_free(self, now: float) -> bool:
        was_released = self._lease is not None and self._holder() == ""
        return was_released or now - self._unchanged_since > self._timing.lease_duration

    def _holder(self) -> str:
        spec = self._lease.get("spec") if self._lease else None
        return str(spec.get("holderIdentity") or "") if isinstance(spec, Mapping) else ""

    async def _replace(self, *, holder: str, duration: float) -> None:
        assert self._lease is not None
        # The metadata as read carries the resourceVersion: the API server refuses the write if anyone came between.
        body = {**self._body(holder, duration), "metadata": self._lease["metadata"]}
        self._lease = await self._api.replace_lease(self._key, body, timeout=self._timing.retry_period)

    def _body(self, holder: str, duration: float) -> Json:
        now = self._now().astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        return {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {"name": self._key.name, "namespace": self._key.namespace},
            "spec": {
                "holderIdentity": holder,
                "leaseDurationSeconds": int(duration),
                "acquireTime": now,
                "renewTime": now,
            },
        }
