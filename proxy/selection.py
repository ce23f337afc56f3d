"""Which of an owner's records a page shows, and in which order: read once from a query, and bound to the cursors of its pages."""

from __future__ import annotations

import hashlib
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error as Base64Error
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from json import dumps, loads
from typing import TypeVar

from processors.formats import FORMATS
from proxy import keys
from proxy.errors import BadKey, BadRequest
from proxy.keys import Key
from proxy.ports import State

E = TypeVar("E", bound=StrEnum)
_TYPE = re.compile(r"([a-z]+)/(\*|[a-z0-9.+-]{1,100})")


class Sort(StrEnum):
    """What records go by."""

    CREATED = "created"
    SIZE = "size"
    KEY = "key"


@dataclass(frozen=True, slots=True)
class Selection:
    """Records of one of the *types* (none: of any), whose key begins with *prefix*, *since* then, in *state*.

    Those that are equal in what they go by go by their keys, in the same direction.
    """

    types: tuple[str, ...] = ()
    prefix: str | None = None
    since: datetime | None = None
    state: State = State.READY
    sort: Sort = Sort.CREATED
    descends: bool = True

    @classmethod
    def read(cls, query: Mapping[str, str]) -> Selection:
        """What ``type``, ``prefix``, ``since``, ``state`` and ``sort`` say; raises BadRequest."""
        sort = query.get("sort", "-created")
        return cls(
            types=_types(query.get("type")),
            prefix=_prefix(query.get("prefix")),
            since=_moment(query.get("since")),
            state=_one_of(State, "state", query.get("state", State.READY)),
            sort=_one_of(Sort, "sort", sort.removeprefix("-")),
            descends=sort.startswith("-"),
        )

    def cursor(self, place: str | int, key: Key) -> str:
        """What leads to the page behind the record of *key*, whose place in the order is *place*."""
        return urlsafe_b64encode(dumps([self._name, place, key]).encode()).decode().rstrip("=")

    def behind(self, cursor: str) -> tuple[str | int, Key]:
        """The place and the key that *cursor* means; raises BadRequest if it is not one of ours, or of another selection."""
        try:
            name, place, key = loads(urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        except (Base64Error, ValueError, TypeError) as error:
            raise BadRequest("this cursor is not one of ours", param="cursor") from error
        is_fitting = type(place) is str if self.sort is Sort.KEY else type(place) is int and abs(place) < 1 << 62
        if not isinstance(key, str) or not isinstance(name, str) or (name == self._name and not is_fitting):
            raise BadRequest("this cursor is not one of ours", param="cursor")
        if name != self._name:
            raise BadRequest("this cursor is of another query: filters and sort must stay the same", param="cursor")
        return place, Key(key)

    @property
    def _name(self) -> str:
        return hashlib.sha256(repr(self).encode()).hexdigest()[:12]


EVERYTHING = Selection()


def _types(given: str | None) -> tuple[str, ...]:
    if given is None:
        return ()
    match = _TYPE.fullmatch(given.lower())
    if match is None:
        raise BadRequest("type is a media type such as image/jpeg, or a family of them such as image/*", param="type")
    if match[2] != "*":
        return (match[0],)
    family = {format.mime for format in FORMATS.values() if format.mime.startswith(f"{match[1]}/")}
    return tuple(sorted(family)) or (match[0],)


def _prefix(given: str | None) -> str | None:
    if given is None:
        return None
    try:
        return keys.parse(given.removesuffix("/")) + "/" * given.endswith("/")
    except BadKey as error:
        raise BadRequest(error.detail, param="prefix") from error


def _moment(given: str | None) -> datetime | None:
    if given is None:
        return None
    try:
        moment = datetime.fromisoformat(given.replace(" ", "+"))  # a plus sign in a query is a blank
        if moment.tzinfo is None or moment.year < 1970:
            raise ValueError
    except ValueError:
        raise BadRequest("since is a time with its zone, such as 2026-11-23T15:52:03Z", param="since") from None
    return moment


def _one_of(kinds: type[E], name: str, given: str) -> E:
    try:
        return kinds(given)
    except ValueError:
        raise BadRequest(f"{name} is one of {', '.join(kinds)}", param=name) from None
