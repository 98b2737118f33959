from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from dbclusterref.commands.http_client import make_client
from dbclusterref.errors import SettingsError


@asynccontextmanager
async def _serving(answer: web.Response) -> AsyncIterator[tuple[str, list[web.Request]]]:
    seen: list[web.Request] = []

    async def handle(request: web.Request) -> web.Response:
        seen.append(request)
        return answer

    application = web.Application()
    application.router.add_route("*", "/{tail:.*}", handle)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}", seen
    await runner.cleanup()


@pytest.mark.sockets
async def test_a_redirect_is_not_followed_so_that_the_token_goes_nowhere_else() -> None:
    redirect = web.Response(status=302, headers={"Location": "http://127.0.0.1:9/"})
    async with _serving(redirect) as (url, seen), make_client(user_agent="test") as client:
        assert (await client.get(url)).status_code == 302
    assert len(seen) == 1
    assert seen[0].headers["User-Agent"] == "test"


@pytest.mark.sockets
async def test_a_proxy_never_sees_a_plain_request(monkeypatch: pytest.MonkeyPatch) -> None:
    async with _serving(web.Response(text="proxy")) as (proxy, through), _serving(web.Response(text="api")) as (url, _):
        monkeypatch.setenv("HTTP_PROXY", proxy)
        monkeypatch.setenv("ALL_PROXY", proxy)
        async with make_client(user_agent="test") as client:
            assert (await client.get(url, headers={"Authorization": "Bearer t"})).text == "api"
    assert through == []


@pytest.mark.parametrize(
    ("variable", "text"),
    [("ALL_PROXY", "socks5://127.0.0.1:1"), ("SSL_CERT_FILE", "/nonexistent/ca.pem")],
)
def test_an_environment_that_cannot_be_used_is_named(monkeypatch: pytest.MonkeyPatch, variable: str, text: str) -> None:
    monkeypatch.setenv(variable, text)
    with pytest.raises(SettingsError, match=variable):
        make_client(user_agent="test")
