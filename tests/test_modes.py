"""Which renditions everybody may ask for, in each mode, and who may ask for more."""

from __future__ import annotations

import time
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image

from proxy import addresses, keys
from proxy.access import Admission, Gate, Right
from proxy.auth import Tokens
from proxy.errors import NotFound, NotOffered, Unauthorized
from proxy.presets import Presets
from proxy.settings import ReadAccess, TransformAccess
from proxy.signing import Signatures, sign
from tests import pictures
from tests.kit.aftereffects import harmless as after
from tests.kit.client import Answer, Client, media
from tests.kit.server import RunningServer

SECRET = "0123456789abcdef-an-url-secret-of-32-bytes-and-more"
PRESETS = """
card = "w=300&h=200&fit=cover"
[wide]
query = "w=333&format=auto"
allow = ["dpr", "q", "w"]
[fixed]
query = "w=100"
allow = []
"""


@pytest.fixture(scope="module", params=["ladder", "presets", "signed", "open"])
def mode(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def running(mode: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    folder: Path = tmp_path_factory.mktemp(mode)
    (folder / "presets.toml").write_text(PRESETS)
    env = {"MEDIA_TRANSFORM_ACCESS": mode, "MEDIA_PRESETS": "presets.toml", "MEDIA_URL_SECRETS": SECRET}
    with RunningServer(folder, env) as server:
        yield server


@pytest.fixture(scope="module")
def key(running: RunningServer) -> str:
    return str(running.client("mine").stored(pictures.jpeg(1200, 900))["key"])


WIDTHS = {
    # query: what comes in the modes ladder, presets, signed, open; None is 403
    "w=320": (320, None, None, 320),
    "w=321": (384, None, None, 321),
    "w=321&dpr=2": (750, None, None, 642),
    "h=256": (341, None, None, 341),
    "w=320&h=240": (320, None, None, 320),
    "w=320&h=100": (None, None, None, 133),
    "w=320&q=81": (None, None, None, 320),
    "w=320&q=high&fit=cover&g=n&format=webp": (320, None, None, 320),
    "w=320&bg=red": (None, None, None, 320),
    "w=320&up=1": (None, None, None, 320),
    "format=png": (1200, None, None, 1200),
    "preset=card": (300, 300, None, 300),
    "preset=card&dpr=2&format=png": (600, 600, None, 600),
    "preset=card&dpr=1.25": (None, None, None, 375),
    "preset=card&w=320": (None, None, None, None),
    "preset=card&bg=red": (None, None, None, None),
    "preset=wide": (333, 333, None, 333),
    "preset=wide&w=320": (320, 320, None, 320),
    "preset=wide&w=321": (None, None, None, 321),
    "preset=wide&format=png": (None, None, None, None),
    "preset=fixed": (100, 100, None, 100),
    "preset=fixed&dpr=2": (None, None, None, None),
    "preset=card&v=1&dl=x.jpg&utm_source=mail": (300, 300, None, 300),
}


@pytest.mark.parametrize("query", WIDTHS)
def test_everybody_may_ask_for_what_the_mode_offers(running: RunningServer, mode: str, key: str, query: str) -> None:
    width = WIDTHS[query][["ladder", "presets", "signed", "open"].index(mode)]
    answer = running.client().get(media(key, query))
    if width is None:
        assert (answer.status, answer.code) == (403, "not-offered")
        assert answer.headers["Cache-Control"] == "public, max-age=10"
    else:
        assert answer.status == 200
        assert width_of(answer) == width
        assert answer.headers["Cache-Control"].startswith("public, max-age=86400, stale-while-revalidate")


def test_the_refusal_names_what_is_in_the_way(running: RunningServer, mode: str, key: str) -> None:
    query, param = {
        "ladder": ("blur=3&w=320", "blur"), "presets": ("w=320", "w"), "open": ("preset=fixed&w=320", "w"),
        "signed": ("w=320", None),
    }[mode]  # fmt: skip
    with after(running, 403, "not-offered") as bad:
        bad.answer = running.client().get(media(key, query))
        assert bad.answer.json.get("param") == param


def width_of(answer: Answer) -> int:
    """The width of the picture that came."""
    return Image.open(BytesIO(answer.body)).width


def exact(client: Client, key: str, query: str = "w=321&q=81") -> Answer:
    """A rendition that only *open* offers to everybody."""
    return client.get(media(key, query))


def test_a_token_with_the_right_may_have_any_rendition_for_itself_alone(running: RunningServer, mode: str, key: str) -> None:
    answer = exact(running.client("anybody", scope="media:transform"), key)
    assert answer.status == 200
    assert width_of(answer) == 321
    assert answer.headers["Cache-Control"].startswith("public" if mode == "open" else "private")
    assert exact(running.client("mine"), key).status == exact(running.client(), key).status
    assert exact(running.client("boss", scope="media:admin"), key, "preset=card&w=333").status == 200


def test_what_a_token_lifted_is_not_given_to_who_asks_next(running: RunningServer, mode: str, key: str) -> None:
    query = "w=222&q=77"
    for _ in range(3):
        assert exact(running.client("anybody", scope="media:transform"), key, query).status == 200
        assert exact(running.client(), key, query).status == (200 if mode == "open" else 403)


def test_a_token_changes_nothing_of_what_everybody_gets(running: RunningServer, mode: str, key: str) -> None:
    query = {"ladder": "w=160&dpr=2", "open": "w=321", "presets": "preset=card", "signed": ""}[mode]
    answer = exact(running.client("anybody", scope="media:transform"), key, query)
    assert answer.headers["Cache-Control"].startswith("public")


def test_a_signature_lifts_the_mode_and_not_the_hard_limits(running: RunningServer, key: str) -> None:
    said = {"w": "321", "q": "81", "exp": str(int(time.time()) + 300)}
    query = "&".join(f"{name}={value}" for name, value in said.items())
    answer = running.client().get(media(key, f"{query}&s={sign(SECRET.encode(), key, said)}"))
    assert answer.status == 200
    assert width_of(answer) == 321
    said |= {"w": "8192", "dpr": "2"}
    query = "&".join(f"{name}={value}" for name, value in said.items())
    with after(running, 400, "bad-parameter") as bad:
        bad.answer = running.client().get(media(key, f"{query}&s={sign(SECRET.encode(), key, said)}"))


def test_the_original_is_there_for_all_who_may_read(running: RunningServer, key: str) -> None:
    assert running.client().get(media(key)).status == 200
    assert running.client().get(media(key, "v=1&dpr=2&utm_source=x")).headers["ETag"][0] == '"'


def test_what_is_larger_than_the_ladder_says_so(running: RunningServer, mode: str, key: str) -> None:
    assert running.client().get(media(key, "w=5000")).headers["X-Media-Degraded"] == ("size-nearest" if mode == "ladder" else None)
    assert "X-Media-Degraded" not in running.client().get(media(key, "w=3000")).headers


def test_a_reader_gets_the_ladder_where_reading_is_private() -> None:
    tokens = Tokens(SECRET, ("HS256",))
    gate = Gate(tokens, Signatures([SECRET]), Presets(None), ReadAccess.OWNER, TransformAccess.LADDER)
    key = keys.parse("mine/a.jpg")

    def admitted(query: str, sub: str = "mine", scope: str | None = None) -> Admission:
        return gate.admit([f"Bearer {tokens.mint(sub, scope, 60)}"], query, key, {})

    reader = admitted("w=321")
    assert (reader.transform.width, reader.right, reader.terms.private) == (384, Right.MODE, True)
    with pytest.raises(NotOffered):
        admitted("bg=red")
    able = admitted("w=321&bg=red", scope="media:read media:transform")
    assert (able.transform.width, able.right, able.terms.private) == (321, Right.TOKEN, True)
    with pytest.raises(NotFound):
        admitted("w=321", "other", "media:read media:transform")
    with pytest.raises(Unauthorized):
        gate.admit([], "w=320", key, {})
    signed = gate.admit(
        [], addresses.signed("mine/a.jpg?w=321", gate.signatures, gate.presets, ends=10**10).partition("?")[2], key, {}
    )
    assert (signed.transform.width, signed.right, signed.terms.private) == (321, Right.SIGNATURE, False)
