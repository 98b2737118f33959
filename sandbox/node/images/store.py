"""containerd's own folder with images unpacked in it: made once, and copied by links for each node."""

import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from sandbox.node.images.buildah import BuildError
from sandbox.node.machine import SEARCH_PATH, program
from sandbox.tether import tethered

UP_WITHIN = 30.0
_CONFIGURATION = """
version = 2
root = '{root}'
state = '{scratch}/state'
disabled_plugins = ['io.containerd.grpc.v1.cri']
[grpc]
  address = '{scratch}/c.sock'
"""


def unpack(archives: list[Path], root: Path) -> None:
    """Imports images into an empty folder, by a containerd that lives for this alone and mounts where nobody else sees it."""
    with tempfile.TemporaryDirectory(prefix="dbref-") as name:
        scratch = Path(name)
        configuration = scratch / "containerd.toml"
        configuration.write_text(_CONFIGURATION.format(root=root, scratch=scratch))
        command = [
            program("unshare"),
            "--mount",
            "--propagation",
            "private",
            program("containerd"),
            "--config",
            str(configuration),
        ]
        with (scratch / "log").open("wb") as log:
            containerd = subprocess.Popen(tethered(command), stdout=log, stderr=log, env={"PATH": SEARCH_PATH})
        try:
            _wait_for(scratch / "c.sock", containerd, log=scratch / "log")
            for archive in archives:
                _ctr(scratch, "images", "import", str(archive), pid=containerd.pid)
        finally:
            containerd.terminate()
            containerd.wait()
    shutil.rmtree(root / "io.containerd.grpc.v1.cri", ignore_errors=True)


def _ctr(scratch: Path, *arguments: str, pid: int) -> None:
    """In containerd's own mounts: it is the client that unpacks."""
    command = [program("nsenter"), f"--mount=/proc/{pid}/ns/mnt", program("ctr"), "--address", str(scratch / "c.sock")]
    done = subprocess.run([*command, "--namespace", "k8s.io", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise BuildError(f"ctr {' '.join(arguments)}: {done.stderr.strip()}")


def _wait_for(socket: Path, containerd: subprocess.Popen[bytes], *, log: Path) -> None:
    deadline = time.monotonic() + UP_WITHIN
    while not socket.exists():
        if containerd.poll() is not None or time.monotonic() > deadline:
            sys.stderr.write(log.read_text())
            raise BuildError("containerd did not come up; it says why above")
        time.sleep(0.05)
