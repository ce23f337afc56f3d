"""Who pays for what a request costs: the owner of its token, or the address that it comes from."""

from __future__ import annotations

from aiohttp import web

from processors.errors import MediaError
from proxy.allowances import Allowances
from proxy.auth import Principal, Tokens
from proxy.clients import Addresses
from proxy.descriptions import Pay
from proxy.errors import BadSignature, RateLimited, Unauthorized
from proxy.rates import Limit


class Callers:
    """Counts what has to be made for each caller, and what each address shows that does not hold."""

    def __init__(self, tokens: Tokens, allowances: Allowances, addresses: Addresses) -> None:
        self._tokens = tokens
        self._allowances = allowances
        self._addresses = addresses

    def payer(self, request: web.Request) -> Pay | None:
        """What is called before something is made for *request*; None where nobody pays."""
        if not self._allowances.is_on(Limit.RENDERS):
            return None

        async def pay() -> None:
            principal = self._principal(request)
            if principal is None or not principal.is_admin:
                who = self._address(request) if principal is None else f"owner {principal.owner}"
                await self._allowances.take(Limit.RENDERS, who)

        return pay

    async def judged(self, request: web.Request, failure: MediaError) -> MediaError:
        """*failure*, or RateLimited in its place: too many tokens and signatures that do not hold came from one address.

        One that holds is never refused for what its neighbours show.
        """
        shown = isinstance(failure, BadSignature) or (isinstance(failure, Unauthorized) and "Authorization" in request.headers)
        if shown and self._allowances.is_on(Limit.FAILED_LOGINS):
            try:
                await self._allowances.take(Limit.FAILED_LOGINS, self._address(request))
            except RateLimited as enough:
                return enough
        return failure

    def _principal(self, request: web.Request) -> Principal | None:
        try:
            return self._tokens.bearer(request.headers.getall("Authorization", []))
        except Unauthorized:  # where none is needed, one that does not hold is as good as none
            return None

    def _address(self, request: web.Request) -> str:
        return f"address {self._addresses.of(request.remote, request.headers.getall('X-Forwarded-For', []))}"
