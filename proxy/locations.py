"""Where objects come from or go, as a person writes it: ``local:/dir``, ``s3://bucket/prefix``, ``minio``, ``service``. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

FORMS = "local:/folder, s3://bucket/prefix, minio://bucket/prefix, minio, s3 or service"
_BUCKET = re.compile(r"(s3|minio)://([A-Za-z0-9][A-Za-z0-9._-]{1,62})(?:/(.*))?")


class Kind(StrEnum):
    """LOCAL is a folder of plain files, S3 what AWS_… and S3_ENDPOINT_URL lead to, MINIO what MINIO_… leads to, SERVICE all
    stores of originals as the service sees them."""

    LOCAL = "local"
    S3 = "s3"
    MINIO = "minio"
    SERVICE = "service"


@dataclass(frozen=True, slots=True)
class Location:
    """*bucket* None is the one of the settings; *prefix* is empty or ends in a slash."""

    kind: Kind
    folder: Path = Path()
    bucket: str | None = None
    prefix: str = ""

    @classmethod
    def parse(cls, text: str) -> Location:
        """What *text* names; raises ValueError with a sentence."""
        if text.startswith("local:") and text != "local:":
            return cls(Kind.LOCAL, Path(text.removeprefix("local:")).expanduser().absolute())
        if found := _BUCKET.fullmatch(text):
            prefix = (found[3] or "").strip("/")
            return cls(Kind(found[1]), bucket=found[2], prefix=f"{prefix}/" if prefix else "")
        if text in {"s3", "minio", "service"}:
            return cls(Kind(text))
        if text.startswith(("/", "./", "../", "~")):
            return cls(Kind.LOCAL, Path(text).expanduser().absolute())
        raise ValueError(f"{text!r} names no place: write {FORMS}")

    def __str__(self) -> str:
        if self.kind is Kind.LOCAL:
            return f"local:{self.folder}"
        return f"{self.kind}://{self.bucket}/{self.prefix}" if self.bucket else str(self.kind)
