"""The recipes of docs/cdn.md, run as they stand there: nginx and Varnish before a real server, and CloudFront's function."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from proxy import signing
from tests import pictures
from tests.kit.client import Answer, Client, media
from tests.kit.files import padded
from tests.kit.ports import free_port
from tests.kit.server import RunningServer
from tests.kit.shared import required
from tests.kit.snippets import snippet, snippets
from tests.kit.tus import MIB
from tests.kit.waiting import until

AVIF, WEBP, NEITHER = "image/avif,image/webp,image/*,*/*;q=0.8", "image/webp,*/*", "image/png,*/*"
SECRET = "a-secret-for-signatures-that-nobody-guesses"
PHOTO = pictures.jpeg(800, 600)
FILM_LIKE = padded(pictures.jpeg(320, 240), 9 * MIB + 321)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    env = {"MEDIA_URL_SECRETS": SECRET, "MEDIA_CORS_ORIGINS": "https://app.example", "MEDIA_TRUSTED_PROXIES": "127.0.0.0/8"}
    with RunningServer(tmp_path_factory.mktemp("cdn"), env) as running:
        yield running


def program(name: str) -> str:
    """Where a program is; skips the test where it is not, and fails it in CI."""
    found = shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin")
    if found is None:
        (pytest.fail if required() else pytest.skip)(f"{name} is not installed: apt-get install {name.removesuffix('d')}")
    return str(found)


@contextmanager
def running(command: list[str], port: int, log: Path) -> Iterator[str]:
    """*command*, which listens at *port* of this machine."""
    with log.open("wb") as output, subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT) as process:
        try:
            assert until(lambda: listens(port) or process.poll() is not None)
            assert process.poll() is None, log.read_text(errors="replace")
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def nginx(service: RunningServer, folder: Path) -> Iterator[str]:
    port = free_port()
    recipe = snippet("cdn", "nginx", "nginx")
    for told, here in (
        ("server 127.0.0.1:10020", f"server 127.0.0.1:{service.port}"),
        ("listen 80", f"listen 127.0.0.1:{port}"),
        ("/var/cache/nginx/media", f"{folder}/cache"),
    ):
        assert told in recipe
        recipe = recipe.replace(told, here)
    places = "".join(f"{kind}_temp_path {folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    file = folder / "nginx.conf"
    file.write_text(
        f"daemon off; pid {folder}/pid; error_log {folder}/error.log; user root; events {{}}"
        f"http {{ access_log off; {places} {recipe} }}".replace("user root;", "user root;" if os.geteuid() == 0 else "")
    )
    with running([program("nginx"), "-c", str(file), "-p", str(folder)], port, folder / "out.log") as url:
        yield url


@contextmanager
def varnish(service: RunningServer, folder: Path) -> Iterator[str]:
    port = free_port()
    recipe = snippet("cdn", "Varnish", "vcl")
    assert '"10020"' in recipe
    file = folder / "media.vcl"
    file.write_text(recipe.replace('"10020"', f'"{service.port}"'))
    command = [
        program("varnishd"),
        "-F",
        "-a",
        f"127.0.0.1:{port}",
        "-f",
        str(file),
        "-n",
        str(folder / "work"),
        "-s",
        "malloc,64m",
    ]
    with running([*command, "-j", "none"], port, folder / "out.log") as url:
        yield url


CACHES = {"nginx": nginx, "varnish": varnish}


@pytest.fixture(params=sorted(CACHES), scope="module")
def cache(
    request: pytest.FixtureRequest, service: RunningServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, str]]:
    """The name of a cache, and the address at which it stands before the service."""
    with CACHES[request.param](service, tmp_path_factory.mktemp(request.param)) as url:
        yield request.param, url


@pytest.fixture
def front(cache: tuple[str, str]) -> Client:
    return Client(cache[1])


def asked(front: Client, path: str, **headers: str) -> Answer:
    return front.get(path, {name.replace("_", "-"): value for name, value in headers.items()})


pytestmark = [pytest.mark.stack]


def test_what_was_asked_for_before_comes_from_the_cache(service: RunningServer, front: Client, owner: str) -> None:
    key = service.client(owner).stored(PHOTO)["key"]
    first = asked(front, media(key, "w=100"))
    second = asked(front, media(key, "w=100"))
    assert (first.status, second.status) == (200, 200)
    assert (first.headers["X-Cache"], second.headers["X-Cache"]) == ("MISS", "HIT")
    assert first.body == second.body
    assert asked(front, media(key, "w=100"), If_None_Match=first.headers["ETag"]).status == 304
    head = front.head(media(key, "w=100"))
    assert (head.headers["X-Cache"], head.headers["ETag"]) == ("HIT", first.headers["ETag"])
    assert asked(front, media(key, "w=101")).headers["X-Cache"] == "MISS"


def test_each_kind_of_client_gets_its_format_and_many_accepts_are_three(service: RunningServer, front: Client, owner: str) -> None:
    key = service.client(owner).stored(PHOTO)["key"]
    path = media(key, "w=120&format=auto")
    for accept, kind in ((NEITHER, "image/jpeg"), (AVIF, "image/avif"), (WEBP, "image/webp")):
        first, second = asked(front, path, Accept=accept), asked(front, path, Accept=f"{accept},text/x-other")
        assert {first.headers.get_content_type(), second.headers.get_content_type()} == {kind}
        assert (first.headers["X-Cache"], second.headers["X-Cache"]) == ("MISS", "HIT")


def test_ranges_of_an_original_are_its_bytes_before_and_after_it_is_kept(service: RunningServer, front: Client, owner: str) -> None:
    key = service.client(owner).stored(FILM_LIKE)["key"]
    size = len(FILM_LIKE)
    for start, end in ((0, 99), (5 * MIB, 5 * MIB + 999), (4 * MIB - 10, 4 * MIB + 10), (size - 5, size - 1), (0, size - 1)):
        for _ in range(2):
            answer = asked(front, media(key), Range=f"bytes={start}-{end}")
            assert answer.status == 206
            assert answer.headers["Content-Range"] == f"bytes {start}-{end}/{size}"
            assert answer.body == FILM_LIKE[start : end + 1]
    assert asked(front, media(key)).body == FILM_LIKE
    assert asked(front, media(key), Range=f"bytes={size}-").status == 416


def test_a_range_of_an_original_that_nginx_has_not_fetches_one_slice(service: RunningServer, owner: str, tmp_path: Path) -> None:
    key = service.client(owner).stored(FILM_LIKE)["key"]
    before = service.metric("media_sent_bytes_total", route="media")
    with nginx(service, tmp_path) as url:
        assert len(asked(Client(url), media(key), Range="bytes=0-9").body) == 10
        assert until(lambda: service.metric("media_sent_bytes_total", route="media") - before == 4 * MIB)


def test_signed_addresses_are_kept_with_their_signature_and_refused_without(
    service: RunningServer, front: Client, owner: str
) -> None:
    key = service.client(owner).stored(PHOTO)["key"]
    path = f"/api/media/{signing.address(SECRET.encode(), key, {'w': '133', 'exp': str(int(time.time()) + 3600)})}"
    assert [asked(front, path).headers["X-Cache"] for _ in range(2)] == ["MISS", "HIT"]
    changed = path[:-1] + ("A" if path[-1] != "A" else "B")
    assert asked(front, changed).code == "bad-signature"
    assert asked(front, path.replace("w=133", "w=134")).code == "bad-signature"
    over = f"/api/media/{signing.address(SECRET.encode(), key, {'w': '133', 'exp': str(int(time.time()) - 60)})}"
    assert asked(front, over).code == "expired"


def test_what_was_shown_to_a_token_is_not_shown_to_others(
    cache: tuple[str, str], service: RunningServer, owner: str, serve: Callable[..., RunningServer], tmp_path: Path
) -> None:
    private = serve(MEDIA_READ_ACCESS="owner")
    key = private.client(owner).stored(PHOTO)["key"]
    with CACHES[cache[0]](private, tmp_path) as url:
        for query in ("", "w=90"):
            for _ in range(2):
                assert Client(url, private.token(owner)).get(media(key, query)).status == 200
                assert Client(url).get(media(key, query)).status == 401


def test_pages_of_other_origins_are_told_apart(service: RunningServer, front: Client, owner: str) -> None:
    key = service.client(owner).stored(PHOTO)["key"]
    for query in ("", "w=77"):
        for origin, told in (
            ("https://evil.example", None),
            ("https://app.example", "https://app.example"),
            ("https://x.example", None),
        ):
            answer = asked(front, media(key, query), Origin=origin)
            assert (answer.status, answer.headers["Access-Control-Allow-Origin"]) == (200, told)


def test_what_is_deleted_is_purged_as_the_recipe_says(
    cache: tuple[str, str], service: RunningServer, front: Client, owner: str
) -> None:
    client = service.client(owner)
    key, other = client.stored(PHOTO)["key"], client.stored(pictures.png(300, 200))["key"]
    paths = [media(key), media(key, "w=60"), media(key, "w=61&format=auto")]
    for path in [*paths, media(other)]:
        assert asked(front, path).status == 200
    assert client.delete(media(key)).status == 204
    assert asked(front, paths[1]).headers["X-Cache"] == "HIT", "it is kept, and nobody has told"
    if cache[0] == "varnish":
        command = snippets("cdn", "Varnish", "sh")[0].replace("http://127.0.0.1/", front.url)
        subprocess.run(["bash", "-euc", command], env={**os.environ, "KEY": key}, check=True, capture_output=True, timeout=30)
    else:
        command = snippets("cdn", "nginx", "sh")[0]
        for path in paths:
            here = command.replace("http://127.0.0.1/api/media/me/3f9c.jpg", f"'{front.url}{path}'")
            assert here != command
            subprocess.run(["bash", "-euc", here], check=True, capture_output=True, timeout=30)
    assert [asked(front, path).status for path in paths] == [404, 404, 404]
    assert asked(front, media(other)).headers["X-Cache"] == "HIT"


def test_what_is_kept_is_shown_while_the_service_is_away(cache: tuple[str, str], owner: str, tmp_path: Path) -> None:
    with RunningServer(tmp_path / "server") as own:
        key = own.client(owner).stored(PHOTO)["key"]
        (tmp_path / "cache").mkdir()
        with CACHES[cache[0]](own, tmp_path / "cache") as url:
            assert asked(Client(url), media(key, "w=50")).status == 200
            own.stop()
            assert asked(Client(url), media(key, "w=50")).status == 200
            assert asked(Client(url), media(key, "w=51")).status in {502, 503}


def test_uploads_and_events_go_through(service: RunningServer, cache: tuple[str, str], owner: str) -> None:
    through = Client(cache[1], service.token(owner))
    record = through.stored(FILM_LIKE)
    assert through.get(record["url"]).body == FILM_LIKE
    assert through.delete(record["url"]).status == 204
    assert through.get("/api/assets").json["assets"] == []


def test_the_tag_in_the_docs_is_the_one_that_is_sent(service: RunningServer, owner: str) -> None:
    record = service.client(owner).stored(PHOTO)
    command = snippet("cdn", "What a cache must know", "sh").replace("me/3f9c.jpg", record["key"])
    tag = subprocess.run(["bash", "-euc", command], check=True, capture_output=True, text=True, timeout=30).stdout.strip()
    assert tag == hashlib.sha256(record["key"].encode()).hexdigest()[:16]
    assert f"key-{tag}" in service.client().get(record["url"]).headers["Cache-Tag"]


def test_the_function_for_cloudfront_makes_three_kinds_and_sorts(tmp_path: Path) -> None:
    asked_ = [
        {
            "headers": {"accept": {"value": accept}},
            "querystring": {"w": {"value": "1"}, "utm_x": {"value": "2"}, "format": {"value": "auto"}},
        }
        for accept in (AVIF, WEBP, NEITHER)
    ] + [{"headers": {}, "querystring": {}}]
    code = snippet("cdn", "CloudFront", "js")
    calls = f"for (const request of {json.dumps(asked_)}) console.log(JSON.stringify(handler({{ request }})));"
    (tmp_path / "function.js").write_text(code + calls)
    done = subprocess.run([program("node"), "function.js"], cwd=tmp_path, check=True, capture_output=True, text=True, timeout=60)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    kinds = [line["headers"]["accept"]["value"] for line in lines]
    assert kinds == ["image/avif,image/webp,*/*", "image/webp,*/*", "*/*", "*/*"]
    assert list(lines[0]["querystring"]) == ["format", "w"]
    assert not re.search(r"\b(let|const|=>)", code), "the first runtime of CloudFront has none of these"
