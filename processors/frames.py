"""How a child process speaks with the one that started it: a length of four bytes, and so much JSON; bytes may follow an answer.

JSON and not pickle, because the other side must be able to read the words of a process that decodes hostile files.
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import signal
import sys
from typing import Any, BinaryIO

Words = dict[str, Any]

PR_SET_PDEATHSIG = 1
PIPE_BYTES = 1 << 20


def opened(nice: int) -> tuple[BinaryIO, BinaryIO]:
    """Where this process is asked, and where it answers; it goes with the one that started it, and lets others go first.

    Whatever the libraries print goes nowhere from now on: it names files.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.nice(nice)
    requests, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    if sys.platform == "linux":
        fcntl.fcntl(answers, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
    nowhere = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(nowhere, standard)
    return requests, answers


def read(stream: BinaryIO) -> Words | None:
    """The next words; None at the end."""
    head = stream.read(4)
    if len(head) < 4:
        return None
    request: Words = json.loads(stream.read(int.from_bytes(head, "big")))
    return request


def write(stream: BinaryIO, answer: Words, data: bytes = b"") -> None:
    """Say *answer*, which gives the length of *data*."""
    text = json.dumps(answer).encode()
    stream.write(len(text).to_bytes(4, "big") + text)
    if data:
        stream.write(data)
    stream.flush()
