"""How values are written in the environment: sizes, lists, rates, and the bounds that many settings share."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from proxy import rates
from proxy.rates import Rate

MIB = 1 << 20
GIB = 1 << 30
SIZES = {"": 1, "B": 1, "K": 1 << 10, "KIB": 1 << 10, "M": MIB, "MIB": MIB, "G": GIB, "GIB": GIB}


def size(value: Any) -> Any:
    """Bytes from a text such as 64M; raises ValueError."""
    match = re.fullmatch(r"(\d{1,15})\s*([A-Za-z]{0,3})", value.strip()) if isinstance(value, str) else None
    if match is None:
        return value
    factor = SIZES.get(match[2].upper())
    if factor is None:
        raise ValueError("is a number of bytes, such as 67108864, 64M or 5G")
    return int(match[1]) * factor


def listed(value: Any) -> Any:
    """The items of a text that has them between commas or spaces."""
    return tuple(item for item in re.split(r"[\s,]+", value) if item) if isinstance(value, str) else value


def _rates(value: Any) -> Any:
    if isinstance(value, str):
        return () if value.strip().lower() in {"off", "none"} else rates.parse(value)
    return value


Bytes = Annotated[int, BeforeValidator(size), Field(gt=0, le=1 << 50)]
Seconds = Annotated[float, Field(gt=0, le=86_400)]
Count = Annotated[int, Field(ge=1, le=100_000)]
StoreProfile = Literal["minio", "versitygw", "garage", "r2", "aws", "generic"]
Rates = Annotated[tuple[Rate, ...], BeforeValidator(_rates)]
Texts = Annotated[tuple[str, ...], BeforeValidator(listed)]
