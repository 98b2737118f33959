"""kopf's part: which objects are watched and how; what is told of one is recorded, and marks the resources it concerns."""

import asyncio
import json
import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import aiohttp
import kopf
from kopf._core.reactor.inventory import ResourceMemories, ResourceMemory

from dbclusterref.reconcile.controller import Controller
from dbclusterref.reconcile.store import Store
from dbclusterref.resource.objects import (
    FIELD_MANAGER,
    GROUP,
    MANAGED_BY,
    PLURAL,
    VERSION,
    annotations_of,
    key_of,
    metadata_of,
)
from dbclusterref.secret.state import REFERENCE_UID
from dbclusterref.timing import Timing

GONE = "DELETED"
_IDENTITY = frozenset({"name", "namespace", "uid", "resourceVersion", "generation", "creationTimestamp"})


class NoDiffs(kopf.DiffBaseStorage):
    """Spares kopf the deep copies of each object by which it finds changes: handlers that only watch get the whole object."""

    def build(self, **_: Any) -> kopf.BodyEssence:  # noqa: ANN401
        """Return nothing to compare."""
        return kopf.BodyEssence()

    def fetch(self, **_: Any) -> None:  # noqa: ANN401
        """Remember nothing."""

    def store(self, **_: Any) -> None:  # noqa: ANN401
        """Write nothing."""


class NoMemories(ResourceMemories):
    """Keeps nothing of an object once its event is handled: kopf's record of it, 884 bytes each, is for timers and such."""

    async def recall(self, raw_body: kopf.RawBody, **options: Any) -> ResourceMemory:  # noqa: ANN401
        """Return a record for this one event."""
        return await super().recall(raw_body, **{**options, "ephemeral": True})


class EndlessBackoff:
    """Seconds between tries, without end: with a finite list kopf ends the process when the API server is away for longer."""

    def __iter__(self) -> Iterator[float]:
        """Count up to five seconds and stay there."""
        yield from (0.5, 1.0, 2.0)
        while True:
            yield 5.0


class TasksOfOthers(Collection[asyncio.Task[Any]]):
    """The tasks under way that are not kopf's own.

    When its watches end, kopf cancels every task but those it is told to ignore, whoever started them. What began meanwhile
    must go on: a read of DigitalOcean, say, and what a library has started for it. kopf's are those whose code is kopf's.
    """

    _FOLDER = f"{Path(kopf.__file__).parent}{os.sep}"

    def __contains__(self, task: object) -> bool:
        """Return whether a task, which may be one that begins later, is not kopf's."""
        code = getattr(task.get_coro(), "cr_code", None) if isinstance(task, asyncio.Task) else None
        return code is None or not code.co_filename.startswith(self._FOLDER)

    def __iter__(self) -> Iterator[asyncio.Task[Any]]:
        """Return those there are now."""
        return (task for task in asyncio.all_tasks() if task in self)

    def __len__(self) -> int:
        """Count those there are now."""
        return sum(1 for _ in self)


class WatchedChanges:
    """Records what the watches tell of."""

    def __init__(self, *, store: Store, controller: Controller) -> None:
        self._store = store
        self._controller = controller

    def reference(self, event: Mapping[str, Any]) -> None:
        """Record a change of a resource."""
        body = event["object"]
        gone = event["type"] == GONE
        key = self._store.observe_reference(body, gone=gone)
        if gone and self._store.get(former := key_of(body)) is None:
            self._controller.forget(former)
        if key:
            self._controller.mark(key, urgent=True)

    def secret(self, event: Mapping[str, Any]) -> None:
        """Record a change of a Secret."""
        for key in self._store.observe_secret(event["object"], gone=event["type"] == GONE):
            self._controller.mark(key, urgent=True)

    def take_large(self, watch: str, line: bytes) -> bytes:
        """Record what a large line of a watch tells of; return what kopf is to be given in its place, b"" for nothing.

        A deletion goes through kopf, without its content: an earlier change of the same object may still be there.
        """
        try:
            event = json.loads(line)
            if event["type"] == GONE:
                return json.dumps({"type": GONE, "object": _without_content(event["object"])}).encode()
            if event["type"] not in {"ADDED", "MODIFIED"}:
                return line
            (self.secret if watch.endswith("/secrets") else self.reference)(event)
        except Exception:  # noqa: BLE001 - kopf is given the same, and logs its handler's failure
            return line
        return b""


def _without_content(body: Mapping[str, Any]) -> dict[str, object]:
    """Return what a deletion is recorded by."""
    owner = annotations_of(body).get(REFERENCE_UID)
    kept = {name: value for name, value in metadata_of(body).items() if name in _IDENTITY}
    metadata = {**kept, "annotations": {REFERENCE_UID: owner} if owner else {}}
    return {"apiVersion": body.get("apiVersion"), "kind": body.get("kind"), "metadata": metadata}


def make_registry(
    *,
    changes: WatchedChanges,
    server: str,
    session: Callable[[], aiohttp.ClientSession],
    with_secrets: bool = True,
) -> kopf.OperatorRegistry:
    """Register the handlers. They only watch: no annotation, no finalizer, no patch comes from kopf.

    Without the right to list and watch Secrets kopf would ask for them endlessly: `with_secrets` leaves them out.
    """
    registry = kopf.OperatorRegistry()

    @kopf.on.login(registry=registry)
    async def log_in(**_: Any) -> kopf.AiohttpSession:  # noqa: ANN401 - kopf hands over what it likes
        return kopf.AiohttpSession(server=server, aiohttp_session=session())

    @kopf.on.event(GROUP, VERSION, PLURAL, registry=registry)
    async def reference_seen(event: Mapping[str, Any], **_: Any) -> None:  # noqa: ANN401
        changes.reference(event)

    if not with_secrets:
        return registry

    @kopf.on.event("", "v1", "secrets", registry=registry)
    async def secret_seen(event: Mapping[str, Any], **_: Any) -> None:  # noqa: ANN401
        changes.secret(event)

    return registry


def make_settings(timing: Timing | None = None) -> kopf.OperatorSettings:
    """Return settings that make kopf an informer and nothing else; ARCHITECTURE.md has the reasons."""
    settings = kopf.OperatorSettings()
    settings.posting.enabled = False
    settings.peering.standalone = True
    # kopf would send SIGKILL to the process ten minutes after its own end, and it ends at each restart of the watches.
    settings.process.ultimate_exiting_timeout = None
    # Needs rights on CRDs and namespaces cluster-wide; the informer looks for our CRD itself before kopf starts.
    settings.scanning.disabled = True
    # kopf strips finalizers of this name from what it watches, and its default is shared by every kopf operator.
    settings.persistence.diffbase_storage = NoDiffs()
    settings.persistence.finalizer = f"{GROUP}/never-set"
    settings.watching.label_selectors["", "v1", "secrets"] = f"{MANAGED_BY}={FIELD_MANAGER}"
    settings.watching.server_timeout = 300
    settings.watching.inactivity_timeout = (timing or Timing()).watch_idle
    # kopf's listing is only asked for its version: see `stream_filter`.
    settings.watching.chunk_size = 1
    settings.queueing.idle_timeout = 0.001
    settings.networking.error_backoffs = EndlessBackoff()
    settings.networking.connect_timeout = 5
    settings.networking.request_timeout = 60
    return settings


def scope(namespaces: Sequence[str]) -> dict[str, Any]:
    """Return kopf's arguments for what to watch: the named namespaces, or the whole cluster where none is named."""
    return {"namespaces": list(namespaces)} if namespaces else {"clusterwide": True}
