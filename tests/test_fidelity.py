"""What a rendition keeps: the page and the moment that was asked for, as much quality as its bytes allow, and its metadata."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
import pyvips
from PIL import Image, IptcImagePlugin

from processors import decoders, encoders, video
from processors.errors import BadParameter, TooCostly
from processors.metadata import Metadata
from processors.values import Limits
from tests import pictures

LIMITS = Limits()


def stored(folder: Path, data: bytes) -> str:
    path = folder / "file"
    path.write_bytes(data)
    return str(path)


def photo(side: int = 200) -> pyvips.Image:
    """A picture that codecs find neither empty nor noise."""
    picture = pictures.corners(side, side)
    return pyvips.Image.new_from_memory(picture.tobytes(), side, side, 3, "uchar").copy(interpretation="srgb")


# -- a page, a moment ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["gif", "webp"])
def test_a_page_of_an_animation_is_what_a_player_shows_then(tmp_path: Path, kind: str) -> None:
    book = [Image.new("RGB", (40, 30), colour) for colour in pictures.QUARTERS]
    buffer = io.BytesIO()
    book[0].save(buffer, kind, save_all=True, append_images=book[1:], duration=70)
    path = stored(tmp_path, buffer.getvalue())
    for number, colour in enumerate(pictures.QUARTERS, 1):
        source = decoders.look(path, LIMITS, number)
        assert (source.frames, source.size) == (1, (40, 30))
        shown = source.load(1, source.frames)(20, 15)
        assert all(abs(one - other) <= 12 for one, other in zip(shown, colour, strict=False)), f"{shown} and not {colour}"
    with pytest.raises(BadParameter):
        decoders.look(path, LIMITS, 5)


def test_a_page_of_a_tiff_has_a_size_of_its_own(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (40, 30)).save(buffer, "TIFF", save_all=True, append_images=[Image.new("L", (20, 50))])
    path = stored(tmp_path, buffer.getvalue())
    assert [decoders.look(path, LIMITS, page).size for page in (None, 1, 2)] == [(40, 30), (40, 30), (20, 50)]


@pytest.mark.parametrize(
    "data", [pictures.jpeg(), pictures.png(), pictures.avif(), pictures.heic(), pictures.bmp(), pictures.mp4()]
)
def test_what_is_one_picture_has_no_second_page(tmp_path: Path, data: bytes) -> None:
    assert decoders.look(stored(tmp_path, data), LIMITS, 1).frames == 1
    with pytest.raises(BadParameter):
        decoders.look(stored(tmp_path, data), LIMITS, 2)


def test_the_frames_before_a_page_count_as_what_they_cost(tmp_path: Path) -> None:
    path = stored(tmp_path, pictures.gif(100, 100, frames=30))
    limits = Limits(max_pixels_all_frames=200_000)
    assert decoders.look(path, limits, 10).frames == 1
    with pytest.raises(TooCostly):
        decoders.look(path, limits, 25)


@pytest.mark.parametrize(
    ("time", "brightness"), [("0", 0), ("0.5", 50), ("1", 100), ("1.5", 150), ("50%", 100), ("100%", 190), ("90", 190)]
)
@pytest.mark.parametrize("kind", ["mp4", "webm"])
def test_a_still_is_what_is_seen_at_that_moment(tmp_path: Path, kind: str, time: str, brightness: int) -> None:
    path = stored(tmp_path, pictures.dawn(kind))
    still = video.still(path, decoders.sniffed(path), time)
    assert still.image.avg() == pytest.approx(brightness, abs=6)


@pytest.mark.parametrize(("transfer", "codes"), [("smpte2084", (64, 306, 573, 940)), ("arib-std-b67", (64, 250, 721, 940))])
def test_a_still_of_high_dynamic_range_has_black_dark_bright_and_white(
    tmp_path: Path, transfer: str, codes: tuple[int, ...]
) -> None:
    """The white of a page, third of the four, is bright, and what is lighter is lighter yet (BT.2408)."""
    lights = []
    for code in codes:
        path = stored(tmp_path, pictures.hdr(transfer, (code, 512, 512)))
        image = video.still(path, decoders.sniffed(path)).image
        assert (image.format, image.bands, image.interpretation) == ("uchar", 3, "srgb")
        lights.append(image.avg())
    black, dark, page, peak = lights
    assert black < 3
    assert 15 < dark < 110
    assert 175 < page < 215
    assert peak > 250


def test_the_colours_of_a_wide_gamut_are_those_of_srgb(tmp_path: Path) -> None:
    """A red as BT.2020 has it in PQ, which is paler where its numbers are taken for those of sRGB."""
    path = stored(tmp_path, pictures.hdr("smpte2084", (441, 441, 620)))
    red, green, blue = video.still(path, decoders.sniffed(path)).image.resize(1 / 96, vscale=1 / 96)(0, 0)[:3]
    assert red > 2.5 * max(green, blue)


# -- no more than so many bytes -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["jpg", "webp", "avif"])
def test_a_picture_is_as_good_as_the_bytes_allow(name: str) -> None:
    output = encoders.Output(name, 90, 200 * 200)
    image = photo()
    full = len(output.encode(image))
    assert output.encode_within(image, full) == (output.encode(image), True)
    for share in (0.8, 0.5, 0.35):
        data, fits = output.encode_within(image, int(full * share))
        assert fits
        assert full * share * 0.7 <= len(data) <= full * share


def test_lossless_pictures_get_fewer_colours() -> None:
    for name in ("png", "gif"):
        output = encoders.Output(name, 80, 200 * 200)
        full = len(output.encode(photo()))
        data, fits = output.encode_within(photo(), full * 2 // 3)
        assert fits
        assert len(data) <= full * 2 // 3
        assert pyvips.Image.new_from_buffer(data, "").width == 200


@pytest.mark.parametrize("name", ["jpg", "webp", "avif", "png", "gif"])
def test_where_nothing_fits_the_smallest_comes_and_says_so(name: str) -> None:
    output = encoders.Output(name, 80, 200 * 200)
    data, fits = output.encode_within(photo(), 20)
    assert not fits
    assert 20 < len(data) < len(output.encode(photo()))


# -- metadata -----------------------------------------------------------------------------------------------------------

XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6"/><dc:title>Elbe</dc:title></x:xmpmeta>'
TEXTS = b"\x1c\x02\x74\x00\x0c(c) Studio Z"
RESOURCES = b"Photoshop 3.0\0" + b"8BIM\x04\x0c\0\0\0\0\0\x06THUMBS" + b"8BIM\x04\x04\0\0" + len(TEXTS).to_bytes(4) + TEXTS


def tagged(*, thumbnail: bool) -> Metadata:
    """What a photo of a camera says: everything, turned, and perhaps with a small picture of the whole."""
    block = pictures.exif(6, private=True)
    if thumbnail:
        block = pictures.with_thumbnail(block, b"\xff\xd8SMALL PICTURE\xff\xd9")
    return Metadata(block, XMP, RESOURCES)


@pytest.mark.parametrize("name", ["jpg", "webp", "png", "avif"])
def test_kept_metadata_is_that_of_the_source_but_for_its_turn_and_thumbnail(name: str) -> None:
    data = encoders.Output(name, 80, 40_000).encode(encoders.stripped(photo(), tagged(thumbnail=True), "keep"))
    assert b"SMALL PICTURE" not in data
    assert b"THUMBS" not in data
    with Image.open(io.BytesIO(data)) as image:
        tags = image.getexif()
        assert tags.get(pictures.ORIENTATION_TAG, 1) == 1
        assert tags[pictures.COPYRIGHT_TAG] == pictures.COPYRIGHT
        assert tags.get_ifd(pictures.EXIF_TAG)[0xA431] == pictures.CANARY
        assert tags.get_ifd(pictures.GPS_TAG)[1] == "N"
        image.load()
        xmp = image.info.get("xmp") or image.info["XML:com.adobe.xmp"].encode()
    assert b"Elbe" in xmp
    assert b'tiff:Orientation="1"' in xmp
    if name == "jpg":
        with Image.open(io.BytesIO(data)) as image:
            assert IptcImagePlugin.getiptcinfo(image) == {(2, 116): b"(c) Studio Z"}


@pytest.mark.parametrize("name", ["jpg", "webp", "png", "avif", "gif"])
@pytest.mark.parametrize("policy", [None, "copyright", "none"])
def test_else_nothing_leaves_but_copyright_and_artist(name: str, policy: str | None) -> None:
    image = photo().copy()
    for field, block in (("exif-data", tagged(thumbnail=True).exif), ("xmp-data", XMP), ("iptc-data", RESOURCES)):
        image.set_type(pyvips.GValue.blob_type, field, block)
    data = encoders.Output(name, 80, 40_000).encode(encoders.stripped(image, tagged(thumbnail=True), policy))
    for secret in (pictures.CANARY.encode(), b"Elbe", b"Studio Z", b"SMALL PICTURE"):
        assert secret not in data
    with Image.open(io.BytesIO(data)) as made:
        expected = None if policy == "none" or name == "gif" else pictures.COPYRIGHT
        assert made.getexif().get(pictures.COPYRIGHT_TAG) == expected


@pytest.mark.parametrize(
    "block", [b"", b"Exif\0\0", b"II*\0", b"II*\0\xff\xff\xff\xff", b"MM\0*\0\0\0\x08\xff\xff" + bytes(20), b"noise" * 9]
)
def test_broken_metadata_is_left_behind(block: bytes) -> None:
    assert Metadata(block, None, b"Photoshop 3.0\x008BIM\x04").leaving("keep") == Metadata()
