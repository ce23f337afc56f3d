"""Quality and effort are chosen from measurements: one scale for all codecs, and as much of it as a picture needs."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
import pyvips
from PIL import Image, ImageSequence

from processors import encoders, image
from processors.values import Limits
from tests import pictures

SIDE = 240


def photo() -> pyvips.Image:
    """Something that changes everywhere, the wider the more."""
    bands = []
    for seed in range(3):
        waves = [pyvips.Image.gaussnoise(SIDE // step, SIDE // step, sigma=4 * step**0.7, mean=0, seed=seed).resize(step)
                 for step in (1, 2, 4, 8, 24)]  # fmt: skip
        bands.append((sum(waves[1:], waves[0]) + 128).cast("uchar"))
    return bands[0].bandjoin(bands[1:]).copy(interpretation="srgb").copy_memory()


def drawing(body: str) -> pyvips.Image:
    text = f'<svg xmlns="http://www.w3.org/2000/svg" width="{SIDE}" height="{SIDE}">{body}</svg>'
    return pyvips.Image.svgload_buffer(text.encode()).flatten(background=255).copy(interpretation="srgb").copy_memory()


def page() -> pyvips.Image:
    """Hard edges on white: what letters are."""
    return drawing("".join(f'<rect x="{x * 12}" y="{y * 20}" width="5" height="13"/>' for x in range(20) for y in range(12)))


def shapes() -> pyvips.Image:
    """Large and soft."""
    return drawing('<circle cx="120" cy="120" r="100" fill="#79c"/><circle cx="120" cy="120" r="40" fill="#8ad"/>')


def error(picture: pyvips.Image, data: bytes) -> float:
    return float((pyvips.Image.new_from_buffer(data, "").cast("short") - picture.cast("short")).abs().avg())


@pytest.mark.parametrize("name", ["webp", "avif"])
def test_a_quality_looks_alike_in_every_codec(name: str) -> None:
    picture = photo()
    for quality in (40, 60, 80, 90):
        jpeg, other = (error(picture, encoders.Output(kind, quality, SIDE * SIDE).encode(picture)) for kind in ("jpg", name))
        assert 0.5 < other / jpeg < 1.6, quality


@pytest.mark.parametrize("name", ["jpg", "webp", "avif"])
def test_more_quality_is_never_further_from_the_picture(name: str) -> None:
    picture = photo()
    made = (encoders.Output(name, quality, SIDE * SIDE).encode(picture) for quality in (1, 20, 40, 60, 80, 95, 100))
    errors = [error(picture, data) for data in made]
    assert errors == sorted(errors, reverse=True)


@pytest.mark.parametrize("saving", [False, True])
def test_automatic_quality_is_more_for_text_and_less_for_soft_shapes(saving: bool) -> None:
    soft, usual, sharp = (encoders.automatic_quality(picture, saving=saving) for picture in (shapes(), photo(), page()))
    assert soft < usual < sharp
    if saving:
        assert usual < encoders.automatic_quality(photo(), saving=False)


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 1), (2, 2)])
@pytest.mark.parametrize("bands", [1, 2, 3, 4])
def test_automatic_quality_is_found_for_the_smallest_pictures(size: tuple[int, int], bands: int) -> None:
    assert 1 <= encoders.automatic_quality(pyvips.Image.black(*size, bands=bands).cast("uchar"), saving=False) <= 100


@pytest.mark.parametrize("format", ["webp", "gif"])
def test_frames_that_are_seen_through_and_others_stay_what_they_are(tmp_path: Path, format: str) -> None:
    book = [Image.new("RGBA", (40, 40), (*colour, 255)) for colour in pictures.QUARTERS[:3]]
    book[1].paste((0, 0, 0, 0), (0, 0, 20, 40))
    buffer = io.BytesIO()
    book[0].save(buffer, "WEBP", save_all=True, append_images=book[1:], duration=50, lossless=True)
    path = tmp_path / "source"
    path.write_bytes(buffer.getvalue())
    with Image.open(io.BytesIO(image.render(str(path), f"w=20&format={format}", Limits()).data)) as made:
        seen = [frame.convert("RGBA").getchannel("A") for frame in ImageSequence.Iterator(made)]
    assert [(alpha.getpixel((4, 10)), alpha.getpixel((15, 10))) for alpha in seen] == [(255, 255), (0, 255), (255, 255)]
