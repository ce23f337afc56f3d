"""Presets: a file is taken whole or not at all, may change while the service runs, and what it says is part of every name."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image

from processors.errors import BadParameter
from processors.grammar import Query
from proxy import presets
from proxy.presets import BadPresets, Presets
from proxy.watermarks import Watermarks
from tests import pictures
from tests.kit.client import Answer, media
from tests.kit.server import RunningServer


def test_a_preset_is_a_query_or_a_table_with_more() -> None:
    known = presets.read('card = "width=400&h=300&fit=crop"\n[hero]\nquery = "w=1280"\nallow = ["w"]\nwarm = true\nstore = true')
    assert known["card"].query.text == "fit=cover&h=300&w=400"
    assert (known["card"].allow, known["card"].warm, known["card"].store) == ({"dpr", "format"}, False, False)
    assert (known["hero"].allow, known["hero"].warm, known["hero"].store) == ({"w"}, True, True)


def test_the_example_in_the_docs_is_a_file_of_presets() -> None:
    page = (Path(__file__).parents[1] / "docs" / "configuration.md").read_text(encoding="utf-8")
    example = page.partition("### Presets")[2].partition("```toml\n")[2].partition("```")[0]
    known = presets.read(example)
    assert (set(known), known["hero"].warm, known["hero"].store) == ({"card", "hero"}, True, True)


def test_what_the_address_says_stands_over_what_the_preset_says() -> None:
    card = presets.read('card = "w=400&h=300&format=auto"')["card"]
    assert card.under(Query.of({"preset": "card", "format": "webp", "dpr": "2"})).text == "dpr=2&format=webp&h=300&w=400"


@pytest.mark.parametrize(("text", "fault"), [
    ("card = [", "It is no TOML"),
    ("card = 5", "card is neither a query nor a table with one."),
    ('Card = "w=1"', "Card: a preset's name has letters from a to z, digits, - and _."),
    ('"a b" = "w=1"', "a b: a preset's name has"),
    ('"a&w=1" = "w=1"', "a&w=1: a preset's name has"),
    ('"a@1" = "w=1"', "a@1: a preset's name has"),
    ('card = "w=0"', "card: w may be 1 to 8192."),
    ('card = "witdh=10"', "card: witdh: a parameter has a name that is not known."),
    ('card = "fit=fill&w=1"', "card: fit: fill means stretch"),
    ('card = ""', "card: its query asks for nothing."),
    ('card = "dl=x"', "card: dl cannot be in a preset."),
    ('card = "w=8000&dpr=3"', "card: w may be 1 to 8192 after dpr is multiplied in."),
    ("[card]\nwarm = true", "card: it has no query."),
    ('[card]\nquery = "w=1"\nwarn = true', "card: warn is not known here, only query, allow, warm and store are."),
    ('[card]\nquery = "w=1"\nwarm = 1', "card: warm is true or false."),
    ('[card]\nquery = 5', "card: query is a text"),
    ('[card]\nquery = "w=1"\nallow = ["width"]', "card: allow is a list of parameters in their short spelling"),
    ('[card]\nquery = "w=1"\nallow = ["s"]', "card: allow is a list of parameters in their short spelling"),
    ('[card]\nquery = "w=1"\nallow = "w"', "card: allow is a list of parameters in their short spelling"),
])  # fmt: skip
def test_a_fault_is_named_in_one_sentence(text: str, fault: str) -> None:
    with pytest.raises(BadPresets) as refused:
        presets.read(text)
    [line] = str(refused.value).splitlines()
    assert line.startswith(fault)


def test_every_fault_of_a_file_is_named() -> None:
    with pytest.raises(BadPresets) as refused:
        presets.read('a = "w=0"\nb = "w=1"\n[c]\nquery = "q=0"\nwarm = "yes"')
    assert [line.partition(":")[0] for line in str(refused.value).splitlines()] == ["a", "c", "c"]


def test_a_revision_is_of_what_the_preset_asks_for_and_not_of_how_it_is_written() -> None:
    first, again, other = (presets.read(f'card = "{query}"')["card"] for query in ("w=1&h=2", "h=2&width=1", "w=2&h=2"))
    assert first.revision == again.revision != other.revision
    assert first.names_revision(Query.of({"preset": f"card@{first.revision}"}))
    assert not first.names_revision(Query.of({"preset": "card"}))
    assert not first.names_revision(Query.of({"preset": f"card@{other.revision}"}))


def test_a_revision_is_another_where_the_watermark_is_another() -> None:
    def revision(mark: str) -> str:
        def watermarked(query: Query) -> Query:
            return Query.of({"wm": mark}).over(query)

        return presets.read('card = "w=1&wm=logo"', watermarked=watermarked)["card"].revision

    assert revision("logo@1") == revision("logo@1") != revision("logo@2")


def test_a_watermark_that_is_not_known_is_a_fault() -> None:
    with pytest.raises(BadPresets, match="card: wm: no watermark has this name"):
        presets.read('card = "w=1&wm=logo"', watermarked=Watermarks(()).resolved)


def test_a_name_that_no_preset_has_is_refused(tmp_path: Path) -> None:
    known = Presets(None)
    known.load()
    assert known.named(Query.of({"w": "1"})) is None
    with pytest.raises(BadParameter):
        known.named(Query.of({"preset": "card"}))


# -- in a running service -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    folder: Path = tmp_path_factory.mktemp("presets")
    (folder / "presets.toml").write_text('first = "w=1"')
    with RunningServer(folder, {"MEDIA_PRESETS": str(folder / "presets.toml")}) as server:
        yield server


@pytest.fixture
def running(started: RunningServer) -> RunningServer:
    """A server that has the presets card and small."""
    assert '"presets.loaded"' in rewrite(started, 'card = "w=60"\nsmall = "w=16"')
    return started


def rewrite(server: RunningServer, text: str) -> str:
    """Change the file, tell the service, and give the event that it answers with."""
    Path(server.env["MEDIA_PRESETS"]).write_text(text)
    mark = server.output.mark
    server.process.send_signal(signal.SIGHUP)
    line = server.output.wait_for(lambda text: "presets." in text, since=mark)
    assert line is not None
    return line


def width_of(answer: Answer) -> int:
    """The width of the picture that came."""
    assert answer.status == 200, answer
    return Image.open(BytesIO(answer.body)).width


def test_a_preset_that_is_edited_gives_other_pixels_under_another_etag(running: RunningServer) -> None:
    stored = running.client("me").stored(pictures.jpeg(320, 240))
    key, client = stored["key"], running.client()
    path, kept = media(key, "preset=card"), media(key, f"preset=small&v={stored['etag']}")
    before = [client.get(path) for _ in range(3)]  # also from memory
    same = client.get(media(key, "w=60"))
    assert {width_of(answer) for answer in [*before, same]} == {60}
    assert {answer.headers["ETag"] for answer in before} == {same.headers["ETag"]}
    small = client.get(kept).headers["ETag"]
    assert '"presets.loaded"' in rewrite(running, 'card = "w=70"\nsmall = "w=16"')
    assert width_of(client.get(path)) == 70
    after = client.get(path, {"If-None-Match": before[0].headers["ETag"]})
    assert width_of(after) == 70
    assert client.get(path, {"If-None-Match": after.headers["ETag"]}).status == 304
    assert client.get(kept).headers["ETag"] == small


def test_a_file_that_is_wrong_is_told_in_the_log_and_what_was_known_stays(running: RunningServer) -> None:
    key = running.client("me").stored(pictures.jpeg(320, 240))["key"]
    line = rewrite(running, 'card = "w=0"\nnew = "w=70"')
    assert '"presets.refused"' in line
    assert '"level":"error"' in line
    assert "card: w may be 1 to 8192." in line
    assert width_of(running.client().get(media(key, "preset=card"))) == 60
    assert running.client().get(media(key, "preset=new")).code == "bad-parameter"
    Path(running.env["MEDIA_PRESETS"]).unlink()
    rewritten = running.output.mark
    running.process.send_signal(signal.SIGHUP)
    assert running.output.wait_for(lambda text: "cannot be read" in text, since=rewritten)
    assert width_of(running.client().get(media(key, "preset=card"))) == 60


def test_only_an_address_that_names_the_revision_may_be_kept_for_ever(running: RunningServer) -> None:
    """What a preset says may change while the object does not."""
    stored = running.client("me").stored(pictures.jpeg(320, 240))
    revision = presets.read('card = "w=60"')["card"].revision

    def control(preset: str) -> str:
        answer = running.client().get(media(stored["key"], f"preset={preset}&v={stored['etag']}"))
        assert width_of(answer) == 60
        return str(answer.headers["Cache-Control"])

    assert control(f"card@{revision}") == "public, max-age=31536000, immutable"
    assert control("card").startswith("public, max-age=86400, stale")
    assert control("card@00000000").startswith("public, max-age=86400, stale")


def test_a_file_that_is_wrong_stops_the_start_with_every_fault(tmp_path: Path) -> None:
    (tmp_path / "presets.toml").write_text('a = "w=0"\nb = "h=0"')
    server = RunningServer(tmp_path, {"MEDIA_PRESETS": "presets.toml"})
    server.launch()
    assert server.wait() == 2
    assert "MEDIA_PRESETS: presets.toml is not usable. a: w may be 1 to 8192.\nb: h may be 1 to 8192." in server.output.text
