"""One worker process: it says hello, then does one job after another until its input ends.

It speaks in frames (`processors.frames`); a picture may follow an answer. A job is a conversation: what
is answered before anything is decoded has the estimate of its memory, and the other side says go when there is room. Between
two answers it may call the job off, by words that get no answer; the last answer says that the worker rests. Of a file with
holes (`processors.sparse`) the worker may say in place of an answer what it needs, and goes on when that is there.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import sys
import traceback
from collections.abc import Callable, Generator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from processors import confinement, frames, sparse
from processors.errors import MediaError
from processors.sparse import Parts
from processors.values import Limits

if TYPE_CHECKING:
    from processors.series import Series

Words = dict[str, Any]
Job = Generator[tuple[Words, bytes], Words, Words]
"""Yields an answer and the bytes behind it, is sent what the other side says to it, and returns the last answer"""

GRACE_S = 5.0
NICE = 10
"""All workers let the process that answers requests go first: what is kept goes out at once while pictures are made."""
NICEST = 19
RETIRE_BYTES = 160 << 20
"""A worker that holds more than this after a job is replaced: fragments of large pictures, which no free gives back."""


def main() -> None:
    """Serve jobs from the standard input until it ends. Whatever the libraries print goes nowhere: it names files."""
    requests, answers = frames.opened(NICE)
    start = frames.read(requests)
    if start is None:
        return
    limits = Limits.restored(start["limits"])
    try:
        from processors import image, inspection, series  # noqa: F401, PLC0415 - what fails here is to be told, not printed

        image.prepare()
        hello = image.capabilities(limits)
    except Exception as error:
        frames.write(answers, {"failed": f"{type(error).__name__}: {error}"})
        return
    hello["confined"] = confinement.confine(limits, start["readable"])
    frames.write(answers, {"hello": hello, "rests": True})
    while (request := frames.read(requests)) is not None:
        _serve(request, limits, requests, answers)


def _serve(request: Words, limits: Limits, requests: BinaryIO, answers: BinaryIO) -> None:
    parts = _parts(request, limits, requests, answers)
    if parts is not None:
        sparse.know(request["path"], parts)
    try:
        _converse(JOBS[request["do"]](request, limits), parts, limits, requests, answers)
    finally:
        sparse.know(request["path"], None)


def _parts(request: Words, limits: Limits, requests: BinaryIO, answers: BinaryIO) -> Parts | None:
    if "bytes" not in request:
        return None

    def need(start: int, stop: int) -> bool:
        signal.setitimer(signal.ITIMER_REAL, 0)
        frames.write(answers, {"need": [start, stop]})
        words = frames.read(requests)
        signal.setitimer(signal.ITIMER_REAL, limits.deadline_s + GRACE_S)
        return words is not None and "here" in words

    return Parts(request["bytes"], request["there"], need)


def _converse(job: Job, parts: Parts | None, limits: Limits, requests: BinaryIO, answers: BinaryIO) -> None:
    words = None
    while True:
        try:
            # Should the other side be gone or asleep: no job outlives its deadline by much, also inside a decoder.
            signal.setitimer(signal.ITIMER_REAL, limits.deadline_s + GRACE_S)
            answer, data = next(job) if words is None else job.send(words)
        except StopIteration as end:
            last: Words = end.value
            break
        except Exception as error:  # noqa: BLE001, RUF100 - the root of this process: the other side raises it
            last = _failure(error)
            break
        signal.setitimer(signal.ITIMER_REAL, 0)
        if parts is not None and parts.is_off:
            return
        frames.write(answers, answer, data)
        del answer, data
        words = frames.read(requests)
        if words is None or "off" in words:
            return
    signal.setitimer(signal.ITIMER_REAL, 0)
    del job
    if parts is not None and parts.is_off:
        return
    frames.write(answers, {"retire": _idle_bytes() > RETIRE_BYTES} | last | {"rests": True})


def _inspecting(request: Words, limits: Limits) -> Job:
    from processors import inspection  # noqa: PLC0415 - in memory by now

    work = inspection.inspecting(request["path"], limits, whole=request["whole"])
    yield {"estimate": work.estimate_bytes}, b""
    return {"inspected": asdict(work.run())}


def _rendering(request: Words, limits: Limits) -> Job:
    from processors.series import Series  # noqa: PLC0415 - as above

    usual = os.getpriority(os.PRIO_PROCESS, 0)
    if request["nice"]:
        os.setpriority(os.PRIO_PROCESS, 0, NICEST)
    source = Series(request["path"], limits)
    words = yield {"opened": True}, b""
    source.plan(words["plan"])
    refused = [(number, _failure(error)) for number, error in source.refused.items()]
    words = yield {"estimate": source.estimate_bytes, "order": source.order, "refused": refused}, b""
    while "make" in words:
        words = yield _made(source, words["make"])
    if not request["nice"]:
        return {}
    try:
        os.setpriority(os.PRIO_PROCESS, 0, usual)
    except PermissionError:  # only root may go back
        return {"retire": True}
    return {}


def _cleaning(request: Words, limits: Limits) -> Job:
    from processors import inspection  # noqa: PLC0415 - as above

    work = inspection.cleaning(request["path"], limits)
    yield {"estimate": work.estimate_bytes}, b""
    made = work.run()
    yield {"cleaned": made.data is not None, "size": len(made.data or b"")}, made.data or b""
    return {}


JOBS: Mapping[str, Callable[[Words, Limits], Job]] = {"inspect": _inspecting, "render": _rendering, "clean": _cleaning}


def _made(source: Series, number: int) -> tuple[Words, bytes]:
    try:
        made = source.make(number)
    except Exception as error:  # noqa: BLE001, RUF100 - of this one rendition: the others may be sound
        return _failure(error), b""
    return {
        "rendered": [made.content_type, made.width, made.height, made.degraded, dict(made.seconds)],
        "size": len(made.data),
    }, made.data


def _failure(error: Exception) -> Words:
    if isinstance(error, MediaError):
        return {"refused": type(error).__name__, "detail": error.detail, "members": error.members}
    if isinstance(error, FileNotFoundError):
        return {"gone": True}
    return {"crashed": "".join(traceback.format_exception(error, limit=-8))[-4000:]}


def _idle_bytes() -> int:
    # What this process holds between jobs, after everything free went back.
    if sys.platform != "linux":
        return 0
    ctypes.CDLL(None).malloc_trim(0)
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


if __name__ == "__main__":
    main()
