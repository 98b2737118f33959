"""The directory a control plane keeps its files in, and the ones that killed control planes left behind."""

import fcntl
import os
import shutil
import tempfile
from pathlib import Path

PREFIX = "dbclusterref-sandbox-"


class StateDirectory:
    """A fresh directory under the system's own for temporary files; locked while in use, so that a later one can tell.

    The lock is the kernel's: it ends with the process however that ended, which no file that names a process id can promise.
    """

    def __init__(self, *, parent: Path | None = None) -> None:
        parent = parent or Path(tempfile.gettempdir())
        remove_abandoned(parent)
        self.path = Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent))
        self._lock: int | None = os.open(self.path, os.O_RDONLY)
        fcntl.flock(self._lock, fcntl.LOCK_EX)

    def remove(self) -> None:
        """Everything in it; harmless when done already."""
        shutil.rmtree(self.path, ignore_errors=True)
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def remove_abandoned(parent: Path) -> None:
    """Removes directories whose owner is gone. An empty one is let be: it may be about to be locked."""
    for path in parent.glob(f"{PREFIX}*"):
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        except OSError:  # another user's, or gone meanwhile
            continue
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if any(path.iterdir()):
                shutil.rmtree(path, ignore_errors=True)
        except OSError:  # in use, or gone meanwhile
            continue
        finally:
            os.close(descriptor)
