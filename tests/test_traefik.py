"""deploy/traefik before two media proxies: a real Traefik with the shipped files, on ports and addresses of this machine."""

from __future__ import annotations

import os
import ssl
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from scripts import stores
from tests import pictures
from tests.kit import certificates
from tests.kit.client import UNKNOWN, Client, media
from tests.kit.daemon import Daemon
from tests.kit.files import padded
from tests.kit.ports import free_port
from tests.kit.server import REPOSITORY, RunningServer
from tests.kit.shared import required
from tests.kit.tus import TUS, begun
from tests.kit.waiting import until

SHIPPED = REPOSITORY / "deploy" / "traefik"
LARGE = padded(pictures.jpeg(640, 480), 6_000_000)

pytestmark = pytest.mark.slow


class Traefik(Daemon):
    """Traefik with the shipped files; *changes* are what stands for ports, names and paths of containers here."""

    def __init__(self, folder: Path, changes: dict[str, str], authority: Path) -> None:
        super().__init__(folder)
        self.plain = free_port()
        self._changes = changes | {'":8080"': f'"127.0.0.1:{self.plain}"', '":8443"': f'"127.0.0.1:{self.port}"'}
        self.trusted = ssl.create_default_context(cafile=str(authority))

    @property
    def url(self) -> str:
        """Where it speaks TLS."""
        return f"https://127.0.0.1:{self.port}"

    def _prepared(self) -> list[str]:
        for name in ("traefik.yml", "dynamic.yml"):
            text = (SHIPPED / name).read_text()
            for told, here in self._changes.items():
                text = text.replace(told, here)
            (self.folder / name).write_text(text.replace("/etc/traefik/dynamic.yml", str(self.folder / "dynamic.yml")))
        return [str(stores.TRAEFIK.path), f"--configFile={self.folder / 'traefik.yml'}"]

    def _answers(self) -> bool:
        return Client(self.url, trusted=self.trusted).get("/api/health/live").status == 200


@dataclass
class Edge:
    """Traefik, and the proxies behind it, which have one secret."""

    traefik: Traefik
    proxies: list[RunningServer]

    def client(self, sub: str | None = None) -> Client:
        """A client of Traefik."""
        token = None if sub is None else self.proxies[0].token(sub)
        return Client(self.traefik.url, token, trusted=self.traefik.trusted)


@pytest.fixture(scope="module")
def edge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edge]:
    if not os.access(stores.TRAEFIK.path, os.X_OK):
        (pytest.fail if required() else pytest.skip)("traefik is not built: install Go, then run make test-slow")
    folder = tmp_path_factory.mktemp("traefik")
    made = certificates.authority(folder / "authority", "127.0.0.1")
    with ExitStack() as stack:
        proxies = [
            stack.enter_context(RunningServer(folder / name, {"MEDIA_PORT": str(free_port())})) for name in ("first", "second")
        ]
        changes = {
            "/etc/traefik/tls/fullchain.pem": str(made.certificate), "/etc/traefik/tls/privkey.pem": str(made.key),
            "http://media-proxy:10020": proxies[0].url, "http://media-proxy-2:10020": proxies[1].url,
        }  # fmt: skip
        traefik = stack.enter_context(Traefik(folder / "edge", changes, folder / "authority" / "ca.pem"))
        yield Edge(traefik, proxies)


def cookie(client: Client) -> dict[str, str]:
    """What leads to the same proxy again."""
    return {"Cookie": client.get("/api/health/live").headers["Set-Cookie"].partition(";")[0]}


def test_it_speaks_tls_and_leads_there_from_plain_http(edge: Edge) -> None:
    answer = edge.client().get("/api/health/live")
    assert answer.headers["Strict-Transport-Security"] == "max-age=31536000"
    assert {"Secure", "HttpOnly", "SameSite=None"} <= {*answer.headers["Set-Cookie"].split("; ")}
    there = Client(f"http://127.0.0.1:{edge.traefik.plain}").get("/api/media/a/b.jpg?w=1")
    assert (there.status, there.headers["Location"]) == (301, "https://127.0.0.1/api/media/a/b.jpg?w=1")
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        old.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises(OSError, match=r"(?i)ssl|tls|protocol|version"):
        Client(edge.traefik.url, trusted=old).get("/")


def test_bodies_go_through_as_they_come(edge: Edge) -> None:
    client = edge.client("ann")
    home = cookie(client)
    before = [proxy.metric("media_uploads_receiving") for proxy in edge.proxies]
    upload = begun(client, len(LARGE), home)
    half = len(LARGE) // 2

    def pieces() -> Iterator[bytes]:
        yield LARGE[:half]
        # The other half is not sent before the first has come to a proxy.
        assert until(lambda: [proxy.metric("media_uploads_receiving") for proxy in edge.proxies] != before)
        yield LARGE[half:]

    headers = TUS | home | {"Content-Type": "application/offset+octet-stream", "Upload-Offset": "0", "Transfer-Encoding": "chunked"}
    answer = client.request("PATCH", upload.path, headers, pieces())
    assert (answer.status, answer.headers["Upload-Offset"]) == (204, str(len(LARGE)))
    path = media(answer.headers["X-Media-Key"])
    assert client.get(path, home).body == LARGE
    part = client.get(path, home | {"Range": "bytes=1000-1999"})
    assert (part.status, part.body) == (206, LARGE[1000:2000])


def test_a_client_stays_at_one_proxy_and_goes_to_the_other_when_that_dies(edge: Edge) -> None:
    client = edge.client("bob")
    home = cookie(client)
    keys = [client.upload(pictures.jpeg(32, 32), UNKNOWN, headers=home).json["key"] for _ in range(4)]
    has = [all(proxy.client().get(media(key)).status == 200 for key in keys) for proxy in edge.proxies]
    assert sorted(has) == [False, True]
    at = has.index(True)
    edge.proxies[at].kill()
    try:
        assert until(lambda: client.get("/api/health/live", home).status == 200)
        assert client.upload(pictures.jpeg(32, 32), UNKNOWN, headers=home).status == 201
    finally:
        edge.proxies[at].start()
    assert until(lambda: client.get(media(keys[0]), home).status == 200)
