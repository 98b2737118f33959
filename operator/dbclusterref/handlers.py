"""kopf's half: which objects are watched and how; each handler takes note of one object and marks one resource."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import aiohttp
import kopf

from dbclusterref.dispatch import Dispatcher
from dbclusterref.reference import GROUP, PLURAL, VERSION
from dbclusterref.secret import FIELD_MANAGER, MANAGED_BY
from dbclusterref.store import Store

GONE = "DELETED"


class EndlessBackoff:
    """Seconds between tries, without end: with a finite list kopf ends the process when the API server is away for longer."""

    def __iter__(self) -> Iterator[float]:
        """Counts up to five seconds and stays there."""
        yield from (0.5, 1.0, 2.0)
        while True:
            yield 5.0


def make_registry(
    *, store: Store, dispatcher: Dispatcher, server: str, session: Callable[[], aiohttp.ClientSession]
) -> kopf.OperatorRegistry:
    """Registers the handlers. They only ever watch: no annotation, no finalizer, no patch comes from kopf."""
    registry = kopf.OperatorRegistry()

    @kopf.on.login(registry=registry)
    async def log_in(**_: Any) -> kopf.AiohttpSession:  # noqa: ANN401 - kopf hands over what it likes
        return kopf.AiohttpSession(server=server, aiohttp_session=session())

    @kopf.on.event(GROUP, VERSION, PLURAL, registry=registry)
    async def reference_seen(event: Mapping[str, Any], **_: Any) -> None:  # noqa: ANN401
        body = event["object"]
        key = store.observe_reference(body, gone=event["type"] == GONE)
        if key:
            dispatcher.mark(key, urgent=event["type"] is not None)

    @kopf.on.event("", "v1", "secrets", registry=registry)
    async def secret_seen(event: Mapping[str, Any], **_: Any) -> None:  # noqa: ANN401
        for key in store.observe_secret(event["object"], gone=event["type"] == GONE):
            dispatcher.mark(key, urgent=True)

    return registry


def make_settings() -> kopf.OperatorSettings:
    """Tunes kopf to be an informer and nothing else; the measurements behind each number stand in ARCHITECTURE.md."""
    settings = kopf.OperatorSettings()
    settings.posting.enabled = False
    settings.peering.standalone = True
    # Needs rights on CRDs and namespaces cluster-wide; we look for our CRD ourselves before kopf starts.
    settings.scanning.disabled = True
    # kopf strips finalizers of this name from what it watches, and its default is shared by every kopf operator.
    settings.persistence.finalizer = f"{GROUP}/never-set"
    settings.watching.label_selectors["", "v1", "secrets"] = f"{MANAGED_BY}={FIELD_MANAGER}"
    settings.watching.server_timeout = 300
    settings.watching.chunk_size = 500
    settings.queueing.idle_timeout = 0.1
    settings.networking.error_backoffs = EndlessBackoff()
    settings.networking.connect_timeout = 5
    settings.networking.request_timeout = 60
    return settings


def scope(namespaces: Sequence[str]) -> dict[str, Any]:
    """Says to kopf what to watch: the named namespaces, or the whole cluster where none is named."""
    return {"namespaces": list(namespaces)} if namespaces else {"clusterwide": True}
