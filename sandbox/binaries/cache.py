"""The user's cache: what is in it is whole, and one process at a time puts something there."""

import fcntl
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from sandbox.progress import Say

STAGE_PREFIX = ".incomplete-"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cache:
    """A directory per version and platform under `root`."""

    root: Path

    @classmethod
    def of_user(cls, environ: Mapping[str, str], *, name: str = "controlplane") -> Self:
        """Below `$XDG_CACHE_HOME` or `~/.cache`; a relative `XDG_CACHE_HOME` is ignored, as its specification says."""
        chosen = Path(environ.get("XDG_CACHE_HOME", ""))
        home = chosen if chosen.is_absolute() else Path.home() / ".cache"
        return cls(root=home / "dbclusterref" / name)

    @contextmanager
    def locked(self, key: str, *, say: Say) -> Iterator[None]:
        """Waits for whoever works at the same key; the kernel drops the lock of a process that was killed."""
        self.root.mkdir(parents=True, exist_ok=True)
        with (self.root / f"{key}.lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                say(f"Another process is making {key}; waiting for it")
                fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    @contextmanager
    def staged(self, final: Path) -> Iterator[Path]:
        """A directory to fill, which becomes `final` in one step if the block ends well, and vanishes if not.

        To be used under the lock: what an earlier, killed process was filling for the same place is swept away first.
        """
        prefix = f"{STAGE_PREFIX}{final.name}-"
        for abandoned in self.root.glob(f"{prefix}*"):
            shutil.rmtree(abandoned, ignore_errors=True)
        self.root.mkdir(parents=True, exist_ok=True)
        stage = Path(tempfile.mkdtemp(prefix=prefix, dir=self.root))
        try:
            stage.chmod(0o755)
            yield stage
            stage.replace(final)
        finally:
            shutil.rmtree(stage, ignore_errors=True)
