"""Codecs compared: CPU time and bytes at equal quality per setting, and the quality of WebP and AVIF that looks like JPEG's.

``make bench-codecs`` prints the tables of docs/benchmarks.md and of `processors/encoders.py`, in some minutes. Quality is
SSIMULACRA2. The pictures are photos of the shared media set, where it is beside the checkout, and graphics drawn here.
"""

from __future__ import annotations

import io
import math
import os
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import geometric_mean, mean, median

os.environ["VIPS_CONCURRENCY"] = "1"  # before libvips starts: as in a worker

import pyvips
from ssimulacra2.ssimulacra2 import compute_ssimulacra2

SET = Path(__file__).parents[2] / "shared" / "media"
PHOTOS = ("landscape_orient1", "hato_6mp", "harvesters_420", "fox_444")
WIDTHS = (400, 1280)
SCALE = (40, 50, 60, 70, 80, 90)
BASE = "plain 4:2:0"
"""of JPEG: what all are compared with, at quality 80"""

SETTINGS: Mapping[str, tuple[str, tuple[int, ...], Mapping[str, Mapping[str, object]]]] = {
    "JPEG": (
        "jpegsave_buffer",
        (66, 80, 90),
        {
            BASE: {},
            "optimised": {"optimize_coding": True},
            "progressive": {"interlace": True},
            "4:4:4": {"optimize_coding": True, "subsample_mode": "off"},
            "trellis": {"optimize_coding": True, "trellis_quant": True},
        },
    ),
    "WebP": (
        "webpsave_buffer",
        (60, 76, 88),
        {f"effort {effort}": {"effort": effort} for effort in (0, 2, 4, 6)} | {"sharp 4": {"effort": 4, "smart_subsample": True}},
    ),
    "AVIF": (
        "heifsave_buffer",
        (50, 64, 76),
        {f"effort {effort}": {"compression": "av1", "bitdepth": 8, "effort": effort} for effort in (0, 1, 2, 3)}
        | {"4:4:4 1": {"compression": "av1", "bitdepth": 8, "effort": 1, "subsample_mode": "off"}},
    ),
}
LOSSLESS: Mapping[str, Mapping[str, Mapping[str, object]]] = {
    "pngsave_buffer": {
        **{f"level {level}": {"compression": level} for level in (3, 6, 9)},
        **{f"level {level}, all filters": {"compression": level, "filter": "all"} for level in (3, 6)},
    },
    "webpsave_buffer": {f"lossless effort {effort}": {"lossless": True, "effort": effort} for effort in (0, 2, 4)},
}
MAPPED: Mapping[str, tuple[int, ...]] = {"WebP": (15, 30, 45, 60, 76, 88, 96), "AVIF": (20, 32, 44, 54, 64, 74, 84)}


@dataclass(frozen=True, slots=True)
class Point:
    """One encoding: what was asked for, and what came."""

    quality: int
    score: float
    size: int
    cpu_ms: float


def photos(width: int) -> dict[str, pyvips.Image]:
    """Photos of the set at *width* that are no enlargement; a made landscape where the set is not there."""
    files = [SET / "jpeg" / f"{name}.jpg" for name in PHOTOS]
    found = {file.stem: pyvips.Image.thumbnail(str(file), width, height=9999, size="down", export_profile="srgb")
             for file in files if file.is_file()}  # fmt: skip
    wide = {name: image.copy_memory() for name, image in found.items() if image.width >= width * 0.9}
    if wide:
        return wide
    bands = [_waves(width, width * 3 // 4, seed) for seed in range(3)]
    return {"waves": bands[0].bandjoin(bands[1:]).copy(interpretation="srgb").copy_memory()}


def _waves(width: int, height: int, seed: int) -> pyvips.Image:
    steps = (1, 2, 4, 8, 16, 64)
    noise = [
        pyvips.Image.gaussnoise(width // step + 1, height // step + 1, sigma=4 * step**0.7, mean=0, seed=seed) for step in steps
    ]
    waves = [layer.resize(step).crop(0, 0, width, height) for layer, step in zip(noise, steps, strict=True)]
    return (sum(waves[1:], waves[0]) + 128).cast("uchar")


def graphics(width: int) -> dict[str, pyvips.Image]:
    """A page of text with a chart, and flat shapes with soft shades."""
    rows = "".join(f'<text x="30" y="{90 + 26 * row}" font-size="17">Row {row}: {row * 7919 % 9973} of 9,973 items</text>'
                   for row in range(30))  # fmt: skip
    bars = "".join(f'<rect x="{640 + 30 * bar}" y="{800 - bar * 7919 % 600}" width="22" height="900" '
                   f'fill="hsl({bar * 40},70%,50%)"/>' for bar in range(18))  # fmt: skip
    page = f'<text x="30" y="50" font-size="36" font-weight="bold">Report</text>{rows}{bars}'
    blobs = "".join(
        f'<circle cx="{i * 431 % 1280}" cy="{i * 277 % 900}" r="{60 + i * 37 % 160}" fill="url(#g)"/>' for i in range(9)
    )
    shade = '<linearGradient id="g"><stop stop-color="#f72"/><stop offset="1" stop-color="#27f"/></linearGradient>'
    return {name: _drawn(body, width) for name, body in (("chart", page), ("shapes", shade + blobs))}


def _drawn(body: str, width: int) -> pyvips.Image:
    text = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 1280 900" width="1280" height="900">{body}</svg>'
    drawn = pyvips.Image.svgload_buffer(text.encode(), scale=width / 1280)
    return drawn.flatten(background=255).copy(interpretation="srgb").copy_memory()


def score(image: pyvips.Image, data: bytes) -> float:
    """SSIMULACRA2 of the file beside the picture: 90 cannot be told apart, 70 is high, 50 middling."""
    shown = (image, pyvips.Image.new_from_buffer(data, ""))
    return float(compute_ssimulacra2(*(io.BytesIO(one.pngsave_buffer(compression=1, keep="none")) for one in shown)))


def encoded(image: pyvips.Image, saver: str, options: Mapping[str, object]) -> tuple[bytes, float]:
    """The file, and the CPU time in ms."""
    began = time.process_time()
    data: bytes = getattr(image, saver)(keep="none", **options)
    return data, (time.process_time() - began) * 1e3


def curve(image: pyvips.Image, saver: str, options: Mapping[str, object], qualities: Iterable[int]) -> list[Point]:
    """The encodings at *qualities*."""
    points = []
    for quality in qualities:
        data, cpu_ms = encoded(image, saver, {**options, "Q": quality})
        points.append(Point(quality, score(image, data), len(data), cpu_ms))
    return points


def at_score(points: list[Point], wanted: float, figure: Callable[[Point], float]) -> float:
    """What *figure* is where the score is *wanted*, on the straight line through the nearest two points."""
    points = sorted(points, key=lambda point: point.score)
    left, right = next((pair for pair in pairwise(points) if wanted <= pair[1].score), (points[-2], points[-1]))
    share = (wanted - left.score) / (right.score - left.score)
    return figure(left) + (figure(right) - figure(left)) * share


def compare(width: int, pictures: Mapping[str, pyvips.Image]) -> None:
    """A table of the lossy settings: CPU time, and bytes at the score of the base, beside the base's."""
    bases = {name: curve(image, "jpegsave_buffer", {}, (80,))[0] for name, image in pictures.items()}
    print(f"\n| {width} px, {', '.join(pictures)} | CPU ms | bytes at equal score |\n|---|---:|---:|")
    for codec, (saver, qualities, settings) in SETTINGS.items():
        for label, options in settings.items():
            shares, times = [], []
            for name, image in pictures.items():
                points = curve(image, saver, options, qualities)
                size = math.exp(at_score(points, bases[name].score, lambda point: math.log(point.size)))
                shares.append(size / bases[name].size)
                times.append(mean(point.cpu_ms for point in points))
            print(f"| {codec} {label} | {mean(times):.1f} | {geometric_mean(shares):.1%} |", flush=True)


def compare_lossless(width: int, pictures: Mapping[str, pyvips.Image]) -> None:
    """The same for what loses nothing, beside PNG of level 6."""
    base = {name: len(encoded(image, "pngsave_buffer", {})[0]) for name, image in pictures.items()}
    print(f"\n| {width} px, {', '.join(pictures)} | CPU ms | bytes |\n|---|---:|---:|")
    for saver, settings in LOSSLESS.items():
        for label, options in settings.items():
            made = {name: encoded(image, saver, options) for name, image in pictures.items()}
            share = geometric_mean(len(data) / base[name] for name, (data, _) in made.items())
            codec = "PNG" if saver == "pngsave_buffer" else "WebP"
            print(f"| {codec} {label} | {mean(ms for _, ms in made.values()):.1f} | {share:.1%} |", flush=True)


def compare_animations() -> None:
    """The same for a GIF of a film, 40 frames of 400 px, as bytes per frame and CPU per frame, with its quality."""
    frames = list(_film(40))
    strip = pyvips.Image.arrayjoin(frames, across=1).copy()
    strip.set_type(pyvips.GValue.gint_type, "page-height", frames[0].height)
    strip.set_type(pyvips.GValue.array_int_type, "delay", [40] * len(frames))
    print("\n| animation, 40 × 400 px | CPU ms a frame | bytes a frame | SSIMULACRA2 |\n|---|---:|---:|---:|")
    kept = {"interframe_maxerror": 4, "interpalette_maxerror": 32}
    settings: dict[str, tuple[str, dict[str, object]]] = {
        **{f"GIF effort {effort}": ("gifsave_buffer", {"effort": effort}) for effort in (1, 4, 7)},
        "GIF effort 1, palette kept": ("gifsave_buffer", {"effort": 1, "interpalette_maxerror": 32}),
        "GIF effort 1, palette kept, pixels kept": ("gifsave_buffer", {"effort": 1, **kept}),
        "GIF effort 1, palette kept, no dither": ("gifsave_buffer", {"effort": 1, "interpalette_maxerror": 32, "dither": 0.0}),
        **{f"WebP q 79 effort {effort}": ("webpsave_buffer", {"effort": effort, "Q": 79}) for effort in (0, 2, 4)},
    }
    for label, (saver, options) in settings.items():
        data, ms = encoded(strip, saver, options)
        played = pyvips.Image.new_from_buffer(data, "", n=-1)
        height = frames[0].height
        looks = [score(frames[n], played.crop(0, n * height, 400, height).flatten().copy(interpretation="srgb")
                       .pngsave_buffer(compression=1)) for n in (5, 35)]  # fmt: skip
        print(f"| {label} | {ms / 40:.1f} | {len(data) / 40:.0f} | {mean(looks):.1f} |", flush=True)


def _film(count: int) -> Iterable[pyvips.Image]:
    # A window that moves over a photo behind a still caption.
    photo = next(iter(photos(1280).values()))
    caption = pyvips.Image.black(400, 40, bands=3).linear(1, [250, 250, 245])
    for number in range(count):
        view = photo.crop(number * 3, 200, 400, 260)
        yield view.insert(caption.cast("uchar"), 0, 220).copy(interpretation="srgb").copy_memory()


def compare_qualities(pictures: list[pyvips.Image]) -> None:
    """A table of the qualities of WebP and AVIF that score as JPEG of a quality does, the median of all pictures."""
    jpegs = [curve(image, "jpegsave_buffer", {}, SCALE) for image in pictures]
    print("\n| JPEG | SSIMULACRA2 | WebP | AVIF |\n|---:|---:|---:|---:|")
    rows: dict[str, list[float]] = {}
    for codec, qualities in MAPPED.items():
        saver, _, settings = SETTINGS[codec]
        curves = [curve(image, saver, settings["effort 2" if codec == "WebP" else "effort 1"], qualities) for image in pictures]
        rows[codec] = [
            median(
                at_score(points, jpeg[place].score, lambda point: point.quality) for points, jpeg in zip(curves, jpegs, strict=True)
            )
            for place in range(len(SCALE))
        ]
    for place, quality in enumerate(SCALE):
        looks = median(jpeg[place].score for jpeg in jpegs)
        print(f"| {quality} | {looks:.0f} | {rows['WebP'][place]:.0f} | {rows['AVIF'][place]:.0f} |", flush=True)


def main(wanted: list[str]) -> None:
    """All tables, or those whose names are *wanted*."""
    pyvips.cache_set_max(0)
    for width in WIDTHS:
        if not wanted or "photos" in wanted:
            compare(width, photos(width))
        if not wanted or "graphics" in wanted:
            compare(width, graphics(width))
            compare_lossless(width, graphics(width))
    if not wanted or "animations" in wanted:
        compare_animations()
    if not wanted or "qualities" in wanted:
        compare_qualities([image for width in WIDTHS for image in photos(width).values()])


if __name__ == "__main__":
    main(sys.argv[1:])
