"""What schemathesis cannot know of us: a type of body that is bytes, and the codes that an operation names for a status."""

from __future__ import annotations

from typing import Any

import schemathesis
from schemathesis import Case, CheckContext, Response, SerializationContext


@schemathesis.serializer("application/offset+octet-stream", "*/*")
def raw(context: SerializationContext, value: Any) -> Any:
    """The bytes as they are."""
    return value if isinstance(value, bytes) else str(value).encode()


@schemathesis.check
def code_is_named(context: CheckContext, response: Response, case: Case) -> None:
    """A problem has a code that its operation names."""
    if (
        response.status_code < 400
        or not response.content
        or not response.headers.get("content-type", [""])[0].startswith("application/problem+json")
    ):
        return
    named = case.operation.definition.raw.get("x-problems", {}).get(str(response.status_code))
    code = response.json()["code"]
    assert named is None or code in named, f"{code} is none of {named}"
