"""Puts together what scans: with `app`, `stores` and `promising` a part of the composition root."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from processors.formats import Kind
from proxy import clamd_address
from proxy.adapters.catalogue import SqlCatalogue
from proxy.adapters.clamav import ClamavScanner
from proxy.house import House
from proxy.keys import Key
from proxy.observe import Metrics
from proxy.ports import Backend
from proxy.rescanning import Patrol, Rescanning
from proxy.scanning import Scanning
from proxy.settings import ScanPolicy, Settings
from proxy.withheld import Withheld


@dataclass(frozen=True, slots=True)
class Scanners:
    """What looks at bodies on their way and at what is stored, both None where there is no scanner; *checks* say how it is."""

    scanning: Scanning | None
    rescanning: Rescanning | None
    checks: Mapping[str, Callable[[], Awaitable[Mapping[str, Any] | None]]]


def scanner(settings: Settings) -> ClamavScanner | None:
    """The scanner of *settings*, to be entered; None where they name none."""
    if settings.clamav_url is None:
        return None
    return ClamavScanner(
        clamd_address.parse(settings.clamav_url),
        max_bytes=settings.media_scan_limit,
        deadline_s=settings.media_scan_deadline,
        connections=settings.media_scan_connections,
    )


def taken(settings: Settings, limits: Mapping[Kind, int]) -> dict[Kind, int]:
    """The most that an upload of each kind may have: what cannot be scanned is not taken, where that is the policy."""
    if settings.clamav_url is None or settings.media_scan_policy is not ScanPolicy.REFUSE:
        return dict(limits)
    return {kind: min(limit, settings.media_scan_limit) for kind, limit in limits.items()}


@asynccontextmanager
async def scanners(
    settings: Settings,
    backend: Backend,
    catalogue: SqlCatalogue,
    withheld: Withheld,
    changed: Callable[[Key], Awaitable[None]],
    stored: Callable[[Key, str], None],
    metrics: Metrics,
    house: House,
) -> AsyncIterator[Scanners]:
    """All of it, running; one process of a house patrols."""
    clamd = scanner(settings)
    patrol: Patrol | None = None
    metrics.gauge(
        "media_scanner_up",
        "Whether the scanner is asked (1), or left alone until it answers again (0); 1 where there is none",
        lambda: clamd is None or clamd.is_there,
        least=True,
    )
    metrics.gauge("media_scan_waiting", "Objects that are withheld until they are scanned", lambda: patrol.waiting if patrol else 0)
    if clamd is None:
        yield Scanners(None, None, {})
        return
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(clamd)
        scanning = Scanning(clamd, metrics, lenient=settings.media_scan_policy is ScanPolicy.QUARANTINE)
        rescanning = Rescanning(
            Scanning(clamd, metrics, lenient=False), backend, catalogue, partial(withheld.held, surely=False), changed, stored
        )
        if house.keeps:
            patrol = Patrol(rescanning, catalogue, lambda: clamd.is_there)
            stack.push_async_callback(_ended, asyncio.create_task(patrol.run_for_ever()))

        async def check() -> None:
            await clamd.ping()

        yield Scanners(scanning, rescanning, {"scanner": check})


async def _ended(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
