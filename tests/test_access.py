"""Who may do what: tokens are verified strictly, owners are kept apart, and what is not yours looks like what is not there."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from proxy.signing import sign
from tests import pictures
from tests.conftest import Harmless
from tests.kit.aftereffects import harmless as after
from tests.kit.client import Answer, Client, media
from tests.kit.server import SECRET, RunningServer
from tests.kit.waiting import until

URL_SECRET = "0123456789abcdef-an-url-secret-of-32-bytes-and-more"


def now() -> int:
    return int(time.time())


def text(part: Any) -> str:
    """JSON (or bytes) as a part of a token."""
    data = part if isinstance(part, bytes) else json.dumps(part).encode()
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def signed(header: Any, claims: Any, key: bytes = SECRET.encode()) -> str:
    """A token made by hand, so that it can say what PyJWT would not."""
    signing_input = f"{text(header)}.{text(claims)}"
    return f"{signing_input}.{text(hmac.digest(key, signing_input.encode(), hashlib.sha256))}"


def claims(**changes: Any) -> dict[str, Any]:
    """Good claims with some *changes*; None takes one away."""
    given = {"sub": "me", "iat": now(), "exp": now() + 600, **changes}
    return {name: value for name, value in given.items() if value is not None}


HS = {"alg": "HS256", "typ": "JWT"}
BAD_CLAIMS: dict[str, Callable[[], dict[str, Any]]] = {
    "no exp": lambda: claims(exp=None),
    "no sub": lambda: claims(sub=None),
    "no iat": lambda: claims(iat=None),
    "expired": lambda: claims(iat=now() - 600, exp=now() - 35),
    "exp as text": lambda: claims(exp=str(now() + 600)),
    "exp as a fraction": lambda: claims(exp=now() + 600.5),
    "exp as true": lambda: claims(exp=True),
    "exp as a list": lambda: claims(exp=[now() + 600]),
    "exp beyond all": lambda: claims(exp=10**30),
    "a lifetime of ten years": lambda: claims(exp=now() + 10 * 365 * 86400),
    "issued in the future": lambda: claims(iat=now() + 120, exp=now() + 600),
    "not yet": lambda: claims(nbf=now() + 120),
    "iat as text": lambda: claims(iat=str(now())),
    "exp before iat": lambda: claims(iat=now(), exp=now() - 5),
    "an empty sub": lambda: claims(sub=""),
    "a sub that climbs": lambda: claims(sub="../admin"),
    "a sub that is ..": lambda: claims(sub=".."),
    "a sub with a slash": lambda: claims(sub="me/you"),
    "a sub with NUL": lambda: claims(sub="me\0"),
    "a sub with a backslash": lambda: claims(sub="me\\you"),
    "a sub with a line": lambda: claims(sub="me\n"),
    "a sub of 2000 letters": lambda: claims(sub="m" * 2000),
    "a sub that is a number": lambda: claims(sub=7),
    "a sub that is a list": lambda: claims(sub=["me"]),
    "a scope that is a list": lambda: claims(scope=["media:admin"]),
}


@pytest.mark.parametrize("what", BAD_CLAIMS)
def test_a_token_whose_claims_do_not_hold_is_401(server: RunningServer, harmless: Harmless, what: str) -> None:
    with harmless(401, "unauthorized") as bad:
        bad.answer = Client(server.url, signed(HS, BAD_CLAIMS[what]())).get("/api/assets")


BAD_TOKENS: dict[str, Callable[[], str]] = {
    "alg none": lambda: f"{text({'alg': 'none'})}.{text(claims())}.",
    "alg None": lambda: f"{text({'alg': 'None', 'typ': 'JWT'})}.{text(claims())}.",
    "alg NONE, signed": lambda: signed({"alg": "NONE"}, claims()),
    "no alg": lambda: signed({"typ": "JWT"}, claims()),
    "an alg that is a list": lambda: signed({"alg": ["HS256"]}, claims()),
    "HS512 where HS256 is set": lambda: jwt.encode(claims(), SECRET + "x" * 32, "HS512"),
    "another secret": lambda: signed(HS, claims(), b"another secret that is long enough"),
    "an empty secret": lambda: signed(HS, claims(), b""),
    "no signature": lambda: signed(HS, claims()).rpartition(".")[0] + ".",
    "two parts": lambda: signed(HS, claims()).rpartition(".")[0],
    "four parts": lambda: signed(HS, claims()) + ".e30",
    "a changed claim": lambda: signed(HS, claims()).replace(text(claims())[:8], text(claims(sub="you"))[:8], 1)[:-3] + "AAA",
    "kid": lambda: signed({**HS, "kid": "../../dev/null"}, claims()),
    "jku": lambda: signed({**HS, "jku": "http://127.0.0.1:9/keys"}, claims()),
    "jwk": lambda: signed({**HS, "jwk": {"kty": "oct", "k": text(SECRET.encode())}}, claims()),
    "x5u": lambda: signed({**HS, "x5u": "http://127.0.0.1:9/cert"}, claims()),
    "x5c": lambda: signed({**HS, "x5c": ["MII"]}, claims()),
    "crit": lambda: signed({**HS, "crit": ["exp"]}, claims()),
    "b64": lambda: signed({**HS, "b64": False, "crit": ["b64"]}, claims()),
    "a header that is a list": lambda: signed(["HS256"], claims()),
    "claims that are a list": lambda: signed(HS, [claims()]),
    "claims that are no JSON": lambda: signed(HS, b"{sub:me}"),
    "deeply nested": lambda: signed(HS, b"[" * 1500 + b"]" * 1500),
    "a deeply nested header": lambda: f"{text(b'[' * 700)}.{text(claims())}.x",
    "bytes that are no UTF-8": lambda: signed(HS, b'{"sub":"\xff"}'),
    "an encrypted one": lambda: f"{text({'alg': 'dir', 'enc': 'A256GCM'})}..{text(b'x' * 12)}.{text(b'y' * 30)}.{text(b'z' * 16)}",
    "no base64": lambda: "!!!.???.***",
    "dots": lambda: "..",
    "long": lambda: signed(HS, claims(padding="x" * 5000)),
}


@pytest.mark.parametrize("what", BAD_TOKENS)
def test_a_token_that_is_not_ours_is_401(server: RunningServer, harmless: Harmless, what: str) -> None:
    token = BAD_TOKENS[what]()
    with harmless(401, "unauthorized") as bad:
        bad.sent = [token[:60]] if len(token) > 20 else []
        bad.answer = Client(server.url, token).get("/api/assets")


def test_a_header_full_of_token_is_refused_at_once(server: RunningServer) -> None:
    with after(server, [400, 401]) as bad:
        bad.answer = Client(server.url, "a" * 200_000).get("/api/assets")


@pytest.mark.parametrize("authorization", [
    "Bearer", "Bearer ", "bearer\t", "Token abc", "Basic dXNlcjpwYXNz", "Bearer a b", "Bearer \xe9", "Digest username=x",
])  # fmt: skip
def test_an_authorization_that_is_no_bearer_token_is_401(server: RunningServer, harmless: Harmless, authorization: str) -> None:
    with harmless([400, 401]) as bad:
        bad.answer = server.client().get("/api/assets", {"Authorization": authorization})


def test_two_tokens_that_disagree_are_refused(server: RunningServer, harmless: Harmless) -> None:
    with harmless([400, 401]) as bad, server.wire() as wire:
        lines = "".join(f"Authorization: Bearer {server.token(sub)}\r\n" for sub in ("me", "you"))
        bad.answer = wire.send(f"GET /api/assets HTTP/1.1\r\nHost: x\r\n{lines}\r\n".encode()).answer()


def test_a_token_just_past_its_end_holds_for_the_leeway(server: RunningServer) -> None:
    assert Client(server.url, signed(HS, claims(iat=now() - 600, exp=now() - 10))).get("/api/assets").status == 200


def test_the_name_of_the_scheme_is_read_without_regard_to_case(server: RunningServer) -> None:
    assert server.client().get("/api/assets", {"Authorization": f"bEARER {server.token('me')}"}).status == 200


def test_a_token_needs_the_audience_and_issuer_that_are_configured(serve: Callable[..., RunningServer]) -> None:
    server = serve(JWT_AUDIENCE="media", JWT_ISSUER="https://id.example")
    good = {"aud": "media", "iss": "https://id.example"}
    assert Client(server.url, signed(HS, claims(**good))).get("/api/assets").status == 200
    assert Client(server.url, signed(HS, claims(**{**good, "aud": ["other", "media"]}))).get("/api/assets").status == 200
    for bad_claim in (
        {"aud": "other"},
        {"aud": None},
        {"aud": []},
        {"aud": 5},
        {"iss": "https://id.example/"},
        {"iss": None},
        {"iss": 7},
    ):
        with after(server, 401) as bad:
            bad.answer = Client(server.url, signed(HS, claims(**{**good, **bad_claim}))).get("/api/assets")


# -- public keys --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pair() -> tuple[str, str]:
    """A private and a public key, as PEM."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    return private.decode(), public.decode()


@pytest.fixture(scope="module")
def asymmetric(tmp_path_factory: pytest.TempPathFactory, pair: tuple[str, str]) -> Iterator[RunningServer]:
    env = {"JWT_SECRET": None, "JWT_PUBLIC_KEY": pair[1], "MEDIA_READ_ACCESS": "owner"}
    with RunningServer(tmp_path_factory.mktemp("asymmetric"), env) as running:
        yield running


def test_a_token_of_the_private_key_holds(asymmetric: RunningServer, pair: tuple[str, str]) -> None:
    assert Client(asymmetric.url, jwt.encode(claims(), pair[0], "RS256")).get("/api/assets").status == 200


def test_an_issuer_may_name_the_key_of_a_pair_and_nothing_follows_the_name(
    asymmetric: RunningServer, pair: tuple[str, str]
) -> None:
    def answer(kid: Any) -> int:
        token = jwt.encode(claims(), pair[0], "RS256", headers={"kid": kid})
        return Client(asymmetric.url, token).get("/api/assets").status

    assert answer("Ab3-_.x=") == 200
    assert [answer(kid) for kid in ("../../dev/null", "", "k" * 200, "a\0b")] == [401, 401, 401, 401]


@pytest.mark.parametrize("form", ["PEM", "stripped", "DER", "body"])
def test_the_public_key_is_no_shared_secret_in_any_form(asymmetric: RunningServer, pair: tuple[str, str], form: str) -> None:
    lines = pair[1].strip().splitlines()
    secret = {
        "PEM": pair[1].encode(), "stripped": pair[1].strip().encode(), "DER": base64.b64decode("".join(lines[1:-1])),
        "body": "".join(lines[1:-1]).encode(),
    }[form]  # fmt: skip
    with after(asymmetric, 401) as bad:
        bad.answer = Client(asymmetric.url, signed(HS, claims(), secret)).get("/api/assets")


def test_another_key_or_another_algorithm_of_the_same_key_is_401(asymmetric: RunningServer, pair: tuple[str, str]) -> None:
    other = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    for token in (
        jwt.encode(claims(), other, "RS256"),
        jwt.encode(claims(), pair[0], "PS256"),
        jwt.encode(claims(), pair[0], "RS512"),
    ):
        with after(asymmetric, 401) as bad:
            bad.answer = Client(asymmetric.url, token).get("/api/assets")


# -- owners and scopes --------------------------------------------------------------------------------------------------


def same(first: Answer, second: Answer) -> bool:
    """Whether two answers differ in nothing but what always differs."""

    def read(answer: Answer) -> tuple[int, Any, Any]:
        document = answer.json if answer.body else {}
        headers = {name.lower(): value for name, value in answer.headers.items() if name.lower() not in {"date", "x-request-id"}}
        return answer.status, headers | {"content-length": None}, {**document, "requestId": None}

    return read(first) == read(second)


@pytest.mark.parametrize("method", ["DELETE", "GET of the record"])
def test_what_is_not_yours_looks_like_what_is_not_there(
    server: RunningServer, client: Client, harmless: Harmless, method: str
) -> None:
    key = client.stored(pictures.jpeg(16, 16))["key"]
    absent = key[:-8] + "0000.jpg"
    other = server.client("another")

    def ask(key: str) -> Answer:
        return other.delete(media(key)) if method == "DELETE" else other.get(f"/api/assets/{key}")

    with harmless(404, "not-found", lines=2) as bad:
        bad.answer = ask(key)
        assert same(bad.answer, ask(absent))
    assert client.get(media(key)).status == 200


def test_a_name_that_begins_like_mine_is_not_mine(server: RunningServer, client: Client, owner: str) -> None:
    key = client.stored(pictures.jpeg(16, 16))["key"]
    for sub in (owner[:-1], owner + "x", owner.upper()):
        assert server.client(sub).delete(media(key)).status == 404
    assert client.get(media(key)).status == 200


@pytest.mark.parametrize(("scope", "allowed"), [
    (None, {"upload", "list", "delete"}), ("media:read", {"list"}), ("media:write", {"upload"}), ("media:delete", {"delete"}),
    ("media:read media:write", {"upload", "list"}), ("", set()), ("other", set()), ("media:Admin mediaadmin admin media:*", set()),
    ("media:admin", {"upload", "list", "delete"}),
])  # fmt: skip
def test_a_token_may_do_what_its_scope_says(server: RunningServer, owner: str, scope: str | None, allowed: set[str]) -> None:
    path = media(server.client(owner).stored(pictures.jpeg(16, 16))["key"])
    token = signed(HS, claims(sub=owner) | ({"scope": scope} if scope is not None else {}))
    limited = Client(server.url, token)
    answers = {"upload": limited.upload(pictures.jpeg(16, 16)), "list": limited.get("/api/assets"), "delete": limited.delete(path)}
    assert {name for name, answer in answers.items() if answer.status < 300} == allowed
    assert {answer.status for name, answer in answers.items() if name not in allowed} <= {403}


def test_an_admin_may_remove_what_is_anybodys(server: RunningServer, client: Client) -> None:
    path = media(client.stored(pictures.jpeg(16, 16))["key"])
    assert server.client("boss", scope="media:admin").delete(path).status == 204
    assert client.get(path).status == 404


def test_nobody_removes_nothing(server: RunningServer, client: Client, stranger: Client, harmless: Harmless) -> None:
    path = media(client.stored(pictures.jpeg(16, 16))["key"])
    with harmless(401, "unauthorized") as bad:
        bad.answer = stranger.delete(path)
    assert client.get(path).status == 200


# -- reading ------------------------------------------------------------------------------------------------------------


def test_owner_mode_shows_objects_to_their_owner_alone(asymmetric: RunningServer, pair: tuple[str, str]) -> None:
    def client(sub: str, **more: Any) -> Client:
        return Client(asymmetric.url, jwt.encode(claims(sub=sub, **more), pair[0], "RS256"))

    mine, other = client("mine"), client("other")
    path = media(mine.stored(pictures.jpeg(64, 64))["key"])
    absent = path[:-8] + "0000.jpg"
    own = mine.get(path)
    assert own.status == 200
    assert own.headers["Cache-Control"].startswith("private")
    assert client("boss", scope="media:admin").get(path).status == 200
    kept = len(asymmetric.files())
    assert mine.get(f"{path}?w=10").status == 200
    assert until(lambda: len(asymmetric.files()) > kept), "the rendition was not stored"
    for query in ("", "?w=10"):
        assert mine.get(path + query).status == 200
        with after(asymmetric, 401) as bad:
            bad.answer = Client(asymmetric.url).get(path + query)
        with after(asymmetric, 404, lines=2) as bad:
            bad.answer = other.get(path + query)
            assert same(bad.answer, other.get(absent + query))
        assert other.head(path + query).status == 404
    with after(asymmetric, 403) as bad:
        bad.answer = client("mine", scope="media:write").get(path)


@pytest.fixture(scope="module")
def signing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    other = "fedcba9876543210-another-url-secret-of-32-bytes"
    env = {"MEDIA_READ_ACCESS": "signed", "MEDIA_TRANSFORM_ACCESS": "signed", "MEDIA_URL_SECRETS": f"a:{URL_SECRET},b:{other}"}
    with RunningServer(tmp_path_factory.mktemp("signing"), env) as running:
        yield running


@pytest.fixture(scope="module")
def signed_key(signing: RunningServer) -> str:
    return str(signing.client("mine").stored(pictures.jpeg(64, 64))["key"])


def address(key: str, **parameters: str) -> str:
    """The signed address of *key*."""
    query = "&".join(f"{name}={value}" for name, value in parameters.items())
    return media(key, query + f"&s={sign(URL_SECRET.encode(), key, parameters)}")


def test_a_signed_address_opens_what_it_names_until_it_ends(signing: RunningServer, signed_key: str) -> None:
    stranger = signing.client()
    soon = str(now() + 300)
    answer = stranger.get(address(signed_key, exp=soon))
    assert answer.status == 200
    assert 0 < int(answer.headers["Cache-Control"].partition("max-age=")[2].partition(",")[0]) <= 300
    assert stranger.get(address(signed_key, exp=soon, w="20")).status == 200
    assert stranger.get(address(signed_key, exp=soon, kid="a")).status == 200
    assert stranger.head(address(signed_key, exp=soon)).status == 200


def test_the_order_and_spelling_of_a_signed_address_do_not_matter(signing: RunningServer, signed_key: str) -> None:
    soon = str(now() + 300)
    parameters = {"exp": soon, "w": "20", "h": "10", "fit": "cover"}
    s = sign(URL_SECRET.encode(), signed_key, parameters)
    for query in (
        f"s={s}&fit=cover&h=10&w=20&exp={soon}",
        f"width=20&height=10&fit=crop&exp={soon}&s={s}&utm_source=mail",
        f"w=%320&h=10&fit=COVER&exp={soon}&s={s}",
    ):
        assert signing.client().get(media(signed_key, query)).status == 200, query


def bad_addresses(key: str) -> dict[str, str]:
    """Addresses that must not open."""
    soon, past = str(now() + 300), str(now() - 60)
    good = address(key, exp=soon, w="20")
    s = good.rpartition("s=")[2]
    return {
        "another width": good.replace("w=20", "w=21"),
        "another key": good.replace(key[-8:], "0000" + key[-4:]),
        "a later end": good.replace(f"exp={soon}", f"exp={now() + 9000}"),
        "no signature": media(key, f"exp={soon}&w=20"),
        "an empty signature": media(key, f"exp={soon}&w=20&s="),
        "a signature and more": good + "A",
        "a padded signature": good + "=",
        "another secret": media(key, f"exp={soon}&w=20&s={sign(b'x' * 32, key, {'exp': soon, 'w': '20'})}"),
        "the wrong kid": media(key, f"exp={soon}&kid=b&s={sign(URL_SECRET.encode(), key, {'exp': soon, 'kid': 'b'})}"),
        "no end": media(key, f"w=20&s={sign(URL_SECRET.encode(), key, {'w': '20'})}"),
        "an end that is no number": media(key, f"exp=soon&s={sign(URL_SECRET.encode(), key, {'exp': 'soon'})}"),
        "past its end": address(key, exp=past),
        "two signatures": f"{good}&s={s}",
        "two ends": f"{good}&exp={soon}",
        "an added parameter": f"{good}&h=20",
        "a taken parameter": media(key, f"exp={soon}&s={s}"),
    }


@pytest.mark.parametrize("what", bad_addresses("u/xxxxxxxx.jpg"))
def test_a_changed_or_ended_address_opens_nothing(signing: RunningServer, signed_key: str, what: str) -> None:
    with after(signing, [400, 401, 403]) as bad:
        bad.answer = signing.client().get(bad_addresses(signed_key)[what])


def test_a_wrong_signature_is_refused_also_where_reading_is_public(
    server: RunningServer, client: Client, harmless: Harmless
) -> None:
    path = media(client.stored(pictures.jpeg(16, 16))["key"])
    with harmless([400, 403]) as bad:
        bad.answer = server.client().get(f"{path}?exp={now() + 100}&s={'A' * 32}")


def test_in_signed_mode_the_owner_reads_with_a_token_and_transforms_with_the_scope(signing: RunningServer, signed_key: str) -> None:
    path = media(signed_key)
    assert signing.client("mine").get(path).status == 200
    assert signing.client("mine").get(f"{path}?w=20").status == 403
    assert signing.client("mine", scope="media:read media:transform").get(f"{path}?w=20").status == 200
    assert signing.client("other").get(path).status == 404
    assert signing.client("other", scope="media:read media:transform").get(f"{path}?w=20").status == 404


def test_an_address_signed_for_a_shape_does_not_open_another_that_looks_the_same(signing: RunningServer, signed_key: str) -> None:
    """What is signed is what is said: w=20&dpr=2 and w=40 are one picture and two signatures."""
    soon = str(now() + 300)
    s = sign(URL_SECRET.encode(), signed_key, {"exp": soon, "w": "20", "dpr": "2"})
    assert signing.client().get(media(signed_key, f"w=20&dpr=2&exp={soon}&s={s}")).status == 200
    with after(signing, 403, "bad-signature") as bad:
        bad.answer = signing.client().get(media(signed_key, f"w=40&exp={soon}&s={s}"))
    s = sign(URL_SECRET.encode(), signed_key, {"exp": soon, "v": "1", "dl": "x.jpg"})
    assert signing.client().get(media(signed_key, f"v=1&dl=x.jpg&exp={soon}&s={s}")).status == 200
    with after(signing, 403, "bad-signature") as bad:
        bad.answer = signing.client().get(media(signed_key, f"v=2&dl=x.jpg&exp={soon}&s={s}"))


@pytest.mark.parametrize(("change", "status", "code"), [
    ("", 200, None), ("&dpr=2", 200, None), ("&w=16&format=webp&dpr=1.5", 200, None), ("&format=auto", 200, None),
    ("&w=17", 403, "not-offered"), ("&dpr=1.25", 403, "not-offered"),
    ("&h=16", 403, "bad-signature"), ("&q=80", 403, "bad-signature"),
])  # fmt: skip
def test_what_a_signature_leaves_free_may_be_changed_to_common_values(
    signing: RunningServer, signed_key: str, change: str, status: int, code: str | None
) -> None:
    parameters = {"exp": str(now() + 300), "any": "dpr,format,w", "fit": "cover"}
    s = sign(URL_SECRET.encode(), signed_key, parameters)
    answer = signing.client().get(media(signed_key, f"exp={parameters['exp']}&fit=cover&any=dpr,format,w&s={s}{change}"))
    assert (answer.status, answer.code) == (status, code)


@pytest.mark.parametrize("free", ["w,dpr", "w,w", "w,,h", "width", "s", "exp", "any", "kid", "w;h", " w", "", "nothing"])
def test_a_list_of_free_parameters_that_is_wrong_is_400(signing: RunningServer, signed_key: str, free: str) -> None:
    parameters = {"exp": str(now() + 300), "any": free}
    s = sign(URL_SECRET.encode(), signed_key, parameters)
    with after(signing, 400, "bad-parameter") as bad:
        bad.answer = signing.client().get(media(signed_key, f"exp={parameters['exp']}&any={free.replace(' ', '+')}&s={s}"))
        assert bad.answer.json["param"] == "any"


def test_a_secret_is_replaced_without_breaking_what_the_old_one_signed(serve: Callable[..., RunningServer]) -> None:
    old, new = "the-old-secret-of-32-bytes-or-more-0123456789", "the-new-secret-of-32-bytes-or-more-9876543210"
    server = serve(MEDIA_READ_ACCESS="signed", MEDIA_URL_SECRETS=old)
    key = server.client("mine").stored(pictures.jpeg(16, 16))["key"]
    said = {"exp": str(now() + 300)}

    def opened(secret: str) -> int:
        return server.client().get(media(key, f"exp={said['exp']}&s={sign(secret.encode(), key, said)}")).status

    assert (opened(old), opened(new)) == (200, 403)
    server.env["MEDIA_URL_SECRETS"] = f"b:{new},a:{old}"
    server.restart()
    assert (opened(old), opened(new)) == (200, 200)
    server.env["MEDIA_URL_SECRETS"] = f"b:{new}"
    server.restart()
    assert (opened(old), opened(new)) == (403, 200)
