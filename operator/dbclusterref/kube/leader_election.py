"""The Lease: among several replicas one writes.

Our own, because `kubernetes.aio.leaderelection` does not work reliably: it cannot create its Lease, and a holder still believes
that it leads while the API server is out of reach.
Safety rests on two clocks that are never compared: a holder stops `renew_deadline` after it last *began* a renewal that
succeeded; another takes over only when it has itself watched the Lease unchanged for the longer `lease_duration`.
A deleted Lease counts as a change like any other. Only a process that finds no Lease at its very first look takes it at once:
that is a first start, and deleting a Lease by hand must not start a second replica within the same seconds.
A process whose identity no other living process can have waits for nobody where it finds that identity in the Lease: the former
process of the same pod is dead.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Protocol

from dbclusterref.errors import KubernetesError
from dbclusterref.resource.objects import ObjectKey, as_mapping
from dbclusterref.timing import Timing

Json = dict[str, object]


class LeaseApi(Protocol):
    """The calls on Leases that an election needs."""

    async def get_lease(self, key: ObjectKey, *, timeout: float) -> Json | None: ...  # noqa: D102
    async def create_lease(self, key: ObjectKey, lease: Json, *, timeout: float) -> Json: ...  # noqa: D102
    async def replace_lease(self, key: ObjectKey, lease: Json, *, timeout: float) -> Json: ...  # noqa: D102


class LeaderElector:
    """Competes for the Lease. `clock` is monotonic, in seconds; `now` is the time of day, which only people read.

    `on_change` is told when this process begins to lead, also after it could not renew in time, and when it has lost the Lease.
    `identity_is_unique`: whoever else had this identity has ended for certain.
    """

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
        identity_is_unique: bool = False,
    ) -> None:
        self._api = api
        self._key = key
        self._identity = identity
        self._clock = clock
        self._now = now
        self._logger = logger
        self._on_change = on_change
        self._timing = timing or Timing()
        self._identity_is_unique = identity_is_unique
        self._held_until = float("-inf")
        self._lease: Json | None = None
        self._unchanged_since = float("-inf")
        self._released = False
        # One exchange about the Lease at a time: a release must not cross a renewal.
        self._exchange = asyncio.Lock()

    def is_leading(self) -> bool:
        """Return whether this process may write at this moment; asked before every write."""
        return self._clock() < self._held_until

    def seconds_left(self) -> float:
        """Return for how long this process may write without another renewal; not positive where it may not write."""
        return self._held_until - self._clock()

    @property
    def transitions(self) -> int:
        """Return how often the Lease has changed hands, as it was last seen."""
        counted = self._spec().get("leaseTransitions")
        return counted if isinstance(counted, int) else 0

    async def run(self) -> None:
        """Acquire the Lease, keep it, and return when it is lost: the process must then end and start again as a standby."""
        while not await self._try():  # noqa: ASYNC110 - another process holds the Lease: it can only be read again
            await asyncio.sleep(self._timing.retry_period)
        self._logger.info("Leading: this process holds Lease %s as %s.", self._key, self._identity)
        while self.is_leading():
            await asyncio.sleep(self._timing.retry_period)
            await self._try()
        self._on_change(False)  # noqa: FBT003
        self._logger.error("Lost Lease %s. Exiting; the pod restarts as a standby.", self._key)

    async def release(self) -> None:
        """Give the Lease up, so that another need not wait for it to expire; writes must have ended before."""
        async with self._exchange:
            self._released = True
            was_leading = self.is_leading()
            self._held_until = float("-inf")
            if not was_leading or self._lease is None:
                return
            try:
                await self._replace(holder="")
            except KubernetesError as error:
                self._logger.warning(
                    "Lease %s could not be released (%s). It expires; a standby takes over after that.",
                    self._key,
                    error.message,
                )

    async def _try(self) -> bool:
        async with self._exchange:
            return not self._released and await self._take_or_renew()

    async def _take_or_renew(self) -> bool:
        """Return whether the Lease is ours now; an API server out of reach is a failed try like any other."""
        began = self._clock()
        try:
            if not self.is_leading():
                await self._look()
                if not self._is_free(began):
                    return False
            if self._lease is None:
                self._lease = await self._api.create_lease(
                    self._key, self._body(holder=self._identity), timeout=self._timing.retry_period
                )
            else:
                await self._replace(holder=self._identity)
        except KubernetesError as error:
            if error.status in {404, 409} and self.is_leading():
                await self._look_again()
            self._logger.debug("Lease %s: %s", self._key, error.message)
            return False
        was_leading, self._held_until = self.is_leading(), began + self._timing.renew_deadline
        if not was_leading:  # also where its time was over, and nobody else has taken the Lease since
            self._on_change(True)  # noqa: FBT003
        return True

    async def _look_again(self) -> None:
        """Read the Lease after somebody wrote or deleted it: if it has another holder or is gone, it is lost at once."""
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
            # When the answer came, not when the request left: the holder may have renewed in between, however long that was.
            self._unchanged_since = self._clock()

    def _is_free(self, now: float) -> bool:
        was_released = self._lease is not None and self._holder() == ""
        was_ours = self._identity_is_unique and self._holder() == self._identity
        return was_released or was_ours or now - self._unchanged_since > self._timing.lease_duration

    def _holder(self) -> str:
        return str(self._spec().get("holderIdentity") or "")

    def _spec(self) -> Mapping[str, object]:
        return as_mapping(self._lease.get("spec") if self._lease else None)

    async def _replace(self, *, holder: str) -> None:
        assert self._lease is not None
        # The metadata as read carries the resourceVersion: the API server refuses the write if anyone came between.
        body = {**self._body(holder=holder), "metadata": self._lease["metadata"]}
        self._lease = await self._api.replace_lease(self._key, body, timeout=self._timing.retry_period)

    def _body(self, *, holder: str) -> Json:
        """Return the Lease as client-go writes it: a renewal keeps `acquireTime`, a change of holder counts a transition."""
        now = self._now().astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        former = self._spec()
        renewal = self._holder() == holder
        taken_over = bool(former) and bool(holder) and not renewal
        return {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {"name": self._key.name, "namespace": self._key.namespace},
            "spec": {
                "holderIdentity": holder,
                # A released Lease is free at once; client-go writes a second, since 0 is not allowed.
                "leaseDurationSeconds": int(self._timing.lease_duration) if holder else 1,
                "acquireTime": (former.get("acquireTime") or now) if renewal else now,
                "renewTime": now,
                "leaseTransitions": self.transitions + taken_over,
            },
        }
