"""What must hold after every bad input (threats.md section 2), checked around it: `with harmless(413) as bad: bad.answer = …`.

(a) the stated status; (b) nothing left: no object, temp file, open file, connection, child; (c) a small problem document
with a code and a request id, without echo, path or library text; (d) one log line at most, small and clean; (e) no new
metric series; (f) memory back; (g) others are served meanwhile.
"""

from __future__ import annotations

import json
import re
import statistics
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from operator import le
from typing import Any

import psutil

from processors import errors as theirs
from proxy import errors as ours
from tests.kit.client import Answer, Client
from tests.kit.raw import RawAnswer
from tests.kit.server import RunningServer
from tests.kit.waiting import until

MAX_PROBLEM_BYTES = 1024
MAX_LINE_BYTES = 2048
MAX_GROWTH_BYTES = 20 << 20
SETTLE_S = 30.0
GONE_S = 15.0
BLOCKED_S = 0.25
MAX_BLOCKED_S = 2.0
"""CPU time that the HTTP process may spend while a neighbour waits for one answer: at the 95th percentile, and ever. What a
neighbour waits by the clock, a shared machine decides as well; a process that is blocked by an input spends this by far."""

PROBLEM_MEMBERS = {"type", "title", "status", "detail", "code", "requestId"}
LIBRARY_TEXT = re.compile(
    r"vips|libheif|pillow|PIL\b|ffmpeg|libav|aiohttp|sqlalchemy|sqlite|jwt\.|PyJWT|Traceback|Errno|\.py\b|0x[0-9a-f]{6}|Exception",
    re.IGNORECASE,
)
CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f]")


KINDS = [kind for module in (ours, theirs) for kind in vars(module).values() if isinstance(kind, type)]
"""What problems there are."""
CLOSED = {
    "code": re.compile("|".join(sorted({kind.slug for kind in KINDS if issubclass(kind, theirs.MediaError)}))),
    "type": re.compile(r"image/(jpeg|png|webp|avif|gif)|video/mp4|text/vtt|application/json"),
    "store": re.compile(r"minio|s3|local|proxy"),
    "owner": re.compile(r".+"),  # as few as there may be
    "route": re.compile(r"[a-z][a-z_.-]{1,24}"),
    "outcome": re.compile(r"[1-5]xx|gone|ok|stored|[a-z]{2,12}(-[a-z]{2,12}){0,3}"),
    "kind": re.compile(r"image|drawing|video|audio|document|unknown"),
    "way": re.compile(r"body|form|tus|chunks|promise"),
    "found": re.compile(r"memory|stored|miss"),
    "le": re.compile(r"[0-9.e+-]+|\+Inf"),
}
"""The label values that a series may have. Those of *route* and *outcome* are names in the code; `ROUTES` counts the former."""
ROUTES = 36
OWNERS = 10
SERIES = re.compile(r"(?P<name>[A-Za-z_:][A-Za-z0-9_:]*)(?:\{(?P<labels>.*)\})?")
LABEL = re.compile(r'([a-z_]+)="((?:[^"\\]|\\.)*)"')


@dataclass
class BadInput:
    """What a test fills in: *answer* is what came (None where the sender has gone), *sent* what must not come back in it."""

    answer: Answer | RawAnswer | None = None
    sent: list[str] = field(default_factory=list)
    problem: dict[str, Any] | None = None


@dataclass(frozen=True)
class State:
    """What a server has at one moment."""

    files: frozenset[str]
    open_files: frozenset[str]
    handles: tuple[int, int]
    children: int
    rss: int
    series: frozenset[str]

    @classmethod
    def of(cls, server: RunningServer) -> State:
        """The state of *server* now, once what earlier requests left to be done behind their answers is done."""
        server.warm()
        server.settle()
        return cls(
            frozenset(server.files()),
            frozenset(server.open_files()),
            server.handles(),
            len(server.children()),
            server.rss_of_all(),
            frozenset(server.metrics()),
        )


class Neighbour:
    """Somebody else who is served all the while: asks for a small object of their own, again and again."""

    def __init__(self, server: RunningServer) -> None:
        self._client = Client(server.url)
        self._process = server.process
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._ask, daemon=True)
        self.spent: list[float] = []
        self.failures: list[str] = []

    def _ask(self) -> None:
        while True:
            before = self._spent()
            try:
                answer = self._client.get("/api/health/live")
                if answer.status != 200:
                    self.failures.append(repr(answer))
            except OSError as error:
                self.failures.append(repr(error))
            self.spent.append(self._spent() - before)
            if self._ended.wait(0.01):
                return

    def _spent(self) -> float:
        with suppress(psutil.NoSuchProcess):  # which `check_nothing_left` says
            times = self._process.cpu_times()
            return float(times.user + times.system)
        return 0.0

    def __enter__(self) -> Neighbour:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join(30)


@contextmanager
def harmless(
    server: RunningServer, status: int | Sequence[int] | None, code: str | None = None, *, lines: int = 1
) -> Iterator[BadInput]:
    """Check all after-effects of the bad input that is sent inside. *status* None: no answer is owed, the sender has gone.

    *lines* is how many log lines the requests sent inside may make, one each.
    """
    before = State.of(server)
    mark = server.output.mark
    bad = BadInput()
    with Neighbour(server) as neighbour:
        yield bad
    if status is not None:
        assert bad.answer is not None, "the test must say what came: bad.answer = …"
        bad.problem = check_problem(bad.answer, status, code, bad.sent)
    check_nothing_left(server, before)
    check_log(server, mark, lines, bad.problem)
    check_series(before.series, frozenset(server.metrics()))
    check_neighbour(neighbour)
    check_memory(server, before.rss)


def check_problem(
    answer: Answer | RawAnswer, status: int | Sequence[int], code: str | None = None, sent: Sequence[str] = ()
) -> dict[str, Any] | None:
    """(a) and (c): the status, and the one shape of a problem document; gives the document, None for an answer to HEAD."""
    allowed = [status] if isinstance(status, int) else list(status)
    assert answer.status in allowed, f"{answer.status} and not {allowed}: {answer!r}"
    kind = answer.header("Content-Type") if isinstance(answer, RawAnswer) else answer.headers.get("Content-Type")
    assert (kind or "").partition(";")[0] == "application/problem+json", answer
    if not answer.body:
        return None
    assert len(answer.body) <= MAX_PROBLEM_BYTES, f"{len(answer.body)} bytes: {answer.body[:400]!r}"
    document = json.loads(answer.body)
    assert document.keys() >= PROBLEM_MEMBERS, document
    assert document["status"] == answer.status
    assert isinstance(document["requestId"], str)
    assert len(document["requestId"]) >= 8
    assert re.fullmatch(r"[a-z]+(-[a-z]+)*", document["code"]), document
    assert code is None or document["code"] == code, document
    shown = " ".join(str(value) for name, value in document.items() if name not in {"requestId", "type"})
    assert not LIBRARY_TEXT.search(shown), document
    assert not re.search(r"(^|[\s'\"(])/(home|work|tmp|root|usr|var|Users|private)\b", shown), f"a path of ours: {document}"
    assert not CONTROLS.search(answer.body.decode()), document
    for text in sent:
        assert text not in answer.body.decode(), f"the input came back: {text!r} in {document}"
    return document


def check_nothing_left(server: RunningServer, before: State) -> None:
    """(b): files, open files, connections, descriptors and children are what they were, 5 s later at most."""
    assert server.running, f"the server has died:\n{server.output.text[-2000:]}"
    assert until(lambda: server.files() <= before.files, GONE_S), f"files left: {sorted(server.files() - before.files)}"
    assert until(lambda: server.open_files() <= before.open_files, GONE_S), f"open: {server.open_files() - before.open_files}"
    assert until(lambda: all(map(le, server.handles(), before.handles)), GONE_S), (
        f"{server.handles()} connections and other descriptors, {before.handles} before"
    )
    assert until(lambda: len(server.children()) == before.children, GONE_S), (
        f"children, of which there were {before.children}: {server.children()}"
    )


def own_lines(server: RunningServer, mark: int) -> list[str]:
    """The log lines after *mark* that are not about the neighbour's and the kit's own questions."""
    return [line for line in server.output.since(mark) if '"/api/health/live"' not in line and '"/metrics"' not in line]


def check_log(server: RunningServer, mark: int, lines: int, problem: dict[str, Any] | None) -> None:
    """(d): at most *lines* lines, each of 2 KiB at most, without traceback and control characters; the answer's id is in them."""
    if problem is not None:
        found = server.output.wait_for(lambda line: problem["requestId"] in line, since=mark, seconds=GONE_S)
        assert found is not None, f"no log line has the request id {problem['requestId']}: {own_lines(server, mark)}"
    said = own_lines(server, mark)
    assert len(said) <= lines, f"{len(said)} log lines:\n" + "\n".join(said)
    for line in said:
        assert len(line.encode()) <= MAX_LINE_BYTES, line
        assert not CONTROLS.search(line), line
        assert "Traceback" not in line, line
        assert '"exception"' not in line, line
        assert json.loads(line), line


def check_series(before: frozenset[str], after: frozenset[str]) -> None:
    """(e): a series that was not there before is of a metric whose labels are closed sets, and of values in them."""
    for series in after - before:
        found = SERIES.fullmatch(series)
        assert found is not None, series
        for label, value in LABEL.findall(found["labels"] or ""):
            assert label in CLOSED, f"a label that is not known to be closed: {series}"
            assert CLOSED[label].fullmatch(value), f"a label value that may come from outside: {series}"
    routes = {value for series in after for label, value in LABEL.findall(series) if label == "route"}
    assert sum(series.startswith("media_owner_bytes{") for series in after) <= OWNERS
    assert len(routes) <= ROUTES, f"more routes than there are: {sorted(routes)}"


def check_neighbour(neighbour: Neighbour) -> None:
    """(g): everybody else was served, and the process was free to serve them."""
    assert not neighbour.failures, neighbour.failures[:3]
    if len(neighbour.spent) >= 20:
        most = statistics.quantiles(neighbour.spent, n=20)[-1]
        assert most <= BLOCKED_S, f"others waited for {most:.3f} s of work at the 95th percentile of {len(neighbour.spent)}"
    assert max(neighbour.spent) <= MAX_BLOCKED_S, f"somebody waited for {max(neighbour.spent):.3f} s of work"


def check_memory(server: RunningServer, before: int) -> None:
    """(f): the resident memory of all processes is back within 20 MiB, 10 s later at most."""
    assert until(lambda: server.rss_of_all() <= before + MAX_GROWTH_BYTES, SETTLE_S), (
        f"{(server.rss_of_all() - before) / (1 << 20):.0f} MiB more than before"
    )
