"""What names what is in a picture: a model, run by ONNX Runtime in a process of its own.

That process is `main`: it is told what to load, says which size it wants, and looks at one picture after the other. The pictures
are PNGs of our own making, and so no hostile files; but a model is code of somebody else's.
"""

from __future__ import annotations

import io
import os
import signal
from base64 import b64decode
from collections.abc import Sequence
from math import exp
from typing import Any

from processors import confinement, frames
from processors.models import Model
from processors.values import Limits

NICE = 15
GRACE_S = 5.0
SIDE_PX = 224
"""where a model takes any size"""
MOST_SIDE_PX = 1024
MOST_LABELS = 20
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""of the pixels of ImageNet, red, green and blue"""


class OnnxModel:
    """*model* run by ONNX Runtime, on one thread. It wants pictures of one *size*: width and height in pixels.

    Its first input is one picture, of three planes or of pixels with three values, as floats or bytes; its first output has a score
    for each of the labels. Raises ValueError for others.
    """

    def __init__(self, model: Model) -> None:
        import numpy  # noqa: PLC0415 - in this process alone
        import onnxruntime  # noqa: PLC0415

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 4
        self._numpy = numpy
        self._model = model
        self._session = onnxruntime.InferenceSession(model.path, options, providers=["CPUExecutionProvider"])
        given, *others = self._session.get_inputs()
        if others or len(given.shape) != 4 or given.type not in {"tensor(float)", "tensor(uint8)"}:
            raise ValueError("it has another input than one picture of floats or bytes")
        self._name, self._is_bytes = given.name, given.type == "tensor(uint8)"
        self._is_planes = given.shape[1] == 3
        height, width = given.shape[2:4] if self._is_planes else given.shape[1:3]
        if not self._is_planes and given.shape[3] != 3:
            raise ValueError("its input has other than three colours")
        self.size = (_side(width), _side(height))
        if max(self.size) > MOST_SIDE_PX:
            raise ValueError(f"it wants pictures of more than {MOST_SIDE_PX} pixels a side")
        self._scores(numpy.zeros((*self.size[::-1], 3), numpy.uint8))

    def classify(self, picture: bytes) -> dict[str, float]:
        """The labels of *picture*, a PNG of its size, that score enough, the highest first."""
        from PIL import Image  # noqa: PLC0415 - in this process alone

        with Image.open(io.BytesIO(picture), formats=["PNG"]) as opened:
            pixels = self._numpy.asarray(opened.convert("RGB"))
        scores = sorted(zip(self._model.labels, self._scores(pixels), strict=True), key=lambda pair: -pair[1])
        return {label: round(score, 4) for label, score in scores[:MOST_LABELS] if score >= self._model.keep}

    def _scores(self, pixels: Any) -> list[float]:
        given = pixels if self._is_bytes else self._scaled(pixels.astype(self._numpy.float32))
        given = given.transpose(2, 0, 1) if self._is_planes else given
        answer = self._session.run(None, {self._name: self._numpy.ascontiguousarray(given[None])})[0]
        scores = [float(score) for score in self._numpy.asarray(answer).reshape(-1)]
        if len(scores) != len(self._model.labels):
            raise ValueError(f"it answers {len(scores)} scores, and there are {len(self._model.labels)} labels")
        return _activated(scores, self._model.activation)

    def _scaled(self, pixels: Any) -> Any:
        if self._model.scale == "bytes":
            return pixels
        if self._model.scale == "signed":
            return pixels / 127.5 - 1
        unit = pixels / 255
        if self._model.scale == "unit":
            return unit
        return ((unit - self._numpy.array(MEAN)) / self._numpy.array(DEVIATION)).astype(self._numpy.float32)


def _side(given: Any) -> int:
    return given if isinstance(given, int) and given > 0 else SIDE_PX


def _activated(scores: Sequence[float], activation: str) -> list[float]:
    if activation == "sigmoid":
        return [1 / (1 + exp(-max(-60.0, min(60.0, score)))) for score in scores]
    if activation == "softmax":
        top = max(scores)
        parts = [exp(score - top) for score in scores]
        return [part / sum(parts) for part in parts]
    return list(scores)


def main() -> None:
    """Load the model, and look at pictures until the input ends."""
    os.putenv("OPENBLAS_NUM_THREADS", "1")  # confinement of files is for processes with one thread
    requests, answers = frames.opened(NICE)
    start = frames.read(requests)
    if start is None:
        return
    try:
        import PIL.PngImagePlugin  # noqa: F401, PLC0415 - what is read from disk is read before the disk is out of reach

        model = OnnxModel(Model(**{**start["model"], "labels": tuple(start["model"]["labels"])}))
    except Exception as error:  # noqa: BLE001, RUF100 - what is wrong with the model is to be told
        frames.write(answers, {"failed": f"{type(error).__name__}: {error}"[:500]})
        return
    confined = confinement.confine(Limits(budget_bytes=start["memory"] // 2), ())
    frames.write(answers, {"size_px": model.size, "confined": confined, "rests": True})
    while (request := frames.read(requests)) is not None:
        signal.setitimer(signal.ITIMER_REAL, start["deadline"] + GRACE_S)  # should the other side be gone or asleep
        frames.write(answers, _looked(model, b64decode(request["picture"])) | {"rests": True})
        signal.setitimer(signal.ITIMER_REAL, 0)


def _looked(model: OnnxModel, picture: bytes) -> frames.Words:
    try:
        return {"labels": model.classify(picture)}
    except Exception as error:  # noqa: BLE001, RUF100 - of this one picture: the next one may be sound
        return {"failed": f"{type(error).__name__}: {error}"[:500]}


if __name__ == "__main__":
    main()
