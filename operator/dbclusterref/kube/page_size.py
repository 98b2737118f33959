"""How many objects a page of a listing asks for, so that its size in memory is bounded, however large they are. Pure."""

AIM = 512 * 1024
"""Bytes of JSON that a page should have: two hundred ordinary resources."""
MOST = 2 * 1024 * 1024
"""Bytes beyond which a page is given up and asked for again with fewer objects; parsed, it can be fifteen times as large."""
MOST_ALONE = 16 * 1024 * 1024
"""The same where it holds one object, which cannot be divided: etcd itself accepts a tenth of that."""
FIRST = 8
GROWTH = 8
MOST_OBJECTS = 500


class PageSize:
    """Starts small and follows the bytes seen."""

    def __init__(self) -> None:
        self.limit = FIRST

    @property
    def most_bytes(self) -> int:
        """Return how large the page may be."""
        return MOST if self.limit > 1 else MOST_ALONE

    def seen(self, *, objects: int, size: int) -> None:
        """Record a page that arrived, its size in bytes."""
        if objects:
            self.limit = max(1, min(AIM * objects // max(size, 1), self.limit * GROWTH, MOST_OBJECTS))

    def shrink(self) -> None:
        """Record a page that was given up because it was too large."""
        self.limit = max(1, self.limit // GROWTH)
