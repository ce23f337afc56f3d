"""Bounds a process and makes it the program that it is to be: run as a script, with the bounds as its first words.

``launch.py PARENT CPU_S MEMORY_BYTES FILE_BYTES OPEN_FILES HIDDEN PROGRAM [WORD …]``. Nothing runs between a fork and this but
the kernel, so none of it can find a lock of a thread that is not there. Where the parent dies, so does the program.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import sys

_PR_SET_PDEATHSIG = 1
_PR_SET_NO_NEW_PRIVS = 38
_NEW_USER, _NEW_NETWORK = 0x10000000, 0x40000000
HIDDEN = "hidden"
"""what HIDDEN says when the program must have no network: it then does not start where that cannot be"""
NO_NAMESPACE = 71
GRACE_S = 5
NICE = 15
"""Long work lets pictures go first, which somebody waits for."""


def main(parent: str, cpu_s: str, memory_bytes: str, file_bytes: str, open_files: str, hidden: str, *program: str) -> None:
    """Become *program*."""
    for what, most in (
        (resource.RLIMIT_CPU, int(cpu_s)),
        (resource.RLIMIT_AS, int(memory_bytes)),
        (resource.RLIMIT_FSIZE, int(file_bytes)),
        (resource.RLIMIT_NOFILE, int(open_files)),
        (resource.RLIMIT_CORE, 0),
    ):
        hard = resource.getrlimit(what)[1]
        least = most if hard == resource.RLIM_INFINITY else min(most, hard)
        # Of the processor's time it is told first: where both are one, the kernel kills as for everything else.
        end = least + GRACE_S if what == resource.RLIMIT_CPU and hard == resource.RLIM_INFINITY else least
        resource.setrlimit(what, (least, end))
    for number in (signal.SIGXFSZ, signal.SIGPIPE):  # which Python ignores, and what it becomes would go on ignoring
        signal.signal(number, signal.SIG_DFL)
    os.nice(NICE)
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != int(parent):  # it died before that held
            sys.exit(NO_NAMESPACE)
        if hidden == HIDDEN and libc.unshare(_NEW_NETWORK) and libc.unshare(_NEW_USER | _NEW_NETWORK):
            sys.exit(NO_NAMESPACE)
        libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    elif hidden == HIDDEN:
        sys.exit(NO_NAMESPACE)
    os.execv(program[0], program)  # noqa: S606 - without a shell is the point


if __name__ == "__main__":
    main(*sys.argv[1:])
