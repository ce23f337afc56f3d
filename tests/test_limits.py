"""Rate limits: who asks for more than a share is told so and when to come again; hits are free, and neighbours do not pay."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from proxy import rates
from proxy.adapters.redis import RedisLink
from proxy.adapters.redis_tally import RedisTally
from proxy.adapters.tally import MemoryTally
from proxy.clients import Addresses
from proxy.rates import Limit, Rate, Tally
from proxy.redis_address import parse as address_of
from proxy.settings import BadSettings, Settings
from tests import pictures
from tests.kit.client import Answer, media
from tests.kit.ports import free_port
from tests.kit.redis import RedisServer, provided
from tests.kit.server import RunningServer
from tests.kit.waiting import until

Serve = Callable[..., RunningServer]
JPEG = "image/jpeg"
ITEM = re.compile(r'"[a-z-]+(?:-\d+)?"(?:;[a-z]+=(?:\d+|"[a-z-]+"))+')


def refused(answer: Answer, limit: str) -> bool:
    """Whether it says that *limit* is reached, and when to come again."""
    return (
        (answer.status, answer.code, answer.json.get("limit")) == (429, "rate-limited", limit)
        and 1 <= int(answer.headers["Retry-After"]) <= 86_400
        and ITEM.fullmatch(answer.headers["RateLimit"]) is not None
        and ITEM.fullmatch(answer.headers["RateLimit-Policy"]) is not None
    )


def test_uploads_are_counted_for_each_owner_and_told(serve: Serve) -> None:
    server = serve(MEDIA_RATE_UPLOADS="3/day")
    one, other = server.client("one"), server.client("other")
    for left in (2, 1, 0):
        answer = one.upload(pictures.jpeg(64, 48), JPEG)
        assert answer.status == 201
        assert answer.headers["RateLimit-Policy"] == '"uploads";q=3;w=86400'
        assert answer.headers["RateLimit"].startswith(f'"uploads";r={left};t=')
    assert refused(one.upload(pictures.jpeg(64, 48), JPEG), "uploads")
    assert len(one.assets()) == 3
    assert other.upload(pictures.jpeg(64, 48), JPEG).status == 201
    boss = server.client("boss", scope="media:admin media:write")
    assert [boss.upload(pictures.jpeg(64, 48), JPEG).status for _ in range(5)] == [201] * 5
    assert server.metric("media_rate_limited_total", limit="uploads") == 1


def test_bytes_are_refused_before_they_are_sent_where_they_are_declared(serve: Serve) -> None:
    server = serve(MEDIA_RATE_UPLOAD_BYTES="200K/day")
    with server.wire() as wire:
        head = f"POST /api/upload HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {server.token('u7')}\r\nContent-Type: image/jpeg\r\n"
        wire.send(f"{head}Content-Length: 300000\r\nExpect: 100-continue\r\n\r\n".encode())
        assert wire.answer().status == 429
    assert server.client("u7").upload(pictures.jpeg(64, 48), JPEG).status == 201


def test_bytes_without_a_declared_length_are_counted_as_they_come(serve: Serve) -> None:
    server = serve(MEDIA_RATE_UPLOAD_BYTES="3M/day")
    data = pictures.jpeg(64, 48) + bytes(2 << 20)
    client = server.client("u7")
    chunks = [data[start : start + 65_536] for start in range(0, len(data), 65_536)]
    headers = {"Content-Type": JPEG, "Transfer-Encoding": "chunked"}
    before = server.files()
    assert client.post("/api/upload", iter(chunks), headers).status == 201
    assert refused(client.post("/api/upload", iter(chunks), headers), "upload-bytes")
    assert len(client.assets()) == 1
    assert until(lambda: len(server.files() - before) == 2), "what came of the second one is gone"


def test_only_what_has_to_be_made_is_counted(serve: Serve) -> None:
    server = serve(MEDIA_RATE_RENDERS="3/day")
    client, stranger = server.client("u7"), server.client()
    key = client.stored(pictures.jpeg(320, 240), JPEG)["key"]
    for width in (50, 60, 70):
        assert stranger.get(media(key, f"w={width}")).status == 200
    for _ in range(5):
        answer = stranger.get(media(key, "w=50"))
        assert answer.status == 200
        assert "RateLimit" not in answer.headers, "caches keep it for everybody"
        assert stranger.get(media(key, "w=60"), {"If-None-Match": stranger.get(media(key, "w=60")).headers["ETag"]}).status == 304
        assert stranger.get(media(key)).status == 200
    assert refused(stranger.get(media(key, "w=80")), "renders")
    assert client.get(media(key, "w=80")).status == 200, "its owner is counted by the token"
    assert stranger.get(media(key, "w=80")).status == 200, "now it is there"
    assert client.get(media(key, "w=90&explain=1")).status == 200


def test_a_look_into_a_file_is_counted_too(serve: Serve) -> None:
    server = serve(MEDIA_RATE_RENDERS="1/day")
    for name in ("a.jpg", "b.jpg"):
        server.place(f"u7/{name}", pictures.jpeg(320, 240), JPEG)
    stranger = server.client()
    for _ in range(3):
        assert stranger.get(media("u7/a.jpg", "format=json")).status == 200
    assert refused(stranger.get(media("u7/b.jpg", "format=json")), "renders")


def test_who_shows_what_does_not_hold_again_and_again_is_told_to_wait_and_nobody_else(serve: Serve) -> None:
    server = serve(
        MEDIA_RATE_FAILED_LOGINS="3/day",
        MEDIA_URL_SECRETS="a-secret-of-thirty-two-bytes-or-more",
        MEDIA_TRUSTED_PROXIES="127.0.0.1",
    )
    there, elsewhere = {"X-Forwarded-For": "203.0.113.7"}, {"X-Forwarded-For": "203.0.113.8"}
    bad = {"Authorization": "Bearer nonsense"}
    stranger = server.client()
    assert stranger.get("/api/assets", bad | there).status == 401
    assert stranger.get(media("u7/a.jpg", "w=40&s=AAAA&exp=1"), there).status in {400, 403}
    statuses = [stranger.get("/api/assets", bad | there).status for _ in range(4)]
    assert statuses[-2:] == [429, 429]
    assert refused(stranger.get("/api/assets", bad | there), "failed-logins")
    assert stranger.get("/api/assets", bad | elsewhere).status == 401
    assert server.client("u7").get("/api/assets", there).status == 200, "a token that holds is never refused"
    assert stranger.get("/api/assets", there).status == 401, "to show nothing is not to fail"


def test_two_services_on_one_redis_count_together_and_each_alone_without_it(serve: Serve, redis: RedisServer) -> None:
    one, other = (serve(REDIS_URL=redis.url, MEDIA_RATE_UPLOADS="4/day") for _ in range(2))
    for server in (one, other, one, other):
        assert server.client("u7").upload(pictures.jpeg(64, 48), JPEG).status == 201
    granted = 4
    for server in (one, other):
        while not refused(server.client("u7").upload(pictures.jpeg(64, 48), JPEG), "uploads"):
            granted += 1  # on a busy machine Redis may be late, and each counts by itself for a while
            assert granted < 8, "each counts by itself"
    for away, back in ((redis.pause, redis.resume), (redis.kill, redis.start)):
        away()
        statuses = [one.client("u9").upload(pictures.jpeg(64, 48), JPEG).status for _ in range(12)]
        assert set(statuses) <= {201, 429}
        back()
        assert until(lambda: one.metric("media_redis_up") == 1)
    assert 429 in statuses, "what is counted here is a limit, too"


@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize("kind", ["memory", "one server", "cluster"])
async def test_a_window_slides(kind: str, tmp_path: Path) -> None:
    rate = Rate(10, 3600)

    async def prove(tally: Tally) -> None:
        standings = [await tally.take(Limit.UPLOADS, rate, "a", 3) for _ in range(4)]
        assert [standing.granted for standing in standings] == [True, True, True, False]
        assert [standing.left for standing in standings] == [7, 4, 1, 1]
        assert (await tally.take(Limit.UPLOADS, rate, "a", 1)).granted
        assert not (await tally.take(Limit.UPLOADS, rate, "a", 1)).granted
        assert 0 < standings[0].reset_s <= 7200
        for limit, who in ((Limit.UPLOADS, "b"), (Limit.RENDERS, "a")):
            assert (await tally.take(limit, rate, who, 10)).granted

    if kind == "memory":
        now = [3600.0 * 1000]
        tally = MemoryTally(clock=lambda: now[0])
        await prove(tally)
        now[0] += 3600 + 1800
        assert (await tally.take(Limit.UPLOADS, rate, "a", 5)).granted, "half of the last window is over"
        assert not (await tally.take(Limit.UPLOADS, rate, "a", 1)).granted
        now[0] += 7200
        assert (await tally.take(Limit.UPLOADS, rate, "a", 10)).granted
        return
    lines = ("cluster-enabled yes", f"cluster-port {free_port()}") if kind == "cluster" else ()
    with provided(tmp_path / "redis", *lines) as server:
        scheme = "redis+cluster" if kind == "cluster" else "redis"
        if kind == "cluster":
            server.command("CLUSTER", "ADDSLOTSRANGE", "0", "16383")
            assert until(lambda: b"cluster_state:ok" in server.command("CLUSTER", "INFO"))
        address = address_of(f"{scheme}://:{server.password}@127.0.0.1:{server.port}")
        async with RedisLink(address) as link, RedisTally(link, address, "test1:") as shared:
            await prove(shared)
            assert await MemoryTally().take(Limit.UPLOADS, rate, "a", 1), "and not in memory"


async def test_the_memory_of_the_counts_is_bounded() -> None:
    tally = MemoryTally(most=100)
    for number in range(1000):
        await tally.take(Limit.RENDERS, Rate(1, 60), str(number), 1)
    assert len(tally._windows) == 100


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("600/hour", (Rate(600, 3600),)),
        ("600 per hour; 20/second", (Rate(600, 3600), Rate(20, 1))),
        ("20G/day", (Rate(20 << 30, 86_400),)),
        ("5/10 minutes", (Rate(5, 600),)),
    ],
)
def test_a_rate_is_read(text: str, expected: tuple[Rate, ...]) -> None:
    assert rates.parse(text) == expected


@pytest.mark.parametrize("text", ["600", "0/hour", "x/hour", "600/year", "-1/hour", "1/400 days", "600/hour, 20/second"])
def test_a_rate_that_is_none_stops_the_start(text: str) -> None:
    with pytest.raises(BadSettings, match="MEDIA_RATE_UPLOADS: "):
        Settings.from_env({"MEDIA_RATE_UPLOADS": text})


@pytest.mark.parametrize(
    ("remote", "forwarded", "expected"),
    [
        ("203.0.113.9", [], "203.0.113.9"),
        ("203.0.113.9", ["198.51.100.1"], "203.0.113.9"),
        ("10.0.0.1", ["198.51.100.1"], "198.51.100.1"),
        ("10.0.0.1", ["1.1.1.1, 198.51.100.1, 10.0.0.2"], "198.51.100.1"),
        ("10.0.0.1", ["1.1.1.1", "198.51.100.1"], "198.51.100.1"),
        ("10.0.0.1", ["198.51.100.1, unknown, 10.0.0.2"], "10.0.0.2"),
        ("10.0.0.1", [], "10.0.0.1"),
        ("::ffff:10.0.0.1", ["198.51.100.1:4711"], "198.51.100.1"),
        ("10.0.0.1", ["[2001:db8:1:2:3:4:5:6]:80"], "2001:db8:1:2::/64"),
        ("2001:db8:1:2:3::1", [], "2001:db8:1:2::/64"),
        ("fe80::1%eth0", [], "fe80::/64"),
        (None, ["198.51.100.1"], "nowhere"),
    ],
)
def test_only_trusted_proxies_say_where_a_request_comes_from(remote: str | None, forwarded: list[str], expected: str) -> None:
    settings = Settings.from_env({"MEDIA_TRUSTED_PROXIES": "10.0.0.0/8"})
    assert Addresses(settings.media_trusted_proxies).of(remote, forwarded) == expected
