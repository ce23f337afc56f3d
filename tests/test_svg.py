"""SVG: what is stored and shown is a drawing and nothing else, and pictures of it are made at any size."""

from __future__ import annotations

import base64
import gzip
import io
import json
import re
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from processors import styles, svg
from processors.errors import MediaError
from tests import pictures
from tests.conftest import Harmless
from tests.kit.client import Client, media
from tests.kit.server import RunningServer

NAMESPACES = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
TYPE = "image/svg+xml"
PLAIN = f'<svg {NAMESPACES} width="24" height="12"><rect width="12" height="12" fill="#f00"/></svg>'.encode()
INLINE = "data:image/png;base64," + base64.b64encode(pictures.png(8, 8)).decode()
SCRIPT_DATA = "data:text/html,<script>alert(1)</script>".replace("<", "&lt;")

HOSTILE = {
    "script": "<script>alert(1)</script>",
    "script elsewhere": '<x:script xmlns:x="http://www.w3.org/2000/svg">alert(1)</x:script>',
    "html script": '<script xmlns="http://www.w3.org/1999/xhtml">alert(1)</script>',
    "event": '<rect onclick="alert(1)" onload="alert(1)" width="1"/>',
    "animated event": '<rect><animate onbegin="alert(1)" attributeName="x" dur="1s"/></rect>',
    "foreign object": '<foreignObject><iframe xmlns="http://www.w3.org/1999/xhtml" src="javascript:alert(1)"/></foreignObject>',
    "script link": '<a href="javascript:alert(1)"><text>x</text></a>',
    "script xlink": '<a xlink:href=" java&#10;script:alert(1)"><text>x</text></a>',
    "link": '<a href="https://evil.invalid/"><text>x</text></a>',
    "animated link": '<a href="#x"><animate attributeName="href" values="javascript:alert(1)"/></a>',
    "set link": '<a href="#x"><set attributeName="xlink:href" to="javascript:alert(1)"/></a>',
    "animated style": '<rect><set attributeName="style" to="fill:url(https://evil.invalid/)"/></rect>',
    "picture": '<image href="https://evil.invalid/a.png"/><image xlink:href="//evil.invalid/a.png"/><image href="/api/media/x"/>',
    "file": '<image href="file:///etc/passwd"/><image href="/etc/passwd"/>',
    "drawing in a drawing": '<image href="data:image/svg+xml;base64,PHN2Zy8+"/><use href="data:image/svg+xml;base64,PHN2Zy8+#a"/>',
    "page in a drawing": f'<image href="{SCRIPT_DATA}"/>',
    "use": '<use href="https://evil.invalid/a.svg#x"/><use xlink:href="/a.svg#x"/>',
    "filter": '<filter id="f"><feImage href="https://evil.invalid/"/></filter>',
    "paint": '<rect fill="url(https://evil.invalid/#a)" mask="url(//evil.invalid/#a)" filter="url(/a.svg#a)" width="1"/>',
    "style": '<rect style="fill:url(https://evil.invalid/#a);background:url(/a)" width="1"/>',
    "style escape": '<rect style="fill:\\75rl(https://evil.invalid/)" width="1"/>',
    "style comment": "<rect style=\"font-family:'/*';fill:url(https://evil.invalid/);x:'*/'\" width=\"1\"/>",
    "style image set": '<rect style="mask:image-set(\'https://evil.invalid/\' 1x)" width="1"/>',
    "style binding": '<rect style="-moz-binding:url(#x);behavior:url(#x);width:expression(alert(1))"/>',
    "sheet import": "<style>@import url(https://evil.invalid/a.css); @import '/a.css'; .none { fill: red }</style>",
    "sheet font": "<style>@font-face { font-family: x; src: url(https://evil.invalid/) }</style>",
    "sheet url": "<style>rect { fill: url(https://evil.invalid/) } @media all { rect { fill: url('/a') } }</style>",
    "sheet comment": "<style>rect { font-family: '/*'; fill: url(https://evil.invalid/); x: '*/' }</style>",
    "sheet string": "<style>rect { font-family: '}'; } a { fill: url('https://evil.invalid/') }</style>",
    "sheet escape": "<style>rect { fill: u\\72l(https://evil.invalid/) } @\\69mport '/a.css';</style>",
    "sheet bytes": "<style><![CDATA[ </style><script>alert(1)</script> ]]></style>",
    "handler": '<handler xmlns:ev="http://www.w3.org/2001/xml-events" ev:event="load">alert(1)</handler>',
    "embedded": '<iframe src="https://evil.invalid/"/><embed src="a.swf"/><video href="https://evil.invalid/"/><audio/>',
    "base": '<rect xml:base="https://evil.invalid/" width="1"/>',
    "cursor": '<rect style="cursor:url(https://evil.invalid/), auto" cursor="url(https://evil.invalid/)"/>',
}
ACTIVE = re.compile(rb"script|alert|evil|\bon[a-z]+=|iframe|import|file:|/etc/|/a\.|javascript|text/html|svg\+xml|binding|embed")

HARMLESS = f"""<svg {NAMESPACES} viewBox="0 0 100 50"><!-- drawn by hand --><title>A &amp; B</title>
<style>.a, g > rect:hover {{ fill: url(#grad); transform: rotate(3deg) }} @media (min-width: 10px) {{ rect {{ opacity: 1 }} }}
</style>
<defs><linearGradient id="grad"><stop offset="0" stop-color="rgb(1, 2, 3)"/></linearGradient><filter id="blur">
<feGaussianBlur stdDeviation="2"/></filter><symbol id="s"><path d="M0 0h1v1z"/></symbol></defs>
<use xlink:href="#s"/><use href="#s" x="3"/><rect class="a" style="fill: url('#grad'); stroke: #fff" filter="url(#blur)"/>
<text font-family="Arial, 'Open Sans'" transform="translate(1 2) scale(2)">hi<tspan dy="1">there</tspan></text>
<image href="{INLINE}" width="8" height="8"/><circle r="3"><animate attributeName="r" values="1;3;1" dur="2s"/></circle></svg>"""


def drawing(inside: str, **root: str) -> bytes:
    """An SVG document with *inside*."""
    told = "".join(f' {name}="{value}"' for name, value in ({"width": "40", "height": "20"} | root).items())
    return f"<svg {NAMESPACES}{told}>{inside}<rect id='x' width='40' height='20' fill='#00f'/></svg>".encode()


def shown(client: Client, key: str, query: str) -> Image.Image:
    """The rendition of *key*."""
    answer = client.get(media(key, query))
    assert answer.status == 200, answer
    image = Image.open(io.BytesIO(answer.body))
    image.load()
    return image


@pytest.mark.parametrize("name", HOSTILE)
def test_what_acts_or_reaches_outwards_is_not_stored(client: Client, name: str) -> None:
    record = client.stored(drawing(HOSTILE[name]), TYPE, "a.svg")
    assert record["sanitised"] is True
    back = client.get(media(record["key"]))
    assert back.status == 200
    assert not ACTIVE.search(back.body), back.body
    assert b"<rect id=" in back.body
    ElementTree.fromstring(back.body)
    assert record["size"] == len(back.body)
    again = client.stored(back.body, TYPE)
    assert again["sha256"] == record["sha256"]
    assert "sanitised" not in again
    assert shown(client, record["key"], "w=40&format=png").getpixel((30, 15)) == (0, 0, 255, 255)


def test_a_harmless_drawing_is_stored_byte_for_byte(client: Client) -> None:
    for data in (PLAIN, HARMLESS.encode()):
        record = client.stored(data, TYPE)
        assert "sanitised" not in record
        assert client.get(media(record["key"])).body == data


def test_the_original_is_inert_and_a_download(client: Client, stranger: Client) -> None:
    record = client.stored(PLAIN)
    answer = stranger.get(record["url"])
    assert answer.headers["Content-Type"] == record["contentType"] == TYPE
    assert answer.headers["Content-Security-Policy"] == "default-src 'none'; style-src 'unsafe-inline'; sandbox"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Content-Disposition"].startswith("attachment")
    assert (record["width"], record["height"]) == (24, 12)


@pytest.mark.parametrize("query", ["w=300", "w=300&format=png", "h=150", "w=600&h=150", "w=150&dpr=2", "w=300&rot=180"])
def test_a_small_drawing_is_sharp_at_any_size(client: Client, query: str) -> None:
    image = shown(client, client.stored(PLAIN)["key"], query).convert("RGBA")
    assert image.size == (300, 150)
    red, clear = (149, 151) if "rot" not in query else (150, 148)
    assert image.getpixel((red, 70)) == (255, 0, 0, 255)
    assert image.getpixel((clear, 70))[3] == 0  # type: ignore[index]


def test_a_drawing_is_its_own_size_where_none_is_asked_for(client: Client) -> None:
    key = client.stored(PLAIN)["key"]
    assert shown(client, key, "format=png").size == (24, 12)
    assert shown(client, key, "crop=0,0,6,6&format=png").size == (6, 6)


@pytest.mark.parametrize(
    ("attributes", "size"),
    [
        ('width="2in" height="1in"', (192, 96)),
        ('viewBox="0 0 300 200"', (300, 200)),
        ('width="100%" height="100%" viewBox="0 0 30 20"', (30, 20)),
        ('width="60" viewBox="0 0 30 20"', (60, 40)),
        ('viewBox="0 0 2e9 1e9"', (4096, 2048)),
        ('width="1000000000" height="10"', (4096, 1)),
        ('width="-5" height="nan"', (300, 150)),
        ('viewBox="0 0 0 0"', (300, 150)),
        ("", (300, 150)),
    ],
)
def test_a_drawing_without_a_sane_size_gets_one(client: Client, attributes: str, size: tuple[int, int]) -> None:
    record = client.stored(f"<svg {NAMESPACES} {attributes}><rect width='9' height='9'/></svg>".encode(), TYPE)
    assert (record["width"], record["height"]) == size
    assert shown(client, record["key"], "w=32&format=png").width == 32


@pytest.mark.parametrize(
    ("accept", "content_type"), [("image/avif,image/webp,*/*", "image/avif"), ("image/webp", "image/webp"), ("*/*", "image/png")]
)
def test_a_rendition_is_of_a_type_that_the_client_shows_and_keeps_what_is_clear(
    client: Client, accept: str, content_type: str
) -> None:
    answer = client.get(media(client.stored(PLAIN)["key"], "w=48&format=auto"), {"Accept": accept})
    assert answer.headers["Content-Type"] == content_type
    if content_type != "image/avif":
        assert Image.open(io.BytesIO(answer.body)).convert("RGBA").getpixel((40, 12))[3] == 0  # type: ignore[index]


NESTED = "<g>" * 20_000 + "</g>" * 20_000
LAUGHS = "".join(f'<g id="l{n}">' + f'<use href="#l{n - 1}"/>' * 10 + "</g>" for n in range(1, 10))
ENTITY = f'<!DOCTYPE svg [<!ENTITY a "{"a" * 4000}">]>'
PAINTED = LAUGHS.replace('use href="', 'rect fill="url(').replace('"/>', ')"/>')
ENTITIES = "<!DOCTYPE svg [" + "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 10)) + '<!ENTITY l0 "ha">]>'
BIG_INLINE = "data:image/png;base64," + base64.b64encode(pictures.png_one_bit_bomb()).decode()
REFUSED: dict[str, tuple[int, str, bytes]] = {
    "nested": (422, "too-costly", drawing(NESTED)),
    "laughs": (422, "too-costly", drawing('<g id="l0"><rect/></g>' + LAUGHS)),
    "painted laughs": (422, "too-costly", drawing('<g id="l0"><rect/></g>' + PAINTED)),
    "elements": (422, "too-costly", drawing("<g/>" * 100_001)),
    "entities": (422, "undecodable", f"{ENTITIES}<svg {NAMESPACES}><text>&l9;</text></svg>".encode()),
    "one entity": (422, "too-costly", f"{ENTITY}<svg {NAMESPACES}><text>{'&a;' * 1000}</text></svg>".encode()),
    "picture within": (422, "too-costly", drawing(f'<image href="{BIG_INLINE}" width="9" height="9"/>')),
    "damaged within": (422, "undecodable", drawing('<image href="data:image/png;base64,AAAA" width="9" height="9"/>')),
    "cut": (422, "undecodable", PLAIN[:-8]),
    "two roots": (422, "undecodable", PLAIN + PLAIN),
    "other namespace": (415, "unsupported-type", b'<svg xmlns="urn:x"><!-- http://www.w3.org/2000/svg --></svg>'),
    "no namespace": (415, "unsupported-type", b"<svg><rect/></svg>"),
    "packed": (415, "unsupported-type", gzip.compress(PLAIN)),
    "large": (413, "too-large", drawing("<!--" + " " * (4 << 20) + "-->")),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_a_bomb_or_a_broken_drawing_is_refused_and_leaves_nothing(harmless: Harmless, client: Client, name: str) -> None:
    status, code, data = REFUSED[name]
    with harmless(status, code) as bad:
        bad.answer = client.upload(data, TYPE, "a.svg")


@pytest.mark.parametrize("claimed", ["image/png", "text/html", "application/xml", "video/mp4"])
def test_a_drawing_that_is_called_something_else_is_refused(harmless: Harmless, client: Client, claimed: str) -> None:
    with harmless(415, "unsupported-type") as bad:
        bad.answer = client.upload(PLAIN, claimed)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-8-sig", "iso-8859-1"])
def test_a_drawing_may_come_in_another_encoding(client: Client, encoding: str) -> None:
    said = (
        f'<?xml version="1.0" encoding="{encoding.removesuffix("-sig")}"?>\n<!DOCTYPE svg PUBLIC "x" "http://evil.invalid/x.dtd">'
    )
    record = client.stored((said + drawing("<text>é</text>").decode()).encode(encoding), TYPE)
    back = client.get(media(record["key"])).body
    assert "é" in back.decode()
    assert b"DOCTYPE" not in back


def test_what_editors_abbreviate_by_entities_is_read(client: Client) -> None:
    data = b"""<!DOCTYPE svg [<!ENTITY ns_svg "http://www.w3.org/2000/svg">]><svg xmlns="&ns_svg;" width="4" height="4"/>"""
    record = client.stored(data, TYPE)
    assert b"ENTITY" not in client.get(media(record["key"])).body


def test_an_upload_that_is_sent_again_is_known_although_it_was_changed(client: Client) -> None:
    data = drawing(HOSTILE["script"])
    first, second = (client.stored(data, TYPE, headers={"Idempotency-Key": "one"}) for _ in range(2))
    assert first == second
    other = client.upload(drawing("<g/>"), TYPE, headers={"Idempotency-Key": "one"})
    assert (other.status, other.code) == (422, "idempotency-key-reused")


def test_what_others_put_into_a_store_is_sanitised_before_it_is_drawn(server: RunningServer, stranger: Client) -> None:
    for name, inside in (("whole", HOSTILE["picture"] + HOSTILE["style"]), ("bomb", NESTED)):
        server.place(f"others/{name}.svg", drawing(inside), TYPE)
    assert shown(stranger, "others/whole.svg", "w=80&format=png").getpixel((60, 30)) == (0, 0, 255, 255)
    assert stranger.get(media("others/bomb.svg", "w=80")).status == 422
    assert "attachment" in stranger.get(media("others/whole.svg")).headers["Content-Disposition"]


CSS = st.text(st.sampled_from("url(#a)'\"/*{}:;@ \\\n<>-xh"), max_size=40)


@given(CSS)
def test_no_style_gets_out_that_has_an_open_end_or_leads_outwards(text: str) -> None:
    for written in (styles.sheet(text), styles.declarations(text)):
        assert "/*" not in written.replace("'/*'", "").replace('"/*"', "") or written.count("/*") == 0
        assert "\\" not in written
        assert "@" not in written
        for address in re.findall(r"url\(\s*['\"]?(.)", written):
            assert address == "#"
        assert styles.declarations(written) == written or written == styles.sheet(written)


@given(
    st.lists(
        st.sampled_from([*HOSTILE.values(), "<g>", "</g>", "x", "<path d='M0 0'/>", "<!-- c -->", "<?pi x?>", "&amp;"]), max_size=8
    )
)
def test_a_drawing_that_was_sanitised_needs_it_no_more(parts: list[str]) -> None:
    try:
        once = svg.read(drawing("".join(parts)))
    except MediaError:
        return
    twice = svg.read(once.text())
    assert not twice.is_changed
    assert twice.text() == once.text()
    assert json.dumps(twice.root) == json.dumps(once.root)
