"""The Secrets that reads have just made, until a worker writes them. A bounded number: any of them can be made again."""

from collections import OrderedDict

from dbclusterref.digitalocean.snapshot import PackedSnapshot
from dbclusterref.resource.reference import Reference
from dbclusterref.secret.rendering import Rendition

MOST = 256
"""Some ten times as many as there are workers."""
LARGEST = 16 * 1024
"""Bytes of a Secret's data; an ordinary one has four thousand."""


class RecentRenditions:
    """Keeps the newest, each until it is taken once."""

    def __init__(self) -> None:
        self._kept: OrderedDict[int, tuple[PackedSnapshot, Rendition]] = OrderedDict()

    def keep(self, snapshot: PackedSnapshot, rendition: Rendition) -> None:
        """Keep what was rendered from a snapshot, unless it is large."""
        if rendition.secret.size > LARGEST:
            return
        # The snapshot is kept beside it, so that no other has its `id`.
        self._kept[id(snapshot)] = (snapshot, rendition)
        if len(self._kept) > MOST:
            self._kept.popitem(last=False)

    def take(self, snapshot: PackedSnapshot | None, reference: Reference) -> Rendition | None:
        """Return what was rendered from this very snapshot for this very spec, if it is still there."""
        _, rendition = self._kept.pop(id(snapshot), (None, None))
        return rendition if rendition and rendition.reference is reference else None
