"""Whether the API server's storage was restored from a backup: its resource versions then go backwards. Pure."""


class Versions:
    """The highest resource version seen of each collection, named by its path."""

    def __init__(self) -> None:
        self._highest: dict[str, int] = {}

    def highest(self, path: str) -> int:
        """Return the highest version seen, 0 for none; asked before a listing is, since what is seen meanwhile is newer."""
        return self._highest.get(path, 0)

    def went_back(self, path: str, version: str, *, than: int) -> bool:
        """Record the version of a consistent listing; return whether it is lower than one that was seen before."""
        self.saw(path, version)
        return 0 < _number(version) < than

    def saw(self, path: str, version: str) -> None:
        """Record a version that a watch begins at."""
        self._highest[path] = max(self._highest.get(path, 0), _number(version))

    def forget(self) -> None:
        """Forget all of them: they count from the beginning."""
        self._highest.clear()


def _number(version: str) -> int:
    return int(version) if version.isascii() and version.isdigit() else 0
