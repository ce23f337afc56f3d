"""Real files with random damage: whatever becomes of one, the service goes on, and says 5xx of none."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from tests import pictures
from tests.kit import shared
from tests.kit.client import Client, media
from tests.kit.server import RunningServer
from tests.test_svg import HARMLESS

SOURCES = {
    make.__name__: make
    for make in (
        *(pictures.jpeg, pictures.png, pictures.png_16_bit, pictures.png_interlaced, pictures.apng, pictures.gif, pictures.webp),
        *(pictures.avif, pictures.heic, pictures.tiff, pictures.bmp, pictures.ico, pictures.cmyk_jpeg, pictures.mp4, pictures.webm),
        *(pictures.mp3, pictures.wav, pictures.pdf),
    )
}
FEW, MANY = 2, 40
RIGHT = {200, 201, 400, 413, 415, 422, 503}
EXTREMES = (b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\x80\0\0\0", b"\0\0\0\1")


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server for damaged files, which must neither end nor crash."""
    with RunningServer(tmp_path_factory.mktemp("target"), {"MEDIA_RENDER_WAIT": "20"}) as running:
        yield running


def mutated(data: bytes, chance: random.Random) -> bytes:
    """*data* with one to four pieces of damage."""
    changed = bytearray(data)
    for _ in range(chance.randint(1, 4)):
        # Half of the damage is done to the beginning, where sizes and counts are.
        at = chance.randrange(min(len(changed), chance.choice((200, len(changed)))) or 1)
        match chance.randrange(6):
            case 0:
                changed[at : at + 1] = bytes([chance.randrange(256)])
            case 1:
                changed[at : at + 4] = chance.choice(EXTREMES)
            case 2:
                del changed[at:]
            case 3:
                del changed[at : at + chance.randint(1, 40)]
            case 4:
                changed[at:at] = changed[at : at + chance.randint(1, 4000)]
            case _:
                changed[at : at + 16] = chance.randbytes(16)
        if not changed:
            return b"\0"
    return bytes(changed)


def check(server: RunningServer, data: bytes, times: int, seed: str) -> None:
    """Send *times* damaged copies of *data*, and ask for a rendition of each that is taken."""
    chance = random.Random(seed)
    client = server.client("u")
    pid = server.process.pid
    for number in range(times):
        answer = client.upload(mutated(data, chance))
        assert answer.status in RIGHT, f"{seed}, {number}: {answer}"
        if answer.status == 201:
            path = media(answer.json["key"], f"w={chance.choice((16, 400))}&format={chance.choice(('webp', 'png', 'auto'))}")
            shown = client.get(path)
            assert shown.status in RIGHT, f"{seed}, {number}: {shown}"
            assert client.delete(media(answer.json["key"])).status == 204
    assert (server.process.pid, server.running) == (pid, True)
    assert Client(server.url).get("/api/health/ready").status == 200


@pytest.mark.parametrize("name", [*SOURCES, "svg"])
def test_a_damaged_file_is_taken_or_refused_and_never_a_fault(target: RunningServer, name: str) -> None:
    check(target, HARMLESS.encode() if name == "svg" else SOURCES[name](), FEW, name)


@pytest.mark.slow
@pytest.mark.parametrize("name", [*SOURCES, "svg"])
def test_many_damaged_files_are_taken_or_refused_and_never_a_fault(target: RunningServer, name: str) -> None:
    check(target, HARMLESS.encode() if name == "svg" else SOURCES[name](), MANY, f"{name}, many")


SMALL = [entry["file"] for entry in shared.manifest()["files"] if entry["bytes"] < 200_000 and entry["expected"] == "serve"]


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALL)
def test_a_damaged_file_of_the_set_is_taken_or_refused_and_never_a_fault(target: RunningServer, name: str) -> None:
    check(target, shared.data(name), 5, name)
