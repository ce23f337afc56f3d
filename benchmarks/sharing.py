"""What is lost where one rendition is made of another, in points of SSIMULACRA2: ``.venv/bin/python -m benchmarks.sharing``.

Needs the package ssimulacra2. Each rendition is compared with the original, decoded whole and resized once.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from benchmarks.images import SRCSET, sources
from processors import image
from processors.series import Series
from processors.values import Limits
from tests.test_series import reference, seen

LIMITS = Limits()
STORED_PX = 1280
SMALLER = (640, 480, 320)
CODECS = (("jpg", 80), ("jpg", 90), ("webp", 80), ("avif", 80))


def main() -> None:
    """Print both tables for each photo."""
    with tempfile.TemporaryDirectory() as folder:
        for photo in sources(Path(folder)):
            print(f"\n{photo.name}: JPEG 80, alone and from one decode\n")
            shared_decode(photo, Path(folder))
            print(f"\n{photo.name}: made of the original, and of a kept rendition {STORED_PX} pixels wide\n")
            from_stored(photo, Path(folder))


def shared_decode(photo: Path, folder: Path) -> None:
    """Each width of a srcset."""
    texts = [f"format=jpg&w={width}" for width in SRCSET]
    series = Series(str(photo), LIMITS)
    series.plan(texts)
    together = {number: series.make(number).data for number in series.order}
    print("| width | alone | from one decode |\n|---|---|---|")
    for number, text in enumerate(texts):
        alone = image.render(str(photo), text, LIMITS).data
        print(f"| {SRCSET[number]} | {score(photo, alone, folder):.1f} | {score(photo, together[number], folder):.1f} |")


def from_stored(photo: Path, folder: Path) -> None:
    """Smaller ones, by codec and quality."""
    print("| codec, quality | width | of the original | of the kept one |\n|---|---|---|---|")
    for codec, quality in CODECS:
        kept = folder / f"kept.{codec}"
        kept.write_bytes(image.render(str(photo), f"format={codec}&q={quality}&w={STORED_PX}", LIMITS).data)
        for width in SMALLER:
            text = f"format={codec}&q={quality}&w={width}"
            scores = [score(photo, image.render(str(source), text, LIMITS).data, folder) for source in (photo, kept)]
            print(f"| {codec} {quality} | {width} | {scores[0]:.1f} | {scores[1]:.1f} |")


def score(photo: Path, data: bytes, folder: Path) -> float:
    """SSIMULACRA2 of a rendition: 100 is the original, 90 cannot be told from it, 70 is good."""
    from ssimulacra2 import compute_ssimulacra2  # noqa: PLC0415 - not among what the tests need

    made = seen(data)
    paths = folder / "meant.png", folder / "made.png"
    reference(photo, (made.width, made.height)).pngsave(str(paths[0]), compression=1)
    made.pngsave(str(paths[1]), compression=1)
    return float(compute_ssimulacra2(*map(str, paths)))


if __name__ == "__main__":
    main()
