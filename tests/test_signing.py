"""Signed addresses, against the vectors that every implementation shares."""

from __future__ import annotations

import pytest

from proxy.signing import LEEWAY_S, Signatures, sign, string_to_sign

SECRET = b"correct horse battery staple"
ENDS = 1_893_456_000
VECTORS = [
    ("user123/photo.jpg", "w=320", "mp1\nuser123/photo.jpg\nw=320", "NWnfWLBq-AhzFAy8ipvsV577_fLqWjlP"),
    (
        "user123/Ünïcode name (1).jpg",
        "w=640 h=360 fit=cover g=0.5x0.33 q=80 format=auto exp=1893456000 kid=a",
        "mp1\nuser123/%C3%9Cn%C3%AFcode%20name%20%281%29.jpg\nexp=1893456000&fit=cover&format=auto&g=0.5x0.33&h=360&kid=a&q=80&w=640",
        "ZoPYmMwKtgbX_zBYTXpvAmjYo6GxJU89",
    ),
    (
        "user123/photo.jpg",
        "preset=card any=dpr,format,w",
        "mp1\nuser123/photo.jpg\nany=dpr%2Cformat%2Cw&preset=card",
        "WbldTwXvI8p0z1J6Y619YKV5qWx2sSoC",
    ),
]


def parameters(text: str) -> dict[str, str]:
    return dict(pair.split("=") for pair in text.split())


@pytest.mark.parametrize(("key", "given", "text", "signature"), VECTORS)
def test_the_shared_vectors_hold(key: str, given: str, text: str, signature: str) -> None:
    assert string_to_sign(key, parameters(given)) == text
    assert sign(SECRET, key, parameters(given)) == signature


def address(secret: bytes = SECRET, **given: str) -> dict[str, str]:
    unsigned = {"w": "320", "exp": str(ENDS), **given}
    return {**unsigned, "s": sign(secret, "u/a.jpg", unsigned)}


def test_an_address_holds_until_its_end_and_the_leeway_after_it() -> None:
    signatures = Signatures([SECRET.decode()])
    assert signatures.verify("u/a.jpg", address(), now=ENDS) is None
    assert signatures.verify("u/a.jpg", address(), now=ENDS + LEEWAY_S - 1) is None
    assert signatures.verify("u/a.jpg", address(), now=ENDS + LEEWAY_S) == "expired"


@pytest.mark.parametrize("change", [{"w": "640"}, {"exp": str(ENDS + 1)}, {"h": "1"}, {"s": ""}, {"s": "A" * 32}, {"s": "ü"}])
def test_a_changed_address_does_not_hold(change: dict[str, str]) -> None:
    assert Signatures([SECRET.decode()]).verify("u/a.jpg", {**address(), **change}, now=0) == "bad-signature"


def test_an_address_holds_for_its_key_alone() -> None:
    assert Signatures([SECRET.decode()]).verify("u/b.jpg", address(), now=0) == "bad-signature"


def test_an_address_without_an_end_does_not_hold() -> None:
    eternal = {"w": "320", "s": sign(SECRET, "u/a.jpg", {"w": "320"})}
    assert Signatures([SECRET.decode()]).verify("u/a.jpg", eternal, now=0) == "bad-signature"


def test_several_secrets_hold_and_kid_picks_one() -> None:
    old, new = "o" * 16 + "ld-secret" * 3, "n" * 16 + "ew-secret" * 3
    signatures = Signatures([f"a:{old}", f"b:{new}"])
    assert signatures.verify("u/a.jpg", address(old.encode()), now=0) is None
    assert signatures.verify("u/a.jpg", address(new.encode(), kid="b"), now=0) is None
    assert signatures.verify("u/a.jpg", address(new.encode(), kid="a"), now=0) == "bad-signature"


def test_without_secrets_nothing_holds() -> None:
    assert Signatures([]).verify("u/a.jpg", address(), now=0) == "bad-signature"
