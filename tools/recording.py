"""Records `make demo` on a terminal of its own (`make recording`): docs/demo.cast, and docs/demo.md with what was seen.

The recording is in asciicast format, version 2: a line of JSON about it, then one for each piece of output, with its time.
"""

import json
import os
import pty
import re
import struct
import sys
import termios
import time
from collections.abc import Iterator, Sequence
from fcntl import ioctl
from pathlib import Path

ROOT = Path(__file__).parents[1]
CAST = ROOT / "docs" / "demo.cast"
PAGE = ROOT / "docs" / "demo.md"
COLUMNS, LINES = 120, 40
COMMAND = ("make", "--no-print-directory", "demo")

_ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_PAGE = """\
# The demo

<!-- Generated from docs/demo.cast by `make recording`; a test holds it equal. -->

```sh
make demo
```

This is what it showed, recorded on a terminal: a real Kubernetes API server, a simulated DigitalOcean API, the operator under
its own ServiceAccount, and at the end a real node with a pod that connects to a real PostgreSQL. [`demo.cast`](demo.cast) plays
in real time with `asciinema play docs/demo.cast`; `make recording` records it again.

```text
{transcript}
```

`make up` keeps the demo's world running, with commands to paste in another terminal.
"""


def record(command: Sequence[str], *, cwd: Path) -> tuple[int, str]:
    """Run a command on a terminal, show it, and return its exit status and the recording."""
    process, terminal = pty.fork()
    if process == 0:
        os.chdir(cwd)
        os.environ.update({"TERM": "xterm-256color", "COLUMNS": str(COLUMNS), "LINES": str(LINES)})
        os.execvp(command[0], list(command))  # noqa: S606 - a program of our own choice, on the terminal that was just made
    ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, COLUMNS, 0, 0))
    header = {"version": 2, "width": COLUMNS, "height": LINES, "idle_time_limit": 2.0, "title": "dbclusterref: make demo"}
    lines, began = [json.dumps(header)], time.monotonic()
    for text in _read(terminal):
        sys.stdout.write(text)
        sys.stdout.flush()
        lines.append(json.dumps([round(time.monotonic() - began, 3), "o", text], ensure_ascii=False))
    _, status = os.waitpid(process, 0)
    return os.waitstatus_to_exitcode(status), "\n".join(lines) + "\n"


def _read(terminal: int) -> Iterator[str]:
    """What is written to a terminal, in whole characters."""
    rest = b""
    while True:
        try:
            read = os.read(terminal, 65536)
        except OSError:  # the other end is closed
            return
        rest += read
        text = rest.decode(errors="ignore")
        rest = rest[len(text.encode()) :]
        if text:
            yield text


def transcript(cast: str) -> str:
    """What stands on the screen at the end, without colours; of a line that was written over, its last state."""
    _, *events = map(json.loads, cast.splitlines())
    text = "".join(text for _, kind, text in events if kind == "o")
    lines = [line.rstrip("\r").rsplit("\r", 1)[-1] for line in _ESCAPE.sub("", text).split("\n")]
    return "\n".join(line.rstrip() for line in lines).strip("\n")


def render_page(cast: str) -> str:
    """Return docs/demo.md."""
    return _PAGE.format(transcript=transcript(cast))


def main() -> int:
    """Exit status of the demo; what failed is not kept."""
    status, cast = record(COMMAND, cwd=ROOT)
    if status == 0:
        CAST.write_text(cast)
        PAGE.write_text(render_page(cast))
    return status


if __name__ == "__main__":
    sys.exit(main())
