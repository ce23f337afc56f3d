"""How long objects take from one store to another, beside MinIO's client and rclone: ``make bench-migrate``.

Two MinIO on loopback, and in the first many small objects and some large ones. Each tool brings all of them into a bucket of its
own, in turn, that as often as ROUNDS says; ours and rclone eight at a time, mc as many as it likes. What each checks differs:
`migrate` compares the digest of every byte it has read and written, looks at first bytes, and writes down what is done; the others
compare sizes.
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

from scripts import stores
from tests.kit.commands import environ
from tests.kit.server import SECRET
from tests.kit.stores import ObjectStore, provided

ROUNDS = 2
AT_ONCE = 8
SETS = {"10,000 of 8 KiB": (10_000, 8 << 10), "20 of 32 MiB": (20, 32 << 20)}
HEAD = b"%PDF-1.7\n"


def filled(store: ObjectStore, count: int, size: int) -> str:
    """A bucket with *count* objects of *size* bytes."""
    client, bucket = store.client(), store.bucket()
    client.create_bucket(Bucket=bucket)
    noise = os.urandom(size)

    def put(number: int) -> None:
        body = (HEAD + number.to_bytes(4, "big") + noise)[:size]
        client.put_object(Bucket=bucket, Key=f"u{number % 50}/{number}.pdf", Body=body, ContentType="application/pdf")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(put, range(count)))
    return bucket


def timed(run: Callable[[str], list[str]], env: dict[str, str], target: ObjectStore, count: int) -> float:
    """Seconds that a command takes which fills a bucket; raises where it did not."""
    bucket = target.bucket()
    target.client().create_bucket(Bucket=bucket)
    began = time.perf_counter()
    done = subprocess.run(run(bucket), env=env, capture_output=True, text=True, check=False, timeout=600)
    seconds = time.perf_counter() - began
    pages = target.client().get_paginator("list_objects_v2").paginate(Bucket=bucket)
    there = sum(len(page.get("Contents", [])) for page in pages)
    assert (done.returncode, there) == (0, count), (there, done.stdout[-1000:], done.stderr[-1000:])
    return seconds


def main() -> None:
    """Print the table."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        old = stack.enter_context(provided("minio", folder / "old"))
        new = stack.enter_context(provided("minio", folder / "new"))
        (client,) = [program.path for program in stores.PROGRAMS if program.name == "mc"]
        rclone = shutil.which("rclone")
        assert rclone is not None, "rclone is not installed: apt-get install rclone"
        env = environ({})
        for name, store in (("OLD", old), ("NEW", new)):
            address = store.endpoint.removeprefix("http://")
            env[f"MC_HOST_{name.lower()}"] = f"http://{store.access_key}:{store.secret_key}@{address}"
            env |= {f"RCLONE_CONFIG_{name}_{key}": value for key, value in (
                ("TYPE", "s3"), ("PROVIDER", "Minio"), ("ENDPOINT", store.endpoint), ("ACCESS_KEY_ID", store.access_key),
                ("SECRET_ACCESS_KEY", store.secret_key), ("REGION", store.region),
            )}  # fmt: skip
        env |= {"MEDIA_DATA_DIR": str(folder / "data"), "JWT_SECRET": SECRET, "MC_CONFIG_DIR": str(folder / "mc")}
        for name, store in (("from", old), ("to", new)):
            (folder / name).write_text("".join(f"{key}={value}\n" for key, value in store.settings().items()))
        print("| objects | | s | objects/s | ratio to the faster of the others |\n|---|---|---|---|---|")
        for title, (count, size) in SETS.items():
            bucket = filled(old, count, size)

            def ours(target: str, bucket: str = bucket) -> list[str]:
                places = ("--from", f"minio://{bucket}", "--to", f"minio://{target}")
                with_settings = ("--from-env", str(folder / "from"), "--to-env", str(folder / "to"))
                more = ("--state", str(folder / f"state-{target}"), "--parallel", str(AT_ONCE), "--json")
                return [sys.executable, "-m", "proxy", "migrate", *places, *with_settings, *more]

            def mirror(target: str, bucket: str = bucket) -> list[str]:
                return [str(client), "mirror", "--quiet", f"old/{bucket}", f"new/{target}"]

            def copy(target: str, bucket: str = bucket) -> list[str]:
                return [rclone, "copy", "--transfers", str(AT_ONCE), f"old:{bucket}", f"new:{target}"]

            tools = {"media-proxy migrate": ours, "mc mirror": mirror, "rclone copy": copy}
            taken: dict[str, list[float]] = {name: [] for name in tools}
            for _ in range(ROUNDS):
                for name, tool in tools.items():
                    taken[name].append(timed(tool, env, new, count))
            seconds = {name: statistics.median(each) for name, each in taken.items()}
            best = min(value for name, value in seconds.items() if name != "media-proxy migrate")
            for name, value in seconds.items():
                print(f"| {title} | {name} | {value:.1f} | {count / value:.0f} | {value / best:.2f} |")


if __name__ == "__main__":
    main()
