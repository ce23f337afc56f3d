"""What answers say of the caches that were asked (RFC 9211), and of the time that was spent."""

from __future__ import annotations

from tests import pictures
from tests.kit.client import Client, media
from tests.kit.server import RunningServer
from tests.kit.waiting import until

OURS = "sav3-media-proxy"


def test_an_answer_says_where_it_was_found(client: Client, server: RunningServer) -> None:
    key = client.stored(pictures.jpeg(320, 240), "image/jpeg")["key"]
    first = client.get(media(key, "w=123"))
    assert first.headers["Cache-Status"] == f"{OURS}; fwd=uri-miss; stored; detail=render"
    assert "queue;dur=" in first.headers["Server-Timing"]
    for _ in range(3):
        again = client.get(media(key, "w=123"))
        assert again.headers["Cache-Status"] == f"{OURS}; hit; detail=memory"
        assert again.headers["Server-Timing"] == "cache;desc=memory"
    original = client.get(media(key))
    assert original.headers["Cache-Status"] == f"{OURS}; fwd=bypass; detail=local"
    assert original.headers["Server-Timing"] == "store;desc=local"


def test_after_a_start_it_is_found_in_the_store(server: RunningServer, client: Client) -> None:
    key = client.stored(pictures.jpeg(320, 240), "image/jpeg")["key"]
    client.get(media(key, "w=77"))
    assert until(lambda: server.metric("media_storing") == 0)
    server.stop()
    server.start()
    answer = server.client().get(media(key, "w=77"))
    assert answer.headers["Cache-Status"] == f"{OURS}; hit; detail=stored"
