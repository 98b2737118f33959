"""Which of several processes a resource belongs to. Pure: the same UID gives the same answer everywhere and always."""

import hashlib
from dataclasses import dataclass


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

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"
