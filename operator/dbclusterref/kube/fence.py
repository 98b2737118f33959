"""The fence before the API server: a process that does not lead writes nothing, and no write arrives after it stopped."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol, TypeVar

from dbclusterref.errors import KubernetesError
from dbclusterref.kube.client import Event
from dbclusterref.resource.objects import ObjectKey
from dbclusterref.resource.restart import WorkloadKind

T = TypeVar("T")


class Api(Protocol):
    """The calls that are fenced, and the reads among them that are not."""

    async def get_reference(self, key: ObjectKey) -> dict[str, object] | None: ...  # noqa: D102
    async def get_secret(self, key: ObjectKey) -> dict[str, object] | None: ...  # noqa: D102
    async def apply_secret(self, manifest: Mapping[str, object], *, force: bool) -> dict[str, object]: ...  # noqa: D102
    async def delete_secret(self, key: ObjectKey, *, uid: str) -> None: ...  # noqa: D102
    async def patch_status(self, key: ObjectKey, *, uid: str, status: Mapping[str, object]) -> dict[str, object]: ...  # noqa: D102
    async def get_config_map(self, key: ObjectKey) -> dict[str, object] | None: ...  # noqa: D102
    async def apply_config_map(self, manifest: Mapping[str, object]) -> dict[str, object]: ...  # noqa: D102
    async def delete_config_map(self, key: ObjectKey, *, uid: str) -> None: ...  # noqa: D102
    async def create_event(self, event: Event) -> None: ...  # noqa: D102
    async def get_workload(self, kind: WorkloadKind, key: ObjectKey) -> dict[str, object] | None: ...  # noqa: D102
    async def annotate_pods(  # noqa: D102
        self, kind: WorkloadKind, key: ObjectKey, *, uid: str, annotation: str, value: str
    ) -> dict[str, object]: ...


class Fence:
    """Lets a write through while `seconds_left` is positive, and cancels it when that time is over.

    (A write that began just before the Lease expired could otherwise arrive while another process leads.)
    """

    def __init__(self, api: Api, *, seconds_left: Callable[[], float]) -> None:
        self._api = api
        self._seconds_left = seconds_left

    async def get_reference(self, key: ObjectKey) -> dict[str, object] | None:
        """Read a resource, leading or not."""
        return await self._api.get_reference(key)

    async def get_secret(self, key: ObjectKey) -> dict[str, object] | None:
        """Read a Secret, leading or not."""
        return await self._api.get_secret(key)

    async def apply_secret(self, manifest: Mapping[str, object], *, force: bool) -> dict[str, object]:
        """As the API's own."""
        return await self._fenced(lambda: self._api.apply_secret(manifest, force=force))

    async def delete_secret(self, key: ObjectKey, *, uid: str) -> None:
        """As the API's own."""
        await self._fenced(lambda: self._api.delete_secret(key, uid=uid))

    async def patch_status(self, key: ObjectKey, *, uid: str, status: Mapping[str, object]) -> dict[str, object]:
        """As the API's own."""
        return await self._fenced(lambda: self._api.patch_status(key, uid=uid, status=status))

    async def get_config_map(self, key: ObjectKey) -> dict[str, object] | None:
        """Read a ConfigMap, leading or not."""
        return await self._api.get_config_map(key)

    async def apply_config_map(self, manifest: Mapping[str, object]) -> dict[str, object]:
        """As the API's own."""
        return await self._fenced(lambda: self._api.apply_config_map(manifest))

    async def delete_config_map(self, key: ObjectKey, *, uid: str) -> None:
        """As the API's own."""
        await self._fenced(lambda: self._api.delete_config_map(key, uid=uid))

    async def create_event(self, event: Event) -> None:
        """As the API's own."""
        await self._fenced(lambda: self._api.create_event(event))

    async def get_workload(self, kind: WorkloadKind, key: ObjectKey) -> dict[str, object] | None:
        """Read a workload, leading or not."""
        return await self._api.get_workload(kind, key)

    async def annotate_pods(
        self, kind: WorkloadKind, key: ObjectKey, *, uid: str, annotation: str, value: str
    ) -> dict[str, object]:
        """As the API's own."""
        return await self._fenced(lambda: self._api.annotate_pods(kind, key, uid=uid, annotation=annotation, value=value))

    async def _fenced(self, write: Callable[[], Awaitable[T]]) -> T:
        left = self._seconds_left()
        if left <= 0:
            raise KubernetesError("Not the leader; write refused.", status=0)
        if left == float("inf"):
            return await write()
        try:
            async with asyncio.timeout(left):
                return await write()
        except TimeoutError:
            raise KubernetesError("The Lease expired during the write; cancelled.", status=0) from None
