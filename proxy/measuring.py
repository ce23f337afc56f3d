"""What metrics show of the parts: with `app` and `ties` a part of the composition root."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path

from processors.pool import Pool
from proxy.adapters.bounded import BoundedBackend
from proxy.holdings import Survey
from proxy.machine import Machine
from proxy.observe import Metrics, resident_bytes
from proxy.renditions import Renditions
from proxy.stores import Stores
from proxy.ties import Ties
from proxy.warming import Warming
from proxy.withheld import Withheld


def measure(
    metrics: Metrics,
    kept: Stores,
    here: Machine,
    renditions: Renditions,
    warming: Warming,
    ties: Ties,
    withheld: Withheld,
    survey: Survey,
    data: Path,
) -> None:
    """Have *metrics* show how all of these are whenever somebody looks; *data* is the folder whose disk is watched."""
    for name in (store.name for store in kept.each):
        metrics.store(name, partial(_is_asked, kept, name), partial(_owed, kept, name))
    pool, fleeting = here.pool, here.fleeting
    if isinstance(pool, Pool):
        metrics.gauge("media_render_running", "Renditions in work", lambda: pool.running)
        metrics.gauge("media_render_waiting", "Renditions that wait for a worker or for memory", lambda: pool.waiting)
        metrics.gauge("media_render_reserved_bytes", "Estimated memory of the pictures in work", lambda: pool.reserved_bytes)
        metrics.gauge(
            "media_render_resident_bytes",
            "Memory of the picture workers that is in RAM",
            lambda: sum(map(resident_bytes, pool.pids)),
        )
    if isinstance(fleeting, BoundedBackend):
        metrics.gauge("media_variants_bytes", "Bytes of the disk that renditions in the local store take", lambda: fleeting.bytes)
    metrics.gauge("media_cache_bytes", "Memory of renditions kept in the process", lambda: renditions.cached_bytes)
    metrics.gauge("media_later", "Renditions that wait to be made better when nobody waits for a worker", lambda: renditions.later)
    metrics.gauge("media_storing", "Renditions that are being stored behind their answers", lambda: renditions.storing)
    metrics.gauge(
        "media_redis_up",
        "Whether Redis is asked (1), or not (0): it does not answer, or there is none",
        lambda: ties.cache.is_there,
        least=True,
    )
    metrics.gauge(
        "media_catalogue_up",
        "Whether the catalogue's database answers (1), or is probed until it does (0)",
        lambda: not here.catalogue.is_away,
        least=True,
    )
    metrics.gauge("media_warming", "Uploads whose presets are being made, or wait for it", lambda: len(warming))
    metrics.gauge("media_resident_bytes", "Memory of the largest HTTP process that is in RAM", resident_bytes, most=True)
    metrics.figure("media_withheld", "Objects that are quarantined", lambda: len(withheld))
    metrics.figure("media_disk_bytes", "Size of the disk that the data folder is on", lambda: _disk(data)[0])
    metrics.figure("media_disk_free_bytes", "What is free of it for us", lambda: _disk(data)[1])
    metrics.figure(
        "media_events_oldest_seconds", "How long the event waits for the back end that has waited longest",
        lambda: survey.oldest_event_s,
    )  # fmt: skip
    metrics.table("media_stored_bytes", "Bytes of the originals in a store", "store", lambda: survey.last.store_bytes)
    metrics.table("media_stored_objects", "Originals in a store", "store", lambda: survey.last.store_objects)
    metrics.table("media_owner_bytes", "Bytes of the ten owners who have most", "owner", lambda: survey.last.owner_bytes)


def _disk(folder: Path) -> tuple[float, float]:
    try:
        found = os.statvfs(folder)
    except OSError:
        return 0.0, 0.0
    return float(found.f_blocks * found.f_frsize), float(found.f_bavail * found.f_frsize)


def _is_asked(kept: Stores, store: str) -> bool:
    return kept.states().get(store, "closed") == "closed"


def _owed(kept: Stores, store: str) -> int:
    return kept.backlog().get(store, 0)
