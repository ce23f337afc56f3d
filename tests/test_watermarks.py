"""Watermarks: what the operator's file says, and what is laid over renditions."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from proxy.watermarks import BadWatermarks, load
from tests import pictures
from tests.kit.client import media
from tests.kit.server import RunningServer

FILE = '[logo]\nfile = "logo.png"\n[faint]\nfile = "logo.png"\nplace = "center"\nsize = 0.5\nmargin = 0\nopacity = 0.5\n'


def logo(colour: str = "white") -> bytes:
    """A plain picture of 40 × 20."""
    file = io.BytesIO()
    Image.new("RGB", (40, 20), colour).save(file, "PNG")
    return file.getvalue()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a file of watermarks and their picture."""
    folder = tmp_path_factory.mktemp("watermarks")
    (folder / "logo.png").write_bytes(logo())
    (folder / "watermarks.toml").write_text(FILE)
    return folder


@pytest.fixture(scope="module")
def marking(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server with these watermarks."""
    settings = {"MEDIA_WATERMARKS": str(folder / "watermarks.toml")}
    with RunningServer(tmp_path_factory.mktemp("marking"), settings) as running:
        yield running


@pytest.fixture(scope="module")
def dark(marking: RunningServer) -> str:
    """The path of a black picture of 400 × 200."""
    file = io.BytesIO()
    Image.new("L", (400, 200), 0).save(file, "PNG")
    return media(marking.client("me").stored(file.getvalue())["key"])


def shown(server: RunningServer, path: str) -> Image.Image:
    """The rendition at *path* in grey."""
    answer = server.client().get(path)
    assert answer.status == 200, answer
    return Image.open(io.BytesIO(answer.body)).convert("L")


def bright(picture: Image.Image) -> tuple[int, int, int, int] | None:
    """The box of what is not dark."""
    return picture.point(lambda value: 255 * (value > 60)).getbbox()


def test_a_watermark_lies_where_and_as_large_as_the_file_says(marking: RunningServer, dark: str) -> None:
    assert bright(shown(marking, f"{dark}?format=png")) is None
    assert bright(shown(marking, f"{dark}?format=png&wm=logo")) == (316, 156, 396, 196)
    assert bright(shown(marking, f"{dark}?format=png&wm=logo&w=200")) == (158, 78, 198, 98)
    faint = shown(marking, f"{dark}?format=png&wm=faint")
    assert bright(faint) == (100, 50, 300, 150)
    assert faint.getpixel((200, 100)) == pytest.approx(128, abs=3)


def test_every_frame_and_a_border_and_transparency_carry_it(marking: RunningServer) -> None:
    client = marking.client("me")
    path = media(client.stored(pictures.gif(80, 60, frames=3))["key"])
    animation = Image.open(io.BytesIO(client.get(f"{path}?wm=faint&format=webp").body))
    for frame in range(3):
        animation.seek(frame)
        assert min(animation.convert("RGB").getpixel((40, 30))) > 100  # type: ignore[arg-type, type-var]
    clear = media(client.stored(pictures.png(80, 60, mode="RGBA"))["key"])
    picture = Image.open(io.BytesIO(client.get(f"{clear}?wm=logo&pad=20&format=png").body)).convert("RGBA")
    assert (picture.size, picture.getpixel((2, 2))[3], picture.getpixel((107, 92))) == ((120, 100), 0, (255, 255, 255, 255))  # type: ignore[index]


def test_an_unknown_watermark_is_refused_with_the_names_there_are(marking: RunningServer, dark: str) -> None:
    answer = marking.client().get(f"{dark}?wm=other")
    assert (answer.status, answer.json["param"], answer.json["allowed"]) == (400, "wm", "faint, logo")


def test_another_picture_under_the_same_name_makes_new_renditions(folder: Path, tmp_path: Path) -> None:
    settings = {"MEDIA_WATERMARKS": str(tmp_path / "watermarks.toml")}
    (tmp_path / "watermarks.toml").write_text(FILE)
    (tmp_path / "logo.png").write_bytes(logo())
    with RunningServer(tmp_path / "server", settings) as server:
        path = media(server.client("me").stored(pictures.png(80, 60))["key"])
        first = server.client().get(f"{path}?wm=logo&w=60")
        server.settle()
        server.stop()
        (tmp_path / "logo.png").write_bytes(logo("black"))
        server.start()
        second = server.client().get(f"{path}?wm=logo&w=60")
        assert second.headers["ETag"] != first.headers["ETag"]
        assert second.body != first.body


@pytest.mark.parametrize(
    ("text", "faults"),
    [
        ("[a", ["no TOML"]),
        ("a = 1", ["a: it is no table"]),
        ('[a]\nfile = "none.png"\n[b]\nfile = "watermarks.toml"', ["none.png cannot be read", "watermarks.toml is no PNG"]),
        ('[a]\nfile = "logo.png"\nplace = "focal"\n[b]\nfile = "logo.png"\nsize = 0', ["place is a corner", "size is a part"]),
        ('[A]\nfile = "logo.png"\n[b]\nfile = "logo.png"\ncolour = "red"', ["A: ", "colour is not known"]),
        ('[a]\nfile = "logo.png"\nplace = "nowhere"', ["a: g may be center"]),
    ],
)
def test_a_file_that_is_not_right_names_every_fault(tmp_path: Path, text: str, faults: list[str]) -> None:
    (tmp_path / "logo.png").write_bytes(logo())
    (tmp_path / "watermarks.toml").write_text(text)
    with pytest.raises(BadWatermarks) as caught:
        load(tmp_path / "watermarks.toml", tmp_path)
    assert all(fault in str(caught.value) for fault in faults), caught.value


def test_such_a_file_stops_the_start(tmp_path: Path) -> None:
    (tmp_path / "watermarks.toml").write_text("a = 1")
    server = RunningServer(tmp_path, {"MEDIA_WATERMARKS": "watermarks.toml"})
    server.launch()
    assert server.wait() == 2
    assert "MEDIA_WATERMARKS: watermarks.toml is not usable. a: it is no table with a file" in server.output.text
