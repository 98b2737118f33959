"""Which of several processes a resource belongs to. Pure: the same UID gives the same answer everywhere and always."""

import hashlib
import re
from dataclasses import dataclass

_LEASE_NAME = re.compile(r"dbclusterref(?:-(\d{1,4})-of-([1-9]\d{0,3}))?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Shard:
    """One of `count` processes, counted from 0 as a StatefulSet counts its pods."""

    index: int = 0
    count: int = 1

    def owns(self, uid: str) -> bool:
        """Return whether a resource of that UID belongs to this process."""
        # Not `hash()`: it differs from process to process.
        digest = hashlib.blake2b(uid.encode(), digest_size=8).digest()
        return int.from_bytes(digest) % self.count == self.index

    @property
    def lease_name(self) -> str:
        """Return the name of its Lease: the leaders of two shards have nothing to do with each other."""
        return "dbclusterref" if self.count == 1 else f"dbclusterref-{self.index}-of-{self.count}"

    @classmethod
    def of_lease(cls, name: str) -> "Shard | None":
        """Return the shard whose Lease has this name; None for any other Lease."""
        match = _LEASE_NAME.fullmatch(name)
        if match is None:
            return None
        return cls(index=int(match[1]), count=int(match[2])) if match[2] else cls()

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"
