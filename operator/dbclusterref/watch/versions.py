"""Whether the API server's storage was restored from a backup: its resource versions then go backwards. Pure."""


class Versions:
    """The highest resource version seen of each collection, named by its path."""

    def __init__(self) -> None:
        self._highest: dict[str, int] = {}

    def went_back(self, path: str, version: str) -> bool:
        """Record the version of a consistent listing; return whether a higher one was seen before."""
        number = _number(version)
        if 0 < number < self._highest.get(path, 0):
            return True
        self.saw(path, version)
        return False

    def saw(self, path: str, version: str) -> None:
        """Record a version that a watch begins at."""
        self._highest[path] = max(self._highest.get(path, 0), _number(version))

    def forget(self) -> None:
        """Forget all of them: they count from the beginning."""
        self._highest.clear()


def _number(version: str) -> int:
    return int(version) if version.isascii() and version.isdigit() else 0
