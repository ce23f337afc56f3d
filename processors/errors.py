"""The exception family of the project: its root, and what working on pictures and films adds."""

from __future__ import annotations

from typing import Any, ClassVar


class MediaError(Exception):
    """A failure that becomes a problem document (RFC 9457).

    The class says which kind (*status*, *slug*, *title*), the instance what happened. *detail* is public: it names no
    host, path or secret. *members* are further public members of the document, *headers* go out with the answer.
    The cause stays in ``__cause__`` for the log.
    """

    status: ClassVar[int] = 500
    slug: ClassVar[str] = "internal"
    title: ClassVar[str] = "Something went wrong on our side"

    def __init__(self, detail: str = "", *, headers: dict[str, str] | None = None, **members: Any) -> None:
        super().__init__(detail or self.title)
        self.detail = detail or self.title
        self.headers = headers or {}
        self.members = members

    def __reduce__(self) -> tuple[Any, ...]:
        """Cross a process border whole: exceptions with keywords do not by themselves."""
        return _revive, (type(self), self.detail, self.headers, self.members)


def _revive(kind: type[MediaError], detail: str, headers: dict[str, str], members: dict[str, Any]) -> MediaError:
    return kind(detail, headers=headers, **members)


class BadParameter(MediaError):
    """A transform parameter is unknown, repeated or out of its range. *param* names it, *allowed* what it may be."""

    status = 400
    slug = "bad-parameter"
    title = "A parameter is not understood"


class Unsupported(MediaError):
    """The bytes are of a type that is not on the list, or cannot be turned into what was asked for."""

    status = 415
    slug = "unsupported-type"
    title = "This type is not supported"


class Corrupt(MediaError):
    """The bytes are of a known type, and broken."""

    status = 422
    slug = "undecodable"
    title = "The file cannot be decoded"


class Crashed(Corrupt):
    """The bytes made a decoder crash, and its worker process with it."""


class TooCostly(MediaError):
    """The picture is over a limit of pixels, frames or memory. *limit* names it, *allowed* and *actual* are its figures."""

    status = 422
    slug = "too-costly"
    title = "The picture is over a limit"


class Busy(MediaError):
    """The workers and their queue are full: try again after the seconds in Retry-After."""

    status = 503
    slug = "busy"
    title = "All workers are busy"

    def __init__(self, detail: str = "", *, retry_after_s: int = 2, **members: Any) -> None:
        members.pop("headers", None)
        super().__init__(detail, headers={"Retry-After": str(retry_after_s)}, **members)
