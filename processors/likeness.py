"""What pictures that look alike have in common: a perceptual hash of 64 bits. Pure.

It is the hash that pHash.org describes and ImageHash computes: the signs of the lowest cosine terms of brightness, about their
median. Here they are of the small picture that the placeholders are made of, so that it costs no decoding of its own.
"""

from __future__ import annotations

from statistics import median

from processors.placeholders import Miniature, cosines, over_average

SIDE = 8
BITS = SIDE * SIDE
FLAT = 1e-3
"""What the strongest term must exceed, where 1 is white on black: rounding alone would decide about less."""


def fingerprint(picture: Miniature) -> str | None:
    """The hash in 16 hexadecimal digits; None where there is nothing to tell apart, as in a plane of one colour."""
    terms = [term for row in cosines(over_average(picture)[0], SIDE, SIDE) for term in row]
    if max(map(abs, terms[1:])) < FLAT:
        return None
    middle = median(terms[1:])
    return f"{int(''.join('1' if term > middle else '0' for term in terms), 2):0{BITS // 4}x}"
