"""A memory limit as the kubelet sets one: a control group of its own, version 1 or 2."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import yaml

ROOT = Path(__file__).parents[2]
V1 = Path("/sys/fs/cgroup/memory")
V2 = Path("/sys/fs/cgroup")


class NoControlGroupError(Exception):
    """This process may not make a control group for memory here; the message says why."""


@dataclass(frozen=True, slots=True)
class MemoryLimit:
    """A control group. A command that is run `under` it, with all that it starts, has that much memory and no swap."""

    group: Path

    @property
    def under(self) -> Sequence[str]:
        return ["sh", "-c", f'echo $$ > {self.group}/cgroup.procs && exec "$@"', "sh"]

    @property
    def peak(self) -> int:
        """The most that was used, in bytes, files in the page cache included."""
        name = "memory.max_usage_in_bytes" if (self.group / "memory.max_usage_in_bytes").exists() else "memory.peak"
        return int((self.group / name).read_text())

    @property
    def kills(self) -> int:
        """How many processes were killed because the memory ran out."""
        for name in ("memory.oom_control", "memory.events"):
            if (self.group / name).exists():
                words = dict(line.split() for line in (self.group / name).read_text().splitlines())
                return int(words["oom_kill"])
        raise NoControlGroupError(f"{self.group} does not count kills")


@contextmanager
def memory_limit(size: int) -> Iterator[MemoryLimit]:
    """Make a group of `size` bytes; its processes must have ended when it is left. Raises NoControlGroupError."""
    name = f"dbclusterref-test-{uuid4().hex[:8]}"
    group = (V1 if V1.is_dir() else V2) / name
    try:
        group.mkdir()
        if V1.is_dir():
            (group / "memory.limit_in_bytes").write_text(str(size))
            (group / "memory.memsw.limit_in_bytes").write_text(str(size))
        else:
            (group / "memory.max").write_text(str(size))
            (group / "memory.swap.max").write_text("0")
    except OSError as error:
        if group.is_dir():
            group.rmdir()
        raise NoControlGroupError(f"no control group for memory in {group.parent}: {error.strerror}") from None
    try:
        yield MemoryLimit(group)
    finally:
        group.rmdir()


def deployed_limit() -> int:
    """The limit, in bytes, of the Deployment that is shipped."""
    for path in (ROOT / "deploy").rglob("*.yaml"):
        for item in yaml.safe_load_all(path.read_text()):
            if item and item.get("kind") == "Deployment" and "template" in item["spec"]:
                resources = item["spec"]["template"]["spec"]["containers"][0].get("resources", {})
                if limit := resources.get("limits", {}).get("memory"):
                    assert limit.endswith("Mi")
                    return int(limit.removesuffix("Mi")) * 2**20
    raise AssertionError("no memory limit in deploy/")
