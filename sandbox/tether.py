"""Becomes a program that dies with the process that started it, even where that one is killed by SIGKILL.

Run as a script, `python -I -S tether.py PARENT_PID PROGRAM [ARGUMENT...]`, so that nothing has to happen between fork and exec
of a process that may have threads. The kernel's promise (PR_SET_PDEATHSIG) exists on Linux alone; elsewhere the program is
merely run, and an orderly end of the parent has to do.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def tethered(command: list[str]) -> list[str]:
    """The command line that runs `command` so; for use by the process that is going to start it."""
    return [sys.executable, "-I", "-S", __file__, str(os.getpid()), *command]


def main(arguments: list[str]) -> None:
    """Never returns: it is the program afterwards, with the same process id."""
    parent, *command = arguments
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != int(parent):  # it died before the promise was made
            sys.exit(1)
    os.execv(command[0], command)  # noqa: S606 - no shell is the point


if __name__ == "__main__":
    main(sys.argv[1:])
