"""Pictures of films in high dynamic range as screens of standard range show them. Workers only.

White of a page (203 cd/m² of PQ, 75 % of HLG: ITU-R BT.2408) stays bright, what is lighter is pressed together, up to 1000 cd/m².
"""

from __future__ import annotations

import math
from collections.abc import Callable

import pyvips

WHITE = 203.0
"""cd/m² (BT.2408, table 1)"""
PEAK = 1000.0 / WHITE
PQ, HLG = 16, 18
"""transfers, in the numbers of Rec. ITU-T H.273"""
BT2020 = 9
"""primaries, of the same"""
_TO_BT709 = ((1.6605, -0.5876, -0.0728), (-0.1246, 1.1329, -0.0083), (-0.0182, -0.1006, 1.1187))  # ITU-R BT.2087


def is_high(transfer: int) -> bool:
    """Whether pictures of that transfer are in high dynamic range."""
    return transfer in _LIGHTS


def mapped(image: pyvips.Image, transfer: int, primaries: int) -> pyvips.Image:
    """*image* (bytes of red, green and blue) in sRGB; *transfer* is a high one."""
    light = _LIGHTS[transfer]
    table = pyvips.Image.new_from_array([[_pressed(light(code / 255)) for code in range(256)]])
    linear = image.maplut(table)
    if primaries == BT2020:
        linear = linear.recomb(pyvips.Image.new_from_array([list(row) for row in _TO_BT709]))
    return linear.cast("float").copy(interpretation="scrgb").colourspace("srgb")


def _pressed(light: float) -> float:
    # Reinhard's curve with a peak that stays white (Reinhard et al. 2002, equation 4).
    return min(1.0, light * (1 + light / PEAK**2) / (1 + light))


def _pq(signal: float) -> float:
    # SMPTE ST 2084, in whites.
    root = math.pow(signal, 1 / 78.84375)
    return 10_000 / WHITE * math.pow(max(root - 0.8359375, 0) / (18.8515625 - 18.6875 * root), 1 / 0.1593017578125)


def _hlg(signal: float) -> float:
    # ITU-R BT.2100 on a screen of 1000 cd/m², each colour by itself.
    scene = signal**2 / 3 if signal <= 0.5 else (math.exp((signal - 0.55991073) / 0.17883277) + 0.28466892) / 12
    return PEAK * math.pow(scene, 1.2)


_LIGHTS: dict[int, Callable[[float], float]] = {PQ: _pq, HLG: _hlg}
