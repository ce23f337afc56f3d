"""One worker process: it says hello, then does one job after another until its input ends.

A frame in either direction is a length of four bytes and so much JSON; a picture may follow an answer. JSON and not pickle,
because the other side must be able to read the words of a process that decodes hostile files. A job is answered in two steps:
by the estimate of its memory, and, when the other side has said go, by what was made.
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import resource
import signal
import sys
import traceback
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO

from processors import confinement
from processors.errors import MediaError
from processors.values import Limits, Rendered

PR_SET_PDEATHSIG = 1
PIPE_BYTES = 1 << 20
GRACE_S = 5.0
RETIRE_BYTES = 160 << 20
"""A worker that holds more than this after a job is replaced: fragments of large pictures, which no free gives back."""


def main() -> None:
    """Serve jobs from the standard input until it ends. Whatever the libraries print goes nowhere: it names files."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    requests, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    if sys.platform == "linux":
        fcntl.fcntl(answers, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
    nowhere = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(nowhere, standard)
    start = _read(requests)
    if start is None:
        return
    limits = Limits(**start["limits"])
    try:
        from processors import image  # noqa: PLC0415 - what fails here is to be told, not printed

        image.prepare()
        hello = image.capabilities(limits)
    except Exception as error:
        _write(answers, {"failed": f"{type(error).__name__}: {error}"})
        return
    hello["confined"] = confinement.confine(limits, start["readable"])
    _write(answers, {"hello": hello})
    while (request := _read(requests)) is not None:
        _serve(request, limits, requests, answers)


def _serve(request: dict[str, Any], limits: Limits, requests: BinaryIO, answers: BinaryIO) -> None:
    from processors import image  # noqa: PLC0415 - in memory by now

    data = b""
    try:
        # Should the other side be gone or asleep: no job outlives its deadline by much, also inside a decoder.
        signal.setitimer(signal.ITIMER_REAL, limits.deadline_s + GRACE_S)
        if request["do"] == "render":
            work: image.Work[Any] = image.rendering(request["path"], request["transform"], limits)
        else:
            work = image.inspecting(request["path"], limits, whole=request["whole"])
        signal.setitimer(signal.ITIMER_REAL, 0)
        _write(answers, {"estimate": work.estimate_bytes})
        if not (_read(requests) or {}).get("go"):
            return
        signal.setitimer(signal.ITIMER_REAL, limits.deadline_s + GRACE_S)
        made = work.run()
        if isinstance(made, Rendered):
            data = made.data
            answer = {"rendered": [made.content_type, made.width, made.height, *made.degraded], "size": len(data)}
        else:
            answer = {"inspected": asdict(made)}
        del work, made
    except MediaError as error:
        answer = {"refused": type(error).__name__, "detail": error.detail, "members": error.members}
    except FileNotFoundError:
        answer = {"gone": True}
    except Exception:  # the root of this process: the other side raises it
        answer = {"crashed": traceback.format_exc(limit=-8)[-4000:]}
    signal.setitimer(signal.ITIMER_REAL, 0)
    answer["retire"] = _idle_bytes() > RETIRE_BYTES
    _write(answers, answer, data)


def _read(stream: BinaryIO) -> dict[str, Any] | None:
    head = stream.read(4)
    if len(head) < 4:
        return None
    request: dict[str, Any] = json.loads(stream.read(int.from_bytes(head, "big")))
    return request


def _write(stream: BinaryIO, answer: dict[str, Any], data: bytes = b"") -> None:
    text = json.dumps(answer).encode()
    stream.write(len(text).to_bytes(4, "big") + text)
    if data:
        stream.write(data)
    stream.flush()


def _idle_bytes() -> int:
    # What this process holds between jobs, after everything free went back.
    if sys.platform != "linux":
        return 0
    ctypes.CDLL(None).malloc_trim(0)
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


if __name__ == "__main__":
    main()
