"""Puts together what takes uploads that were promised before: with `app` and `stores` a part of the composition root."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta

from proxy import own_secrets
from proxy.adapters.catalogue import SqlCatalogue
from proxy.adapters.promises import SqlPromises
from proxy.auth import Tokens
from proxy.claims import Claims
from proxy.confirmation import Confirmation
from proxy.grants import Grants, UploadTokens
from proxy.house import House
from proxy.ingest import Ingest
from proxy.presigned import Presigned, Promising
from proxy.quotas import Quotas
from proxy.routes.assets import Presenter
from proxy.routes.metering import Meter
from proxy.routes.promises import PromiseRoutes
from proxy.settings import Settings
from proxy.stores import Stores
from proxy.tickets import Tickets


@dataclass(frozen=True, slots=True)
class Promised:
    """Who may upload, and the routes of uploads that are promised before, with what confirms them."""

    grants: Grants
    confirmation: Confirmation
    routes: PromiseRoutes


@asynccontextmanager
async def promised(
    settings: Settings,
    tokens: Tokens,
    kept: Stores,
    catalogue: SqlCatalogue,
    ingest: Ingest,
    quotas: Quotas,
    presenter: Presenter,
    meter: Meter,
    house: House,
) -> AsyncIterator[Promised]:
    """All of it, running; raises BadSettings."""
    secrets = own_secrets.for_uploads(settings)
    book = SqlPromises(catalogue)
    claims = Claims(book)
    upload_tokens = UploadTokens([own_secrets.derived(secret, "token") for secret in secrets])
    tickets = Tickets([own_secrets.derived(secret, "address") for secret in secrets])
    keep = timedelta(seconds=settings.media_upload_keep)
    promising = Promising(book, ingest.max_bytes_of, quotas, keep)
    presigned = Presigned(
        promising, book, claims, kept.staged, kept.media, tickets, settings.media_incoming_bytes, kept.signer, kept.is_signable
    )
    async with Confirmation(book, claims, kept.staged, catalogue, ingest, quotas, keep, patrols=house.keeps) as confirmation:
        yield Promised(
            Grants(tokens, upload_tokens, book, claims, ingest, quotas),
            confirmation,
            PromiseRoutes(
                presigned,
                promising,
                confirmation,
                tickets,
                upload_tokens,
                tokens,
                presenter,
                meter,
                address_s=settings.media_upload_address_lifetime,
                token_s=settings.media_upload_token_lifetime,
                idle_s=settings.media_idle_timeout,
            ),
        )
