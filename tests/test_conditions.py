"""Conditions and ranges as RFC 9110 weighs them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from proxy.conditions import ETag, NotModified, Version, Wanted
from proxy.errors import PreconditionFailed, RangeNotSatisfiable

CHANGED = datetime(2026, 11, 1, 12, 0, 0, 250_000, tzinfo=UTC)
STRONG = Version(ETag("abc"), CHANGED, "abc")
WEAK = Version(ETag("abc", weak=True), CHANGED, "abc")


def wanted(method: str = "GET", **headers: str) -> Wanted:
    return Wanted.of(method, CIMultiDict({name.replace("_", "-"): value for name, value in headers.items()}))


def date(**ago: float) -> str:
    return format_datetime(CHANGED.replace(microsecond=0) - timedelta(**ago), usegmt=True)


@pytest.mark.parametrize("header", ['"abc"', 'W/"abc"', '"x", "abc"', '"x",W/"abc" , "y"', "*"])
@pytest.mark.parametrize("version", [STRONG, WEAK])
def test_a_held_version_needs_no_bytes(header: str, version: Version) -> None:
    with pytest.raises(NotModified) as same:
        wanted(If_None_Match=header).check(version)
    assert same.value.version is version


@pytest.mark.parametrize("header", ['"abd"', 'W/"x"', '"abc', "abc", "", '"ABC"'])
def test_another_version_is_sent(header: str) -> None:
    wanted(If_None_Match=header).check(STRONG)


def test_an_etag_counts_before_a_date() -> None:
    wanted(If_None_Match='"x"', If_Modified_Since=date()).check(STRONG)
    with pytest.raises(NotModified):
        wanted(If_Modified_Since=date()).check(STRONG)
    wanted(If_Modified_Since=date(seconds=1)).check(STRONG)
    wanted(If_Modified_Since="yesterday or so").check(STRONG)


def test_if_match_wants_a_strong_equal() -> None:
    wanted(If_Match='"abc"').check(STRONG)
    wanted(If_Match="*").check(WEAK)
    for header, version in [('"x"', STRONG), ('W/"abc"', STRONG), ('"abc"', WEAK)]:
        with pytest.raises(PreconditionFailed):
            wanted(If_Match=header).check(version)


def test_an_object_changed_since_is_refused() -> None:
    wanted(If_Unmodified_Since=date()).check(STRONG)
    with pytest.raises(PreconditionFailed):
        wanted(If_Unmodified_Since=date(seconds=1)).check(STRONG)


@pytest.mark.parametrize(
    ("validator", "holds"),
    [
        ('"abc"', True),
        ('"abd"', False),
        ('W/"abc"', False),
        (date(), True),
        (date(seconds=1), False),
        ("junk", False),
        ('"a", "abc"', False),
    ],
)
def test_a_range_is_given_only_of_the_version_it_was_asked_of(validator: str, holds: bool) -> None:
    span = wanted(Range="bytes=1-2", If_Range=validator).span_of(STRONG)
    assert (span is not None) is holds


def test_a_weak_version_has_no_ranges_under_if_range() -> None:
    assert wanted(Range="bytes=1-2", If_Range='W/"abc"').span_of(WEAK) is None


@pytest.mark.parametrize(
    "header",
    ["bytes=", "bytes=-", "bytes=3-1", "bytes=a-b", "lines=0-5", "bytes=0-1,3-4", "0-1", "bytes=1", "bytes=-1-2", "bytes=٠-٢"],
)
def test_a_malformed_or_several_ranges_are_as_none(header: str) -> None:
    assert wanted(Range=header).span is None


def test_head_has_no_range() -> None:
    assert wanted("HEAD", Range="bytes=0-1").span is None


@given(size=st.integers(0, 50), first=st.none() | st.integers(0, 60), last=st.none() | st.integers(0, 60))
def test_a_range_is_the_slice_that_its_numbers_say(size: int, first: int | None, last: int | None) -> None:
    body = bytes(range(size))
    if first is None and last is None:
        return
    if first is None:
        expected = body[-last:] if last else b""
    elif last is None:
        expected = body[first:]
    elif last < first:
        assert wanted(Range=f"bytes={first}-{last}").span is None
        return
    else:
        expected = body[first : last + 1]
    span = wanted(Range=f"bytes={'' if first is None else first}-{'' if last is None else last}").span
    assert span is not None
    if not expected:
        with pytest.raises(RangeNotSatisfiable) as refused:
            span.within(size)
        assert refused.value.headers["Content-Range"] == f"bytes */{size}"
        return
    exact = span.within(size)
    assert body[exact.start : exact.stop] == expected
    assert exact.length() == len(expected)
