"""Resumable uploads: whether small pieces cost linear time, and what many at once cost in memory: ``make bench-uploads``."""

from __future__ import annotations

import http.client
import statistics
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests import pictures
from tests.kit.client import Client
from tests.kit.files import padded
from tests.kit.server import RunningServer
from tests.kit.tus import BYTES, begun

PIECES, PIECE_BYTES = 2_000, 500 << 10
"""what TUSKit sends by default"""
AT_ONCE, EACH_BYTES = 200, 4 << 20
MIB = 1 << 20


def linear(folder: Path) -> None:
    """One film in 2,000 PATCHes over one connection."""
    with RunningServer(folder, {"MEDIA_MAX_BYTES_IMAGE": "2G", "MEDIA_LOG_LEVEL": "warning"}) as server:
        client = server.client("me")
        head = padded(pictures.jpeg(64, 48), PIECE_BYTES)
        # A JPEG may be followed by anything, so the rest is the first piece again.
        upload = begun(client, PIECES * PIECE_BYTES)
        line = http.client.HTTPConnection("127.0.0.1", server.port, timeout=120)
        took = []
        for number in range(PIECES):
            began = time.perf_counter()
            headers = {**BYTES, "Upload-Offset": str(number * PIECE_BYTES), "Authorization": f"Bearer {client.token}"}
            line.request("PATCH", upload.path, body=head, headers=headers)
            answer = line.getresponse()
            answer.read()
            assert answer.status == 204, answer.status
            took.append(time.perf_counter() - began)
        last = took.pop()
        began = time.perf_counter()
        whole = (head for _ in range(PIECES))
        line.request("POST", "/api/upload", body=whole, headers={
            "Content-Type": "image/jpeg", "Content-Length": str(PIECES * PIECE_BYTES), "Authorization": f"Bearer {client.token}",
        })  # fmt: skip
        answer = line.getresponse()
        answer.read()
        assert answer.status == 201, answer.status
        once = time.perf_counter() - began
    quarter = len(took) // 4
    print(
        f"{PIECES} PATCHes of {PIECE_BYTES >> 10} KiB: {sum(took):.1f} s and {last:.1f} s for the end; in one request {once:.1f} s"
    )
    for at in range(4):
        part = took[at * quarter : (at + 1) * quarter]
        print(f"  quarter {at + 1}: median {statistics.median(part) * 1e3:.2f} ms, mean {statistics.mean(part) * 1e3:.2f} ms")


def crowd(folder: Path) -> None:
    """200 uploads at once, each in one PATCH, all of them slow enough to be under way together."""
    with RunningServer(folder) as server:
        server.warm()
        server.settle()
        idle = server.rss_of_all()
        data = padded(pictures.jpeg(64, 48), EACH_BYTES)
        ready, ended = threading.Barrier(AT_ONCE), threading.Event()
        most = [0, 0]

        def watch() -> None:
            while not ended.wait(0.05):
                most[0] = max(most[0], server.rss())
                most[1] = max(most[1], server.rss_of_all())

        def send(number: int) -> int:
            client = Client(server.url, server.token(f"u{number}"))
            upload = begun(client, len(data))

            def slowly() -> object:
                for at in range(0, len(data), MIB):
                    if at == MIB:
                        ready.wait(60)
                    yield data[at : at + MIB]

            headers = {**BYTES, "Upload-Offset": "0", "Content-Length": str(len(data))}
            for _ in range(20):
                answer = client.request("PATCH", upload.path, headers, slowly())  # type: ignore[arg-type]
                if answer.status == 204:
                    return 204
                upload.head()
                time.sleep(1)
            return answer.status

        watcher = threading.Thread(target=watch)
        watcher.start()
        began = time.perf_counter()
        with ThreadPoolExecutor(AT_ONCE) as pool:
            statuses = list(pool.map(send, range(AT_ONCE)))
        took = time.perf_counter() - began
        ended.set()
        watcher.join()
    print(
        f"{AT_ONCE} uploads of {EACH_BYTES >> 20} MiB at once: {took:.1f} s, {statuses.count(204)} ended well; "
        f"the HTTP process {most[0] >> 20} MiB at most, with workers {most[1] >> 20} MiB, {idle >> 20} MiB before"
    )


def main() -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as name:
        linear(Path(name) / "linear")
        crowd(Path(name) / "crowd")


if __name__ == "__main__":
    main()
