"""What a machine must have to run a node, and what to do where it has not."""

import os
import shutil
import sys
from pathlib import Path

# Debian keeps these out of a user's PATH.
SEARCH_PATH = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/usr/local/sbin", "/sbin"])
CNI_DIRECTORIES = (Path("/usr/lib/cni"), Path("/opt/cni/bin"))
CNI_PLUGINS = ("bridge", "host-local", "loopback")
# Program and the Debian package that brings it (tools/setup.sh installs them).
PROGRAMS = {
    "buildah": "buildah",
    "busybox": "busybox-static",
    "containerd": "containerd",
    "ctr": "containerd",
    "ip": "iproute2",
    "mmdebstrap": "mmdebstrap",
    "mount": "mount",
    "nft": "nftables",
    "nsenter": "util-linux",
    "runc": "runc",
    "unshare": "util-linux",
}


def find_missing() -> str:
    """Why there can be no node on this machine, and the remedy; empty if there can be one."""
    if sys.platform != "linux":
        return f"a node needs Linux; this is {sys.platform}"
    if os.geteuid() != 0:
        return "a node needs root: mounts, networks and cgroups of its own"
    packages = {package for program, package in PROGRAMS.items() if not shutil.which(program, path=SEARCH_PATH)}
    if cni_directory() is None:
        packages.add("containernetworking-plugins")
    if packages:
        return f"not installed: {', '.join(sorted(packages))}; as root: apt-get install {' '.join(sorted(packages))}"
    return ""


def program(name: str) -> str:
    """Its full path; to be asked for where `find_missing` found nothing."""
    found = shutil.which(name, path=SEARCH_PATH)
    assert found, f"{name} is not installed"
    return found


def cni_directory() -> Path | None:
    """Where the distribution keeps the plugins that give pods their network."""
    return next((path for path in CNI_DIRECTORIES if all((path / name).exists() for name in CNI_PLUGINS)), None)
