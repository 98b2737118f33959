"""The parts of the node that can be judged without one."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from sandbox.controlplane.components import CONTROLLERS, Layout, NodeLink, apiserver_command, controller_manager_command
from sandbox.node import images, machine, sweeper
from sandbox.node.__main__ import UNABLE, main
from sandbox.node.cgroups import find_hierarchies
from sandbox.node.images.buildah import pip_settings
from sandbox.node.images.names import operator_image, sample_images
from sandbox.node.images.stand_ins import linked_libraries
from sandbox.node.runtime import kubelet_configuration
from tests.e2e.cluster import ROOT, wait_until

HYBRID = """\
tmpfs /sys/fs/cgroup tmpfs rw,relatime,mode=755 0 0
cgroup /sys/fs/cgroup/cpu,cpuacct cgroup rw,nosuid,nodev,noexec,relatime,cpu,cpuacct 0 0
cgroup /sys/fs/cgroup/systemd cgroup rw,relatime,xattr,name=systemd 0 0
cgroup2 /sys/fs/cgroup/unified cgroup2 rw,relatime,nsdelegate 0 0
"""


def layout(tmp_path: Path, *, node: NodeLink | None) -> Layout:
    return Layout(assets=tmp_path, state=tmp_path, etcd_port=1, apiserver_port=2, controller_manager_port=3, node=node)


def test_hierarchies_of_both_versions_are_found_with_what_mounts_them_again() -> None:
    found = [(str(one.root), one.version, one.options) for one in find_hierarchies(HYBRID)]
    assert found == [
        ("/sys/fs/cgroup/cpu,cpuacct", 1, "cpu,cpuacct"),
        ("/sys/fs/cgroup/systemd", 1, "none,name=systemd"),
        ("/sys/fs/cgroup/unified", 2, ""),
    ]


def test_the_build_is_told_where_this_machines_pip_finds_packages_and_nothing_else() -> None:
    listing = (
        "global.index-url='https://one.example/simple'\n:env:.timeout='180'\nglobal.timeout='15'\n:env:.find-links='/here'\n"
    )
    assert pip_settings(listing) == {"index-url": "https://one.example/simple", "timeout": "180"}


def test_a_program_brings_the_libraries_it_is_linked_with() -> None:
    assert any(path.name.startswith("libc.so") for path in linked_libraries(Path("/bin/ls").resolve()))


def test_the_images_are_named_as_the_manifests_name_them() -> None:
    assert operator_image().startswith("ghcr.io/dbclusterref/dbclusterref:v")
    assert len(sample_images()) == 3


def test_every_input_of_the_image_is_there_and_changes_its_key() -> None:
    assert [name for name in images.OPERATOR_INPUTS if not (ROOT / name).exists()] == []
    text = (ROOT / "Dockerfile").read_text()
    assert [name for name in images.COPIED if name.partition("/")[0] not in text] == []


def test_with_a_node_the_api_server_trusts_its_kubelet_no_further_than_its_own_objects(tmp_path: Path) -> None:
    alone, serving = (
        apiserver_command(layout(tmp_path, node=node)) for node in (None, NodeLink(name="n", address="198.18.0.1"))
    )
    assert "--authorization-mode=RBAC" in alone
    assert "--bind-address=127.0.0.1" in alone
    assert {"--authorization-mode=Node,RBAC", "--enable-admission-plugins=NodeRestriction"} <= set(serving)
    assert "--advertise-address=198.18.0.1" in serving


def test_only_a_control_plane_with_a_node_runs_the_controllers_that_make_pods(tmp_path: Path) -> None:
    alone, serving = (
        controller_manager_command(layout(tmp_path, node=node)) for node in (None, NodeLink(name="n", address="a"))
    )
    assert f"--controllers={','.join(CONTROLLERS)}" in alone
    assert any("replicaset-controller" in word for word in serving)


def test_the_kubelet_is_asked_who_calls_it(tmp_path: Path) -> None:
    text = kubelet_configuration(layout(tmp_path, node=NodeLink(name="n", address="a")), sync_seconds=7)
    configuration = json.loads(text)
    assert configuration["authentication"]["anonymous"] == {"enabled": False}
    assert configuration["authorization"] == {"mode": "Webhook"}
    assert configuration["syncFrequency"] == "7s"


def test_a_machine_without_root_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(sys, "platform", "linux")
    assert machine.find_missing().startswith("a node needs root")


def test_who_can_run_no_node_reads_what_runs_without_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(sys, "argv", ["python -m sandbox.node", "up"])
    assert main() == UNABLE
    assert capsys.readouterr().err.endswith(
        "a node needs root: mounts, networks and cgroups of its own. `make up` needs no node.\n"
    )


def test_missing_programs_are_named_by_their_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(machine, "SEARCH_PATH", "/nowhere")
    assert "apt-get install " in machine.find_missing()
    assert "containerd" in machine.find_missing()


def test_setup_installs_every_package_that_a_node_needs() -> None:
    listed = {line.split()[1] for line in (ROOT / "tools" / "setup.sh").read_text().splitlines() if line.endswith("tests/node")}
    ubiquitous = {"mount", "util-linux"}
    assert {*machine.PROGRAMS.values(), "containernetworking-plugins"} - ubiquitous <= listed


def test_the_sweeper_waits_for_the_owners_end_and_leaves_nothing(tmp_path: Path) -> None:
    directory, group = tmp_path / "run", tmp_path / "group"
    (directory / "below").mkdir(parents=True)
    (group / "below").mkdir(parents=True)
    command = [sys.executable, "-I", "-S", sweeper.__file__, str(directory), "dbref-none", str(group)]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as process:
        assert process.stdin
        assert process.poll() is None
        assert directory.exists()
        process.stdin.close()
        wait_until(lambda: process.poll() is not None, what="the sweeper's end")
        assert process.returncode == 0
    assert list(tmp_path.iterdir()) == []
