"""The composition root: the only module that names concrete adapters and puts the service together."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from importlib.metadata import version
from typing import Any

from aiohttp import web

from processors import lossless
from processors.formats import Kind
from processors.pool import Workers
from proxy import own_secrets, stores
from proxy.access import Gate, presets, signer
from proxy.adapters.catalogue import SqlCatalogue
from proxy.adapters.events import SqlEvents
from proxy.adapters.quotas import SqlQuotas
from proxy.adapters.renderer import PoolRenderer
from proxy.adapters.resemblance import SqlFingerprints
from proxy.adapters.traced import traced
from proxy.adoption import Adoption, Followers
from proxy.allowances import Allowances
from proxy.assets import Assets
from proxy.auth import Tokens, check_key
from proxy.clients import Addresses
from proxy.commons import Commons
from proxy.delivery import Delivery
from proxy.descriptions import Descriptions
from proxy.dispatch import Dispatch
from proxy.errors import StartError
from proxy.events import Kind as Happened
from proxy.feed import Feed
from proxy.holdings import Survey
from proxy.hot import HotAnswers
from proxy.house import House, Role
from proxy.ingest import Ingest, Optimised
from proxy.keys import Key
from proxy.machine import Clearing, machine, patrol
from proxy.measuring import measure
from proxy.metas import Metas
from proxy.mounting import mount
from proxy.observe import Metrics
from proxy.ports import Backend
from proxy.presets import Presets
from proxy.progress import Progress
from proxy.promising import promised
from proxy.rates import Limit
from proxy.renditions import Renditions
from proxy.resemblance import Resemblance
from proxy.resuming import resuming
from proxy.routes.assets import AssetRoutes, Presenter
from proxy.routes.callers import Callers
from proxy.routes.events import EventRoutes
from proxy.routes.hooks import HookRoutes
from proxy.routes.jobs import JobRoutes
from proxy.routes.media import Departure, MediaRoutes
from proxy.routes.metering import Meter
from proxy.routes.ops import Check, HealthRoutes, Operators, PageRoutes
from proxy.routes.similar import SimilarRoutes
from proxy.routes.store import StoreRoutes
from proxy.routes.uploads import UploadRoutes
from proxy.routes.usage import UsageRoutes
from proxy.scanners import scanners, taken
from proxy.server import Runner
from proxy.settings import BadSettings, Settings
from proxy.sources import Sources
from proxy.sourcesets import SourceSets
from proxy.stores import Stores
from proxy.ties import Ties, tied
from proxy.traces import exporting
from proxy.turns import Turns
from proxy.variants import Variants
from proxy.warming import Warming
from proxy.watermarks import Watermarks
from proxy.withheld import Withheld
from proxy.working import Working, working

NAME = "sav3-media-proxy"
ERRANDS_DEADLINE_S = 10.0
ALONE = House()
SERVICE_TOKEN_S = 300


@dataclass(frozen=True, slots=True)
class Service:
    """A running service: what listens, what a stop tells first, and what SIGHUP renews."""

    runner: Runner
    health: HealthRoutes
    presets: Presets
    hot: HotAnswers

    def reload(self) -> None:
        """Read again what may change while the service runs: the presets."""
        if self.presets.reload():
            self.hot.forget()


def token_maker(settings: Settings) -> tuple[Tokens, bool]:
    """The tokens of this deployment, and whether their secret was made by us just now or earlier.

    Without JWT_SECRET or JWT_PUBLIC_KEY the secret in the data folder serves; it is made, with mode 0600, if it is not there.
    """
    key, ours = settings.jwt_public_key, False
    if settings.jwt_secret is not None:
        key = settings.jwt_secret.get_secret_value()
    if key is None:
        key, ours = own_secrets.kept(settings.media_data_dir, own_secrets.JWT_FILE), True
    try:
        check_key(key, settings.algorithms)
    except ValueError:
        raise BadSettings("JWT_PUBLIC_KEY: is no public key (PEM) of the kind that JWT_ALGORITHMS asks for") from None
    tokens = Tokens(
        key,
        settings.algorithms,
        audience=settings.jwt_audience,
        issuer=settings.jwt_issuer,
        max_lifetime_s=settings.jwt_max_lifetime,
    )
    return tokens, ours


@asynccontextmanager
async def create_service(settings: Settings, tokens: Tokens, house: House = ALONE) -> AsyncIterator[Service]:
    """Open every part in order, give the service that is made of them, and close them in reverse.

    *house* says which part this process has among several.
    """
    metrics = Metrics(shared=house.is_shared)
    data = settings.media_data_dir
    async with AsyncExitStack() as stack:
        stack.enter_context(
            exporting(settings, "media-proxy", (*settings.media_operator_networks, *settings.media_trusted_proxies))
        )
        ties = await stack.enter_async_context(tied(settings, house, metrics))
        feed = Feed(ties.bus)
        here = await stack.enter_async_context(machine(settings, house, ties.house, metrics, feed.happened))
        kept = await stack.enter_async_context(
            stores.opened(
                settings, here.thumbnails, here.catalogue, partial(service_token, tokens), metrics, here.spool, house, ties.house
            )
        )
        catalogue, pool = here.catalogue, here.pool
        renderer = PoolRenderer(pool, here.spool)
        limits = max_bytes(settings)
        sources = Sources(kept.media, limits)
        commons = Commons(ties.cache, ties.bus, settings.media_shared_bytes)
        withheld = await stack.enter_async_context(Withheld(catalogue, ties.bus, shared=house.is_shared or catalogue.is_shared))
        metas = Metas(kept.media, commons, withheld)
        renditions = Renditions(
            kept.media,
            metas,
            Variants(kept.variants, traced(here.fleeting)),
            renderer,
            sources,
            commons,
            Turns(ties.cache, ties.bus),
            settings.media_cache_bytes,
            metrics,
        )
        stack.push_async_callback(renditions.finish, ERRANDS_DEADLINE_S)
        descriptions = Descriptions(catalogue, sources, renderer, commons)
        delivery = Delivery(kept.media, metas, renditions, descriptions, commons)
        assets = await stack.enter_async_context(
            Assets(
                kept.media,
                catalogue,
                delivery,
                keeps=house.keeps,
                # What is unfinished may be another machine's work: there it is left until it is stale.
                begins=house.begins and not catalogue.is_shared,
                shared=house.is_shared or catalogue.is_shared,
            )
        )
        watermark_names = Watermarks(here.marks)
        known_presets = presets(settings, watermark_names)
        gate = Gate(
            tokens,
            signer(settings),
            known_presets,
            settings.media_read_access,
            settings.media_transform_access,
            frozenset(settings.media_ignored_parameters),
            watermark_names,
        )
        warming = Warming(delivery, gate.warm, lambda key, ends: catalogue.note(key, Happened.PROCESSED, {"presets": ends}))
        stack.push_async_callback(warming.finish)
        quotas = SqlQuotas(catalogue)
        at_once = settings.media_job_workers if house.keeps else 0
        work = await stack.enter_async_context(
            working(
                settings,
                kept.media,
                catalogue,
                limits,
                feed,
                ties.bus,
                metrics,
                at_once,
                watches=house.keeps,
                delivery=delivery if house.keeps else None,
            )
        )

        def stored(key: Key, content_type: str) -> None:
            warming.begin(key, content_type)
            work.orders.stored(key, content_type)

        lacking = [] if settings.processor_url else lossless.missing(frozenset(settings.media_optimize))
        if lacking:
            raise StartError(
                f"MEDIA_OPTIMIZE: {' and '.join(lacking)} cannot be made smaller by this installation:"
                " pip install 'sav3-media-proxy[optimize]', or leave it out"
            )
        smaller = Optimised(frozenset(settings.media_optimize), settings.media_optimize_originals)
        scans = await stack.enter_async_context(
            scanners(settings, kept.media, catalogue, withheld, delivery.changed, stored, metrics, house)
        )
        incoming = taken(settings, limits)
        ingest = Ingest(
            kept.media, catalogue, renderer, incoming, metrics, delivery.changed, stored,
            quotas, smaller, scans.scanning, withheld.held,
        )  # fmt: skip

        events = SqlEvents(catalogue)
        survey = Survey(quotas, events)
        stack.push_async_callback(survey.finish)
        measure(metrics, kept, here, renditions, warming, ties, withheld, survey, data)
        if house.is_shared:
            stack.push_async_callback(_ended, asyncio.create_task(metrics.refresh_for_ever()))
        if house.role is Role.KEEPER:
            folders = [
                here.thumbnails,
                *(store for store in (here.fleeting, kept.incoming, *kept.each) if isinstance(store, Clearing)),
            ]
            stack.push_async_callback(_ended, asyncio.create_task(patrol(folders, data / "spool")))
        metrics.gauge("media_event_listeners", "Connections that listen for events", lambda: feed.listeners)
        if house.keeps:
            await stack.enter_async_context(_dispatching(settings, events, feed, metrics))
        presenter = Presenter(settings.media_public_url)
        allowances = _allowances(settings, ties, metrics)
        meter = Meter(allowances, metrics, settings.media_idle_timeout, settings.media_min_rate)
        pledged = await stack.enter_async_context(
            promised(settings, tokens, kept, catalogue, ingest, quotas, presenter, meter, house)
        )
        resumable = await stack.enter_async_context(
            resuming(settings, pledged.grants, catalogue, ingest, quotas, ties.bus, presenter, meter, metrics, feed.passes, house)
        )
        followers = Followers()
        stack.push_async_callback(followers.finish)
        callers = Callers(tokens, allowances, Addresses(settings.media_trusted_proxies))
        sets = SourceSets(signer(settings) if settings.media_url_secrets else None)
        health = _health(settings, tokens, kept, catalogue, pool, {**ties.checks, **scans.checks}, work, metrics, survey)
        departure = Departure(settings.media_delivery, settings.media_redirect_lifetime, data / "media")
        hot = HotAnswers(delivery, cross_origin=bool(settings.media_cors_origins))
        app = web.Application()
        mount(
            app,
            settings.media_cors_origins,
            MediaRoutes(delivery, assets, descriptions, gate, hot, callers, departure, settings.media_idle_timeout),
            UploadRoutes(ingest, pledged.grants, presenter, meter, Progress(feed.passes), settings.media_idle_timeout),
            pledged.routes,
            resumable.tus,
            resumable.chunks,
            UsageRoutes(quotas, tokens),
            AssetRoutes(assets, tokens, presenter, warming, sets, settings.media_idle_timeout),
            SimilarRoutes(Resemblance(kept.media, descriptions, SqlFingerprints(catalogue)), assets, tokens, presenter),
            StoreRoutes(kept.own, tokens, metrics, delivery.forget, identities=kept.identities, max_bytes=max(limits.values())),
            EventRoutes(events, feed, tokens),
            JobRoutes(work.orders, assets, tokens, presenter, settings.media_idle_timeout),
            HookRoutes(
                [token.get_secret_value() for token in settings.media_hook_token],
                stores.buckets(settings),
                settings.minio_temp_bucket_name,
                Adoption(
                    kept.media, catalogue, assets, renderer, incoming, delivery.changed, delivery.forget, stored, scans.rescanning
                ),
                pledged.confirmation,
                followers,
                metrics,
                settings.media_idle_timeout,
            ),
            health,
            PageRoutes(),
        )
        runner = Runner(
            app,
            metrics,
            hot,
            callers.judged,
            feed.end,
            head_timeout_s=settings.media_header_timeout,
            keepalive_s=settings.media_keepalive,
            drain_s=settings.media_drain,
        )
        yield Service(runner, health, known_presets, hot)


@asynccontextmanager
async def _dispatching(settings: Settings, events: SqlEvents, feed: Feed, metrics: Metrics) -> AsyncIterator[None]:
    async with AsyncExitStack() as stack:
        post = None
        if settings.media_webhook_url is not None:
            # Imported where there is a back end: the client side of HTTP takes memory.
            from proxy.adapters.webhook import Webhook  # noqa: PLC0415

            post = await stack.enter_async_context(
                Webhook(settings.media_webhook_url, settings.webhook_secrets, may_be_private=settings.media_webhook_allow_private)
            )
        keep = timedelta(seconds=settings.media_events_keep)
        dispatch = Dispatch(events, post, settings.media_webhook_pauses, keep, metrics)
        feed.noticed = dispatch.wake
        stack.push_async_callback(_ended, asyncio.create_task(dispatch.run_for_ever()))
        yield


async def _ended(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def _allowances(settings: Settings, ties: Ties, metrics: Metrics) -> Allowances:
    rules = {
        Limit.UPLOADS: settings.media_rate_uploads,
        Limit.UPLOAD_BYTES: settings.media_rate_upload_bytes,
        Limit.RENDERS: settings.media_rate_renders,
        Limit.FAILED_LOGINS: settings.media_rate_failed_logins,
    }
    return Allowances(ties.tally, rules, shows=settings.media_rate_headers, refused=metrics.limited)


def _health(
    settings: Settings,
    tokens: Tokens,
    kept: Stores,
    catalogue: SqlCatalogue,
    pool: Workers,
    further: Mapping[str, Check],
    work: Working,
    metrics: Metrics,
    survey: Survey,
) -> HealthRoutes:
    vital: dict[str, Check] = {"store": _silent(kept.media.ping)}
    others: dict[str, Check] = {"variants": _silent(kept.variants.ping), "jobs": work.state, **further}
    # What is away for all who share it takes nobody out of rotation: reads go on without a database, originals without processors.
    (others if settings.processor_url else vital)["renderer"] = pool.capabilities
    (others if catalogue.is_shared else vital)["catalogue"] = _silent(catalogue.ping)
    return HealthRoutes(
        vital,
        others | {f"store.{name}": check for name, check in _each_store(kept).items()},
        {"reads": str(settings.media_read_access), "transforms": str(settings.media_transform_access)},
        version(NAME),
        metrics,
        Operators(settings.media_operator_networks, tokens),
        survey.fresh,
    )


def _each_store(kept: Stores) -> dict[str, Check]:
    # A disk that is alone is the part "store" already.
    def check(store: Backend) -> Check:
        async def state() -> Mapping[str, Any]:
            await store.ping()
            return {"breaker": kept.states()[store.name]}

        return state

    return {store.name: check(store) for store in kept.each} if len(kept.each) > 1 else {}


def service_token(tokens: Tokens) -> str:
    """An admin's token, for other media proxies that share our secret."""
    return tokens.mint("media-proxy", "media:admin", SERVICE_TOKEN_S)


def _silent(ping: Any) -> Any:
    async def check() -> Mapping[str, Any] | None:
        await ping()
        return None

    return check


def max_bytes(settings: Settings) -> dict[Kind, int]:
    """The most that an object of each kind may have."""
    return {
        Kind.IMAGE: settings.media_max_bytes_image,
        Kind.DRAWING: min(settings.media_max_bytes_svg, settings.media_max_bytes_image),
        Kind.VIDEO: settings.media_max_bytes_video,
        Kind.AUDIO: settings.media_max_bytes_audio,
        Kind.DOCUMENT: settings.media_max_bytes_document,
    }
