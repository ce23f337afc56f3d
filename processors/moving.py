"""Animations as films: short H.264 without sound, in MP4. Workers only."""

from __future__ import annotations

import io
from fractions import Fraction

import av
import pyvips
from av.video.frame import VideoFrame

INDEX_BYTES = 16 << 10
"""room for the index at the file's beginning: a few hundred frames take a third of it"""
OPTIONS = {"preset": "veryfast", "profile": "high", "bf": "0"}
BT709 = 1


def encoded(strip: pyvips.Image, quality: int) -> bytes:
    """The film of *strip*: pages below one another, 8 bits, with their ``delay`` in ms, all alike. *quality* is x264's ``crf``."""
    height = strip.get("page-height") if strip.get_typeof("page-height") else strip.height
    delay_ms = strip.get("delay")[0] if strip.get_typeof("delay") else 1000
    strip = strip.colourspace("srgb")
    file = io.BytesIO()
    with av.open(file, "w", format="mp4", options={"moov_size": str(INDEX_BYTES)}) as film:
        stream = film.add_stream("libx264", rate=Fraction(1000, delay_ms), options={**OPTIONS, "crf": str(quality)})
        stream.width, stream.height = _even(strip.width), _even(height)
        stream.pix_fmt = "yuv420p"
        context = stream.codec_context
        context.thread_count = 1
        context.color_primaries = context.color_trc = context.colorspace = BT709
        for number in range(strip.height // height):
            page = _frame(strip.crop(0, number * height, strip.width, height))
            frame = page.reformat(stream.width, stream.height, "yuv420p", dst_colorspace="ITU709", dst_color_range="MPEG")
            frame.pts, frame.time_base = number, Fraction(delay_ms, 1000)
            film.mux(stream.encode(frame))
        film.mux(stream.encode())
    return file.getvalue()


def _even(side: int) -> int:
    # Colour has half the pixels each way.
    return max(2, side // 2 * 2)


def _frame(page: pyvips.Image) -> VideoFrame:
    frame = VideoFrame(page.width, page.height, "rgb24")
    plane = frame.planes[0]
    rows = bytes(page.cast("uchar").write_to_memory())
    row, padding = page.width * 3, bytes(plane.line_size - page.width * 3)
    plane.update(rows if not padding else b"".join(rows[at : at + row] + padding for at in range(0, len(rows), row)))
    return frame
