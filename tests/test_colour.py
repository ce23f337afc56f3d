"""Colours arrive as they were meant, measured as ΔE (CIEDE2000; 1 is what an eye just sees), and light and motion survive."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable
from pathlib import Path

import pytest
import pyvips
from PIL import Image, ImageSequence

from processors import image
from processors.values import Limits
from tests import pictures
from tests.kit import shared

Make = Callable[[bytes, str], bytes]
HUES = (
    (200, 40, 40),
    (40, 160, 60),
    (50, 60, 180),
    (230, 200, 60),
    (128, 128, 128),
    (20, 20, 20),
    (250, 250, 250),
    (240, 170, 140),
)
PATCH = 16
needs_the_set = pytest.mark.skipif(not shared.present() and not shared.required(), reason=shared.ABSENT)


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """The rendition of some bytes by a settled transform."""

    def made(data: bytes, transform: str) -> bytes:
        path = tmp_path / hashlib.sha256(data).hexdigest()  # libvips remembers what it opened by its name
        path.write_bytes(data)
        return image.render(str(path), transform, Limits()).data

    return made


def patches() -> pyvips.Image:
    """The hues side by side."""
    row = [pyvips.Image.black(PATCH, PATCH, bands=3) + list(hue) for hue in HUES]
    return pyvips.Image.arrayjoin(row, across=len(row)).cast("uchar").copy(interpretation="srgb")


def pixels(data: bytes) -> pyvips.Image:
    """The decoded picture; the frames of an animation lie below each other."""
    animates = data[:3] == b"GIF" or data[8:12] == b"WEBP"
    return pyvips.Image.new_from_buffer(data, "", **({"n": -1} if animates else {})).copy_memory()


def worst(found: pyvips.Image, meant: pyvips.Image) -> float:
    """The largest ΔE between the middles of the patches of two pictures."""
    return float(max(found.crop(at + 4, 4, 8, 8).dE00(meant.crop(at + 4, 4, 8, 8)).avg() for at in range(0, found.width, PATCH)))


def difference(found: pyvips.Image, meant: pyvips.Image) -> float:
    """The mean ΔE between two pictures."""
    return float(found.dE00(meant).avg())


def with_icc(found: pyvips.Image, profile: bytes) -> pyvips.Image:
    """The same pixels, said to be of *profile*."""
    tagged = found.copy()
    tagged.set_type(pyvips.GValue.blob_type, "icc-profile-data", profile)
    return tagged


def built_in(name: str) -> bytes:
    """A profile that libvips carries."""
    return bytes(pyvips.Operation.call("profile_load", name))


def converted(profile: bytes, folder: Path) -> pyvips.Image:
    """The patches in the colours of *profile*, and said to be."""
    path = folder / "profile.icc"
    path.write_bytes(profile)
    return with_icc(patches().icc_transform(str(path), input_profile="srgb", intent="relative"), profile)


# -- spaces -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("format", ["jpg", "png", "webp", "avif"])
def test_colours_of_srgb_stay_what_they_are(make: Make, format: str) -> None:
    assert worst(pixels(make(patches().pngsave_buffer(), f"format={format}&q=95")), patches()) < 1.5


@pytest.mark.parametrize("space", ["Display P3", "Adobe RGB"])
@pytest.mark.parametrize("kind", ["jpeg", "png", "webp", "tiff", "png of 16 bits"])
def test_colours_of_a_wider_space_become_those_of_srgb(make: Make, tmp_path: Path, space: str, kind: str) -> None:
    wide = converted(built_in("p3") if space == "Display P3" else pictures.adobe_rgb_profile(), tmp_path)
    assert worst(wide.copy(interpretation="srgb"), patches()) > 2, "the numbers are to differ"
    data = {
        "jpeg": lambda: wide.jpegsave_buffer(Q=98, subsample_mode="off", keep="icc"),
        "png": lambda: wide.pngsave_buffer(keep="icc"),
        "webp": lambda: wide.webpsave_buffer(lossless=True, keep="icc"),
        "tiff": lambda: wide.tiffsave_buffer(keep="icc"),
        "png of 16 bits": lambda: with_icc((wide.cast("ushort") * 257).cast("ushort").copy(interpretation="rgb16"),
                                           wide.get("icc-profile-data")).pngsave_buffer(keep="icc"),
    }[kind]()  # fmt: skip
    rendition = pixels(make(data, "format=png"))
    assert not rendition.get_typeof("icc-profile-data")
    assert worst(rendition, patches()) < 1.5


@pytest.mark.parametrize("kind", ["sRGB", "Display P3", "broken"])
def test_a_profile_of_srgb_or_a_broken_one_changes_nothing_and_others_do(make: Make, kind: str) -> None:
    profile = {"sRGB": built_in("srgb"), "Display P3": built_in("p3"), "broken": built_in("srgb")[:200] + bytes(200)}[kind]
    tagged, bare = (found.webpsave_buffer(lossless=True, keep="icc") for found in (with_icc(patches(), profile), patches()))
    found = [worst(pixels(make(tagged, "format=png")), pixels(make(bare, "format=png"))) for _ in range(2)]
    assert found == ([0, 0] if kind != "Display P3" else [pytest.approx(found[0])] * 2)
    assert (found[0] > 2) == (kind == "Display P3")


@pytest.mark.parametrize("is_tagged", [True, False])
def test_inks_become_the_colours_that_they_print(make: Make, tmp_path: Path, is_tagged: bool) -> None:
    """Without a profile, inks are taken for those of the usual coated paper."""
    inks = converted(built_in("cmyk"), tmp_path).copy(interpretation="cmyk")
    data = inks.jpegsave_buffer(Q=98, subsample_mode="off", keep="icc" if is_tagged else "none")
    printed = inks.icc_transform("srgb", embedded=True, intent="relative", black_point_compensation=True)
    rendition = pixels(make(data, "format=png"))
    assert rendition.bands == 3
    assert worst(rendition, printed) < (2 if is_tagged else 6)


@pytest.mark.parametrize("kind", ["png", "tiff"])
@pytest.mark.parametrize("bands", [1, 3])
def test_sixteen_bits_become_eight_without_a_step_too_many(make: Make, kind: str, bands: int) -> None:
    ramp = (pyvips.Image.xyz(256, 8)[0] * 257).cast("ushort")
    wide = ramp.bandjoin([ramp] * (bands - 1)) if bands > 1 else ramp
    wide = wide.copy(interpretation="rgb16" if bands > 1 else "grey16")
    data = wide.pngsave_buffer() if kind == "png" else wide.tiffsave_buffer()
    rendition = pixels(make(data, "format=png"))
    assert (rendition.format, rendition.bands) == ("uchar", bands)
    assert (rendition.cast("short") - pyvips.Image.xyz(256, 8)[0]).abs().max() <= 1


@pytest.mark.parametrize("format", ["jpg", "png"])
def test_grey_stays_grey_of_one_channel(make: Make, format: str) -> None:
    grey = patches().colourspace("b-w")
    rendition = pixels(make(grey.pngsave_buffer(), f"format={format}&q=95"))
    assert rendition.bands == 1
    assert (rendition.cast("short") - grey.cast("short")).abs().avg() < 1


# -- transparency -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("format", ["png", "webp", "avif"])
def test_the_colour_of_what_is_clear_does_not_bleed(make: Make, format: str) -> None:
    red, green = (pyvips.Image.black(64, 64, bands=3) + list(colour) for colour in ((255, 0, 0), (0, 255, 0)))
    alpha = (pyvips.Image.xyz(64, 64)[0] < 33).ifthenelse(255, 0)
    drawn = (pyvips.Image.xyz(64, 64)[0] < 33).ifthenelse(red, green).bandjoin(alpha).cast("uchar").copy(interpretation="srgb")
    rendition = pixels(make(drawn.pngsave_buffer(), f"w=10&format={format}&q=95"))
    seen = rendition.premultiply()
    assert rendition[3].min() < 10
    assert rendition[3].max() > 245
    assert seen[1].max() < 16, "green is behind nothing that is seen"


@pytest.mark.parametrize("kind", ["palette", "grey", "colour"])
@pytest.mark.parametrize("format", ["png", "webp", "avif", "gif"])
def test_transparency_of_every_kind_arrives(make: Make, kind: str, format: str) -> None:
    drawn = Image.new("RGBA", (40, 20), (200, 40, 40, 255))
    drawn.paste((0, 0, 0, 0), (20, 0, 40, 20))
    buffer = io.BytesIO()
    if kind == "palette":
        drawn.quantize(4).save(buffer, "PNG")
    else:
        drawn.convert("LA" if kind == "grey" else "RGBA").save(buffer, "PNG")
    with Image.open(io.BytesIO(make(buffer.getvalue(), f"w=20&format={format}"))) as made:
        clear = made.convert("RGBA")
        assert (clear.getpixel((4, 5))[3], clear.getpixel((15, 5))[3]) == pytest.approx((255, 0), abs=2)  # type: ignore[index]


# -- orientation --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("turn", range(1, 9))
@pytest.mark.parametrize("kind", ["jpeg", "png", "tiff"])
def test_every_orientation_is_shown_upright(make: Make, kind: str, turn: int) -> None:
    upright = pixels(pictures.png(80, 60))
    rendition = pixels(make(getattr(pictures, kind)(80, 60, orientation=turn), "format=png"))
    assert (rendition.width, rendition.height) == (80, 60)
    assert difference(rendition, upright) < 3


# -- motion -------------------------------------------------------------------------------------------------------------

DELAYS = [40, 120, 200, 500]


def flipbook(kind: str, *, loop: int = 0) -> bytes:
    """Four frames of 64 × 48, shown for as long as DELAYS say, of which only a part changes each time."""
    book = [pictures.corners(64, 48).copy() for _ in DELAYS]
    for number, page in enumerate(book):
        page.paste(HUES[number], (16 * number, 8, 16 * number + 16, 40))
    buffer = io.BytesIO()
    options = {"lossless": True} if kind == "WEBP" else {"quality": 95} if kind == "AVIF" else {}
    looped = {} if kind == "AVIF" else {"loop": loop}
    book[0].save(buffer, kind, save_all=True, append_images=book[1:], duration=DELAYS, **options, **looped)
    return buffer.getvalue()


def played(data: bytes) -> tuple[list[Image.Image], list[int]]:
    """The frames as a player shows them, and their delays."""
    with Image.open(io.BytesIO(data)) as moving:
        shown = []
        for frame in ImageSequence.Iterator(moving):
            frame.load()
            shown.append((frame.convert("RGBA"), round(frame.info["duration"])))
    return [frame for frame, _ in shown], [delay for _, delay in shown]


def vips(picture: Image.Image) -> pyvips.Image:
    """A frame laid over white."""
    found = pyvips.Image.new_from_memory(picture.convert("RGBA").tobytes(), *picture.size, 4, "uchar")
    return found.copy(interpretation="srgb").flatten(background=255)


@pytest.mark.parametrize("format", ["webp", "gif"])
@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "AVIF"])
def test_an_animation_keeps_frames_and_delays_when_it_is_cut_and_resized(make: Make, kind: str, format: str) -> None:
    data = flipbook(kind)
    sources, _ = played(data)
    frames, delays = played(make(data, f"crop=0,0,64,40&w=32&format={format}&q=95"))
    assert delays == DELAYS
    assert [frame.size for frame in frames] == [(32, 20)] * 4
    for frame, source in zip(frames, sources, strict=True):
        assert difference(vips(frame), vips(source).crop(0, 0, 64, 40).resize(0.5)) < (4 if format == "webp" else 6)


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG"])
@pytest.mark.parametrize("loop", [0, 2, 5])
def test_an_animation_runs_as_often_as_before(make: Make, kind: str, loop: int) -> None:
    """GIF counts repetitions, the others runs."""
    runs = loop + 1 if kind == "GIF" and loop else loop
    with Image.open(io.BytesIO(make(flipbook(kind, loop=loop), "w=32&format=webp"))) as made:
        assert made.info["loop"] == runs
    with Image.open(io.BytesIO(make(flipbook(kind, loop=loop), "w=32&format=gif"))) as made:
        assert made.info["loop"] == max(0, runs - 1)


def test_the_still_picture_of_an_animated_png_is_not_in_its_animation(make: Make) -> None:
    book = [Image.new("RGB", (20, 20), colour) for colour in HUES[:3]]
    buffer = io.BytesIO()
    book[0].save(buffer, "PNG", save_all=True, append_images=book[1:], duration=70, default_image=True)
    frames, _ = played(make(buffer.getvalue(), "format=webp&q=95"))
    assert len(frames) == 2
    assert difference(vips(frames[0]), vips(book[1])) < 2
    assert difference(pixels(make(buffer.getvalue(), "format=png")), vips(book[0])) < 2


@pytest.mark.parametrize("kind", ["PNG", "AVIF"])
def test_an_animation_over_a_limit_is_its_first_picture_and_says_so(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "source"
    path.write_bytes(flipbook(kind))
    rendered = image.render(str(path), "format=webp", Limits(max_frames=3))
    assert rendered.degraded == ("animation-dropped",)
    assert len(played(flipbook(kind))[0]) == 4
    with Image.open(io.BytesIO(rendered.data)) as made:
        assert getattr(made, "n_frames", 1) == 1


@pytest.mark.parametrize(
    "transform", ["w=32&format=gif", "w=32&bg=3cb44b&fit=pad&h=48&format=gif", "w=32&gray=1&format=gif", "w=32&pad=4&format=gif"]
)
def test_an_animation_with_one_palette_gets_the_colours_that_it_needs(make: Make, transform: str) -> None:
    book = [Image.new("P", (64, 48), number) for number in range(3)]
    for page in book:
        page.putpalette([value for hue in HUES[:3] for value in hue])
    buffer = io.BytesIO()
    book[0].save(buffer, "GIF", save_all=True, append_images=book[1:], duration=70, palette=book[0].getpalette())
    frames, _ = played(make(buffer.getvalue(), transform))
    for frame, hue in zip(frames, HUES, strict=False):
        meant = patches().crop(HUES.index(hue) * PATCH, 0, 1, 1)
        if "gray" in transform:
            meant = meant.colourspace("b-w").colourspace("srgb")
        middle = (8, 20) if "pad" in transform else (8, 8)
        assert difference(vips(frame).crop(*middle, 4, 4), meant.embed(0, 0, 4, 4, extend="copy")) < 3
        if "pad=4" in transform:
            assert frame.getpixel((1, 1))[3] == 0  # type: ignore[index]
        elif "pad" in transform:
            assert frame.getpixel((1, 1)) == pytest.approx((0x3C, 0xB4, 0x4B, 255), abs=12)


@needs_the_set
@pytest.mark.parametrize("file", [
    "gif/muybridge_15_frames.gif", "gif/red_blue_transparent.gif", "webp/muybridge_anim.webp",
    "png/muybridge_anim.apng", "png/red_blue_anim.png", "avif/colors_animated.avif", "avif/star_sequence.avifs",
])  # fmt: skip
def test_an_animation_of_the_set_plays_as_before(make: Make, file: str) -> None:
    data = shared.data(file)
    sources, delays = played(data)
    frames, made_delays = played(make(data, "format=webp&q=95"))
    assert (len(frames), made_delays) == (len(sources), delays)
    for frame, source in zip(frames, sources, strict=True):
        assert difference(vips(frame), vips(source)) < 3


# -- light --------------------------------------------------------------------------------------------------------------


def ultra_hdr(width: int = 800, height: int = 600, *, turn: int = 1) -> bytes:
    """A JPEG whose right third may be eight times as bright; the map is half as wide, and all lies as orientation *turn* says."""
    places = pyvips.Image.xyz(width // 2, height // 2)
    gains = (places[0] > width // 3).ifthenelse(255, 0).cast("uchar")
    picture = vips(pictures.corners(width, height))
    if turn == 6:
        picture, gains = picture.rot270(), gains.rot270()
    picture = picture.copy()
    picture.set_type(pyvips.GValue.gint_type, "orientation", turn)
    picture.set_type(pyvips.GValue.blob_type, "gainmap-data", gains.jpegsave_buffer(Q=90))
    for name, value in {
        "max-content-boost": 8.0,
        "min-content-boost": 1.0,
        "gamma": 1.0,
        "offset-sdr": 0.0,
        "offset-hdr": 0.0,
    }.items():
        picture.set_type(pyvips.GValue.array_double_type, f"gainmap-{name}", [value] * 3)
    for name, value in {"hdr-capacity-min": 1.0, "hdr-capacity-max": 8.0}.items():
        picture.set_type(pyvips.GValue.gdouble_type, f"gainmap-{name}", value)
    picture.set_type(pyvips.GValue.gint_type, "gainmap-use-base-cg", 1)
    return bytes(picture.jpegsave_buffer(Q=90, keep="gainmap:exif"))


def gains_of(data: bytes) -> pyvips.Image | None:
    """The gain map of a JPEG, by libultrahdr; None if it has none."""
    loaded = pyvips.Image.new_from_buffer(data, "")
    if not loaded.get_typeof("gainmap-data"):
        return None
    assert loaded.get("vips-loader") == "uhdrload_buffer"
    assert loaded.get("gainmap-hdr-capacity-max") == pytest.approx(8, rel=0.01)
    return pyvips.Image.new_from_buffer(loaded.get("gainmap-data"), "")


@pytest.mark.parametrize("turn", [1, 6])
@pytest.mark.parametrize(("transform", "size", "edge"), [
    ("format=jpg", (800, 600), 2 / 3), ("w=640&format=jpg", (640, 480), 2 / 3),
    ("crop=400,0,400,600&h=601&up=1&format=jpg", (401, 601), 1 / 3), ("rot=180&w=700&format=jpg", (700, 525), 1 / 3),
    ("w=620&h=310&fit=cover&g=top&format=jpg", (620, 310), 2 / 3),
    ("w=300&h=601&fit=cover&up=1&g=right&format=jpg", (300, 601), 0.112),
])  # fmt: skip
def test_a_gain_map_goes_with_the_picture(make: Make, transform: str, size: tuple[int, int], edge: float, turn: int) -> None:
    rendition = make(ultra_hdr(turn=turn), transform)
    picture, gains = pyvips.Image.jpegload_buffer(rendition), gains_of(rendition)
    assert (picture.width, picture.height) == size
    assert gains is not None
    assert gains.width / gains.height == pytest.approx(size[0] / size[1], rel=0.02)
    assert gains.width <= size[0] // 2 + 1
    is_mirrored = "rot=180" in transform
    dark, bright = (gains.crop(0, 0, max(1, int(gains.width * (edge - 0.04))), gains.height),
                    gains.crop(int(gains.width * (edge + 0.04)), 0, int(gains.width * (0.96 - edge)), gains.height))  # fmt: skip
    values = (dark.avg(), bright.avg())
    assert (values[1], values[0]) == pytest.approx((0, 255), abs=4) if is_mirrored else values == pytest.approx((0, 255), abs=4)


def test_a_picture_with_a_gain_map_looks_the_same_where_nobody_reads_it(make: Make) -> None:
    bare = pyvips.Image.jpegload_buffer(ultra_hdr()).jpegsave_buffer(Q=90, keep="none")
    one, other = (pyvips.Image.jpegload_buffer(make(data, "w=640&format=jpg")) for data in (ultra_hdr(), bare))
    assert difference(one, other) < 0.5


@pytest.mark.parametrize(
    "transform", ["w=600&format=jpg", "w=640&format=webp", "w=640&gray=1&format=jpg", "w=640&pad=20&format=jpg"]
)
def test_small_changed_and_other_renditions_go_without_a_gain_map(make: Make, transform: str) -> None:
    assert gains_of(make(ultra_hdr(), transform)) is None


@pytest.mark.parametrize("harm", ["cut", "bomb"])
def test_a_broken_gain_map_costs_the_picture_nothing(make: Make, harm: str) -> None:
    data = ultra_hdr()
    at = data.rindex(b"\xff\xd8\xff")
    if harm == "cut":
        data = data[: at + (len(data) - at) // 2] + bytes((len(data) - at) // 2)
    else:
        frame = data.index(b"\xff\xc0", at)
        data = data[: frame + 5] + b"\xff\xdc\xff\xdc" + data[frame + 9 :]
    rendition = make(data, "w=640&format=jpg")
    assert gains_of(rendition) is None
    assert pyvips.Image.jpegload_buffer(rendition, fail_on="error").avg() > 0


@needs_the_set
def test_a_gain_map_of_the_set_gives_the_same_light(make: Make) -> None:
    data = shared.data("jpeg/harvesters_made_ultrahdr.jpg")
    before, after = (pyvips.Image.uhdrload_buffer(found) for found in (data, make(data, "w=800&format=jpg&q=95")))
    meant, found = before.uhdr2scRGB().resize(0.8), after.uhdr2scRGB()
    assert (meant.width, meant.height) == (found.width, found.height) or abs(meant.height - found.height) == 1
    height = min(meant.height, found.height)
    error = (meant.crop(0, 0, 800, height) - found.crop(0, 0, 800, height)).abs().avg()
    assert error < 0.03 * max(1.0, meant.avg())


# -- deep AVIF ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bits", [8, 10, 12])
def test_a_deep_avif_is_shown_in_its_colours(make: Make, bits: int) -> None:
    wide = (patches().cast("ushort") * 257).cast("ushort").copy(interpretation="rgb16")
    source = wide if bits > 8 else patches()
    data = source.heifsave_buffer(compression="av1", Q=95, bitdepth=bits, effort=1, subsample_mode="off")
    assert worst(pixels(make(data, "format=png")), patches()) < 2


@needs_the_set
@pytest.mark.parametrize("file", ["avif/hdr_pq_10bit.avif", "avif/fox_10bit_444.avif", "avif/hato_12bit_422.avif"])
def test_a_deep_avif_of_the_set_is_neither_black_nor_white(make: Make, file: str) -> None:
    rendition = pixels(make(shared.data(file), "w=200&format=png"))
    assert 20 < rendition.avg() < 235
    assert rendition.deviate() > 15
