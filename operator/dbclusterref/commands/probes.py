"""Serves /healthz, /readyz and /metrics."""

from collections.abc import Callable

from aiohttp import web

from dbclusterref.errors import SettingsError

Check = Callable[[], list[str]]
"""Returns what is wrong, a sentence each; an empty list means well."""


async def serve_probes(
    *, host: str, port: int, healthy: Check, ready: Check, metrics: Callable[[], bytes], describe: Check = list
) -> tuple[web.AppRunner, int]:
    """Starts serving; returns what stops it (`cleanup()`) and the port (chosen by the system for port 0).

    What `describe` says stands below every answer of /readyz.

    Raises SettingsError where the address cannot be had.
    """

    def probe(check: Check, more: Check = list) -> Callable[[web.Request], object]:
        async def answer(_request: web.Request) -> web.Response:
            wrong = check()
            return web.Response(status=503 if wrong else 200, text="\n".join([*(wrong or ["ok"]), *more()]) + "\n")

        return answer

    async def show_metrics(_request: web.Request) -> web.Response:
        return web.Response(body=metrics(), headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"})

    application = web.Application()
    application.router.add_get("/healthz", probe(healthy))  # type: ignore[arg-type]
    application.router.add_get("/readyz", probe(ready, describe))  # type: ignore[arg-type]
    application.router.add_get("/metrics", show_metrics)
    runner = web.AppRunner(application, access_log=None, handle_signals=False, shutdown_timeout=1.0)
    await runner.setup()
    site = web.TCPSite(runner, host, port)
    try:
        await site.start()
    except OSError as error:
        await runner.cleanup()
        raise SettingsError(
            f"--metrics-address: cannot listen on {host}:{port} ({error.strerror}); choose another port."
        ) from None
    return runner, int(runner.addresses[0][1])
