"""Removes what the kernel leaves of a node: empty cgroups, a directory, and a link that was not handed over yet.

`python -I -S sweeper.py DIRECTORY LINK GROUP...` waits until its standard input ends, which it does when the node's owner
ends in whatever way. The node's processes die with their owner; a cgroup can be removed when the last of them is gone.
"""

import contextlib
import os
import shutil
import subprocess
import sys
import time

GIVE_UP_AFTER = 60.0


def main(directory: str, link: str, *groups: str) -> int:
    """Exit status 1 if something is left."""
    os.setsid()  # Ctrl-C in a terminal is for the owner
    sys.stdin.buffer.read()
    deadline = time.monotonic() + GIVE_UP_AFTER
    while any(not removed(group) for group in groups) and time.monotonic() < deadline:
        time.sleep(0.05)
    shutil.rmtree(directory, ignore_errors=True)
    # The kernel removes the link with the node's network, unless it was not there yet.
    if os.path.exists(f"/sys/class/net/{link}"):  # noqa: PTH110 - a script that starts without imports
        subprocess.run(["ip", "link", "delete", link], check=False, capture_output=True)
    return int(any(map(os.path.exists, [directory, *groups])))


def removed(group: str) -> bool:
    """Whether the group and all below it are gone."""
    for path, _, _ in os.walk(group, topdown=False):
        with contextlib.suppress(OSError):  # still in use
            os.rmdir(path)  # noqa: PTH106
    return not os.path.isdir(group)  # noqa: PTH112


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
