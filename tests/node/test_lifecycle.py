"""A node leaves nothing behind, however it ends."""

import json
import signal
import subprocess
import sys
from pathlib import Path

from sandbox.node import Images
from sandbox.node.cgroups import this_machines
from tests.e2e.cluster import ROOT, wait_until


def test_one_sigkill_takes_all_of_it_away(images: Images) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "sandbox.node", "up"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        text=True,
    ) as owner:
        assert owner.stdout
        assert owner.stderr
        line = owner.stdout.readline()
        assert line, owner.stderr.read()
        node = json.loads(line)
        directory = Path(node["directory"])
        groups = [hierarchy.root / f"dbclusterref-{directory.name}" for hierarchy in this_machines()]
        processes = {int(pid) for group in groups for path in group.rglob("cgroup.procs") for pid in path.read_text().split()}
        link = Path(f"/sys/class/net/dbref{node['address'].split('.')[2]}")
        assert len(processes) > 5  # containerd, etcd, kube-apiserver, kubelet, ...
        assert link.exists()
        assert all(group.is_dir() for group in groups)
        owner.send_signal(signal.SIGKILL)
        owner.wait()

        def traces() -> list[str]:
            alive = [f"process {pid}" for pid in processes if Path(f"/proc/{pid}").exists()]
            left = [str(path) for path in (directory, link, *groups) if path.exists()]
            mounts = [line for line in Path("/proc/mounts").read_text().splitlines() if directory.name in line]
            return [*alive, *left, *mounts]

        def nothing_is_left() -> bool:
            assert not traces(), traces()
            return True

        wait_until(nothing_is_left, what="nothing is left")
