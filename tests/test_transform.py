"""The grammar of renditions: what is read, what is refused and how, and the one text of everything that means the same."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from processors.errors import BadParameter
from processors.geometry import as_seen, planned, turned, unturned
from processors.transform import Fit, Transform

ALIASES = {
    "w": ["w", "width"],
    "h": ["h", "height"],
    "fit": ["fit"],
    "g": ["g", "gravity", "position"],
    "q": ["q", "quality"],
    "format": ["format", "f", "fm", "output"],
    "up": ["up", "enlarge"],
    "bg": ["bg"],
    "crop": ["crop", "rect"],
    "gray": ["gray", "grey"],
    "max": ["max", "max_bytes"],
    "time": ["time", "at"],
    **{name: [name] for name in ("meta", "page", "wm", "trim", "rot", "flip", "blur", "sharp", "pad", "anim")},
}
VALUES: dict[str, st.SearchStrategy[str]] = {
    "w": st.integers(1, 8192).map(str),
    "h": st.integers(1, 8192).map(str),
    "fit": st.sampled_from(["inside", "cover", "pad", "stretch", "outside", "Contain", "crop", "letterbox", "SCALE", "max"]),
    "g": st.sampled_from(["center", "n", "SE", "smart", "entropy", "0.5x0.25", ".50x1.0", "0x01", "top-left", "northwest"]),
    "q": st.one_of(st.integers(1, 100).map(str), st.sampled_from(["low", "medium", "HIGH", "best", "080"])),
    "format": st.sampled_from(["source", "auto", "jpg", "JPEG", "png", "webp", "avif", "gif"]),
    "up": st.sampled_from(["0", "1"]),
    "crop": st.sampled_from(["0,0,10,10", "5,00,100,20", "0.25,0,0.5,1.0", ".1,.2,.3,.4", "0.0,0,1,1"]),
    "trim": st.sampled_from(["auto", "0", "10", "254"]),
    "rot": st.sampled_from(["0", "90", "180", "270"]),
    "flip": st.sampled_from(["h", "V", "hv", "VH"]),
    "blur": st.sampled_from(["0.3", "1.50", "100", "02"]),
    "sharp": st.sampled_from(["0.1", "1", "10.0"]),
    "gray": st.sampled_from(["0", "1"]),
    "pad": st.sampled_from(["0", "10", "1,2,3,4", "5,5,5,5"]),
    "anim": st.sampled_from(["0", "1"]),
    "max": st.integers(1, 1 << 28).map(str),
    "meta": st.sampled_from(["none", "Copyright", "keep"]),
    "page": st.integers(1, 1000).map(str),
    "time": st.sampled_from(["auto", "5", "1.50", "1m30s", "1h", "50%", "007s"]),
    "wm": st.sampled_from(["logo", "a-1_b"]),
    "bg": st.sampled_from(["fff", "FF0000", "00000080", "112233ff", "Red", "transparent", "rebeccapurple"]),
}
IGNORED = ["t=1", "ts=2", "_=3", "cb=x", "nocache=1", "ref=a%20b", "fbclid=x", "gclid=y", "utm_source=z", "utm_anything="]
ASIDE = ["v=7", "dl=a.jpg", "exp=1", "kid=a"]
BAD = {
    "w": ["0", "-1", "8193", "1.5", "1e3", "+5", "%2B5", "abc", "", "٣", "9" * 400, "1,2"],
    "dpr": ["0.5", "4.01", "5", "1.234", "x", "", "-1"],
    "q": ["0", "101", "good", "", "80.5"],
    "fit": ["fill", "contains", "", "cover,crop"],
    "g": ["middle", "2x0", "0.5x", "x0.5", "0.5", "1.1x0", "-1x0", "0.12345x0"],
    "up": ["2", "yes", "", "true"],
    "bg": ["ff", "12345", "gggggg", "#fff", "reddish", "", "url(x)"],
    "format": ["jxl", "svg", "", "image/png", "small", "plain"],
    "auto": ["compress", "", "format,compress"],
    "crop": ["1,2,3", "0,0,0,5", "-1,0,5,5", "0.5,0,0.6,1", "1,1,1,1,1", "a,b,c,d", "", "0.12345,0,0.1,0.1", "0,0,1e3,5"],
    "trim": ["255", "-1", "yes", ""],
    "rot": ["45", "360", "-90", ""],
    "flip": ["x", "hh", ""],
    "blur": ["0.2", "101", "1.234", "", "x", "."],
    "sharp": ["0", "10.1", ""],
    "gray": ["2", "yes"],
    "pad": ["2001", "-1", "1,2", "1,2,3,4,5", "", "1.5"],
    "ar": ["16:0", "0:9", "1:101", "16-9", "", "a:b", ":"],
    "anim": ["2", "yes"],
    "max": ["0", "-1", "1.5", "10K", ""],
    "meta": ["all", ""],
    "page": ["0", "x", "100001", ""],
    "time": ["-1", "101%25", "1x", "", "m", "s", "1:30"],
    "wm": ["Logo", "../logo", "", "a@b", "x" * 65],
    "preset": ["Card", "a/b", "", "a@", "@1"],
    "any": ["s", "w,h", "w,w", "nothing", "exp", ""],
    "explain": ["0", ""],
    "dl": ["a%00b", "a%0d%0ab", "x" * 300],
}


def refused(query: str) -> BadParameter:
    """What parsing *query* raises."""
    with pytest.raises(BadParameter) as caught:
        Transform.parse(query)
    return caught.value


def written(said: dict[str, str]) -> str:
    """The query that says so."""
    return "&".join(f"{name}={quote(value, safe='')}" for name, value in said.items())


@st.composite
def sayings(draw: st.DrawFn) -> dict[str, str]:
    """Some parameters and their values."""
    names = draw(st.lists(st.sampled_from(sorted(VALUES)), unique=True))
    return {name: draw(VALUES[name]) for name in names}


@given(sayings(), st.data())
def test_order_aliases_case_and_what_is_ignored_make_no_difference(said: dict[str, str], data: st.DataObject) -> None:
    plain = Transform.parse(written(said))
    pairs = [f"{data.draw(st.sampled_from(ALIASES[name]))}={quote(value, safe='')}" for name, value in said.items()]
    pairs += data.draw(st.lists(st.sampled_from(IGNORED + ASIDE), unique=True))
    other = Transform.parse("&".join(data.draw(st.permutations(pairs))))
    assert other.canonical == plain.canonical


@given(sayings())
def test_the_canonical_text_means_the_same_and_is_its_own(said: dict[str, str]) -> None:
    first = Transform.parse(written(said))
    again = Transform.restore(first.canonical)
    assert again == first
    assert again.canonical == first.canonical
    assert first.canonical.split("&") == sorted(first.canonical.split("&"))


@given(st.integers(1, 2048), st.integers(1, 2048), st.integers(100, 400))
def test_dpr_is_folded_into_the_sides(width: int, height: int, hundredths: int) -> None:
    folded = Transform.parse(f"w={width}&h={height}&dpr={hundredths / 100:.2f}")
    assert folded.width == (width * hundredths + 50) // 100
    assert folded.canonical == Transform.parse(f"w={folded.width}&h={folded.height}").canonical


@given(
    sayings(),
    st.sampled_from(["image/jpeg", "image/gif", "image/heic", "video/mp4", "image/webp", "text/plain"]),
    st.text(max_size=80),
)
def test_what_is_settled_can_be_restored_and_stays_settled(said: dict[str, str], mime: str, accept: str) -> None:
    settled = Transform.parse(written(said)).settled(mime, accept)
    assert Transform.restore(settled.canonical) == settled
    assert settled.format in ("jpg", "png", "webp", "avif", "gif", "small", "plain")


@given(st.text(alphabet=st.characters(exclude_categories=("Cs",)), max_size=60))
def test_any_text_is_a_transform_or_a_bad_parameter(query: str) -> None:
    members: dict[str, Any] = {}
    try:
        Transform.parse(query)
    except BadParameter as error:
        members = error.members
    assert len(json.dumps(members)) < 700


@pytest.mark.parametrize(
    ("query", "canonical"),
    [
        ("", ""),
        ("&&", ""),
        ("dpr=2", ""),
        ("width=320&dpr=2", "w=640"),
        ("w=0320", "w=320"),
        (
            "w=640&h=360&fit=cover&g=0.5x0.33&q=80&format=auto&exp=1893456000&kid=a",
            "fit=cover&format=auto&g=0.5x0.33&h=360&q=80&w=640",
        ),
        ("auto=format&w=1", "format=auto&w=1"),
        ("g=.50x1.0&fit=crop", "fit=cover&g=0.5x1"),
        ("bg=Red", "bg=ff0000"),
        ("bg=abc&up=1", "bg=aabbcc&up=1"),
        ("bg=112233FF", "bg=112233"),
        ("q=high&fm=JPEG", "format=jpg&q=85"),
        ("w=%33%32", "w=32"),
        ("rect=.25,0.0,0.5,1.0", "crop=0.25,0,0.5,1"),
        ("crop=0.0,0,1.0,1", ""),
        ("crop=05,0,10,20", "crop=5,0,10,20"),
        ("ar=32:18&w=5", "ar=16:9&w=5"),
        ("ar=1.50&w=5", "ar=3:2&w=5"),
        ("pad=5&dpr=2&w=10", "pad=10&w=20"),
        ("pad=1,1,1,1", "pad=1"),
        ("flip=VH", "flip=hv"),
        ("blur=02.50", "blur=2.5"),
        ("trim=auto", "trim=10"),
        ("grey=1", "gray=1"),
        ("at=1m30s", "time=90"),
        ("time=01.50s", "time=1.5"),
        ("time=50.0%25", "time=50%"),
        ("max_bytes=01000", "max=1000"),
    ],
)
def test_the_canonical_text(query: str, canonical: str) -> None:
    assert Transform.parse(query).canonical == canonical


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in BAD.items() for value in values])
def test_a_bad_value_is_refused_with_what_is_allowed(name: str, value: str) -> None:
    error = refused(f"{name}={value}" if value.isascii() else f"{name}={quote(value)}")
    assert error.status == 400
    assert error.members["param"] == name
    assert error.members["allowed"]


def test_fill_is_refused_with_its_three_meanings() -> None:
    error = refused("w=10&h=10&fit=fill")
    assert all(word in error.detail for word in ("stretch", "pad", "cover"))


@pytest.mark.parametrize(
    ("query", "nearest"),
    [("widht=3", "width"), ("heigth=3", "height"), ("qualty=3", "quality"), ("gravty=n", "gravity"), ("W=3", "w")],
)
def test_an_unknown_name_is_refused_with_the_nearest_known_one(query: str, nearest: str) -> None:
    error = refused(query)
    assert error.members["nearest"] == nearest
    assert error.members["param"] == query.partition("=")[0]


@pytest.mark.parametrize("query", ["zzzzzz=1", "<script>=1", "=1", "x" * 3000 + "=1", "%00=1", "w%20=1", "cropp=1,1,1,1"])
def test_what_a_stranger_wrote_is_not_echoed_beyond_a_plain_short_name(query: str) -> None:
    error = refused(query)
    assert len(json.dumps({"detail": error.detail, **error.members})) < 700
    assert "<" not in json.dumps(error.members)


@pytest.mark.parametrize(
    "query", ["w=1&w=2", "w=1&width=1", "f=png&auto=format", "s=a&s=b", "exp=1&exp=2", "dl=a&download=b", "v=1&v=1", "dpr=1&dppx=1"]
)
def test_a_name_is_said_once_in_any_spelling(query: str) -> None:
    assert "more than once" in refused(query).detail


@pytest.mark.parametrize("query", ["w=%zz", "w=%3", "%", "w=%ff", "dl=%c3%28", "v=%ed%a0%80"])
def test_bad_encodings_are_parsed(query: str) -> None:
    assert refused(query).status == 400


def test_a_side_over_the_limit_after_dpr_is_parsed() -> None:
    assert Transform.parse("w=4096&dpr=2").width == 8192
    assert refused("width=4097&dpr=2").members["param"] == "w"


@pytest.mark.parametrize(
    ("query", "identity"),
    [
        ("", True),
        ("v=1&dl=x&utm_a=1", True),
        ("exp=1&s=x&kid=a&any=w", True),
        ("w=1", False),
        ("format=source", False),
        ("up=0", False),
    ],
)
def test_only_what_concerns_the_picture_makes_a_rendition(query: str, identity: bool) -> None:
    assert Transform.parse(query).is_identity is identity


def test_download_and_version_are_heard_and_not_part_of_the_picture() -> None:
    transform = Transform.parse("w=10&dl=my%20%C3%BC+name.jpg&v=abc")
    assert (transform.download, transform.version) == ("my ü name.jpg", "abc")
    assert transform.canonical == "w=10"
    assert transform.settled("image/png") == Transform.parse("w=10").settled("image/png")


CHROME = "image/avif,image/webp,image/apng,image/svg+xml,image/*,*/*;q=0.8"
OLD_SAFARI = "image/png,image/svg+xml,image/*;q=0.8,video/*;q=0.8,*/*;q=0.5"


@pytest.mark.parametrize(
    ("mime", "accept", "format"),
    [
        ("image/jpeg", CHROME, "small"),
        ("image/jpeg", "image/webp,*/*", "webp"),
        ("image/jpeg", "image/avif", "avif"),
        ("image/jpeg", "*/*", "jpg"),
        ("image/jpeg", "", "jpg"),
        ("image/jpeg", OLD_SAFARI, "jpg"),
        ("image/jpeg", "image/avif;q=0,image/webp", "webp"),
        ("image/jpeg", "image/avif;q=0.1,image/webp;q=0.9", "webp"),
        ("image/jpeg", "image/webp;q=0.2,image/jpeg", "jpg"),
        ("image/jpeg", "image/webp;q=0.2,*/*;q=0.8", "jpg"),
        ("image/jpeg", "image/webp;q=rubbish", "jpg"),
        ("image/png", CHROME, "small"),
        ("image/png", "*/*", "png"),
        ("image/gif", CHROME, "webp"),
        ("image/gif", "image/avif", "gif"),
        ("image/webp", CHROME, "webp"),
        ("image/webp", "*/*", "webp"),
        ("image/webp", OLD_SAFARI, "plain"),
        ("image/avif", OLD_SAFARI, "plain"),
        ("image/heic", OLD_SAFARI, "plain"),
        ("image/heic", CHROME, "small"),
        ("video/mp4", CHROME, "small"),
        ("video/mp4", "*/*", "jpg"),
    ],
)
def test_auto_takes_what_the_client_names_and_the_source_can_become(mime: str, accept: str, format: str) -> None:
    transform = Transform.parse("w=100&format=auto")
    assert transform.varies
    assert transform.settled(mime, accept).format == format


@pytest.mark.parametrize(
    ("mime", "format"),
    [
        ("image/jpeg", "jpg"), ("image/png", "png"), ("image/webp", "webp"), ("image/avif", "avif"), ("image/gif", "gif"),
        ("image/heic", "plain"), ("image/tiff", "plain"), ("image/bmp", "plain"), ("video/mp4", "jpg"), ("text/html", "plain"),
    ],
)  # fmt: skip
def test_source_stays_what_browsers_show(mime: str, format: str) -> None:
    for query in ("w=100", "w=100&format=source"):
        transform = Transform.parse(query)
        assert not transform.varies
        assert transform.settled(mime, CHROME).format == format


@pytest.mark.parametrize(
    ("longer", "shorter"),
    [
        ("w=5&q=80", "w=5"),
        ("w=5&up=0", "w=5"),
        ("w=5&fit=inside", "w=5"),
        ("w=5&fit=cover&g=n", "w=5"),
        ("w=5&h=5&g=n", "w=5&h=5"),
        ("w=5&h=5&fit=cover&g=center", "w=5&h=5&fit=cover"),
        ("w=5&h=5&fit=pad&g=smart", "w=5&h=5&fit=pad"),
        ("w=5&format=png&q=30", "w=5&format=png"),
        ("w=5&format=jpg", "w=5"),
        ("w=5&rot=0&gray=0&pad=0&anim=1", "w=5"),
        ("ar=1:1&w=5&fit=cover", "ar=1:1&w=5"),
        ("w=5&h=5&fit=cover&g=focal", "w=5&h=5&fit=cover"),
    ],
)
def test_what_makes_no_difference_makes_no_second_rendition(longer: str, shorter: str) -> None:
    assert Transform.parse(longer).settled("image/jpeg") == Transform.parse(shorter).settled("image/jpeg")


@pytest.mark.parametrize(
    ("query", "focal", "settled"),
    [
        ("w=5&h=5&fit=cover", "0.2x0.7", "fit=cover&format=jpg&g=0.2x0.7&h=5&w=5"),
        ("w=5&h=5&fit=cover&g=focal", "0.2x0.7", "fit=cover&format=jpg&g=0.2x0.7&h=5&w=5"),
        ("w=5&h=5&fit=cover&g=top", "0.2x0.7", "fit=cover&format=jpg&g=top&h=5&w=5"),
        ("ar=1:1&w=5", "0.2x0.7", "ar=1:1&fit=cover&format=jpg&g=0.2x0.7&w=5"),
        ("ar=1:1&w=5&rot=90", "0.2x0.7", "ar=1:1&fit=cover&format=jpg&g=focal-0.2x0.7&rot=90&w=5"),
        ("w=5&h=5&fit=pad&g=focal", "0.2x0.7", "fit=pad&format=jpg&h=5&w=5"),
        ("w=5", "0.2x0.7", "format=jpg&w=5"),
    ],
)
def test_a_stored_focal_point_counts_where_a_crop_has_a_choice(query: str, focal: str, settled: str) -> None:
    transform = Transform.parse(query)
    assert transform.settled("image/jpeg", focal=focal).canonical == settled
    assert transform.crops == ("0.2x0.7" in settled)
    assert Transform.restore(settled).canonical == settled


@given(
    stored=st.tuples(st.integers(1, 400), st.integers(1, 400)),
    turn=st.integers(1, 8),
    corner=st.tuples(st.floats(0, 1), st.floats(0, 1)),
    size=st.tuples(st.floats(0, 1), st.floats(0, 1)),
)
def test_a_part_of_a_turned_picture_is_found_in_the_file_and_back(
    stored: tuple[int, int], turn: int, corner: tuple[float, float], size: tuple[float, float]
) -> None:
    seen = unturned(stored, turn)
    left, top = int(corner[0] * (seen[0] - 1)), int(corner[1] * (seen[1] - 1))
    width, height = 1 + int(size[0] * (seen[0] - left - 1)), 1 + int(size[1] * (seen[1] - top - 1))
    plan = planned(stored, turn, Transform.parse(f"crop={left},{top},{width},{height}"), 8192)
    assert as_seen(plan.area, stored, turn) == (left, top, width, height)
    assert plan.area[0] + plan.area[2] <= stored[0]
    assert plan.area[1] + plan.area[3] <= stored[1]


@given(st.integers(1, 8), st.sampled_from([0, 90, 180, 270]), st.sampled_from([None, "h", "v", "hv"]))
def test_turning_further_is_one_turn(turn: int, rot: int, flip: str | None) -> None:
    once = turned(turn, rot, flip)
    back = turned(turned(once, 0, flip), (360 - rot) % 360, None)
    assert back == turn


def test_the_words_of_fit_mean_what_their_inventors_meant() -> None:
    for word, fit in (("contain", Fit.INSIDE), ("crop", Fit.COVER), ("squeeze", Fit.STRETCH), ("letterbox", Fit.PAD)):
        assert Transform.parse(f"fit={word}").fit is fit
