"""What a client does with promised uploads: the same whatever store is behind it."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urljoin, urlsplit

from tests.kit.client import Answer, Client, FilePart, form, form_type


def offer(client: Client, **wish: Any) -> dict[str, Any]:
    """The address that the service offers for *wish*; asserts that it does."""
    answer = client.post("/api/upload/presigned", json.dumps(wish).encode(), {"Content-Type": "application/json"})
    assert answer.status == 200, answer
    offered = answer.json
    assert isinstance(offered, dict)
    return offered


def path_of(offered: dict[str, Any]) -> str:
    """The path and the query of the address."""
    parts = urlsplit(offered["uploadUrl"])
    return f"{parts.path}?{parts.query}" if parts.query else parts.path


def sent(client: Client, offered: dict[str, Any], data: bytes) -> Answer:
    """What the address answers to *data*, sent as it was said to be."""
    url = urlsplit(urljoin(client.url, offered["uploadUrl"]))
    there = Client(f"{url.scheme}://{url.netloc}")
    if offered["method"] == "POST":
        file = FilePart(data, content_type=offered["fields"].get("Content-Type"))
        return there.post(path_of(offered), form(*offered["fields"].items(), file), {"Content-Type": form_type()})
    return there.request(offered["method"], path_of(offered), offered["headers"], data)


def confirm(client: Client, key: str) -> Answer:
    """What the service makes of the upload to *key*."""
    return client.post("/api/upload/confirm", json.dumps({"key": key}).encode(), {"Content-Type": "application/json"})
