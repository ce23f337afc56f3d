"""ThumbHash, BlurHash and the dominant colour, against what the reference implementations give."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from processors import placeholders
from processors.placeholders import Miniature


def slope(width: int, height: int, *, alpha: bool) -> Miniature:
    """A picture that is another one in each corner, also in its alpha; brighter to the left, where all BlurHashes agree."""
    rgba = bytearray()
    for y in range(height):
        for x in range(width):
            left, up = 255 * (width - x) ** 2 // width**2, 255 * (height - y) ** 3 // height**3
            rgba += bytes((left, up, left * up // 255, 255 - (x * 200 // width if alpha else 0)))
    return Miniature(width, height, bytes(rgba))


@pytest.mark.parametrize(
    ("picture", "thumbhash", "blurhash"),
    [
        (slope(32, 24, alpha=False), "jykOHZqfiIifiIiLiJiIiJ8c+RlY", "LsECEX||;+,@p@oNjwj]g{fmfSfl"),
        (slope(20, 32, alpha=False), "jykOHBqf+ImoiImIiIifHPkZVw==", "TvEer1|{;+p@ogjwg{f,fSpZoMjv"),
        (slope(1, 1, alpha=False), "Pwh+BwAI9wiIh4hwj3CI+AiIAAAAAAAA", "K~TSUA~q~q~q~q~q~q~q~q"),
        (slope(32, 24, alpha=True), "0lmKFJApvomviJuY+JyCz2D0iIiIeIeIBw==", None),
    ],
)
def test_the_hashes_are_those_of_the_reference_implementations(picture: Miniature, thumbhash: str, blurhash: str | None) -> None:
    assert base64.b64encode(placeholders.thumbhash(picture)).decode() == thumbhash
    assert blurhash in (None, placeholders.blurhash(picture))  # the reference knows no alpha


@given(st.integers(1, 40), st.integers(1, 40), st.data())
def test_every_picture_has_its_hashes(width: int, height: int, data: st.DataObject) -> None:
    pixel = data.draw(st.binary(min_size=4, max_size=64))
    rgba = (pixel * (width * height * 4 // len(pixel) + 1))[: width * height * 4]
    picture = Miniature(width, height, rgba)
    assert 5 <= len(placeholders.thumbhash(picture)) <= 40
    across, down = placeholders.components(width, height)
    assert len(placeholders.blurhash(picture)) == 4 + 2 * across * down
    assert (placeholders.dominant(picture) is None) == all(alpha < placeholders.SEEN for alpha in rgba[3::4])


def test_the_dominant_colour_is_that_of_most_visible_pixels() -> None:
    most, other, unseen = bytes((200, 30, 40, 255)), bytes((0, 0, 250, 255)), bytes((0, 255, 0, 0))
    assert placeholders.dominant(Miniature(10, 1, most * 3 + other * 2 + unseen * 5)) == "c81e28"
