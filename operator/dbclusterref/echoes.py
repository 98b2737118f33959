"""Echoes of our own writes in the watches: the answer to a write has said already what the watch is about to tell. Pure."""

import re

MOST = 1000
"""Echoes that are waited for at once; beyond, the oldest is forgotten, and taken for news when it comes."""

_CHANGES = (b'{"type":"ADDED",', b'{"type":"MODIFIED",')
_VERSION = re.compile(rb'"resourceVersion":"(\d+)"')


class Echoes:
    """The resource versions that our own writes made. A version is made once in an API server, by one write."""

    def __init__(self) -> None:
        self._expected: dict[bytes, None] = {}

    def expect(self, version: str) -> None:
        """Takes note of a version whose object is known from the answer to the write."""
        self._expected[version.encode()] = None
        if len(self._expected) > MOST:
            del self._expected[next(iter(self._expected))]

    def is_one(self, line: bytes) -> bool:
        """Tells whether a line of a watch is an echo, by its bytes; each is recognized once. What is in doubt is none."""
        if not self._expected or not line.startswith(_CHANGES):
            return False
        # A label or a key of that very name makes two of it: which is the object's own would be a guess.
        versions = _VERSION.findall(line)
        if len(versions) != 1 or versions[0] not in self._expected:
            return False
        del self._expected[versions[0]]
        return True
