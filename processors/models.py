"""Which model names what is in a picture, and what is made of that: a file of the operator's (TOML), read once. Pure."""

from __future__ import annotations

import hashlib
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SCALES = ("unit", "signed", "imagenet", "bytes")
"""What a model takes a pixel as: 0 to 1, -1 to 1, by the mean and the deviation of ImageNet, or 0 to 255."""
ACTIVATIONS = ("none", "softmax", "sigmoid")
MOST_LABELS = 100_000
CHUNK_BYTES = 1 << 20
_RULE = re.compile(r"(?P<label>.+?)\s*>=\s*(?P<score>0?\.\d+|[01](?:\.0+)?)")


class BadModel(ValueError):
    """The file is not usable; the text has a sentence for each fault."""


@dataclass(frozen=True, slots=True)
class Model:
    """An ONNX file at *path* and the names of what it answers. What scores less than *keep* is dropped.

    *quarantine*: a picture with one of these labels and so high a score is withheld. *revision* names all of it.
    """

    path: str
    labels: tuple[str, ...]
    scale: str = "unit"
    activation: str = "none"
    keep: float = 0.1
    quarantine: Mapping[str, float] | None = None
    revision: str = ""

    def withholds(self, labels: Mapping[str, float]) -> bool:
        """Whether what *labels* say of a picture keeps it from everybody."""
        return any(labels.get(label, 0.0) >= score for label, score in (self.quarantine or {}).items())


def read(path: Path) -> Model:
    """The model that the file *path* speaks of, next to which its files lie; raises BadModel with every fault."""
    text = _text(path)
    try:
        given = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise BadModel(f"It is no TOML: {error}.") from None
    faults = [f"{name} is not known here, only {', '.join(_MEMBERS)} are." for name in sorted(given.keys() - _MEMBERS.keys())]
    faults += [f"{name} is {told}." for name, (holds, told) in _MEMBERS.items() if name in given and not holds(given[name])]
    faults += [f"It has no {name}." for name in ("model", "labels") if name not in given]
    if faults:
        raise BadModel("\n".join(faults))
    file = path.parent / given["model"]
    names = given["labels"]
    labels = tuple(names if isinstance(names, list) else _text(path.parent / names).split("\n"))
    while labels and not labels[-1].strip():
        labels = labels[:-1]
    rules = [_RULE.fullmatch(rule.strip()) for rule in given.get("quarantine", [])]
    quarantine = {rule["label"]: float(rule["score"]) for rule in rules if rule is not None}
    if unknown := quarantine.keys() - set(labels):
        raise BadModel(f"quarantine: {min(unknown)} is none of the labels.")
    if not 1 <= len(labels) <= MOST_LABELS:
        raise BadModel(f"labels are 1 to {MOST_LABELS} names, and not {len(labels)}.")
    settings = {name: given[name] for name in ("scale", "activation", "keep") if name in given}
    revision = hashlib.sha256("\n".join((_digest(file), *labels, *map(str, sorted(settings.items())))).encode()).hexdigest()[:16]
    return Model(
        str(file.resolve()), tuple(label.strip() for label in labels), **settings, quarantine=quarantine, revision=revision
    )


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeError) as error:
        raise BadModel(f"{path.name} cannot be read ({getattr(error, 'strerror', None) or 'not UTF-8'}).") from None


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while chunk := file.read(CHUNK_BYTES):
                digest.update(chunk)
    except OSError as error:
        raise BadModel(f"{path.name} cannot be read ({error.strerror}).") from None
    return digest.hexdigest()


def _are_names(value: Any) -> bool:
    return isinstance(value, str) or (isinstance(value, list) and all(isinstance(one, str) and one.strip() for one in value))


def _are_rules(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(one, str) and _RULE.fullmatch(one.strip()) for one in value)


_MEMBERS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "model": (lambda value: isinstance(value, str), "the name of an ONNX file"),
    "labels": (_are_names, "a list of names, in the order of the model's answers, or the name of a file with one a line"),
    "scale": (lambda value: value in SCALES, "one of " + ", ".join(SCALES)),
    "activation": (lambda value: value in ACTIVATIONS, "one of " + ", ".join(ACTIVATIONS)),
    "keep": (lambda value: type(value) in (int, float) and 0 <= value <= 1, "a number from 0 to 1"),
    "quarantine": (_are_rules, 'a list of rules such as "violence >= 0.8"'),
}
