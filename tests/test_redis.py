"""Redis in every state: gone, silent, empty, full, restarted with old values, behind another password. What is kept there is a miss
then, or what it was: never an exception, never late, never another's.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from proxy import redis_address
from proxy.adapters.redis import RedisCache, RedisLink
from proxy.adapters.redis_bus import RedisBus
from proxy.errors import StoreRefused, Unavailable
from tests.kit.certificates import authority
from tests.kit.ports import free_port
from tests.kit.redis import RedisServer, provided
from tests.kit.waiting import eventually, until


@asynccontextmanager
async def cache_of(url: str) -> AsyncIterator[tuple[RedisCache, RedisLink, list[str]]]:
    """A cache, its link, and how its commands ended."""
    outcomes: list[str] = []
    async with RedisLink(redis_address.parse(url), outcomes.append) as link:
        yield RedisCache(link, "test1:"), link, outcomes


async def test_a_server_that_dies_is_left_alone_and_taken_up_again(redis: RedisServer) -> None:
    async with cache_of(redis.url) as (cache, _, outcomes):
        await cache.set("r:a", b"here", 60.0)
        redis.kill()
        for _ in range(50):
            assert await cache.get("r:a") is None
        assert not cache.is_there
        assert outcomes.count("failed") <= 5, "who is away is not asked"
        assert await cache.take("l:a", "me", 60.0) == 0.0
        redis.start()
        await eventually(lambda: cache.is_there)
        assert await cache.get("r:a") is None
        await cache.set("r:a", b"again", 60.0)
        assert await cache.get("r:a") == b"again"


async def test_a_server_that_is_silent_costs_a_moment_once(redis: RedisServer) -> None:
    async with cache_of(redis.url) as (cache, link, outcomes):
        await cache.set("r:a", b"here", 60.0)
        redis.pause()
        try:
            for _ in range(200):
                assert await cache.get("r:a") is None
            assert outcomes.count("late") == 3
            with pytest.raises(Unavailable):
                await link.ping()
        finally:
            redis.resume()
        await eventually(lambda: cache.is_there)
        assert await cache.get("r:a") == b"here"


async def test_who_leaves_in_the_middle_leaves_no_answer_for_the_next(redis: RedisServer) -> None:
    async with cache_of(redis.url) as (cache, _, _):
        for number in range(50):
            await cache.set(f"r:{number}", str(number).encode() * 2000, 60.0)
        for round in range(10):
            asked = [asyncio.create_task(cache.get(f"r:{number}")) for number in range(50)]
            for _ in range(round):
                await asyncio.sleep(0)
            for number, task in enumerate(asked):
                if number % 3:
                    task.cancel()
            answers = await asyncio.gather(*asked, return_exceptions=True)
            for number, answer in enumerate(answers):
                assert isinstance(answer, asyncio.CancelledError) or answer in {None, str(number).encode() * 2000}
            for number in range(50):
                assert await cache.get(f"r:{number}") in {None, str(number).encode() * 2000}
        await eventually(lambda: cache.is_there)
        assert [await cache.get(f"r:{number}") for number in range(50)] == [str(number).encode() * 2000 for number in range(50)]


async def test_what_a_snapshot_brings_back_is_not_taken_for_true(redis: RedisServer) -> None:
    async with cache_of(redis.url) as (cache, _, _):
        await cache.set("m:a", b"the old version", 60.0)
        await cache.set("r:a", b"a rendition", 60.0)
        assert b"OK" in redis.command("SAVE")
        await cache.set("m:a", b"changed", 60.0)
        redis.kill()
        redis.start()
        answers = set()
        async with asyncio.timeout(30):
            while (rendition := await cache.get("r:a")) is None:
                answers.add(await cache.get("m:a"))
        answers.add(await cache.get("m:a"))
        assert (answers, rendition) == ({None}, b"a rendition")


async def test_when_it_is_full_the_oldest_make_room(tmp_path: Path) -> None:
    with provided(tmp_path / "redis", "maxmemory 8mb") as server:
        async with cache_of(server.url) as (cache, _, outcomes):
            for number in range(400):
                await cache.set(f"r:{number}", bytes(50_000), 60.0)
            assert set(outcomes) == {"ok"}
            assert await cache.get("r:399") == bytes(50_000)
            left = [await cache.get(f"r:{number}") is not None for number in range(400)]
            assert 0 < sum(left) < 160


async def test_a_password_that_does_not_hold_is_told_and_one_that_holds_again_is_taken(redis: RedisServer) -> None:
    async with cache_of(redis.url.replace(redis.password, "wrong")) as (cache, link, _):
        assert not cache.is_there
        assert await cache.get("r:a") is None
        with pytest.raises(StoreRefused, match="password"):
            await link.ping()
        assert b"OK" in redis.command("CONFIG", "SET", "requirepass", "wrong")
        await eventually(lambda: cache.is_there)
        await cache.set("r:a", b"let in", 60.0)
        assert await cache.get("r:a") == b"let in"


async def test_nobody_there_at_the_start_is_no_reason_not_to_start(tmp_path: Path) -> None:
    server = provided(tmp_path / "redis")
    async with cache_of(server.url) as (cache, _, _):
        assert not cache.is_there
        with server:
            await eventually(lambda: cache.is_there)


async def test_who_may_have_missed_words_is_told(redis: RedisServer) -> None:
    missed: list[str] = []
    heard: list[str] = []
    async with RedisLink(redis_address.parse(redis.url)) as link, RedisBus(link, "test1:") as one, RedisBus(link, "test1:") as two:
        two.listen("changed", heard.append, lambda: missed.append("something"))
        assert two.is_whole
        for away, back in ((redis.pause, redis.resume), (redis.kill, redis.start)):
            missed.clear()
            away()
            await eventually(lambda: not two.is_whole)
            assert missed, "what is remembered may be old from now on"
            missed.clear()
            back()
            await eventually(lambda: one.is_whole and two.is_whole)
            assert missed, "and what was said meanwhile was not heard"
            await eventually(lambda: link.is_there)
            await one.say("changed", "u7/a")
            await eventually(lambda: "u7/a" in heard)
            heard.clear()


async def test_by_tls_the_certificate_counts(tmp_path: Path) -> None:
    made, other = authority(tmp_path / "tls"), authority(tmp_path / "other")
    port = free_port()
    files = (f"tls-cert-file {made.certificate}", f"tls-key-file {made.key}", f"tls-ca-cert-file {made.ca}")
    with provided(tmp_path / "redis", f"tls-port {port}", *files, "tls-auth-clients no") as server:
        url = f"rediss://:{server.password}@127.0.0.1:{port}/0"
        async with cache_of(f"{url}?ssl_ca_certs={made.ca}") as (cache, _, _):
            await cache.set("r:a", b"sealed", 60.0)
            assert await cache.get("r:a") == b"sealed"
        async with cache_of(f"{url}?ssl_ca_certs={other.ca}") as (cache, _, _):
            assert not cache.is_there


async def test_sentinels_say_who_the_master_is(tmp_path: Path, redis: RedisServer) -> None:
    lines = (f"sentinel monitor media 127.0.0.1 {redis.port} 1", f"sentinel auth-pass media {redis.password}")
    with RedisServer(tmp_path / "sentinel", lines, sentinel=True) as sentinel:
        async with cache_of(f"redis+sentinel://:{redis.password}@127.0.0.1:{sentinel.port}/media") as (cache, link, _):
            await eventually(lambda: cache.is_there)
            await cache.set("m:a", b"by name", 60.0)
            assert await cache.get("m:a") == b"by name"
            assert link.run


async def test_a_cluster_is_one_cache_and_one_bus(tmp_path: Path) -> None:
    with provided(tmp_path / "redis", "cluster-enabled yes", f"cluster-port {free_port()}") as server:
        assert b"OK" in server.command("CLUSTER", "ADDSLOTSRANGE", "0", "16383")
        assert until(lambda: b"cluster_state:ok" in server.command("CLUSTER", "INFO"))
        async with cache_of(f"redis+cluster://:{server.password}@127.0.0.1:{server.port}") as (cache, link, _):
            await eventually(lambda: cache.is_there)
            for number in range(20):
                await cache.set(f"r:{number}", str(number).encode(), 60.0)
            assert [await cache.get(f"r:{number}") for number in range(20)] == [str(number).encode() for number in range(20)]
            await cache.delete(*(f"r:{number}" for number in range(20)))
            assert await cache.get("r:3") is None
            assert await cache.take("l:a", "me", 60.0) == 0.0
            assert await cache.take("l:a", "you", 60.0) > 0.0
            heard: list[str] = []
            async with RedisBus(link, "test1:") as one, RedisBus(link, "test1:") as two:
                await eventually(lambda: one.is_whole and two.is_whole)
                two.listen("changed", heard.append, lambda: None)
                await one.say("changed", "u7/a")
                await eventually(lambda: heard == ["u7/a"])


@pytest.mark.parametrize(
    ("text", "hosts", "password", "further"),
    [
        ("redis://localhost", (("localhost", 6379),), None, {}),
        ("redis://:p%40ss@h:7000/2", (("h", 7000),), "p@ss", {"db": 2}),
        ("rediss://user:pw@[::1]:7000/0?ssl_ca_certs=/etc/ca.pem", (("::1", 7000),), "pw", {"tls": True, "username": "user"}),
        ("redis+sentinel://:pw@a,b:1/media/3", (("a", 26379), ("b", 1)), "pw", {"service": "media", "db": 3}),
        ("rediss+cluster://:pw@a:1,b:2", (("a", 1), ("b", 2)), "pw", {"tls": True}),
        ("unix://:pw@/run/redis.sock", (), "pw", {"path": "/run/redis.sock"}),
    ],
)
def test_an_address_is_read(text: str, hosts: object, password: str | None, further: dict[str, object]) -> None:
    address = redis_address.parse(text)
    assert (address.hosts, address.password) == (hosts, password)
    assert {name: getattr(address, name) for name in further} == further


@pytest.mark.parametrize(
    "text",
    [
        "localhost:6379", "http://:pw@h", "redis://", "redis://:pw@", "redis://:pw@h:x", "redis://:pw@h/zero", "redis://:pw@a,b",
        "redis+sentinel://:pw@a", "redis+cluster://:pw@a/1", "redis+other://:pw@a", "unix://:pw@h/run", "redis://:pw@h?ssl=no",
        "redis://:pw@h:99999",
    ],
)  # fmt: skip
def test_a_bad_address_is_told_without_its_password(text: str) -> None:
    with pytest.raises(ValueError) as error:
        redis_address.parse(text)
    assert "pw" not in str(error.value).replace("password", "")
