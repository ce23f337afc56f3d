"""Uploads through HTTP: what is taken, what is refused before a byte is read, and that nothing stays of what is refused."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest

from tests import pictures
from tests.conftest import Harmless
from tests.kit.aftereffects import harmless as after
from tests.kit.client import Client, FilePart, form, form_type, media
from tests.kit.files import padded
from tests.kit.raw import Cut, Wire
from tests.kit.server import RunningServer

IMAGE_LIMIT = 64 << 10
OTHER_LIMIT = 128 << 10
RECORD = {"key", "url", "size", "contentType", "etag", "sha256", "width", "height", "duration", "filename", "createdAt"}


@pytest.fixture(scope="module")
def photo() -> bytes:
    return pictures.jpeg(64, 48)


@pytest.fixture(scope="module")
def tight(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server with small limits: 64 KiB for pictures, 128 KiB for the rest, one second without a byte."""
    limits = {f"MEDIA_MAX_BYTES_{kind}": str(OTHER_LIMIT) for kind in ("VIDEO", "AUDIO", "DOCUMENT")}
    settings = {**limits, "MEDIA_MAX_BYTES_IMAGE": str(IMAGE_LIMIT), "MEDIA_IDLE_TIMEOUT": "1", "MEDIA_HEADER_TIMEOUT": "1"}
    with RunningServer(tmp_path_factory.mktemp("tight"), settings) as running:
        yield running


def head_of(server: RunningServer, **headers: str) -> dict[str, str]:
    """Headers of an upload with a good token; names are written with _ for -."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return {"Authorization": f"Bearer {server.token('raw')}", "Content-Type": "image/jpeg", **named}


# -- what is taken ------------------------------------------------------------------------------------------------------


def test_a_raw_body_is_stored_and_comes_back_byte_for_byte(client: Client, owner: str, photo: bytes) -> None:
    answer = client.upload(photo, "image/jpeg", "holiday.jpg")
    assert answer.status == 201
    record = answer.json
    assert record.keys() >= RECORD
    assert re.fullmatch(rf"{owner}/[0-9a-f]{{8}}(-[0-9a-f]{{4}}){{3}}-[0-9a-f]{{12}}\.jpg", record["key"])
    assert answer.headers["Location"] == record["url"]
    assert record["url"].endswith(media(record["key"]))
    assert (record["size"], record["contentType"], record["filename"]) == (len(photo), "image/jpeg", "holiday.jpg")
    assert (record["width"], record["height"], record["duration"]) == (64, 48, None)
    assert record["sha256"] == hashlib.sha256(photo).hexdigest()
    assert abs(datetime.fromisoformat(record["createdAt"]) - datetime.now(UTC)) < timedelta(minutes=1)
    back = client.get(media(record["key"]))
    assert back.body == photo
    assert back.headers["Content-Type"] == "image/jpeg"
    assert back.headers["ETag"] == f'"{record["etag"]}"'


@pytest.mark.parametrize("place", ["before", "between", "after"])
def test_a_form_may_have_its_file_field_anywhere(client: Client, photo: bytes, place: str) -> None:
    file, title, album = FilePart(photo, "a.jpg", "image/jpeg"), ("title", "Ein Titel"), ("album", "x" * 1000)
    parts = {"before": (file, title, album), "between": (title, file, album), "after": (title, album, file)}[place]
    answer = client.upload_form(*parts)
    assert answer.status == 201, answer
    assert answer.json["filename"] == "a.jpg"
    assert client.get(media(answer.json["key"])).body == photo


def test_a_form_sent_in_pieces_of_one_byte_is_the_same_form(server: RunningServer, client: Client, photo: bytes) -> None:
    body = form(("title", "t"), FilePart(photo, "a.jpg", "image/jpeg"))
    pieces = (body[at : at + 1] for at in range(len(body)))
    answer = client.request("POST", "/api/upload", {"Content-Type": form_type(), "Content-Length": str(len(body))}, pieces)
    assert answer.status == 201, answer
    assert client.get(media(answer.json["key"])).body == photo


def test_a_body_without_a_declared_length_is_taken(client: Client, photo: bytes) -> None:
    pieces = iter([photo[:100], photo[100:]])
    answer = client.request("POST", "/api/upload", {"Content-Type": "image/jpeg", "Transfer-Encoding": "chunked"}, pieces)
    assert answer.status == 201, answer
    assert answer.json["sha256"] == hashlib.sha256(photo).hexdigest()


def test_a_boundary_inside_the_file_ends_nothing(client: Client, photo: bytes) -> None:
    data = photo + b"\r\n--media-kit-boundar\r\n--media-kit\r\n----\r\n"
    answer = client.upload_form(FilePart(data, "a.jpg", "image/jpeg"))
    assert answer.status == 201, answer
    assert client.get(media(answer.json["key"])).body == data


@pytest.mark.parametrize("claimed", ["image/jpeg", "image/png", "application/octet-stream", "IMAGE/PNG; charset=x"])
def test_the_type_is_what_the_bytes_are_and_not_what_the_sender_says(client: Client, claimed: str) -> None:
    record = client.stored(pictures.png(20, 10), claimed, "page.html")
    assert record["contentType"] == "image/png"
    assert record["key"].endswith(".png")
    assert record["filename"] == "page.html"
    assert client.get(media(record["key"])).headers["Content-Type"] == "image/png"


def test_the_same_bytes_twice_are_two_objects(client: Client, photo: bytes) -> None:
    first, second = client.stored(photo), client.stored(photo)
    assert first["key"] != second["key"]
    assert client.delete(media(first["key"])).status == 204
    assert client.get(media(second["key"])).body == photo


def test_uploads_of_many_at_once_all_arrive(client: Client) -> None:
    photos = [pictures.png(10 + n, 10) for n in range(24)]
    with ThreadPoolExecutor(8) as pool:
        records = list(pool.map(client.stored, photos))
    assert [client.get(media(record["key"])).body for record in records] == photos
    assert {asset["key"] for asset in client.assets()} == {record["key"] for record in records}


def test_a_film_and_a_sound_are_stored_with_their_length(client: Client) -> None:
    film = client.stored(pictures.mp4(seconds=1), "video/mp4")
    assert film["contentType"] == "video/mp4"
    assert film["duration"] == pytest.approx(1, abs=0.3)
    assert film["width"] > 0
    sound = client.stored(pictures.ogg(seconds=1), "audio/ogg")
    assert (sound["contentType"], sound["width"]) == ("audio/ogg", None)


# -- refused for who asks, before a byte is read ------------------------------------------------------------------------


def test_a_good_upload_gets_its_100_continue_and_then_its_answer(server: RunningServer, photo: bytes) -> None:
    with server.wire() as wire:
        wire.request("POST", "/api/upload", head_of(server, Expect="100-continue", Content_Length=str(len(photo))))
        assert wire.interim() == 100
        assert wire.send(photo).answer().status == 201


@pytest.mark.parametrize("token", [None, "Bearer nonsense", "Bearer a.b.c", "Basic dXNlcjpwYXNz", "Bearer", ""])
@pytest.mark.parametrize("expect", [True, False], ids=["expecting", "sending"])
def test_without_a_good_token_nothing_is_read_and_nobody_is_told_to_continue(
    server: RunningServer, harmless: Harmless, token: str | None, expect: bool
) -> None:
    headers = {"Content-Type": "image/jpeg", "Content-Length": str(1 << 20)}
    headers |= {"Authorization": token} if token is not None else {}
    headers |= {"Expect": "100-continue"} if expect else {}
    with harmless(401, "unauthorized") as bad, server.wire() as wire:
        answer = bad.answer = wire.request("POST", "/api/upload", headers).answer()
        assert answer.interim == ()
        assert (answer.header("WWW-Authenticate") or "").startswith("Bearer")
        assert wire.is_given_up(answer), "a connection with an unread body must not be used again"


def test_a_token_that_may_only_read_uploads_nothing(server: RunningServer, harmless: Harmless, photo: bytes) -> None:
    with harmless(403, "forbidden") as bad:
        bad.answer = server.client("reader", scope="media:read").upload(photo)


def test_an_unknown_expectation_keeps_nobody_waiting(server: RunningServer, harmless: Harmless) -> None:
    with harmless([415, 417]) as bad, server.wire() as wire:
        bad.answer = wire.request("POST", "/api/upload", head_of(server, Expect="a-miracle"), b"no picture").answer()


# -- refused for its size -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content_type", "size"),
    [
        ("image/jpeg", IMAGE_LIMIT + 1),
        ("video/mp4", OTHER_LIMIT + 1),
        ("application/octet-stream", OTHER_LIMIT + 1),
        ("image/png", 1 << 40),
        ("audio/ogg", 10**30),
    ],
)
@pytest.mark.parametrize("expect", [True, False], ids=["expecting", "sending"])
def test_a_declared_length_over_the_limit_is_413_before_a_byte_is_read(
    tight: RunningServer, content_type: str, size: int, expect: bool
) -> None:
    headers = head_of(tight, Content_Type=content_type, Content_Length=str(size))
    headers |= {"Expect": "100-continue"} if expect else {}
    with after(tight, [413] if size < 10**30 else [400, 413]) as bad, tight.wire() as wire:
        bad.answer = wire.request("POST", "/api/upload", headers).answer()
        assert bad.answer.interim == ()
        assert wire.is_given_up(bad.answer)


def test_a_form_over_the_largest_limit_is_413_before_a_byte_is_read(tight: RunningServer) -> None:
    headers = head_of(tight, Content_Type=form_type(), Content_Length=str(10 * OTHER_LIMIT), Expect="100-continue")
    with after(tight, 413, "too-large") as bad, tight.wire() as wire:
        bad.answer = wire.request("POST", "/api/upload", headers).answer()
        assert bad.answer.interim == ()


@pytest.mark.parametrize("way", ["declared", "chunked", "form"])
def test_a_body_of_exactly_the_limit_is_taken_and_one_byte_more_is_413(tight: RunningServer, photo: bytes, way: str) -> None:
    client = tight.client("limit")

    def send(data: bytes):
        if way == "form":
            return client.upload_form(("title", "t"), FilePart(data, content_type="application/octet-stream"))
        if way == "chunked":
            return client.request("POST", "/api/upload", {"Transfer-Encoding": "chunked"}, iter([data[:1000], data[1000:]]))
        return client.upload(data)

    assert send(padded(photo, IMAGE_LIMIT)).status == 201
    with after(tight, 413, "too-large") as bad:
        bad.answer = send(padded(photo, IMAGE_LIMIT + 1))
    assert bad.problem is not None
    assert bad.problem["max_bytes" if "max_bytes" in bad.problem else "maxBytes"] == IMAGE_LIMIT


def test_an_endless_body_is_413_soon_after_the_limit(tight: RunningServer, photo: bytes) -> None:
    with after(tight, 413, "too-large") as bad, tight.wire() as wire:
        wire.request("POST", "/api/upload", head_of(tight, Transfer_Encoding="chunked"))
        wire.send(f"{len(photo):x}\r\n".encode() + photo + b"\r\n")
        sent = 0
        while not wire.readable() and sent < 20 << 20:
            sent += wire.send_what_it_takes(b"4000\r\n" + b"\0" * 0x4000 + b"\r\n")
        bad.answer = wire.answer()


# -- refused for what it is ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("data", "claimed"), [
    (b"<!doctype html><script>alert(1)</script>", "image/jpeg"), (b"<!doctype html><script>alert(1)</script>", "text/html"),
    (b"just some words", "text/plain"), (b"\x7fELF" + bytes(200), "image/png"), (b"%!PS-Adobe-3.0\n", "image/jpeg"),
    (b"#EXTM3U\n#EXT-X-VERSION:3\nfile:///etc/passwd\n", "video/mp4"), (b"ffconcat version 1.0\nfile /etc/passwd\n", "video/mp4"),
    (b"MZ" + bytes(300), "application/octet-stream"), (bytes(4000), "image/jpeg"), (b"\xff", "image/png"),
    (b"push graphic-context\n", "image/png"),
], ids=lambda value: repr(value[:12]) if isinstance(value, bytes) else value)  # fmt: skip
def test_bytes_of_no_known_type_are_415(client: Client, harmless: Harmless, data: bytes, claimed: str) -> None:
    with harmless(415) as bad:
        bad.sent = ["alert", "passwd"]
        bad.answer = client.upload(data, claimed)


@pytest.mark.parametrize("claimed", ["video/mp4", "audio/mpeg", "application/pdf", "text/html", "text/plain"])
def test_a_picture_that_claims_to_be_of_another_kind_is_415(client: Client, harmless: Harmless, photo: bytes, claimed: str) -> None:
    with harmless(415, "unsupported-type") as bad:
        bad.answer = client.upload(photo, claimed)


def test_a_part_of_a_form_that_claims_another_kind_is_415(client: Client, harmless: Harmless, photo: bytes) -> None:
    with harmless(415, "unsupported-type") as bad:
        bad.answer = client.upload_form(FilePart(photo, "a.mp4", "video/mp4"))


def test_an_empty_body_is_refused(client: Client, harmless: Harmless) -> None:
    with harmless([400, 415, 422]) as bad:
        bad.answer = client.upload(b"", "image/jpeg")


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "GZIP", "gzip, gzip", "zstd"])
def test_a_body_with_a_content_encoding_is_415_before_it_is_read(server: RunningServer, harmless: Harmless, encoding: str) -> None:
    with harmless(415) as bad, server.wire() as wire:
        headers = head_of(server, Content_Encoding=encoding, Content_Length="1000", Expect="100-continue")
        bad.answer = wire.request("POST", "/api/upload", headers).answer()
        assert bad.answer.interim == ()


BROKEN = {
    "cut in its data": lambda: pictures.jpeg(640, 480)[:2000],
    "only a signature": lambda: b"\x89PNG\r\n\x1a\n",
    "only a head": lambda: pictures.png(100, 100)[:40],
    "noise behind a good head": lambda: pictures.png(100, 100)[:60] + bytes(range(256)) * 20,
    "a cut GIF": lambda: pictures.gif(50, 50)[:30],
    "a film's type box alone": lambda: bytes.fromhex("0000002066747970") + b"isom\0\0\2\0isomiso2avc1mp41",
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_file_that_cannot_be_decoded_is_422_and_leaves_nothing(client: Client, harmless: Harmless, what: str) -> None:
    with harmless(422) as bad:
        bad.answer = client.upload(BROKEN[what]())
    assert client.assets() == []


@pytest.mark.parametrize(
    "bomb", [pictures.png_bomb, pictures.gif_bomb, pictures.jpeg_bomb, pictures.webp_bomb], ids=lambda make: make.__name__
)
def test_a_bomb_is_refused_from_its_head(client: Client, harmless: Harmless, bomb) -> None:
    with harmless(422) as bad:
        bad.answer = client.upload(bomb())
    assert client.assets() == []


# -- cut, slow and malformed --------------------------------------------------------------------------------------------


def half_sent(server: RunningServer, photo: bytes) -> dict[str, bytes]:
    """The beginnings of good uploads, by how they are framed."""
    token = server.token("half")
    start = f"POST /api/upload HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n"
    body = form(("title", "t"), FilePart(photo, "a.jpg", "image/jpeg"))
    raw = f"{start}Content-Type: image/jpeg\r\n"
    return {
        "declared": f"{raw}Content-Length: {len(photo)}\r\n\r\n".encode() + photo[:-1],
        "only a head": f"{raw}Content-Length: {len(photo)}\r\n\r\n".encode(),
        "within a chunk": f"{raw}Transfer-Encoding: chunked\r\n\r\n{len(photo):x}\r\n".encode() + photo[:-1],
        "without the last chunk": f"{raw}Transfer-Encoding: chunked\r\n\r\n{len(photo):x}\r\n".encode() + photo + b"\r\n",
        "form": f"{start}Content-Type: {form_type()}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body[:-2],
        "in the head": raw.encode(),
    }


@pytest.mark.parametrize("how", ["FIN", "RST"])
@pytest.mark.parametrize("framing", ["declared", "only a head", "within a chunk", "without the last chunk", "form", "in the head"])
def test_an_upload_that_is_cut_leaves_nothing(
    server: RunningServer, harmless: Harmless, photo: bytes, framing: str, how: str
) -> None:
    with harmless(None):
        wire = server.wire()
        wire.send(half_sent(server, photo)[framing])
        if how == "RST":
            wire.reset()
        else:
            assert is_refused_or_closed(wire.finish_sending())
    assert server.client("half").assets() == []


def is_refused_or_closed(wire: Wire) -> bool:
    """Whether what comes after a FIN in the middle is a refusal, or nothing."""
    with wire:
        try:
            return wire.answer().status in {400, 408}
        except Cut as cut:
            return cut.got == b""


@pytest.mark.parametrize("framing", ["declared", "only a head", "within a chunk", "form"])
def test_a_body_that_stops_coming_is_408_and_leaves_nothing(tight: RunningServer, photo: bytes, framing: str) -> None:
    with after(tight, 408, "too-slow") as bad, tight.wire() as wire:
        bad.answer = wire.send(half_sent(tight, photo)[framing]).answer()
        assert wire.is_given_up(bad.answer)


def test_a_head_that_stops_coming_ends_the_connection(tight: RunningServer) -> None:
    with after(tight, None), tight.wire() as wire:
        wire.send(b"POST /api/upload HTTP/1.1\r\nHost: x\r\n")
        data, _ = wire.rest()
        assert data == b"" or data.startswith(b"HTTP/1.1 408")


FORMS = {
    "headers of a part over 8 KiB": (form(b"X-Long: " + b"a" * 9000 + b"\r\n\r\nx"), [400]),
    "a header line of a part over 8 KiB": (form(b'Content-Disposition: form-data; name="' + b"a" * 20_000 + b'"\r\n\r\nx'), [400]),
    "a thousand fields": (form(*[(f"f{n}", "x") for n in range(1000)]), [400, 413]),
    "a field of a mebibyte": (form(("title", "x" * (1 << 20)), FilePart(b"x")), [400, 413]),
    "no file": (form(("title", "x")), [400]),
    "no part": (b"--media-kit-boundary--\r\n", [400]),
    "nothing": (b"", [400]),
    "no boundary in the body": (b"x" * 3000, [400]),
    "a part without headers": (b"--media-kit-boundary\r\n\r\nx\r\n--media-kit-boundary--\r\n", [400]),
    "a part without a name": (form(b"Content-Disposition: form-data\r\n\r\nx"), [400]),
    "a header that is none": (form(b"nonsense\r\n\r\nx"), [400]),
    "NUL in a header": (form(b'Content-Disposition: form-data; name="fi\0le"; filename="a"\r\n\r\nx'), [400]),
}


@pytest.mark.parametrize("what", FORMS)
def test_a_malformed_form_is_refused(client: Client, harmless: Harmless, what: str) -> None:
    body, statuses = FORMS[what]
    with harmless(statuses) as bad:
        bad.sent = ["a" * 100, "nonsense"]
        bad.answer = client.post("/api/upload", body, {"Content-Type": form_type()})
    assert client.assets() == []


PHOTO_FORMS = {
    "a form within the form": lambda photo: form(
        b'Content-Disposition: form-data; name="file"; filename="a.jpg"\r\nContent-Type: multipart/mixed; boundary=inner\r\n\r\n'
        b"--inner\r\nContent-Type: image/jpeg\r\n\r\n" + photo + b"\r\n--inner--\r\n"
    ),
    "two files": lambda photo: form(FilePart(photo), FilePart(photo)),
    "no end": lambda photo: form(FilePart(photo), closed=False),
    "an end within the file": lambda photo: form(FilePart(photo))[:-40],
    "base64": lambda photo: form(
        b'Content-Disposition: form-data; name="file"; filename="a.jpg"\r\nContent-Transfer-Encoding: base64\r\n\r\n/9j/4AAQ'
    ),
    "gzip": lambda photo: form(
        b'Content-Disposition: form-data; name="file"; filename="a.jpg"\r\nContent-Encoding: gzip\r\n\r\n\x1f\x8b\x08' + bytes(30)
    ),
    "a thousand fields after the file": lambda photo: form(FilePart(photo), *[(f"f{n}", "x") for n in range(1000)]),
    "headers of 9 KiB after the file": lambda photo: form(FilePart(photo), b"X-Long: " + b"a" * 9000 + b"\r\n\r\nx"),
}


@pytest.mark.parametrize("what", PHOTO_FORMS)
def test_a_form_with_a_good_photo_and_something_wrong_leaves_nothing(
    client: Client, harmless: Harmless, photo: bytes, what: str
) -> None:
    with harmless([400, 413, 415]) as bad:
        bad.answer = client.post("/api/upload", PHOTO_FORMS[what](photo), {"Content-Type": form_type()})
    assert client.assets() == []


@pytest.mark.parametrize(
    "content_type",
    [
        "multipart/form-data",
        "multipart/form-data; boundary=",
        f"multipart/form-data; boundary={'b' * 200}",
        'multipart/form-data; boundary="a\\"b"',
        "multipart/mixed; boundary=media-kit-boundary",
        "multipart/",
    ],
)
def test_a_form_whose_boundary_is_missing_or_odd_is_refused(
    client: Client, harmless: Harmless, photo: bytes, content_type: str
) -> None:
    with harmless([400, 415]) as bad:
        bad.answer = client.post("/api/upload", form(FilePart(photo)), {"Content-Type": content_type})


# -- Idempotency-Key ----------------------------------------------------------------------------------------------------


def test_the_same_upload_under_one_idempotency_key_is_stored_once_and_answered_alike(client: Client, photo: bytes) -> None:
    first = client.upload(photo, "image/jpeg", "a.jpg", {"Idempotency-Key": "k-1"})
    again = client.upload(photo, "image/jpeg", "a.jpg", {"Idempotency-Key": "k-1"})
    assert (first.status, again.status) == (201, 201)
    assert again.json == first.json
    assert again.headers["Location"] == first.headers["Location"]
    assert len(client.assets()) == 1


def test_other_bytes_under_a_used_idempotency_key_are_422(client: Client, harmless: Harmless, photo: bytes) -> None:
    record = client.stored(photo, headers={"Idempotency-Key": "k-2"})
    with harmless(422, "idempotency-key-reused") as bad:
        bad.answer = client.upload(pictures.png(5, 5), headers={"Idempotency-Key": "k-2"})
    assert client.get(media(record["key"])).body == photo


def test_an_idempotency_key_is_its_owners_alone(server: RunningServer, client: Client, photo: bytes) -> None:
    mine = client.stored(photo, headers={"Idempotency-Key": "k-3"})
    theirs = server.client("someone-else").stored(pictures.png(6, 6), headers={"Idempotency-Key": "k-3"})
    assert mine["key"] != theirs["key"]


def test_an_idempotency_key_outlives_a_refused_upload(client: Client, photo: bytes) -> None:
    assert client.upload(photo[:-200], headers={"Idempotency-Key": "k-4"}).status == 422
    assert client.upload(photo, headers={"Idempotency-Key": "k-4"}).status == 201


def test_a_removed_object_gives_its_idempotency_key_back(client: Client, photo: bytes) -> None:
    first = client.stored(photo, headers={"Idempotency-Key": "k-5"})
    assert client.delete(media(first["key"])).status == 204
    second = client.stored(photo, headers={"Idempotency-Key": "k-5"})
    assert second["key"] != first["key"]
    assert client.get(media(second["key"])).body == photo


def test_parallel_uploads_under_one_idempotency_key_make_one_object(client: Client, photo: bytes) -> None:
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: client.upload(photo, headers={"Idempotency-Key": "k-6"}), range(8)))
    taken = [answer for answer in answers if answer.status == 201]
    assert taken
    assert len({answer.json["key"] for answer in taken}) == 1
    for answer in answers:
        assert answer.status in {201, 409}, answer
        assert answer.status == 201 or answer.headers["Retry-After"]
    assert len(client.assets()) == 1


def test_an_idempotency_key_survives_a_restart(serve, photo: bytes) -> None:
    server = serve()
    first = server.client("me").stored(photo, headers={"Idempotency-Key": "k-7"})
    server.restart()
    assert server.client("me").stored(photo, headers={"Idempotency-Key": "k-7"}) == first


@pytest.mark.parametrize("value", ["x" * 300, "a b\tc", ""])
def test_an_odd_idempotency_key_is_400(client: Client, harmless: Harmless, photo: bytes, value: str) -> None:
    with harmless(400) as bad:
        bad.answer = client.upload(photo, headers={"Idempotency-Key": value})
