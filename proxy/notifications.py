"""What a store says of its buckets, as S3, EventBridge, MinIO and versitygw write it: which objects have come, which have gone."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote, unquote_plus

from proxy.errors import BadRequest

MOST_RECORDS = 1_000
COME, GONE = "ObjectCreated:", "ObjectRemoved:"
BRIDGED = {"Object Created": True, "Object Deleted": False}
"""What EventBridge calls them."""
RAW = "webhook-global"
"""The configuration of a versitygw (1.8), which writes names as they stood in its clients' addresses, or in their documents."""


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
    if "detail-type" in document:
        return _bridged(document)
    if document.get("Event") == "s3:TestEvent":
        return []
    records = document.get("Records")
    if not isinstance(records, list):
        raise BadRequest("a notification has a list of Records", param="Records")
    if len(records) > MOST_RECORDS:
        raise BadRequest(f"a notification has at most {MOST_RECORDS} records", param="Records")
    found = (notice for record in records for notice in _notices(record))
    return list({(notice.bucket, notice.name): notice for notice in found}.values())


def _bridged(document: Mapping[str, Any]) -> list[Notice]:
    # EventBridge, "Amazon S3 events": one event, and its name as it is.
    is_new = BRIDGED.get(str(document["detail-type"]))
    if is_new is None:
        return []
    try:
        bucket, name = document["detail"]["bucket"]["name"], document["detail"]["object"]["key"]
    except (KeyError, TypeError):
        raise BadRequest("an event has detail.bucket.name and detail.object.key", param="detail") from None
    if not (isinstance(bucket, str) and isinstance(name, str)):
        raise BadRequest("detail.bucket.name and detail.object.key are text", param="detail")
    return [Notice(bucket, name, is_new)]


def _notices(record: Any) -> list[Notice]:
    try:
        event, bucket, name = record["eventName"], record["s3"]["bucket"]["name"], record["s3"]["object"]["key"]
    except (KeyError, TypeError):
        raise BadRequest("a record has an eventName, s3.bucket.name and s3.object.key", param="Records") from None
    if not (isinstance(event, str) and isinstance(bucket, str) and isinstance(name, str)):
        raise BadRequest("eventName, s3.bucket.name and s3.object.key are text", param="Records")
    event = event.removeprefix("s3:")
    if not event.startswith((COME, GONE)):
        return []
    is_raw = record["s3"].get("configurationId") == RAW
    names = {name} if is_raw else set()
    with suppress(UnicodeError):  # a name that is no text is no key of ours
        names.add((unquote if is_raw else unquote_plus)(name, errors="strict"))
    return [Notice(bucket, one, event.startswith(COME)) for one in names]  # to look once too often harms nobody
