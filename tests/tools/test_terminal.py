"""No escape codes where there is no terminal, or where NO_COLOR asks for none."""

import os
import pty
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# What the scripts print with comes first in them; the rest installs and tests.
PRINTING = {"setup.sh": r"^.*?^say\(\) \{[^\n]*\n", "check.sh": r"^.*?^step\(\) \{.*?^\}\n"}
CALLS = {"setup.sh": "say hello", "check.sh": "step hello true"}


def run(script: str, *, terminal: bool, environ: Mapping[str, str]) -> str:
    found = re.match(PRINTING[script], (ROOT / "tools" / script).read_text(), re.DOTALL | re.MULTILINE)
    assert found, f"tools/{script} prints in another way now"
    command = ["sh", "-c", f"{found[0]}\n{CALLS[script]}", str(ROOT / "tools" / script)]
    environ = {"PATH": os.environ["PATH"], "TERM": "xterm", **environ}
    if not terminal:
        return subprocess.run(command, env=environ, capture_output=True, text=True, check=True).stdout
    ours, theirs = pty.openpty()
    with os.fdopen(ours, "rb", buffering=0) as reader:
        subprocess.run(command, env=environ, stdout=theirs, check=True)
        os.close(theirs)
        return reader.read(4096).decode()


@pytest.mark.parametrize("script", list(PRINTING))
def test_a_terminal_gets_bold_arrows(script: str) -> None:
    assert run(script, terminal=True, environ={}) == "\033[1m==>\033[0m hello\r\n"


@pytest.mark.parametrize("script", list(PRINTING))
@pytest.mark.parametrize(
    ("terminal", "environ"),
    [(False, {}), (True, {"NO_COLOR": "1"}), (True, {"TERM": "dumb"})],
    ids=["piped", "NO_COLOR", "dumb"],
)
def test_nothing_else_gets_escape_codes(*, script: str, terminal: bool, environ: Mapping[str, str]) -> None:
    assert "\033" not in run(script, terminal=terminal, environ=environ)
