"""Stills and a storyboard of a long film in a store, beside ffmpeg on the same film in the same run: ``make bench-video``."""

from __future__ import annotations

import shutil
import socket
import statistics
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from random import Random

import av
from PIL import Image

from tests.kit.client import media
from tests.kit.server import RunningServer
from tests.kit.stores import ObjectStore

MIB = 1 << 20
FILM_BYTES = 1 << 30
RATE, SECONDS, WIDTH, HEIGHT = 24, 4, 640, 360
TIMES = 15
CHUNK_BYTES = 1 << 16


class Relay:
    """Passes connections on to *port* of this machine, and counts what comes back."""

    def __init__(self, port: int) -> None:
        self._to = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self.came = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            near, _ = self._listener.accept()
            far = socket.create_connection(("127.0.0.1", self._to))
            threading.Thread(target=self._pump, args=(near, far, False), daemon=True).start()
            threading.Thread(target=self._pump, args=(far, near, True), daemon=True).start()

    def _pump(self, source: socket.socket, target: socket.socket, counts: bool) -> None:
        try:
            while data := source.recv(CHUNK_BYTES):
                self.came += len(data) if counts else 0
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)
        except OSError:
            for line in (source, target):
                line.close()


def film(path: Path, *, index_first: bool) -> float:
    """A film of `FILM_BYTES`, mostly of noise, the same seconds again and again; gives its length in seconds."""
    frames = RATE * SECONDS
    clip = path.with_suffix(".clip.mp4")
    with av.open(str(clip), "w") as made:
        stream = made.add_stream("libx264", rate=RATE, options={"g": str(RATE), "preset": "ultrafast", "bf": "0"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for number in range(frames):
            noise = Image.frombytes("L", (WIDTH, HEIGHT), Random(number).randbytes(WIDTH * HEIGHT)).convert("RGB")
            noise.paste((0, 0, 0), (0, 0, WIDTH // 3, HEIGHT))  # else it is all grey from afar, and shows nothing
            frame = av.VideoFrame.from_image(noise)
            frame.pts, frame.time_base = number, Fraction(1, RATE)
            made.mux(stream.encode(frame))
        made.mux(stream.encode())
    rounds = -(-FILM_BYTES // clip.stat().st_size)
    with av.open(str(path), "w", options={"movflags": "faststart"} if index_first else {}) as made:
        with av.open(str(clip)) as source:
            kept = made.add_stream_from_template(source.streams.video[0])
        for turn in range(rounds):
            with av.open(str(clip)) as source:
                for packet in source.demux(source.streams.video[0]):
                    if packet.dts is None:
                        continue
                    shift = round(turn * SECONDS / packet.time_base)
                    packet.pts, packet.dts, packet.stream = packet.pts + shift, packet.dts + shift, kept
                    made.mux(packet)
    clip.unlink()
    return float(rounds * SECONDS)


@contextmanager
def measured(relay: Relay) -> Iterator[Callable[[], tuple[float, int]]]:
    """The seconds since the beginning, and the bytes that have come from the store."""
    began, before = time.perf_counter(), relay.came
    yield lambda: (time.perf_counter() - began, relay.came - before)


def told(name: str, took: list[tuple[float, int]]) -> float:
    """Print what it took; gives the median of the seconds."""
    seconds, read = [one for one, _ in took], [one for _, one in took]
    middle = statistics.median(seconds)
    print(f"  {name:12} median {middle * 1e3:6.0f} ms, worst {max(seconds) * 1e3:6.0f} ms; "
          f"read median {statistics.median(read) / MIB:5.2f} MiB, most {max(read) / MIB:5.2f} MiB")  # fmt: skip
    return middle


def compared(name: str, ours: list[tuple[float, int]], theirs: list[tuple[float, int]]) -> None:
    """Print both, and our part of the seconds of *name*."""
    middle = told("ours", ours)
    if theirs:
        print(f"  ratio {middle / told(name, theirs):.2f}")


def stills(folder: Path, *, index_first: bool) -> None:
    """Stills all over one film, each of which nobody has asked for before."""
    path = folder / "film.mp4"
    length_s = film(path, index_first=index_first)
    print(f"A film of {path.stat().st_size / MIB:.0f} MiB and {length_s:.0f} s, its index {'first' if index_first else 'last'}:")
    store = ObjectStore("minio", folder / "minio")
    with store:
        relay = Relay(store.port)
        env = store.settings() | {"MINIO_PORT": str(relay.port), "MEDIA_MAX_BYTES_VIDEO": "4G", "MEDIA_LOG_LEVEL": "warning"}
        with RunningServer(folder, env | {"MEDIA_LOCAL_STORE": "off"}) as server:
            bucket = env["MINIO_BUCKET_NAME"]
            with path.open("rb") as body:
                store.client().put_object(Bucket=bucket, Key="me/film.mp4", Body=body, ContentType="video/mp4")
            client = server.client()
            assert client.get(media("me/film.mp4", "w=320&format=jpeg&time=1")).status == 200  # the workers are warm
            moments = [round(length_s * (number + 0.5) / TIMES, 2) for number in range(TIMES)]
            address = store.client().generate_presigned_url("get_object", Params={"Bucket": bucket, "Key": "me/film.mp4"})
            address = address.replace(f":{store.port}/", f":{relay.port}/", 1)

            def asked(query: str) -> tuple[float, int]:
                with measured(relay) as now:
                    answer = client.get(media("me/film.mp4", query))
                    assert answer.status == 200, answer
                    return now()

            def reference(before: list[str], filters: str) -> tuple[float, int]:
                picture = ["-frames:v", "1", "-vf", filters, str(folder / "made.jpg")]
                with measured(relay) as now:
                    subprocess.run(["ffmpeg", "-v", "error", "-y", *before, "-i", address, *picture], check=True, timeout=300)
                    return now()

            has_reference = shutil.which("ffmpeg") is not None
            ours, theirs = [], []
            for moment in moments:
                ours.append(asked(f"w=320&format=jpeg&time={moment}"))
                if has_reference:
                    theirs.append(reference(["-ss", str(moment)], "scale=320:-2"))
            compared("ffmpeg -ss", ours, theirs)
            best = asked("w=320&format=jpeg")
            print(f"  the still that shows most, of several places: {best[0] * 1e3:.0f} ms, {best[1] / MIB:.2f} MiB")
            print("A storyboard of 20 scenes, beside ffmpeg that decodes key frames only:")
            filters = f"fps=20/{length_s:.0f},scale=160:-2,tile=5x4"
            boards = [reference(["-skip_frame", "nokey"], filters)] if has_reference else []
            compared("ffmpeg", [asked("sprite=5x4&w=160&format=jpeg")], boards)
    path.unlink()


def main() -> None:
    """Both kinds of film."""
    for index_first in (False, True):
        with tempfile.TemporaryDirectory() as folder:
            stills(Path(folder), index_first=index_first)


if __name__ == "__main__":
    main()
