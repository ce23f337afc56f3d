"""The renderers that there are, over one real pool: of this process, of another one on this machine, and of a processor."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from aiohttp import web

from processors.pool import Pool, Workers
from processors.pool_http import FarPool
from processors.pool_socket import PoolClient, PoolListener
from processors.service import Service, Spool
from processors.values import Limits
from proxy.adapters.renderer import PoolRenderer

EVERY = ("here", "socket", "processor")
PLENTY = 1 << 30


@asynccontextmanager
async def renderer(kind: str, spool: Path, limits: Limits | None = None) -> AsyncIterator[tuple[PoolRenderer, Pool]]:
    """One of EVERY that writes sources to *spool*, and the pool behind it: one worker, and room for four who wait."""
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        pool = await stack.enter_async_context(Pool(limits or Limits(), 1, 4, readable=(spool, folder)))
        shown: Workers = pool
        if kind == "socket":
            await stack.enter_async_context(PoolListener(pool, folder / "pool"))
            shown = await stack.enter_async_context(PoolClient(folder / "pool", pool.places))
        elif kind == "processor":
            await pool.capabilities()
            shown = await stack.enter_async_context(asked(await stack.enter_async_context(served(pool, folder))))
        yield PoolRenderer(shown, spool), pool


@asynccontextmanager
async def served(pool: Pool, folder: Path, token: str | None = None) -> AsyncIterator[str]:
    """The address of a processor that has *pool*."""
    spool = Spool(folder, PLENTY, PLENTY, lambda size: None)
    service = Service(pool, spool, token, 1.0, lambda do, outcome, seconds: None, lambda: (b"", "text/plain"))
    runner = web.AppRunner(service.app(), handler_cancellation=True, access_log=None, shutdown_timeout=0)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


def asked(*urls: str, ended: list[str] | None = None, noted: list[str | None] | None = None) -> FarPool:
    """The processors at *urls* as one pool; how attempts end is added to *ended*, and who comes and goes to *noted*."""
    return FarPool(
        urls,
        None,
        None,
        (lambda outcome: None) if ended is None else ended.append,
        lambda processor, reason: None if noted is None else noted.append(reason),
    )
