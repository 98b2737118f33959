import asyncio
import contextlib
import logging
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from dbclusterref.commands import probes
from dbclusterref.commands.probes import ProbeServer
from dbclusterref.commands.secure_metrics import LONGEST_TOKEN_FILE, Certificate, TokenFile, serve_secure_metrics
from dbclusterref.errors import SettingsError
from sandbox.controlplane.certificates import Authority
from tests.support.plain_http import NO_CERTIFICATES

pytestmark = pytest.mark.sockets
LOGGER = logging.getLogger("test")
TOKEN = "scrape-me"


@dataclass
class Files:
    """What is mounted, and the authority that a scraper trusts."""

    folder: Path
    authority: Authority
    token: str

    @property
    def cert(self) -> Path:
        return self.folder / "tls.crt"

    @property
    def key(self) -> Path:
        return self.folder / "tls.key"

    def issue(self, name: str) -> None:
        credential = self.authority.issue(name, hosts=("127.0.0.1",))
        for path, data in ((self.cert, credential.certificate), (self.key, credential.key)):
            replace(path, data)

    @property
    def tokens(self) -> Path:
        return self.folder / "token"

    def certificate(self) -> Certificate:
        return Certificate(str(self.cert), str(self.key), logger=LOGGER)


def replace(path: Path, data: bytes) -> None:
    new = path.with_suffix(".new")
    new.write_bytes(data)
    new.replace(path)


@pytest.fixture
def files(tmp_path: Path) -> Files:
    files = Files(tmp_path, Authority(name="metrics"), TOKEN)
    files.issue("first")
    files.tokens.write_text(f"{TOKEN}\nthe-next-one\n")
    return files


@pytest.fixture
async def server(files: Files) -> AsyncIterator[ProbeServer]:
    server = await serve_secure_metrics(
        host="127.0.0.1",
        port=0,
        certificate=files.certificate(),
        token=TokenFile(str(files.tokens)),
        metrics=lambda accept: (f"# as {accept}\n".encode(), "text/plain"),
    )
    yield server
    await server.close()


def trusting(files: Files) -> ssl.SSLContext:
    return ssl.create_default_context(cadata=files.authority.certificate.decode())


async def get(files: Files, server: ProbeServer, path: str = "/metrics", *, token: str = TOKEN) -> httpx.Response:
    async with httpx.AsyncClient(trust_env=False, verify=trusting(files)) as client:
        headers = {"Authorization": f"Bearer {token}", "Accept": "text/plain"} if token else {}
        return await client.get(f"https://127.0.0.1:{server.port}{path}", headers=headers)


async def name_in_certificate(files: Files, server: ProbeServer) -> str:
    _, writer = await asyncio.open_connection("127.0.0.1", server.port, ssl=trusting(files))
    subject = dict(part[0] for part in writer.get_extra_info("peercert")["subject"])
    writer.close()
    return str(subject["commonName"])


async def test_metrics_are_served_over_tls_in_the_format_that_is_asked_for(files: Files, server: ProbeServer) -> None:
    reply = await get(files, server)
    assert (reply.status_code, reply.text) == (200, "# as text/plain\n")
    assert (await get(files, server, "/healthz")).status_code == 404


@pytest.mark.parametrize("token", ["", "other", f"{TOKEN} x", "scrape-m", "é"])
async def test_who_does_not_know_the_token_learns_nothing(files: Files, server: ProbeServer, token: str) -> None:
    async with httpx.AsyncClient(trust_env=False, verify=trusting(files)) as client:
        headers = {b"Authorization": f"Bearer {token}".encode()} if token else {}
        reply = await client.get(f"https://127.0.0.1:{server.port}/metrics", headers=headers)
    assert (reply.status_code, reply.text) == (401, "unauthorized\n")
    assert reply.headers["www-authenticate"] == "Bearer"


async def test_a_token_is_no_password_of_another_scheme(files: Files, server: ProbeServer) -> None:
    async with httpx.AsyncClient(trust_env=False, verify=trusting(files)) as client:
        url = f"https://127.0.0.1:{server.port}/metrics"
        assert (await client.get(url, headers={"Authorization": f"Basic {TOKEN}"})).status_code == 401
        assert (await client.get(url, headers={"Authorization": f"bearer {TOKEN}"})).status_code == 200


async def test_during_a_rotation_both_tokens_are_served_and_afterwards_the_new_one(files: Files, server: ProbeServer) -> None:
    assert (await get(files, server, token="the-next-one")).status_code == 200
    files.tokens.write_text("the-next-one\n")
    assert (await get(files, server)).status_code == 401
    assert (await get(files, server, token="the-next-one")).status_code == 200
    files.tokens.unlink()
    assert (await get(files, server, token="the-next-one")).status_code == 401


async def test_a_certificate_that_is_replaced_serves_the_next_connection(files: Files, server: ProbeServer) -> None:
    assert await name_in_certificate(files, server) == "first"
    files.issue("second")
    assert await name_in_certificate(files, server) == "second"


async def test_a_pair_that_does_not_fit_leaves_the_former_one_in_use_until_it_does(
    files: Files, server: ProbeServer, caplog: pytest.LogCaptureFixture
) -> None:
    key = files.key.read_bytes()
    files.issue("second")
    fitting = files.key.read_bytes()
    replace(files.key, key)
    for _ in range(3):
        assert await name_in_certificate(files, server) == "first"
    (said,) = [record.message for record in caplog.records if "cannot be used" in record.message]
    assert said.startswith(f"The new certificate in {files.cert} cannot be used (KEY_VALUES_MISMATCH); the former one stays.")
    replace(files.key, fitting)
    assert await name_in_certificate(files, server) == "second"
    files.cert.unlink()
    assert await name_in_certificate(files, server) == "second"


async def test_what_cannot_be_served_from_the_start_is_a_setting_with_a_remedy(files: Files) -> None:
    files.key.write_text("no key")
    with pytest.raises(SettingsError, match="--metrics-tls-cert-file"):
        files.certificate()
    for content in (None, "", " \n\n"):
        files.tokens.unlink(missing_ok=True)
        if content is not None:
            files.tokens.write_text(content)
        with pytest.raises(SettingsError, match="--metrics-token-file"):
            TokenFile(str(files.tokens)).require_usable()


def test_of_a_token_file_that_is_too_large_no_part_is_believed(files: Files) -> None:
    files.tokens.write_text(f"{'x' * (LONGEST_TOKEN_FILE - 4)}\n{TOKEN}\n")
    tokens = TokenFile(str(files.tokens))
    assert not tokens.allows(f"Bearer {TOKEN[:3]}"), "the beginning of a token is none"
    with pytest.raises(SettingsError, match="65536 bytes"):
        tokens.require_usable()
    files.tokens.write_text(f"{TOKEN}\n{'x' * (LONGEST_TOKEN_FILE - len(TOKEN) - 1)}")
    assert tokens.allows(f"Bearer {TOKEN}")


async def test_an_encrypted_key_is_refused_and_nobody_is_asked_for_its_password(files: Files) -> None:
    files.key.write_text(
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\n"
        "MIHsMFcGCSqGSIb3DQEFDTBKMCkGCSqGSIb3DQEFDDAcBAgAAAAAAAAAAAICCAAw\n-----END ENCRYPTED PRIVATE KEY-----\n"
    )
    with pytest.raises(SettingsError, match="unencrypted key"):
        files.certificate()


async def test_without_tls_the_connection_ends(server: ProbeServer) -> None:
    async with httpx.AsyncClient(trust_env=False, verify=NO_CERTIFICATES) as client:
        with pytest.raises(httpx.TransportError):
            await client.get(f"http://127.0.0.1:{server.port}/metrics", headers={"Authorization": f"Bearer {TOKEN}"})


async def test_metrics_are_served_while_others_hold_connections_that_never_shake_hands(
    files: Files, server: ProbeServer
) -> None:
    held = [await asyncio.open_connection("127.0.0.1", server.port) for _ in range(probes.MOST_CONNECTIONS * 2)]
    assert (await get(files, server)).status_code == 200
    for _, writer in held:
        writer.close()


async def test_a_connection_that_never_shakes_hands_is_closed_in_time(
    server: ProbeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probes, "LONGEST_CONNECTION", 0.2)
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(b"\x16\x03\x01")  # the beginning of a handshake
    with contextlib.suppress(ConnectionResetError):
        async with asyncio.timeout(5):
            assert await reader.read() == b""
    writer.close()


async def test_a_connection_that_shook_hands_and_sends_nothing_is_closed_in_time(
    files: Files, server: ProbeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probes, "LONGEST_CONNECTION", 0.3)
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port, ssl=trusting(files))
    with contextlib.suppress(ConnectionResetError):
        async with asyncio.timeout(5):
            assert await reader.read() == b""
    writer.close()


async def test_an_address_that_is_taken_is_a_setting_with_a_remedy(files: Files, server: ProbeServer) -> None:
    with pytest.raises(SettingsError, match="--metrics-tls-address"):
        await serve_secure_metrics(
            host="127.0.0.1",
            port=server.port,
            certificate=files.certificate(),
            token=None,
            metrics=lambda _: (b"", "text/plain"),
        )
