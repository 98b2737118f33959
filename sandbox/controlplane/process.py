"""One component: a program that runs in the background, logs to a file, and never outlives us."""

import asyncio
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from sandbox.tether import tethered

LOG_LINES_SHOWN = 20
POLL_SECONDS = 0.02


class ComponentDiedError(Exception):
    """A component ended without having been told to; the message holds the last lines of its log."""


class Process:
    """Bound to no event loop, as `asyncio.subprocess` is: a test may stop in its loop what a fixture started in another."""

    def __init__(self, *, name: str, command: Sequence[str], log: Path, environ: Mapping[str, str] | None = None) -> None:
        self.name = name
        self.command = tuple(command)
        self.log = log
        self._environ = dict(environ or {})
        self._child: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """None while it does not run."""
        return self._child.pid if self._child and self._child.poll() is None else None

    def start(self) -> None:
        """Returns at once; the program may need seconds to serve."""
        assert self.pid is None, f"{self.name} runs already"
        with self.log.open("ab") as log:
            self._child = subprocess.Popen(
                tethered([*self.command]),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # nothing of the user's environment (ETCD_*, GODEBUG, proxies) may change what a sandbox is
                env={"HOME": str(self.log.parent), "TMPDIR": str(self.log.parent), **self._environ},
                # Ctrl-C in a terminal reaches the sandbox alone, which then ends its parts
                start_new_session=True,
            )

    async def stop(self, *, grace: float) -> None:
        """SIGTERM, and SIGKILL after `grace` seconds; done when the process is gone."""
        self.send(signal.SIGTERM)
        deadline = time.monotonic() + grace
        while self.pid is not None and time.monotonic() < deadline:  # noqa: ASYNC110 - there is no event to wait for
            await asyncio.sleep(POLL_SECONDS)
        self.kill()

    def kill(self) -> None:
        """SIGKILL, also to one that is stopped or was never started; gone on return."""
        if self._child is not None:
            self._child.kill()
            self._child.wait()
            self._child = None

    def send(self, signal_: signal.Signals) -> None:
        """SIGSTOP freezes it as a hung machine would, SIGCONT thaws it."""
        if self._child is not None:
            self._child.send_signal(signal_)

    def check(self) -> None:
        """Raise `ComponentDiedError` if it was started, was not stopped by us, and is gone all the same."""
        if self._child is not None and (status := self._child.poll()) is not None:
            how = f"exit status {status}" if status >= 0 else f"killed by {signal.Signals(-status).name}"
            raise ComponentDiedError(f"{self.name} ended unexpectedly ({how}). {self.last_words()}")

    def last_words(self) -> str:
        """The end of its log, introduced by a sentence."""
        lines = self.log.read_text(errors="replace").splitlines() if self.log.exists() else []
        if not lines:
            return "Its log is empty."
        return "\n".join(["The end of its log:", *(f"  {line}" for line in lines[-LOG_LINES_SHOWN:])])
