"""How alike two pictures are to the eye, as a number: SSIM (Wang et al. 2004) of their lightness, over Gaussian windows."""

from __future__ import annotations

import pyvips

SIGMA = 1.5
STEADY = (0.01 * 255) ** 2, (0.03 * 255) ** 2


def ssim(one: pyvips.Image, other: pyvips.Image) -> float:
    """1 for equal pictures; an eye begins to see a difference below 0.98 or so."""
    assert (one.width, one.height) == (other.width, other.height)
    left, right = (image.colourspace("b-w")[0].cast("float") for image in (one, other))
    mean_left, mean_right = left.gaussblur(SIGMA), right.gaussblur(SIGMA)
    spread_left = (left * left).gaussblur(SIGMA) - mean_left * mean_left
    spread_right = (right * right).gaussblur(SIGMA) - mean_right * mean_right
    common = (left * right).gaussblur(SIGMA) - mean_left * mean_right
    above = (mean_left * mean_right * 2 + STEADY[0]) * (common * 2 + STEADY[1])
    below = (mean_left * mean_left + mean_right * mean_right + STEADY[0]) * (spread_left + spread_right + STEADY[1])
    return float((above / below).avg())
