"""Warm hits from two processes, from memory and from Redis, beside nginx that serves the same files: ``make bench-hits``.

wrk is on the same machine and takes its share. Each of the three is measured in turn, and that as often as ROUNDS says.
"""

from __future__ import annotations

import re
import shutil
import statistics
import subprocess
import tempfile
from pathlib import Path

from tests import pictures
from tests.kit.client import media
from tests.kit.ports import free_port
from tests.kit.redis import RedisServer
from tests.kit.server import RunningServer
from tests.kit.waiting import until

ROUNDS = 2
SECONDS = 4
CONNECTIONS = 64
QUERIES = ("w=640&q=80", "w=1280&q=90", "w=1600&format=png")
"""a small one, a usual one, a large one that Redis does not take at its default limit"""


def rate(url: str) -> float:
    """Requests a second that wrk gets from *url*; raises where one of them is not a 200."""
    command = ["wrk", "-t", "1", "-c", str(CONNECTIONS), "-d", f"{SECONDS}s", url]
    said = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
    assert "Non-2xx" not in said, said
    found = re.search(r"Requests/sec:\s+([\d.]+)", said)
    assert found is not None, said
    return float(found[1])


def nginx(folder: Path, port: int) -> subprocess.Popen[bytes]:
    """An nginx of two workers that serves the files in *folder*."""
    configuration = folder / "nginx.conf"
    configuration.write_text(
        f"daemon off; worker_processes 2; pid {folder}/pid; error_log {folder}/error.log;\n"
        "events { worker_connections 1024; }\n"
        f"http {{ access_log off; sendfile on; tcp_nopush on; open_file_cache max=100; keepalive_requests 1000000;\n"
        f"server {{ listen 127.0.0.1:{port}; root {folder}/files; }} }}\n"
    )
    program = shutil.which("nginx", path="/usr/sbin:/usr/bin:/opt/homebrew/bin")
    assert program is not None, "nginx is not installed"
    return subprocess.Popen([program, "-c", str(configuration), "-e", f"{folder}/error.log"])


def measured(places: dict[str, str], size: int) -> None:
    """Measure each of *places* in turn, and print."""
    for url in places.values():
        rate(url)  # warm
    rates: dict[str, list[float]] = {kind: [] for kind in places}
    for _ in range(ROUNDS):
        for kind, url in places.items():
            rates[kind].append(rate(url))
    print(f"a rendition of {size} bytes, {CONNECTIONS} connections, two processes")
    for kind, found in rates.items():
        each = ", ".join(f"{one:,.0f}" for one in found)
        ratio = statistics.median(found) / statistics.median(rates["nginx"])
        print(f"{kind:8} {statistics.median(found):>9,.0f} requests/s ({each})   {ratio:.2f} of nginx", flush=True)


def main() -> None:
    """Measure and print, for each of QUERIES."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "nginx" / "files").mkdir(parents=True)
        folder.chmod(0o755)
        port = free_port()
        with RedisServer(folder / "redis") as redis:
            env = {"MEDIA_WORKERS": "2", "REDIS_URL": redis.url, "MEDIA_LOG_LEVEL": "warning"}
            with (
                RunningServer(folder / "memory", env) as memory,
                RunningServer(folder / "shared", {**env, "MEDIA_CACHE_BYTES": "0", "MEDIA_REDIS_PREFIX": "bench"}) as shared,
            ):
                web = nginx(folder / "nginx", port)
                try:
                    for query in QUERIES:
                        places = {}
                        for kind, server in (("memory", memory), ("Redis", shared)):
                            path = media(server.client("me").stored(pictures.jpeg(1600, 1200), "image/jpeg")["key"], query)
                            places[kind] = f"{server.url}{path}"
                            body = server.client().get(path).body
                        (folder / "nginx" / "files" / f"{query}.bin").write_bytes(body)
                        places["nginx"] = f"http://127.0.0.1:{port}/{query}.bin"
                        assert until(
                            lambda url=places["nginx"]: (
                                subprocess.run(["curl", "-sfo", "/dev/null", url], check=False).returncode == 0
                            )
                        )
                        measured(places, len(body))
                finally:
                    web.terminate()
                    web.wait(10)


if __name__ == "__main__":
    main()
