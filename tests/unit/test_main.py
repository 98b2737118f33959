import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import pytest
import yaml

from dbclusterref.__main__ import BAD_SETTING, BROKEN_PIPE, KUBERNETES_REFUSED, main
from dbclusterref.commands.logs import _CHATTY
from tests.support.builders import cluster_body, reference_body


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DIGITALOCEAN_API_URL", "DIGITALOCEAN_TOKEN", "DIGITALOCEAN_TOKEN_FILE", "KUBERNETES_SERVICE_HOST"):
        monkeypatch.delenv(name, raising=False)
    for name in ("NAMESPACES", "TOKEN_NAMESPACES", "METRICS_ADDRESS", "LEADER_ELECT", "LOG_FORMAT", "LOG_LEVEL"):
        monkeypatch.delenv(f"DBCLUSTERREF_{name}", raising=False)
    monkeypatch.setenv("KUBECONFIG", "/nonexistent/kubeconfig")


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    levels = {name: logging.getLogger(name).level for name in _CHATTY}
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    for name, former in levels.items():
        logging.getLogger(name).setLevel(former)


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Runs what must be refused; returns the one line that says why."""
    assert main(arguments) == BAD_SETTING
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert err.startswith("dbclusterref: ")
    return err


@pytest.mark.parametrize("command", ["run", "check"])
@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--api-url", "ftp://x"], ["--api-url", "https://api.digitalocean.com"]),
        (["--metrics-address", "8080"], ["--metrics-address", "HOST:PORT"]),
        (["--log-level", "loud"], ["--log-level", "debug, info, warning, error"]),
        (["--log-format", "xml"], ["--log-format", "plain, json"]),
        (["--namespaces", "Shop"], ["--namespaces", "'Shop'", "commas"]),
        (["--token-namespaces", "a b"], ["--token-namespaces", "commas"]),
        (["--no-such-flag"], ["--no-such-flag"]),
        (["--api-url"], ["--api-url"]),
    ],
)
def test_a_bad_setting_is_exit_2_and_one_line_with_the_remedy(
    capsys: pytest.CaptureFixture[str], command: str, flags: list[str], words: list[str]
) -> None:
    line = refused(capsys, command, *flags)
    for word in words:
        assert word in line


def test_a_bad_environment_variable_is_exit_2_too(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DBCLUSTERREF_LEADER_ELECT", "maybe")
    line = refused(capsys, "run")
    assert "DBCLUSTERREF_LEADER_ELECT" in line
    assert "true or false" in line


def test_two_tokens_are_one_too_many_and_neither_is_shown(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DIGITALOCEAN_TOKEN", "CANARY")
    line = refused(capsys, "run", "--token-file", "/token")
    assert "DIGITALOCEAN_TOKEN" in line
    assert "CANARY" not in line


@pytest.mark.parametrize("command", ["run", "check"])
def test_without_a_way_to_kubernetes_the_remedy_is_said(capsys: pytest.CaptureFixture[str], command: str) -> None:
    assert "set KUBECONFIG" in refused(capsys, command)


@pytest.mark.parametrize("content", [None, "", "garbage", "contexts: 3", "current-context: gone"])
@pytest.mark.parametrize("command", [["status"], ["explain", "orders-db"], ["check"], ["status", "-A"]])
def test_a_kubeconfig_that_cannot_be_used_is_named_in_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, command: list[str], content: str | None
) -> None:
    file = tmp_path / "kubeconfig"
    if content is not None:
        file.write_text(content)
    monkeypatch.setenv("KUBECONFIG", str(file))
    line = refused(capsys, *command)
    assert f"reading {file}" in line
    assert "set KUBECONFIG" in line


def kubeconfig_at(folder: Path, server: str) -> Path:
    kubeconfig = folder / "kubeconfig"
    kubeconfig.write_text(
        '{"current-context": "c", "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}, {"name": "bad", '
        f'"context": {{"cluster": "x", "user": "u"}}}}], "clusters": [{{"name": "c", "cluster": {{"server": "{server}"}}}}], '
        '"users": [{"name": "u", "user": {}}]}'
    )
    return kubeconfig


def test_another_context_and_kubeconfig_are_taken_and_named(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = kubeconfig_at(tmp_path, "http://127.0.0.1:9")
    for context in ("none", "bad"):
        line = refused(capsys, "explain", "orders-db", "--kubeconfig", str(file), "--context", context)
        assert f"reading {file}, context {context}" in line


@pytest.mark.sockets
@pytest.mark.parametrize("command", [["status"], ["explain", "dbref/x"], ["refresh", "x"], ["suspend", "x"], ["resume", "x"]])
def test_what_the_kubernetes_api_refuses_has_an_exit_status_of_its_own(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, command: list[str]
) -> None:
    assert main([*command, "--kubeconfig", str(kubeconfig_at(tmp_path, "http://127.0.0.1:9"))]) == KUBERNETES_REFUSED
    assert "dbclusterref: The Kubernetes API at http://127.0.0.1:9 cannot be reached" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [[], ["no-such-command"]])
def test_a_missing_or_unknown_command_is_exit_2(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    line = refused(capsys, *arguments)
    assert "run" in line
    assert "render" in line


def test_version_is_the_installed_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"dbclusterref {version('dbclusterref')}\n"


def test_help_names_each_flag_with_its_environment_variable(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "--help"]) == 0
    shown = capsys.readouterr().out
    for word in ("--token-file", "DIGITALOCEAN_TOKEN_FILE", "--leader-elect", "DBCLUSTERREF_LEADER_ELECT"):
        assert word in shown


def test_render_masks_what_it_shows_unless_it_is_told_to_reveal(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    reference, cluster = tmp_path / "reference.yaml", tmp_path / "cluster.json"
    reference.write_text(yaml.safe_dump(reference_body()))
    cluster.write_text(json.dumps({"database": cluster_body(password="CANARY")}))
    arguments = ["render", "--reference", str(reference), "--cluster", str(cluster)]
    assert main(arguments) == 0
    masked = capsys.readouterr().out
    assert "CANARY" not in masked
    assert "password:" in masked
    assert main([*arguments, "--reveal"]) == 0
    assert "password: CANARY" in capsys.readouterr().out


def test_render_without_its_files_is_exit_2(capsys: pytest.CaptureFixture[str]) -> None:
    line = refused(capsys, "render", "--reference", "/nonexistent", "--cluster", "/nonexistent")
    assert "/nonexistent cannot be read" in line


@pytest.mark.parametrize("arguments", [["--token", "CANARY"], ["--token=CANARY"], ["CANARY"]])
def test_a_token_in_the_wrong_place_is_not_printed(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    line = refused(capsys, "run", *arguments)
    assert "CANARY" not in line
    assert "--token" in line or "not shown" in line


def test_an_option_is_not_abbreviated(capsys: pytest.CaptureFixture[str]) -> None:
    assert "--name" in refused(capsys, "run", "--name", "shop")


@pytest.mark.parametrize(
    ("variable", "text"),
    [("NO_PROXY", "[::1"), ("ALL_PROXY", "socks5://127.0.0.1:1"), ("SSL_CERT_FILE", "/nonexistent/ca.pem")],
)
def test_an_environment_that_the_http_client_cannot_use_is_named(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, variable: str, text: str
) -> None:
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(
        '{"current-context": "c", "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],'
        ' "clusters": [{"name": "c", "cluster": {"server": "http://127.0.0.1:9"}}], "users": [{"name": "u", "user": {}}]}'
    )
    monkeypatch.setenv("KUBECONFIG", str(kubeconfig))
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv(variable, text)
    assert variable in refused(capsys, "run", "--metrics-address", "127.0.0.1:0")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_a_script_of_the_shell(capsys: pytest.CaptureFixture[str], shell: str) -> None:
    assert main(["completion", shell]) == 0
    assert "_DBCLUSTERREF_COMPLETE" in capsys.readouterr().out


def test_a_reader_that_has_gone_is_no_error() -> None:
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [sys.executable, "-m", "dbclusterref", "run", "--help"], stdout=write, stderr=subprocess.PIPE, check=False
    )
    os.close(write)
    assert (done.returncode, done.stderr) == (BROKEN_PIPE, b"")
