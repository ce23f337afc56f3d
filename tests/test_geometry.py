"""What the parameters of geometry and colour do to a picture, through HTTP: judged by the colour of its regions."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from itertools import pairwise

import pytest
from PIL import Image, ImageDraw, ImageFilter

from tests import pictures
from tests.kit.client import media
from tests.kit.server import RunningServer

RED, GREEN, BLUE, YELLOW = (230, 20, 20), (20, 160, 40), (30, 40, 220), (235, 215, 20)
QUARTERS = {"r": RED, "g": GREEN, "b": BLUE, "y": YELLOW, "w": (255, 255, 255), "k": (0, 0, 0)}
WIDTH, HEIGHT = 200, 100


def quartered(border: int = 0) -> Image.Image:
    """Red and green over blue and yellow, 200 × 100 pixels, within a white border."""
    picture = Image.new("RGB", (WIDTH + 2 * border, HEIGHT + 2 * border), "white")
    draw = ImageDraw.Draw(picture)
    for column, row, colour in ((0, 0, RED), (1, 0, GREEN), (0, 1, BLUE), (1, 1, YELLOW)):
        left, top = border + column * 100, border + row * 50
        draw.rectangle((left, top, left + 99, top + 49), fill=colour)
    return picture


def encoded(picture: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    """The file of *picture*."""
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def stored(server: RunningServer, data: bytes) -> str:
    """The path of *data*, once it is uploaded."""
    return media(server.client("me").stored(data)["key"])


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server for these tests alone."""
    with RunningServer(tmp_path_factory.mktemp("geometry")) as running:
        yield running


@pytest.fixture(scope="module")
def path(studio: RunningServer) -> str:
    """The four colours."""
    return stored(studio, encoded(quartered()))


@pytest.fixture(scope="module")
def show(studio: RunningServer, path: str) -> Callable[[str], Image.Image]:
    """What a query makes of the four colours."""

    def shown(query: str, of: str = path) -> Image.Image:
        answer = studio.client().get(f"{of}?{query}")
        assert answer.status == 200, answer
        return Image.open(io.BytesIO(answer.body)).convert("RGBA")

    return shown


def letter(pixel: tuple[int, ...]) -> str:
    """Which of the colours a pixel is nearest to; ``-`` for one that is seen through."""
    if len(pixel) == 4 and pixel[3] < 20:
        return "-"
    return min(QUARTERS, key=lambda name: sum((a - b) ** 2 for a, b in zip(QUARTERS[name], pixel[:3], strict=True)))


def corners(picture: Image.Image) -> str:
    """The colours near the four corners: top left, top right, bottom left, bottom right."""
    across, down = picture.width // 8, picture.height // 8
    places = [(x, y) for y in (down, picture.height - 1 - down) for x in (across, picture.width - 1 - across)]
    return "".join(letter(picture.getpixel(place)) for place in places)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("query", "size", "seen"),
    [
        ("crop=0,0,100,50", (100, 50), "rrrr"),
        ("crop=100,0,100,100", (100, 100), "ggyy"),
        ("rect=0.5,0.5,0.5,0.5", (100, 50), "yyyy"),
        ("crop=0,0.5,1,0.5", (200, 50), "bybyb"[:2] * 2),
        ("crop=150,50,900,900", (50, 50), "yyyy"),
        ("crop=0,0,100,100&w=50", (50, 50), "rrbb"),
        ("crop=0.25,0,0.5,1&w=50&h=50&fit=cover", (50, 50), "rgby"),
        ("rot=90", (100, 200), "bryg"),
        ("rot=180", (200, 100), "ybgr"),
        ("rot=270&w=50", (50, 100), "gyrb"),
        ("flip=h", (200, 100), "gryb"),
        ("flip=v", (200, 100), "byrg"),
        ("flip=hv", (200, 100), "ybgr"),
        ("rot=90&flip=h", (100, 200), "rbgy"),
        ("crop=0,0,100,100&rot=90", (100, 100), "brbr"),
        ("crop=0,0,100,100&flip=v&w=20", (20, 20), "bbrr"),
        ("rot=90&w=40&h=40&fit=cover&g=top", (40, 40), "brbr"),
        ("ar=1:1&w=50&g=left", (50, 50), "rrbb"),
        ("ar=1&g=right", (100, 100), "ggyy"),
        ("ar=2:1&h=50", (100, 50), "rgby"),
        ("ar=1:1&w=60&fit=pad&bg=000", (60, 60), "kkkk"),
        ("ar=4:1&g=bottom", (200, 50), "byby"),
        ("pad=25&bg=fff", (250, 150), "wwww"),
        ("pad=0,50,0,0&bg=000", (250, 100), "rkbk"),
        ("w=100&pad=10&dpr=2&bg=fff", (240, 140), "wwww"),
        ("pad=20&format=png", (240, 140), "----"),
        ("w=40&h=40&fit=cover&g=0x0", (40, 40), "rrbb"),
        ("w=40&h=40&fit=cover&g=1x0.5", (40, 40), "ggyy"),
        ("gray=0&flip=h&w=100", (100, 50), "gryb"),
        ("trim=auto", (200, 100), "rgby"),
    ],
)
def test_a_parameter_of_geometry_does_what_it_says(
    show: Callable[[str], Image.Image], query: str, size: tuple[int, int], seen: str
) -> None:
    picture = show(query)
    assert picture.size == size
    assert corners(picture) == seen


@pytest.mark.parametrize("turn", range(1, 9))
def test_a_crop_is_of_the_picture_as_it_is_seen(studio: RunningServer, turn: int) -> None:
    """Each EXIF orientation: the part, its turning and its mirroring are those of the picture turned upright."""
    exif = Image.Exif()
    exif[0x0112] = turn
    upright = quartered()
    back = {2: [0], 3: [3], 4: [1], 5: [5], 6: [2], 7: [6], 8: [4]}  # transposes that lay the picture as it is stored
    lying = upright
    for way in back.get(turn, []):
        lying = lying.transpose(Image.Transpose(way))
    whole = stored(studio, encoded(lying, "JPEG", quality=95, exif=exif))

    def shown(query: str) -> Image.Image:
        return Image.open(io.BytesIO(studio.client().get(f"{whole}?{query}&format=png").body)).convert("RGB")

    assert corners(shown("w=100")) == "rgby"
    assert corners(shown("crop=100,0,100,100")) == "ggyy"
    assert (shown("crop=0,50,200,50&w=100").size, corners(shown("crop=0,50,200,50"))) == ((100, 25), "byby")
    assert corners(shown("rot=90")) == "bryg"
    assert corners(shown("rot=270&flip=v")) == "rbgy"


def test_trim_takes_a_plain_border_away_before_anything_is_cut(studio: RunningServer, show: Callable[..., Image.Image]) -> None:
    bordered = stored(studio, encoded(quartered(border=30)))
    assert show("trim=10", bordered).size == (200, 100)
    assert corners(show("trim=auto&crop=0,0,100,50", bordered)) == "rrrr"
    assert corners(show("trim=5&w=50&h=50&fit=cover&g=right", bordered)) == "ggyy"
    assert show("w=260", bordered).size == (260, 160)
    clear = Image.new("RGBA", (80, 60), (0, 0, 0, 0))
    clear.paste(RED, (10, 20, 50, 40))
    assert show("trim=1", stored(studio, encoded(clear))).size == (40, 20)
    assert show("trim=1", stored(studio, encoded(Image.new("RGB", (30, 20), RED)))).size == (30, 20)


def test_the_border_of_a_large_picture_is_found_to_within_a_hundredth(
    studio: RunningServer, show: Callable[..., Image.Image]
) -> None:
    large = Image.new("RGB", (2000, 1500), "white")
    large.paste(quartered().resize((1600, 1000)), (100, 300))
    for kind in ("PNG", "JPEG"):
        width, height = show("trim=auto", stored(studio, encoded(large, kind))).size
        assert abs(width - 1600) <= 20
        assert abs(height - 1000) <= 20


def test_gray_has_no_colour_and_keeps_brightness(show: Callable[[str], Image.Image]) -> None:
    picture = show("gray=1&format=png").convert("RGB")
    pixels = [picture.getpixel(place) for place in ((50, 25), (150, 25), (50, 75), (150, 75))]
    assert all(max(pixel) - min(pixel) <= 2 for pixel in pixels)  # type: ignore[arg-type, operator]
    yellow, blue = pixels[3], pixels[2]
    assert yellow[0] > blue[0] + 80  # type: ignore[index]


def steepness(picture: Image.Image) -> float:
    """How many pixels the step from red to green takes at the middle of the picture's upper half, by its steepest place."""
    row = [picture.convert("RGB").getpixel((x, picture.height // 4)) for x in range(picture.width)]
    return max(abs(a[1] - b[1]) for a, b in pairwise(row))  # type: ignore[index]


def test_blur_softens_edges_as_far_as_it_says_and_sharp_makes_them_steeper(
    studio: RunningServer, show: Callable[..., Image.Image]
) -> None:
    plain, soft, softer = (steepness(show(f"format=png&{query}")) for query in ("w=200", "blur=2", "blur=6"))
    assert plain > 100
    assert plain / 3 > soft > softer * 2
    # A Gaussian of sigma pixels rises by height / (sigma √2π) at its steepest.
    assert soft == pytest.approx(140 / (2 * 2.507), rel=0.15)
    smooth = stored(studio, encoded(quartered().filter(ImageFilter.GaussianBlur(2))))
    assert steepness(show("sharp=2&format=png", smooth)) > 1.3 * steepness(show("w=200&format=png", smooth))


def test_a_blur_does_not_bring_out_what_is_seen_through(studio: RunningServer, show: Callable[..., Image.Image]) -> None:
    picture = Image.new("RGBA", (60, 60), (0, 255, 0, 0))
    picture.paste((230, 20, 20, 255), (20, 20, 40, 40))
    edge = show("blur=3&format=png", stored(studio, encoded(picture))).getpixel((18, 30))
    assert edge[3] > 20  # type: ignore[index]
    assert edge[1] < 60, "the invisible green bleeds in"  # type: ignore[index]


def test_an_animation_may_be_asked_to_stand_still(studio: RunningServer) -> None:
    path = stored(studio, pictures.gif(80, 60, frames=4))
    counts = {}
    for query in ("w=40", "w=40&anim=1", "w=40&anim=0", "w=40&anim=0&format=webp"):
        picture = Image.open(io.BytesIO(studio.client().get(f"{path}?{query}").body))
        counts[query] = getattr(picture, "n_frames", 1)
    assert list(counts.values()) == [4, 4, 1, 1]


def test_every_frame_of_an_animation_is_cut_and_turned_alike(studio: RunningServer) -> None:
    answer = studio.client().get(f"{stored(studio, pictures.gif(80, 60, frames=3))}?crop=0,0,40,60&rot=90&pad=5&bg=fff")
    picture = Image.open(io.BytesIO(answer.body))
    assert (picture.size, getattr(picture, "n_frames", 1)) == ((70, 50), 3)


@pytest.mark.parametrize(
    ("query", "param"),
    [("crop=500,0,10,10", "crop"), ("crop=0,100,10,10", "crop"), ("w=8192&up=1&pad=2000", "pad"), ("ar=1:1&w=10&h=10", "ar")],
)
def test_what_the_picture_has_no_room_for_is_refused(studio: RunningServer, path: str, query: str, param: str) -> None:
    for _ in range(2):
        answer = studio.client().get(f"{path}?{query}")
        assert (answer.status, answer.code, answer.json["param"]) == (400, "bad-parameter", param)
