"""What a directory of control-plane programs must hold."""

import os
import subprocess
from pathlib import Path

# Each with the arguments that make it tell its version and do nothing else.
_VERSION_ARGUMENTS = {
    "etcd": ("--version",),
    "kube-apiserver": ("--version",),
    "kube-controller-manager": ("--version",),
    "kubectl": ("version", "--client"),
}
PROGRAMS = tuple(_VERSION_ARGUMENTS)
ANSWER_SECONDS = 30


class AssetsError(Exception):
    """The programs cannot be had (this way); the message says why, and what to do where a person can do something."""


def find_fault(directory: Path) -> str:
    """Why the directory will not do; empty if all four programs are there and run on this machine."""
    if not directory.is_dir():
        return "there is no such directory"
    if missing := [name for name in PROGRAMS if not (directory / name).is_file()]:
        return f"{', '.join(missing)} missing"
    for name in PROGRAMS:
        if fault := _find_program_fault(directory / name):
            return f"{name} {fault}"
    return ""


def require_whole(directory: Path) -> None:
    """Raise `AssetsError` with the fault, if there is one."""
    if fault := find_fault(directory):
        raise AssetsError(fault)


def _find_program_fault(program: Path) -> str:
    if not os.access(program, os.X_OK):
        return "is not executable"
    try:
        answer = subprocess.run(
            [program, *_VERSION_ARGUMENTS[program.name]], capture_output=True, timeout=ANSWER_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"does not run here ({error})"
    if answer.returncode != 0:
        last = answer.stderr.decode(errors="replace").strip().rpartition("\n")[2]
        return f"does not run here (exit status {answer.returncode}: {last})"
    return ""
