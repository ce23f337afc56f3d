"""A client of tus 1.0 as small as a test needs it: each request by hand."""

from __future__ import annotations

import base64
from dataclasses import dataclass

from tests.kit.client import Answer, Client
from tests.kit.doors import Door

TUS = {"Tus-Resumable": "1.0.0"}
BYTES = TUS | {"Content-Type": "application/offset+octet-stream"}
MIB = 1 << 20


def metadata(**values: str) -> str:
    """Upload-Metadata with these."""
    return ",".join(f"{name} {base64.b64encode(value.encode()).decode()}" for name, value in values.items())


@dataclass
class Upload:
    """One upload at *path*, as one client or one process sees it."""

    client: Client | Door
    path: str

    @property
    def id(self) -> str:
        """The last part of its address."""
        return self.path.rpartition("/")[2]

    def head(self) -> Answer:
        """How far it is, as the server says."""
        return self.client.request("HEAD", self.path, TUS)

    def offset(self) -> int:
        """The same as a number; it must be there."""
        answer = self.head()
        assert answer.status == 200, answer
        return int(answer.headers["Upload-Offset"])

    def append(self, data: bytes, offset: int | str | None = None, headers: dict[str, str] | None = None) -> Answer:
        """Send *data* at *offset*, or where the server is."""
        at = self.offset() if offset is None else offset
        return self.client.request("PATCH", self.path, {**BYTES, "Upload-Offset": str(at), **(headers or {})}, data)


def begun(client: Client | Door, length: int | None, headers: dict[str, str] | None = None) -> Upload:
    """A new upload of *length* bytes, None: to be said later."""
    said = {"Upload-Defer-Length": "1"} if length is None else {"Upload-Length": str(length)}
    answer = client.request("POST", "/api/uploads", {**TUS, **said, **(headers or {})})
    assert answer.status == 201, answer
    assert "Upload-Offset" not in answer.headers
    return Upload(client, answer.headers["Location"])
