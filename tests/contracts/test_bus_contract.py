"""What every `Bus` keeps to, whatever carries the words."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from proxy import redis_address
from proxy.adapters.house_bus import HouseBus, KeeperBus
from proxy.adapters.redis import RedisLink
from proxy.adapters.redis_bus import RedisBus
from proxy.ports import Bus
from tests.kit.redis import provided
from tests.kit.sharing import Hub, MemoryBus
from tests.kit.waiting import eventually

Three = tuple[Bus, Bus, Bus]


pytestmark = pytest.mark.usefixtures("patient")


@pytest.fixture(params=["memory", "house", "redis"])
async def buses(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Three]:
    """Those of three processes."""
    if request.param == "memory":
        hub = Hub()
        yield MemoryBus(hub), MemoryBus(hub), MemoryBus(hub)
        return
    if request.param == "house":
        with tempfile.TemporaryDirectory() as folder:  # the name of a socket is short
            path = Path(folder) / "bus"
            async with KeeperBus(path) as keeper, HouseBus(path) as one, HouseBus(path) as two:
                yield one, keeper, two
        return
    with provided(tmp_path / "redis") as server:
        async with AsyncExitStack() as stack:
            link, far = [await stack.enter_async_context(RedisLink(redis_address.parse(server.url))) for _ in range(2)]
            one, two, three = [await stack.enter_async_context(RedisBus(way, "test1:")) for way in (link, link, far)]
            yield one, two, three


def heard_by(bus: Bus, topic: str = "changed") -> list[str]:
    """A list to which the bus adds what it hears under *topic*."""
    words: list[str] = []
    bus.listen(topic, words.append, lambda: None)
    return words


async def test_a_word_is_heard_by_all_others_and_not_by_who_says_it(buses: Three) -> None:
    heard = [heard_by(bus) for bus in buses]
    assert all(bus.is_whole for bus in buses)
    await buses[0].say("changed", "u7/a name with ünicode\nand lines.jpg")
    await buses[1].say("changed", "second")
    await eventually(lambda: len(heard[2]) == 2 and len(heard[1]) == 1 and len(heard[0]) == 1)
    assert sorted(heard[2]) == ["second", "u7/a name with ünicode\nand lines.jpg"]
    assert heard[0] == ["second"]


async def test_a_topic_is_heard_by_its_listeners_alone(buses: Three) -> None:
    changed, made = heard_by(buses[1]), heard_by(buses[1], "made")
    await buses[0].say("made", "a")
    await buses[0].say("nobody listens", "b")
    await buses[0].say("changed", "c")
    await eventually(lambda: bool(changed))
    assert (changed, made) == (["c"], ["a"])


async def test_words_of_one_come_in_their_order(buses: Three) -> None:
    heard = heard_by(buses[2])
    for number in range(200):
        await buses[0].say("changed", str(number))
    await eventually(lambda: len(heard) == 200)
    assert heard == [str(number) for number in range(200)]
