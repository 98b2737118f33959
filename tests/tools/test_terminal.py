"""No escape codes where there is no terminal, or where NO_COLOR asks for none; and no long silence in either place."""

import os
import pty
import re
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SAY = ". tools/say.sh\n"
# What check.sh prints with comes first in it; the rest runs the checks.
STEP = re.match(r"^.*?^step\(\) \{.*?^\}\n", (ROOT / "tools" / "check.sh").read_text(), re.DOTALL | re.MULTILINE)
assert STEP, "tools/check.sh prints in another way now"
HELLOS = {"say.sh": f"{SAY}say hello", "check.sh": f"{STEP[0]}\nstep hello true"}
# The command ends when the line was shown at least once: its detail is asked for a second time then.
WAITING = f"""set -eu
{SAY}: >"$MARK"
detail() {{ printf . >>"$MARK"; printf ', %s so far' "$(cat "$1")"; }}
patiently Building detail sh -c 'printf 3; until [ "$(wc -c <"$MARK")" -ge 2 ]; do sleep 0.01; done'
say done"""


def run(script: str, *, terminal: bool, environ: Mapping[str, str]) -> str:
    command = ["sh", "-c", script, str(ROOT / "tools" / "check.sh")]
    environ = {"PATH": os.environ["PATH"], "TERM": "xterm", **environ}
    if not terminal:
        return subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, check=True).stdout
    ours, theirs = pty.openpty()
    with os.fdopen(ours, "rb", buffering=0) as reader:
        subprocess.run(command, cwd=ROOT, env=environ, stdout=theirs, check=True)
        os.close(theirs)
        said = b""
        # Linux ends a terminal that nobody writes to with an error, others with nothing.
        with suppress(OSError):
            while part := reader.read(4096):
                said += part
    return said.decode()


@pytest.mark.parametrize("script", HELLOS.values(), ids=HELLOS)
def test_a_terminal_gets_bold_arrows(script: str) -> None:
    assert run(script, terminal=True, environ={}) == "\033[1m==>\033[0m hello\r\n"


@pytest.mark.parametrize("script", HELLOS.values(), ids=HELLOS)
@pytest.mark.parametrize(
    ("terminal", "environ"),
    [(False, {}), (True, {"NO_COLOR": "1"}), (True, {"TERM": "dumb"})],
    ids=["piped", "NO_COLOR", "dumb"],
)
def test_nothing_else_gets_escape_codes(*, script: str, terminal: bool, environ: Mapping[str, str]) -> None:
    assert "\033" not in run(script, terminal=terminal, environ=environ)


@pytest.mark.parametrize("script", ["setup.sh", "image.sh"])
def test_a_script_that_installs_or_builds_prints_by_way_of_say(script: str) -> None:
    text = (ROOT / "tools" / script).read_text()
    assert f"\n{SAY}" in text
    assert "\\033" not in text


def test_a_silent_command_is_told_of_in_plain_lines_off_a_terminal(tmp_path: Path) -> None:
    told = run(WAITING, terminal=False, environ={"SAY_EVERY": "0.05", "MARK": str(tmp_path / "mark")}).splitlines()
    assert re.fullmatch(r"    Building: \d+ s, 3 so far", told[0])
    assert told[-1] == "==> done"
    assert len(told) >= 2


def test_a_silent_command_is_told_of_in_one_line_that_moves_on_a_terminal(tmp_path: Path) -> None:
    told = run(WAITING, terminal=True, environ={"SAY_EVERY": "0.05", "MARK": str(tmp_path / "mark")})
    assert re.match(r"\r\033\[K    Building: \d+ s, 3 so far\r\033\[K", told)
    assert told.endswith("\r\033[K\033[1m==>\033[0m done\r\n")
    assert told.count("\n") == 1


def test_a_quick_command_is_not_told_of() -> None:
    assert run(f"{SAY}patiently Building : printf 3", terminal=False, environ={}) == ""


def test_a_command_that_fails_keeps_its_status_and_its_complaint() -> None:
    script = f"{SAY}patiently Building : sh -c 'printf why >&2; exit 7'"
    ran = subprocess.run(["sh", "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stdout, ran.stderr) == (7, "", "why")


def test_an_interrupted_script_leaves_nobody_talking(tmp_path: Path) -> None:
    script = f"{SAY}patiently Building : sh -c 'kill -9 $PPID'"
    environ = {"PATH": os.environ["PATH"], "SAY_EVERY": "0.05", "TMPDIR": str(tmp_path)}
    # The outer shell stands for `make`. The call returns when nobody holds the pipe any more.
    subprocess.run(["sh", "-c", 'sh -c "$0"; :', script], cwd=ROOT, env=environ, capture_output=True, timeout=60, check=False)
    assert list(tmp_path.iterdir()) == []
