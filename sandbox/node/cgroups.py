"""A cgroup of the node's own in each hierarchy of this machine, be it version 1, 2 or both side by side.

Measured on a machine with both (controllers in version 1). With version 2 alone it follows the rule that a group has either
processes or groups with controllers, and is untried.
"""

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

# Options of a mounted hierarchy that are not controllers.
_GENERIC = {"rw", "ro", "nosuid", "nodev", "noexec", "relatime", "noatime", "xattr", "nsdelegate", "memory_recursiveprot"}
LEAF = "node"


@dataclass(frozen=True, slots=True, kw_only=True)
class Hierarchy:
    """Where it is mounted; `options` mount it once more."""

    root: Path
    version: int
    options: str = ""

    @property
    def controllers(self) -> list[str]:
        """Those of version 2 that groups below may be given."""
        return (self.root / "cgroup.controllers").read_text().split() if self.version == 2 else []  # noqa: PLR2004

    def hand_down(self, group: Path) -> None:
        """Lets the groups below one of version 2 have controllers; the group must have no process of its own."""
        control = group / "cgroup.subtree_control"
        given = control.read_text().split()
        for controller in self.controllers:
            if controller not in given:
                with contextlib.suppress(OSError):  # the kernel keeps some for real-time groups
                    control.write_text(f"+{controller}")


def find_hierarchies(mounts: str) -> list[Hierarchy]:
    """From the text of /proc/mounts: a plain directory in /sys/fs/cgroup is no hierarchy."""
    found = []
    for line in mounts.splitlines():
        _, where, kind, options, *_ = line.split()
        if kind == "cgroup2":
            found.append(Hierarchy(root=Path(where), version=2))
        elif kind == "cgroup":
            chosen = [one for one in options.split(",") if one not in _GENERIC and not one.startswith("release_agent")]
            named = ["none", *chosen] if any(one.startswith("name=") for one in chosen) else chosen
            found.append(Hierarchy(root=Path(where), version=1, options=",".join(named)))
    return found


def this_machines() -> list[Hierarchy]:
    """As the kernel lists them."""
    return find_hierarchies(Path("/proc/mounts").read_text())


def create(name: str) -> Iterator[Path]:
    """Creates a group in each hierarchy; yields the files to which a process writes its number to enter them."""
    for hierarchy in this_machines():
        group = hierarchy.root / name
        group.mkdir()
        for setting in ("cpuset.cpus", "cpuset.mems"):
            # Version 1 lets no process into a group that may use no processor.
            if hierarchy.version == 1 and (group / setting).exists():
                (group / setting).write_text((hierarchy.root / setting).read_text())
        if hierarchy.version == 2:  # noqa: PLR2004
            hierarchy.hand_down(hierarchy.root)
        yield group / "cgroup.procs"


def move_out(pid: int, *, name: str) -> None:
    """Takes a process out of the groups of version 2, which then may have groups with controllers below them."""
    for hierarchy in this_machines():
        if hierarchy.version == 2:  # noqa: PLR2004
            own = next(line for line in Path("/proc/self/cgroup").read_text().splitlines() if line.startswith("0::"))
            home = hierarchy.root / own.removeprefix("0::/")
            if home != hierarchy.root / name:
                (home / "cgroup.procs").write_text(str(pid))


def make_leaf() -> None:
    """Inside the namespace, where the group is the root: the node's own processes go into a group below."""
    for hierarchy in this_machines():
        if hierarchy.version == 2:  # noqa: PLR2004
            leaf = hierarchy.root / LEAF
            leaf.mkdir(exist_ok=True)
            for pid in (hierarchy.root / "cgroup.procs").read_text().split():
                with contextlib.suppress(ProcessLookupError):
                    (leaf / "cgroup.procs").write_text(pid)
            hierarchy.hand_down(hierarchy.root)


def groups_of(name: str) -> list[Path]:
    """Those that are left of a node."""
    return [hierarchy.root / name for hierarchy in this_machines() if os.path.isdir(hierarchy.root / name)]  # noqa: PTH112
