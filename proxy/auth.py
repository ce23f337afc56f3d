"""Who is asking and what they may do: JWTs to a Principal, and the one rule book `require`. Pure; reads no request."""

from __future__ import annotations

import json
import math
import re
import secrets
import time
from base64 import urlsafe_b64decode
from binascii import Error as Base64Error
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import jwt

from proxy import keys
from proxy.errors import Forbidden, NotFound, Unauthorized
from proxy.keys import Key

LEEWAY_S = 30
MAX_TOKEN_BYTES = 4096
MAX_HEADER_BYTES = 1024
REFUSED_HEADERS = frozenset({"crit", "jku", "jwk", "x5u", "x5c", "b64", "zip"})
"""Header fields that would bring a key or change what is signed (RFC 7515 sections 4.1.2-4.1.11): never followed."""
_KEY_NAME = re.compile(r"[A-Za-z0-9._=-]{1,128}")


class Action(StrEnum):
    """What a request wants; each is the scope ``media:<action>``."""

    READ = "read"
    WRITE = "write"
    DELETE = "delete"
    TRANSFORM = "transform"
    ADMIN = "admin"


OWN = frozenset({Action.READ, Action.WRITE, Action.DELETE})
"""What a token without a scope claim may do with its own objects."""


@dataclass(frozen=True, slots=True)
class Principal:
    """Somebody whose token holds. *owner* is the first segment of every key of theirs."""

    owner: str
    actions: frozenset[Action] = OWN
    expires: float = math.inf
    """when the token holds no longer, in seconds since 1970"""

    @property
    def is_admin(self) -> bool:
        """Whether the objects of everybody are theirs to work on."""
        return Action.ADMIN in self.actions

    def may(self, action: Action) -> bool:
        """Whether the token carries the right to *action* at all."""
        return self.is_admin or action in self.actions


class Tokens:
    """Verifies (and, with a shared secret, mints) the JWTs of one deployment.

    The algorithms are fixed here and all of one family with the key, so neither ``none`` nor a public key used as an HMAC
    secret can pass. Beyond PyJWT, which lets them through (2.15.1): *sub* must be one valid key segment, times must be
    integers, and *exp - iat* has a cap.
    """

    def __init__(
        self,
        key: str,
        algorithms: tuple[str, ...],
        *,
        audience: str | None = None,
        issuer: str | None = None,
        max_lifetime_s: float = 86_400,
    ) -> None:
        self._key = key
        self._algorithms = list(algorithms)
        self._audience = audience
        self._issuer = issuer
        self._max_lifetime_s = max_lifetime_s
        self._required = ["exp", "iat", "sub", *(["aud"] if audience else []), *(["iss"] if issuer else [])]

    def bearer(self, authorization: Sequence[str]) -> Principal | None:
        """Who sends the *authorization* headers of one request; None without any. Two of them are ambiguous, so refused."""
        if not authorization:
            return None
        scheme, _, token = authorization[0].partition(" ")
        if len(authorization) > 1 or scheme.lower() != "bearer" or not token:
            raise Unauthorized("send one header Authorization: Bearer …")
        return self.verify(token.strip())

    def verify(self, token: str) -> Principal:
        """The holder of *token*; raises Unauthorized without saying more than the holder needs."""
        if len(token) > MAX_TOKEN_BYTES:
            raise Unauthorized("the token is too long")
        _check_header(token, may_name_key=not self._algorithms[0].startswith("HS"))
        try:
            claims = jwt.decode(
                token,
                self._key,
                algorithms=self._algorithms,
                audience=self._audience,
                issuer=self._issuer,
                leeway=LEEWAY_S,
                options={"require": self._required, "verify_aud": self._audience is not None},
            )
        except jwt.ExpiredSignatureError as error:
            raise Unauthorized("the token has expired") from error
        except (jwt.PyJWTError, ValueError, TypeError, RecursionError) as error:
            raise Unauthorized("the token does not hold") from error
        return self._principal(claims)

    def mint(self, subject: str, scope: str | None, lifetime_s: int) -> str:
        """A token for *subject*; only with a shared secret. Raises ValueError when *subject* cannot own keys."""
        if not keys.valid_owner(subject):
            raise ValueError(f"{subject!r} cannot be the first part of a key")
        now = int(time.time())
        claims: dict[str, Any] = {"sub": subject, "iat": now, "exp": now + lifetime_s}
        claims |= {"scope": scope} if scope is not None else {}
        claims |= {"aud": self._audience} if self._audience else {}
        claims |= {"iss": self._issuer} if self._issuer else {}
        return jwt.encode(claims, self._key, algorithm=self._algorithms[0])

    def _principal(self, claims: dict[str, Any]) -> Principal:
        issued, expires, subject = claims["iat"], claims["exp"], claims["sub"]
        if type(issued) is not int or type(expires) is not int or type(claims.get("nbf", 0)) is not int:
            raise Unauthorized("the token's times must be whole numbers")
        if not 0 < expires - issued <= self._max_lifetime_s:
            raise Unauthorized(f"a token may live for {self._max_lifetime_s:g} seconds")
        if not isinstance(subject, str) or not keys.valid_owner(subject):
            raise Unauthorized("the token's sub is not a valid owner")
        scope, until = claims.get("scope"), expires + LEEWAY_S
        if scope is None:
            return Principal(subject, expires=until)
        if not isinstance(scope, str):
            raise Unauthorized("the token's scope must be text")
        words = [word[6:] for word in scope.split() if word.startswith("media:")]
        return Principal(subject, frozenset(Action(word) for word in words if word in set(Action)), until)


def _check_header(token: str, *, may_name_key: bool) -> None:
    # Before PyJWT looks: it parses nested JSON of any depth and ignores unknown critical fields' keys. Issuers with key pairs
    # name the one they signed with (kid); there is one key here, so the name decides nothing.
    head = token.partition(".")[0]
    try:
        raw = urlsafe_b64decode(head + "=" * (-len(head) % 4))
        header = json.loads(raw) if len(raw) <= MAX_HEADER_BYTES else None
    except (Base64Error, ValueError, RecursionError) as error:
        raise Unauthorized("the token is malformed") from error
    if (
        not isinstance(header, dict)
        or REFUSED_HEADERS & header.keys()
        or header.get("typ", "JWT") not in {"JWT", "at+jwt"}
        or ("kid" in header and not (may_name_key and _KEY_NAME.fullmatch(str(header["kid"]))))
    ):
        raise Unauthorized("the token's header is not accepted")


def require(principal: Principal | None, action: Action, key: Key) -> None:
    """Let *principal* do *action* on *key*, or raise: Unauthorized (nobody), Forbidden (no such right), NotFound (not theirs)."""
    require_right(principal, action)
    assert principal is not None
    if not principal.is_admin and keys.owner(key) != principal.owner:
        raise NotFound("no object has this key")


def owns(principal: Principal | None, action: Action, key: Key) -> bool:
    """Whether `require` would let *principal* do *action* on *key*."""
    return principal is not None and principal.may(action) and (principal.is_admin or keys.owner(key) == principal.owner)


def require_right(principal: Principal | None, action: Action) -> Principal:
    """The principal, if it carries the right to *action* on its own objects; raises Unauthorized or Forbidden."""
    if principal is None:
        raise Unauthorized("send a token: Authorization: Bearer …")
    if not principal.may(action):
        raise Forbidden(f"the token does not carry media:{action}")
    return principal


def check_key(key: str, algorithms: tuple[str, ...]) -> None:
    """Raise ValueError if *key* is not one that the *algorithms* can verify with."""
    for algorithm in algorithms:
        try:
            jwt.get_algorithm_by_name(algorithm).prepare_key(key)
        except (jwt.PyJWTError, TypeError, NotImplementedError) as error:
            raise ValueError(f"not a key for {algorithm}") from error


def new_secret() -> str:
    """A secret for HS256 tokens that nobody can guess: 48 random bytes as text."""
    return secrets.token_urlsafe(48)
