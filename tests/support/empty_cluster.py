"""A Kubernetes API over a socket that has our resource and nothing else in it: enough for kopf to start watching."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web

from dbclusterref.resource.objects import GROUP, PLURAL, VERSION


def _kind(plural: str, kind: str, *, verbs: str) -> dict[str, object]:
    return {"name": plural, "singularName": kind.lower(), "kind": kind, "namespaced": True, "verbs": verbs.split()}


async def _answer(request: web.Request) -> web.StreamResponse:
    """As an empty cluster answers: our resource is served, everything is allowed, nothing is listed, watches say nothing."""
    if "watch" in request.query:
        stream = web.StreamResponse(headers={"Content-Type": "application/json"})
        await stream.prepare(request)
        bookmark = {"type": "BOOKMARK", "object": {"kind": "X", "metadata": {"resourceVersion": "2"}}}
        await stream.write(json.dumps(bookmark).encode() + b"\n")
        await asyncio.sleep(3600)
    if request.method == "POST":
        return web.json_response({"status": {"allowed": True}})
    if request.path == f"/apis/{GROUP}/{VERSION}":
        return web.json_response({"resources": [_kind(PLURAL, "DatabaseClusterRef", verbs="list watch get patch")]})
    if request.path == "/api":
        return web.json_response({"versions": ["v1"]})
    if request.path == "/api/v1":
        return web.json_response({"resources": [_kind("secrets", "Secret", verbs="list watch")]})
    if request.path == "/apis":
        version = {"groupVersion": f"{GROUP}/{VERSION}", "version": VERSION}
        return web.json_response({"groups": [{"name": GROUP, "versions": [version], "preferredVersion": version}]})
    return web.json_response({"items": [], "metadata": {"resourceVersion": "1"}})


@asynccontextmanager
async def empty_cluster() -> AsyncIterator[str]:
    """Serves; gives its URL."""
    application = web.Application()
    application.router.add_route("*", "/{tail:.*}", _answer)
    runner = web.AppRunner(application, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()
