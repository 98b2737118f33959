"""What a directory of programs must hold: the control plane's four, or a node's two."""

import os
import subprocess
from pathlib import Path

# Each with the arguments that make it tell its version and do nothing else.
_VERSION_ARGUMENTS = {"kubectl": ("version", "--client")}
_VERSION_FLAG = ("--version",)
PROGRAMS = ("etcd", "kube-apiserver", "kube-controller-manager", "kubectl")
NODE_PROGRAMS = ("kubelet", "kube-scheduler")
ANSWER_SECONDS = 30


class AssetsError(Exception):
    """The programs cannot be had (this way); the message says why, and what to do where a person can do something."""


def find_fault(directory: Path, *, programs: tuple[str, ...] = PROGRAMS) -> str:
    """Why the directory will not do; empty if all the programs are there and run on this machine."""
    if not directory.is_dir():
        return "there is no such directory"
    if missing := [name for name in programs if not (directory / name).is_file()]:
        return f"{', '.join(missing)} missing"
    for name in programs:
        if fault := _find_program_fault(directory / name):
            return f"{name} {fault}"
    return ""


def require_whole(directory: Path, *, programs: tuple[str, ...] = PROGRAMS) -> None:
    """Raise `AssetsError` with the fault, if there is one."""
    if fault := find_fault(directory, programs=programs):
        raise AssetsError(fault)


def _find_program_fault(program: Path) -> str:
    if not os.access(program, os.X_OK):
        return "is not executable"
    try:
        answer = subprocess.run(
            [program, *_VERSION_ARGUMENTS.get(program.name, _VERSION_FLAG)],
            capture_output=True,
            timeout=ANSWER_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"does not run here ({error})"
    if answer.returncode != 0:
        last = answer.stderr.decode(errors="replace").strip().rpartition("\n")[2]
        return f"does not run here (exit status {answer.returncode}: {last})"
    return ""
