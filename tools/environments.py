"""Virtual environments with locked requirements, made by uv, which takes seconds."""

import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


class Environments:
    """Makes them. `asked_by` begins the message with which a failure ends the program."""

    def __init__(self, *, asked_by: str) -> None:
        self._asked_by = asked_by
        self._uv = shutil.which("uv", path=sysconfig.get_path("scripts"))
        if not self._uv:
            sys.exit(f"{asked_by}: uv belongs to the development requirements; `make setup` installs them")

    def make(self, folder: Path, *, python: str | Path, requirements: str) -> Path:
        """Make one with what a file of `requirements/` locks; return the folder of its programs."""
        inside = folder / "bin"
        self.uv("venv", "--quiet", "--python", python, folder)
        self.uv(
            "pip", "install", "--quiet", "--python", inside / "python",
            "--require-hashes", "--no-deps", "--requirement", ROOT / "requirements" / requirements,
        )  # fmt: skip
        return inside

    def uv(self, *words: str | Path) -> None:
        """Run uv."""
        assert self._uv
        self.run(self._uv, *words)

    def run(self, *command: str | Path) -> None:
        """Run a program; where it fails, what it says ends ours."""
        done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False)
        if done.returncode:
            sys.exit(f"{self._asked_by}: {' '.join(map(str, command))}\n{done.stdout}{done.stderr}")
