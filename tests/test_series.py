"""Renditions that share a decode lose nothing that can be measured against those that are made alone."""

from __future__ import annotations

from pathlib import Path

import pytest
import pyvips

from processors import image
from processors.series import Series
from processors.values import Limits
from tests import pictures
from tests.kit import shared
from tests.kit.similarity import ssim

WIDTHS = (160, 320, 480, 640, 960, 1280)
LIMITS = Limits()
LOST = 0.003
"""of SSIM; JPEG 80 itself costs ten times as much"""
PHOTOS = ["made", "jpeg/dog_12mp_orient6_exif_xmp_icc.jpg", "jpeg/hato_6mp.jpg"]


@pytest.fixture(params=PHOTOS)
def photo(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A photo of 2000 pixels or more of width."""
    if request.param == "made":
        made = tmp_path / "made.jpg"
        made.write_bytes(pictures.jpeg(2000, 1500, orientation=6))
        return made
    if not shared.present():
        assert not shared.required(), shared.ABSENT
        pytest.skip(shared.ABSENT)
    return shared.FOLDER / request.param


def reference(photo: Path, size: tuple[int, int]) -> pyvips.Image:
    """The whole photo, decoded at its full size and resized once."""
    full = pyvips.Image.new_from_file(str(photo)).autorot()
    if full.get_typeof("icc-profile-data"):
        full = full.icc_transform("srgb", embedded=True, intent="relative", black_point_compensation=True)
    return full.resize(size[0] / full.width, vscale=size[1] / full.height).copy_memory()


def seen(data: bytes) -> pyvips.Image:
    return pyvips.Image.new_from_buffer(data, "").copy_memory()


def test_widths_of_one_decode_are_as_good_as_widths_made_alone(photo: Path) -> None:
    texts = [f"format=jpg&w={width}" for width in WIDTHS]
    series = Series(str(photo), LIMITS)
    series.plan(texts)
    together = {number: seen(series.make(number).data) for number in series.order}
    for number, text in enumerate(texts):
        alone = seen(image.render(str(photo), text, LIMITS).data)
        meant = reference(photo, (alone.width, alone.height))
        assert ssim(together[number], meant) > ssim(alone, meant) - LOST, text


def test_pixels_are_taken_only_from_what_is_clearly_larger_and_of_the_same_part(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(pictures.jpeg(2000, 1500))
    series = Series(str(path), LIMITS)
    series.plan(["w=1000", "w=900", "w=400", "w=300&h=300&fit=cover", "crop=0,0,1000,1500&w=300", "w=200&h=700&fit=stretch"])
    assert series._larger == {2: 1, 3: 1}


def test_a_series_with_one_that_cannot_be_makes_the_others(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(pictures.jpeg(400, 300))
    series = Series(str(path), LIMITS)
    series.plan(["w=100&format=jpg", "crop=5000,5000,10,10&w=5&format=jpg", "w=50&format=jpg"])
    assert set(series.refused) == {1}
    assert [series.make(number).width for number in series.order] == [50, 100]
