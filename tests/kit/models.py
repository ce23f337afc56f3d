"""Models made by script, in the words of ONNX (onnx.proto): the mean of each colour of a picture, and one that does not end."""

from __future__ import annotations

from pathlib import Path

FLOAT = 1
_VARINT, _BYTES = 0, 2


def _varint(value: int) -> bytes:
    value &= (1 << 64) - 1
    out = b""
    while value > 0x7F:
        out += bytes([value & 0x7F | 0x80])
        value >>= 7
    return out + bytes([value])


def _field(number: int, value: int | str | bytes) -> bytes:
    if isinstance(value, int):
        return _varint(number << 3 | _VARINT) + _varint(value)
    data = value.encode() if isinstance(value, str) else value
    return _varint(number << 3 | _BYTES) + _varint(len(data)) + data


def _tensor(name: str, shape: tuple[int | str, ...]) -> bytes:
    dims = b"".join(_field(1, _field(1, side) if isinstance(side, int) else _field(2, side)) for side in shape)
    return _field(1, name) + _field(2, _field(1, _field(1, FLOAT) + _field(2, dims)))


def _node(kind: str, given: str, made: str) -> bytes:
    return _field(1, _field(1, given) + _field(2, made) + _field(4, kind))


def _model(graph: bytes) -> bytes:
    return _field(1, 8) + _field(7, graph) + _field(8, _field(1, "") + _field(2, 13))


def mean_of_colours(path: Path, side: int | str = 16) -> Path:
    """A model of one picture, three planes of *side* squared: its answer is the mean of red, of green and of blue."""
    graph = _node("GlobalAveragePool", "picture", "means") + _node("Flatten", "means", "scores") + _field(2, "colours")
    graph += _field(11, _tensor("picture", (1, 3, side, side))) + _field(12, _tensor("scores", (1, 3)))
    path.write_bytes(_model(graph))
    return path


def recipe(folder: Path, more: str = "", side: int | str = 16) -> Path:
    """The file that names such a model in *folder*, and its labels."""
    mean_of_colours(folder / "colours.onnx", side)
    path = folder / "classifier.toml"
    path.write_text(f'model = "colours.onnx"\nlabels = ["red", "green", "blue"]\n{more}')
    return path
