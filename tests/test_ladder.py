"""What everybody may ask for where renditions are rationed: rounded to few sizes, so that their number can be counted."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from processors import grammar
from processors.grammar import Query
from processors.transform import Transform
from proxy import ladder
from proxy.errors import NotOffered

POINTS = (ladder.POINT_STEPS + 1) ** 2
GRAVITIES = 9 + 3 + POINTS
SIZES = 1 + 2 * len(ladder.WIDTHS) * (1 + len(ladder.RATIOS)) + len(ladder.WIDTHS) * len(ladder.RATIOS) + len(ladder.RATIOS)


def fitted(query: str) -> str:
    """What *query* becomes."""
    return ladder.fitted(grammar.read(query)).text


@pytest.mark.parametrize(("asked", "given"), [
    ("w=320", "w=320"), ("w=321", "w=384"), ("w=1", "w=16"), ("h=200", "h=256"), ("w=8192", "w=3840"), ("h=5000", "h=3840"),
    ("w=320&dpr=2", "w=640"), ("w=320&dpr=1.5", "w=480"), ("w=333&dpr=3", "w=1024"), ("w=3840&dpr=3", "w=3840"),
    ("h=100&dpr=2", "h=256"),
    ("w=320&h=240", "h=240&w=320"), ("w=320&h=213", "h=213&w=320"), ("w=320&h=214", "h=213&w=320"),
    ("w=320&h=180&dpr=3", "h=540&w=960"),
    ("w=320&h=180&dpr=1.5", "h=270&w=480"), ("w=640&h=360&dpr=1.5", "h=540&w=960"), ("w=320&h=320&dpr=3", "h=960&w=960"),
    ("w=16&h=9", "h=9&w=16"), ("w=2560&h=1097", "h=1097&w=2560"), ("ar=21:9&w=500", "ar=7:3&w=512"), ("dpr=2", ""),
    ("q=medium&w=320", "q=70&w=320"), ("q=auto&w=320", "q=auto&w=320"), ("q=best", "q=95"),
    ("w=320&fit=cover&g=ne&format=auto&anim=0", "anim=0&fit=cover&format=auto&g=top-right&w=320"),
    ("g=0.333x0.5&w=320", "g=0.35x0.5&w=320"), ("g=1x0", "g=1x0"), ("v=abc&dl=x.jpg&w=320", "dl=x.jpg&v=abc&w=320"),
])  # fmt: skip
def test_a_size_is_rounded_up_to_the_ladder(asked: str, given: str) -> None:
    assert fitted(asked) == given


@pytest.mark.parametrize(("query", "param"), [
    ("w=321&h=240", "w"), ("w=320&h=242", "h"), ("w=320&h=100", "h"), ("q=81", "q"), ("w=320&dpr=1.25", "dpr"),
    ("ar=5:7&w=320", "ar"),
    *((f"w=320&{name}={value}", name) for name, value in {
        "blur": "2", "crop": "0,0,10,10", "sharp": "1", "rot": "90", "flip": "h", "bg": "red", "up": "1", "pad": "5",
        "wm": "logo", "max": "900",
        "meta": "none", "page": "2", "time": "5", "trim": "auto", "gray": "1",
    }.items()),
])  # fmt: skip
def test_what_is_not_on_the_ladder_is_refused_by_name(query: str, param: str) -> None:
    with pytest.raises(NotOffered) as refused:
        fitted(query)
    assert refused.value.members["param"] == param
    assert param in refused.value.detail


numbers = st.integers(1, 8192).map(str)
ratios = st.sampled_from(ladder.RATIOS)
boxes = st.tuples(st.sampled_from(ladder.WIDTHS), ratios, st.integers(-1, 1)).map(
    lambda box: {"w": str(box[0]), "h": str(max(1, round(box[0] * box[1][1] / box[1][0]) + box[2]))}
)
sides = st.one_of(
    st.just({}),
    boxes,
    st.dictionaries(st.sampled_from(["w", "h"]), numbers, max_size=2),
    st.tuples(st.sampled_from(["w", "h"]), numbers, ratios).map(
        lambda said: {said[0]: said[1], "ar": f"{said[2][0]}:{said[2][1]}"}
    ),
    ratios.map(lambda ratio: {"ar": f"{ratio[0]}:{ratio[1]}"}),
)
gravities = st.one_of(
    st.sampled_from(["n", "smart", "center", "focal", "left"]),
    st.tuples(st.integers(0, 10_000), st.integers(0, 10_000)).map(lambda point: f"{point[0] / 10_000:g}x{point[1] / 10_000:g}"),
)
rest = st.fixed_dictionaries({}, optional={
    "dpr": st.sampled_from(["1", "1.5", "2", "3", "2.5"]), "g": gravities, "q": st.integers(1, 100).map(str),
})  # fmt: skip


@settings(max_examples=400)
@given(sides, rest)
def test_whatever_is_asked_comes_to_one_of_a_countable_number(size: dict[str, str], more: dict[str, str]) -> None:
    """Every answer lies in a finite set that this test spells out: sizes, points and qualities, counted below."""
    try:
        query = ladder.fitted(grammar.read("&".join(f"{name}={value}" for name, value in {**size, **more}.items())))
    except NotOffered:
        return
    assert "dpr" not in query
    assert ladder.fitted(query) == query, "what the ladder gives is on the ladder"
    _check_size(query)
    assert (query.get("q") or "80") in ladder.QUALITIES
    place = (query.get("g") or "center").split("x")
    if len(place) == 2 and place[0][:1].isdigit():
        assert all(round(float(part) * ladder.POINT_STEPS, 9).is_integer() for part in place)
    Transform.of(query.without("ar"))


def _check_size(query: Query) -> None:
    width, height = (int(query.get(name) or 0) for name in ("w", "h"))
    if width and height:
        assert width in ladder.WIDTHS
        assert height in {round(width * down / across) for across, down in ladder.RATIOS}
    else:
        assert {width, height} - {0} <= set(ladder.WIDTHS)


def test_the_sizes_that_anybody_can_cause_are_some_hundreds() -> None:
    made = set()
    for width in range(1, 8193, 7):
        for query in (f"w={width}", f"h={width}", f"w={width}&dpr=2"):
            made.add(fitted(query))
    for width in ladder.WIDTHS:
        heights = {round(width * down / across) + more for across, down in ladder.RATIOS for more in range(-3, 4)}
        for height in heights | {1, 8192}:
            for density in ladder.DENSITIES:
                try:
                    made.add(ladder.fitted(Query.of({"w": str(width), "h": str(max(1, height)), "dpr": density})).text)
                except NotOffered:
                    continue
    assert 250 < len(made) <= SIZES < 1000
