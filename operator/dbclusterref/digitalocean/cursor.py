"""Repeated walks over the pages of the listing: the position, when the next page is due, and what was not found. Pure."""

from collections.abc import Iterable
from dataclasses import replace

from dbclusterref.digitalocean.model import ClusterPage
from dbclusterref.errors import UpstreamUnavailable

UNKNOWN_PAGES = 4
"""How long a listing is assumed to be until its first page is read: a few single reads are cheaper than finding out."""
LONGEST = 2000
"""A listing with more pages is taken for a loop."""


class Cursor:
    """One walk after the other. Of each page its digest and its clusters' UUIDs are kept from one walk to the next."""

    def __init__(self) -> None:
        self.after: str | None = None
        self.position = 0
        self.due_at = 0.0
        self._pages: list[tuple[ClusterPage, tuple[str, ...]]] = []
        self._seen: set[str] = set()
        self._been_at: set[str] = set()
        self._expected: int | None = None
        self._reread = [True, False]

    @property
    def pages(self) -> int:
        """How many pages the listing has, as far as is known."""
        return self._expected or UNKNOWN_PAGES

    @property
    def known(self) -> ClusterPage | None:
        """The next page as it was in the last walk; None where it must be parsed even if it has not changed."""
        return self._pages[self.position][0] if not self._reread[0] and self.position < len(self._pages) else None

    def reread(self) -> None:
        """Have every page of the rest of this walk and of the next one parsed."""
        self._reread = [True, True]

    def take(self, page: ClusterPage) -> tuple[tuple[str, ...], bool]:
        """Record the next page; return which clusters are on it, and whether it was the walk's last.

        Raises UpstreamUnavailable where the page leads back to one already read, or never to an end: start again then.
        """
        if page.next in self._been_at:
            raise UpstreamUnavailable("DigitalOcean's listing of clusters leads back to a page already read; retrying.")
        if page.next is not None and self.position + 1 >= LONGEST:
            raise UpstreamUnavailable("DigitalOcean's listing of clusters does not end; retrying.")
        uuids = self._pages[self.position][1] if page.clusters is None else tuple(c.uuid for c in page.clusters)
        self._pages[self.position : self.position + 1] = [(replace(page, clusters=None), uuids)]
        self._seen.update(uuids)
        if page.next is None:
            self._expected = self.position + 1
            del self._pages[self.position + 1 :]
        else:
            self._been_at.add(page.next)
            self.after, self.position = page.next, self.position + 1
            told = -(-page.total // page.length) if page.total and page.length else 0
            self._expected = max(told or self._expected or 0, self.position + 1)
        return uuids, page.next is None

    def missing(self, wanted: Iterable[str]) -> frozenset[str]:
        """Return which of the wanted clusters a complete walk did not find."""
        return frozenset(wanted) - self._seen

    def start_again(self) -> None:
        """Go back to the first page."""
        self.after, self.position = None, 0
        self._seen.clear()
        self._been_at.clear()
        self._reread = [self._reread[1], False]

    def space_out(self, now: float, *, every: float) -> None:
        """Set when the next page is due, so that a whole walk takes `every` seconds and its pages are spread evenly."""
        spacing = every / self.pages
        # What is a little late is caught up with; what came early moves the rest up.
        self.due_at = (self.due_at if 0 <= now - self.due_at < every / 2 else now) + spacing
