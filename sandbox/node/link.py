"""The link between this machine and a node: one pair of virtual interfaces, which the kernel removes with the node's network.

The addresses are of 198.18.0.0/15, which RFC 2544 keeps for tests in a network of one's own: nobody routes them.
"""

import subprocess
from dataclasses import dataclass

from sandbox.node.machine import program

INSIDE_NAME = "host0"
_HIGHEST = 255


class LinkError(Exception):
    """No link could be made; the message is `ip`'s own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """Number N has the interface `dbrefN` and the network 198.18.N.0/30."""

    number: int

    @property
    def name(self) -> str:
        """Of the interface on this machine."""
        return f"dbref{self.number}"

    @property
    def node_address(self) -> str:
        """Where the node is reached, from its pods as well."""
        return f"198.18.{self.number}.1"

    def hand_over(self, pid: int) -> None:
        """Gives the other end to the network that a process is in, and brings this end up."""
        _ip("link", "set", f"{self.name}n", "netns", str(pid), "name", INSIDE_NAME)
        _ip("address", "add", f"198.18.{self.number}.2/30", "dev", self.name)
        _ip("link", "set", self.name, "up")


def take_link() -> Link:
    """The first number that is free; the kernel lets nobody else have it."""
    complaint = ""
    for number in range(_HIGHEST + 1):
        link = Link(number=number)
        try:
            _ip("link", "add", link.name, "type", "veth", "peer", "name", f"{link.name}n")
        except LinkError as error:
            complaint = str(error)
            if "File exists" not in complaint:
                break
        else:
            return link
    raise LinkError(complaint)


def _ip(*words: str) -> None:
    done = subprocess.run([program("ip"), *words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise LinkError(f"ip {' '.join(words)}: {done.stderr.strip()}")
