"""Who may have which rendition of what: the access modes of this deployment over tokens, signed addresses and presets."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from math import inf

from processors import grammar
from processors.grammar import ASIDE, Query
from processors.transform import Transform
from proxy import hints, ladder
from proxy.auth import Action, Tokens, require
from proxy.caching import Terms
from proxy.errors import BadSignature, ExpiredAddress, NotOffered, StartError
from proxy.keys import Key
from proxy.presets import BadPresets, Preset, Presets
from proxy.settings import ReadAccess, Settings, TransformAccess
from proxy.signing import Signatures
from proxy.watermarks import Watermarks

SAYS_NOTHING = ASIDE | {"dpr"}
"""names that ask for nothing by themselves"""


class Right(StrEnum):
    """By what a request is allowed."""

    MODE = "mode"
    """what everybody who may read may ask for"""
    SIGNATURE = "signature"
    TOKEN = "token"  # noqa: S105 - the word for it


@dataclass(frozen=True, slots=True)
class Admission:
    """What a request is to get. *said* is its query as it stands, *asked* what that comes to: presets, hints, ladder."""

    said: Query
    asked: Query
    transform: Transform
    terms: Terms
    preset: Preset | None
    right: Right

    @property
    def lasting(self) -> bool:
        """Whether the rendition is to be kept for good, not just while it is asked for."""
        return self.preset is not None and self.preset.store


@dataclass(frozen=True, slots=True)
class Gate:
    """Reads queries, and admits them or raises."""

    tokens: Tokens
    signatures: Signatures
    presets: Presets
    reads: ReadAccess
    transforms: TransformAccess
    ignored: frozenset[str] = frozenset()
    watermarks: Watermarks = field(default_factory=lambda: Watermarks(()))

    def vary(self, raw_query: str) -> tuple[str, ...]:
        """The headers on which the answer to *raw_query* depends, a refusal too, as far as it says so itself."""
        return hints.vary(grammar.read(raw_query, self.ignored))

    def admit(self, authorization: Sequence[str], raw_query: str, key: Key, headers: Mapping[str, str]) -> Admission:
        """What *raw_query* of *key* gets; raises BadParameter, Unauthorized, Forbidden and its kin, NotFound.

        A wrong signature is never overlooked. A signature or a token with ``media:transform`` lifts what the mode and the
        presets ration; a token is looked at where one is needed.
        """
        said = grammar.read(raw_query, self.ignored)
        until = self._signed_until(said, key)
        private = self.reads is not ReadAccess.PUBLIC and until is None
        if private:
            require(self.tokens.bearer(authorization), Action.READ, key)
        preset = self.presets.named(said)
        wish = said if preset is None else preset.under(said)
        exact = hints.resolved(wish, headers)
        asked, right = exact, Right.MODE
        if until is not None:
            right = Right.SIGNATURE
            ladder.check_freed(said, exact)
        elif exact.names - SAYS_NOTHING:  # which changes nothing by itself
            asked, right = self._offered(authorization, said, exact, preset)
            if exact.get("meta") == "keep":  # where a picture was taken is for its owner and whoever the owner signs for
                require(self.tokens.bearer(authorization), Action.READ, key)
                right = Right.TOKEN
        terms = _terms(said, wish, preset, private=private or right is Right.TOKEN, until=until)
        if right is Right.MODE and ladder.is_beyond(exact) and asked != exact:
            terms = replace(terms, degraded=("size-nearest",))
        return Admission(said, asked, Transform.of(self.watermarks.resolved(asked)), terms, preset, right)

    def warm(self) -> dict[str, tuple[Transform, bool]]:
        """What is made of every upload, by the names of the presets, and whether it is to be kept for good."""
        queries = {preset: hints.resolved(preset.query, {}) for preset in self.presets.warm}
        return {preset.name: (Transform.of(self.watermarks.resolved(query)), preset.store) for preset, query in queries.items()}

    def _offered(self, authorization: Sequence[str], said: Query, exact: Query, preset: Preset | None) -> tuple[Query, Right]:
        # What an unsigned address gets: what everybody may have, unless that is not what it asks for and a token lifts it.
        try:
            common = self._common(said, exact, preset)
        except NotOffered:
            if self._may_transform(authorization):
                return exact, Right.TOKEN
            raise
        if common == exact or not self._may_transform(authorization) or Transform.of(common) == Transform.of(exact):
            return common, Right.MODE
        return exact, Right.TOKEN

    def _common(self, said: Query, exact: Query, preset: Preset | None) -> Query:
        # What everybody may have; raises NotOffered, which names what is in the way.
        if self.transforms is TransformAccess.SIGNED:
            raise NotOffered("renditions are for signed addresses and for tokens with media:transform")
        rationed = self.transforms is not TransformAccess.OPEN
        if preset is not None:
            for name in sorted(said.names - ASIDE):
                if name not in preset.allow:
                    listed = ", ".join(sorted(preset.allow)) or "nothing"
                    raise NotOffered(f"of this preset an address may change {listed}", param=name)
                if rationed and (value := exact.get(name)) is not None:
                    ladder.check(name, value)
            return exact
        if self.transforms is TransformAccess.PRESETS:
            raise NotOffered("renditions are offered by presets: say preset=name", param=min(said.names - ASIDE))
        return ladder.fitted(exact) if rationed else exact

    def _may_transform(self, authorization: Sequence[str]) -> bool:
        principal = self.tokens.bearer(authorization)
        return principal is not None and principal.may(Action.TRANSFORM)

    def _signed_until(self, said: Query, key: Key) -> float | None:
        # When a signed address ends (infinity: never); None for one without a signature.
        if "s" not in said:
            return None
        parameters = dict(said.pairs)
        verdict = self.signatures.verify(key, parameters)
        if verdict == "expired":
            raise ExpiredAddress
        if verdict is not None:
            raise BadSignature
        return float(parameters.get("exp", "inf"))


def signer(settings: Settings) -> Signatures:
    """What signs and verifies the addresses of this deployment."""
    secrets = [secret.get_secret_value() for secret in settings.media_url_secrets]
    return Signatures(secrets, eternal=settings.media_eternal_addresses)


def presets(settings: Settings, marks: Watermarks | None = None) -> Presets:
    """The presets of this deployment; raises StartError if their file is not usable."""
    ignored = frozenset(settings.media_ignored_parameters)
    known = Presets(settings.media_presets, ignored) if marks is None else Presets(settings.media_presets, ignored, marks.resolved)
    try:
        known.load()
    except BadPresets as error:
        raise StartError(f"MEDIA_PRESETS: {settings.media_presets} is not usable. {error}".removesuffix(".")) from None
    return known


def _terms(said: Query, wish: Query, preset: Preset | None, *, private: bool, until: float | None) -> Terms:
    # An address that says by v which picture it means must also say which preset: what a preset makes may change, and what a
    # watermark is.
    pinned = "wm" not in said and (preset is None or preset.names_revision(said))
    return Terms(
        private=private,
        names_version=said.get("v") if pinned else None,
        vary=hints.vary(wish),
        hints=hints.asked(wish),
        expires_s=None if until is None or until == inf else int(until - time.time()),
        download=said.get("dl"),
        preset=None if preset is None else preset.name,
    )
