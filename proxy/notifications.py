"""What a store says of its buckets, as S3 and MinIO write it: which objects have come, and which have gone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote_plus

from proxy.errors import BadRequest

MOST_RECORDS = 1_000
COME, GONE = "ObjectCreated:", "ObjectRemoved:"


@dataclass(frozen=True, slots=True)
class Notice:
    """Something happened to the object *name* in *bucket*: it came there (*is_new*), or it went."""

    bucket: str
    name: str
    is_new: bool


def read(document: Mapping[str, Any]) -> list[Notice]:
    """The notices in a notification (Amazon S3, event message structure 2.x; MinIO writes the same), each object's once.

    Of several for one object the last counts, and in no other way do they have an order: who hears one asks the store what is
    there now. Those of other events are left out, and S3's own test message has none. Raises BadRequest.
    """
    if document.get("Event") == "s3:TestEvent":
        return []
    records = document.get("Records")
    if not isinstance(records, list):
        raise BadRequest("a notification has a list of Records", param="Records")
    if len(records) > MOST_RECORDS:
        raise BadRequest(f"a notification has at most {MOST_RECORDS} records", param="Records")
    found = (_notice(record) for record in records)
    return list({(notice.bucket, notice.name): notice for notice in found if notice is not None}.values())


def _notice(record: Any) -> Notice | None:
    try:
        event, bucket, name = record["eventName"], record["s3"]["bucket"]["name"], record["s3"]["object"]["key"]
    except (KeyError, TypeError):
        raise BadRequest("a record has an eventName, s3.bucket.name and s3.object.key", param="Records") from None
    if not (isinstance(event, str) and isinstance(bucket, str) and isinstance(name, str)):
        raise BadRequest("eventName, s3.bucket.name and s3.object.key are text", param="Records")
    event = event.removeprefix("s3:")
    if not event.startswith((COME, GONE)):
        return None
    try:
        return Notice(bucket, unquote_plus(name, errors="strict"), event.startswith(COME))
    except UnicodeError:
        return None  # a name that is no text is no key of ours
