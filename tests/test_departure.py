"""How originals leave: through the service, from the store by a presigned address, or by the nginx in front."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests import pictures
from tests.kit.client import Client, media
from tests.kit.ports import free_port
from tests.kit.server import RunningServer
from tests.kit.stores import ObjectStore
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
    port = free_port()
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


def test_originals_of_a_store_that_can_presign_are_a_redirect_away(serve: Callable[..., RunningServer], minio: ObjectStore) -> None:
    server = serve(**minio.settings(), MEDIA_DELIVERY="redirect", MEDIA_REDIRECT_LIFETIME="40")
    client = server.client("me")
    photo = pictures.jpeg(300, 200)
    path = media(client.stored(photo)["key"])
    answer = client.get(path)
    assert (answer.status, answer.body, answer.headers["Cache-Control"]) == (302, b"", "private, max-age=20")
    place = urlsplit(answer.headers["Location"])
    assert f"{place.scheme}://{place.netloc}" == minio.endpoint
    there = Client(minio.endpoint)
    address = f"{place.path}?{place.query}"
    assert there.get(address).body == photo
    assert there.get(address, {"Range": "bytes=0-9"}).body == photo[:10]
    assert there.get(address.replace("Signature=", "Signature=0")).status == 403
    assert client.head(path).status == 200
    assert client.get(f"{path}?dl=").body == photo
    assert client.get(f"{path}?w=20").status == 200
    assert client.get("/api/media/me/nothing.jpg").status == 404
    document = media(client.stored(pictures.pdf(), "application/pdf")["key"])
    assert client.get(document).status == 200, "what is not shown in a browser leaves with the headers that say so"


def test_where_only_owners_read_the_redirect_is_theirs_alone(serve: Callable[..., RunningServer], minio: ObjectStore) -> None:
    server = serve(**minio.settings(), MEDIA_DELIVERY="redirect", MEDIA_READ_ACCESS="owner")
    path = media(server.client("me").stored(pictures.jpeg(30, 20))["key"])
    assert server.client("me").get(path).status == 302
    assert server.client("you").get(path).status == 404
    assert server.client().get(path).status == 401


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
