"""How originals leave: through the service, from the store by a presigned address, or by the nginx in front."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests import pictures
from tests.kit.client import Client, media
from tests.kit.server import RunningServer
from tests.kit.waiting import until

PAGE = (Path(__file__).parents[1] / "docs" / "operations.md").read_text(encoding="utf-8")


@pytest.fixture
def fronted(serve: Callable[..., RunningServer], tmp_path: Path) -> Iterator[tuple[RunningServer, Client]]:
    """A server that hands files over, and a client of the nginx before it, which runs on the lines of the docs."""
    nginx = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
    if nginx is None:
        assert os.environ.get("CI") != "true", "nginx must be there in CI"
        pytest.skip("nginx is not installed")
    server = serve(MEDIA_DELIVERY="accel")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    lines = PAGE.partition("```nginx\n")[2].partition("```")[0]
    lines = lines.replace("http://127.0.0.1:10020", server.url).replace("/var/lib/media-proxy", str(server.data))
    places = "".join(f"{kind}_temp_path {tmp_path}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    config = tmp_path / "nginx.conf"
    config.write_text(
        f"daemon off; master_process off; pid {tmp_path}/pid; error_log {tmp_path}/error.log; events {{}}"
        f"http {{ access_log off; {places} server {{ listen 127.0.0.1:{port}; {lines} }} }}"
    )
    running = subprocess.Popen([nginx, "-c", config, "-p", tmp_path], stderr=subprocess.DEVNULL)
    client = Client(f"http://127.0.0.1:{port}", server.token("me"))
    try:
        assert until(lambda: _listens(port)), "nginx did not start"
        yield server, client
    finally:
        running.kill()
        running.wait()


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_nginx_sends_the_files_that_the_service_hands_over(fronted: tuple[RunningServer, Client]) -> None:
    server, client = fronted
    photo = pictures.jpeg(300, 200)
    path = media(client.stored(photo)["key"])
    direct = server.client().get(path)
    assert direct.headers["X-Accel-Redirect"].startswith("/_media/objects/")
    assert direct.body == b""
    whole = client.get(path)
    assert (whole.status, whole.body) == (200, photo)
    assert "X-Accel-Redirect" not in whole.headers
    for name in ("ETag", "Content-Type", "Cache-Control", "Content-Security-Policy", "X-Content-Type-Options"):
        assert whole.headers[name] == direct.headers[name], name
    part = client.get(path, {"Range": "bytes=10-19"})
    assert (part.status, part.body, part.headers["Content-Range"]) == (206, photo[10:20], f"bytes 10-19/{len(photo)}")
    assert client.get(path, {"If-None-Match": whole.headers["ETag"]}).status == 304
    assert client.get(f"{path}?w=20").status == 200
    assert client.head(path).headers["Content-Length"] == str(len(photo))
    assert client.get("/_media/store.json").status == 404
    assert client.delete(path).status == 204
    assert client.get(path).status == 404
