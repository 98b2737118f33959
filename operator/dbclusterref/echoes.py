"""Echoes of our own writes in the watches: the answer to a write has said already what the watch is about to tell. Pure."""

import re
from collections.abc import Mapping

from dbclusterref.resource.objects import uid_of, version_of

MOST = 1000
"""Echoes that are waited for at once; beyond, the oldest is forgotten, and taken for news when it comes."""

_CHANGES = (b'{"type":"ADDED",', b'{"type":"MODIFIED",')
_VERSION = re.compile(rb'"resourceVersion":"(\d+)"')


class Echoes:
    """What our own writes made: versions, and of which object, since each kind may have an etcd with versions of its own."""

    def __init__(self) -> None:
        self._expected: dict[bytes, bytes] = {}

    def expect(self, body: Mapping[str, object]) -> None:
        """Takes note of the answer to a write, once all that it says is known."""
        self._expected[version_of(body).encode()] = uid_of(body).encode()
        if len(self._expected) > MOST:
            del self._expected[next(iter(self._expected))]

    def is_one(self, line: bytes) -> bool:
        """Tells whether a line of a watch is an echo, by its bytes; each is recognized once. What is in doubt is none."""
        if not self._expected or not line.startswith(_CHANGES):
            return False
        # A label or a key of that very name makes two of it: which is the object's own would be a guess.
        versions = _VERSION.findall(line)
        uid = self._expected.get(versions[0]) if len(versions) == 1 else None
        if uid is None or b'"uid":"%b"' % uid not in line:
            return False
        del self._expected[versions[0]]
        return True
