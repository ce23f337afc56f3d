"""A catalogue of a million records on SQLite and on PostgreSQL: what a page costs, first and deep: ``make bench-catalogue``."""

from __future__ import annotations

import asyncio
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sql

from proxy import keys
from proxy.adapters import listing
from proxy.adapters.catalogue import Database, SqlCatalogue
from proxy.adapters.postgres import PostgresDatabase
from proxy.adapters.quotas import SqlQuotas
from proxy.adapters.resemblance import SqlFingerprints
from proxy.adapters.sqlite import SqliteDatabase
from proxy.adapters.tables import assets, fingerprints
from proxy.fingerprints import bands
from proxy.ports import State
from proxy.quotas import Quota
from proxy.selection import EVERYTHING, Selection, Sort
from tests.kit.postgres import SETTINGS, PostgresServer

ROWS = 1_000_000
OWNERS = 1_000
"""One of them has half of all."""
PAGE = 50
TIMES = 200
BATCH = 20_000
FILLING_S = 1_200.0
NUMBERS = {
    "sqlite": (
        "WITH RECURSIVE numbers(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM numbers WHERE n + 1 < {rows}) SELECT {row} FROM numbers"
    ),
    "postgresql": "SELECT {row} FROM generate_series(0::bigint, {rows} - 1) AS numbers(n)",
}
ROW = (
    "owner || '/' || lower({hex}) || '.jpg', owner, 'photo.jpg', {type}, 200000 + n % 99991, '{digest}', "
    "'0123456789abcdef', 1700000000000000 + n * 1000003, 'minio', 4000, 3000, 'ready', '{details}'"
)
TYPE = "CASE WHEN n % 50000 = 0 THEN 'image/avif' WHEN n % 10 = 0 THEN 'image/png' ELSE 'image/jpeg' END"
COLUMNS = "key, owner, filename, content_type, size, sha256, etag, created, store, width, height, state, details"
DETAILS = '{"colour": "a0b0c0", "thumbhash": "3OcRJYB4d3h/iIeHeEh3eIhw+j3A", "blurhash": "LEHV6nWB2yk8pyo0adR*.7kCMdnj"}'
SELECTED = {
    "of a rare type (ten of them)": Selection(types=("image/avif",)),
    "of all types of pictures": Selection.read({"type": "image/*"}),
    "of the last tenth": Selection(since=datetime.fromtimestamp(1_700_000_000 + 0.9 * ROWS, UTC)),
    "of a folder (one in 256)": Selection(prefix="big/0a", sort=Sort.KEY),
    "of a folder, newest first": Selection(prefix="big/0a"),
    "by size": Selection(sort=Sort.SIZE),
    "by key": Selection(sort=Sort.KEY, descends=False),
}
HEX = {"sqlite": "printf('%032x', n * 2654435761)", "postgresql": "md5(n::text)"}


async def fill(catalogue: SqlCatalogue, dialect: str, rows: int) -> None:
    """Put *rows* records into it, half of them of ``big``."""
    owner = f"CASE WHEN n % 2 = 0 THEN 'big' ELSE 'u' || (n % {OWNERS}) END"
    row = ROW.format(hex=HEX[dialect], type=TYPE, digest="ab" * 32, details=DETAILS).replace("owner", f"({owner})")
    async with catalogue.begun() as connection:
        await connection.exec_driver_sql(f"INSERT INTO assets ({COLUMNS}) {NUMBERS[dialect].format(rows=rows, row=row)}")
    async with catalogue.begun() as connection:
        await connection.execute(
            sql.text("INSERT INTO usage SELECT owner, sum(size), count(*) FROM assets WHERE state != 'deleted' GROUP BY owner")
        )
    await hashed(catalogue)
    async with catalogue.begun() as connection:
        await connection.execute(sql.text("ANALYZE"))


async def hashed(catalogue: SqlCatalogue) -> None:
    """Give each record a fingerprint by chance."""
    chance = random.Random(7)
    after = ""
    while True:
        query = (
            sql.select(assets.c.key, assets.c.owner, assets.c.etag).where(assets.c.key > after).order_by(assets.c.key).limit(BATCH)
        )
        async with catalogue.begun() as connection:
            found = (await connection.execute(query)).all()
            if not found:
                return
            rows = []
            for key, owner, etag in found:
                name = f"{chance.getrandbits(64):016x}"
                parts = {f"band_{number}": part for number, part in enumerate(bands(name))}
                rows.append({"key": key, "owner": owner, "etag": etag, "fingerprint": name, **parts})
            await connection.execute(fingerprints.insert(), rows)
        after = found[-1].key


async def timed(times: int, work: Callable[[int], Awaitable[object]]) -> str:
    """Median and worst of it, in milliseconds."""
    took = []
    for number in range(times):
        began = time.perf_counter()
        await work(number)
        took.append(1000 * (time.perf_counter() - began))
    return f"{statistics.median(took):.2f} | {max(took):.2f}"


async def cursor_at(catalogue: SqlCatalogue, skipped: int, selection: Selection = EVERYTHING) -> str:
    """The cursor of the page that comes behind so many of ``big``'s records."""
    order = "key" if selection.sort is Sort.KEY else f"{selection.sort} DESC, key"
    query = f"SELECT key FROM assets WHERE owner = 'big' ORDER BY {order} DESC LIMIT 1 OFFSET :skipped"
    async with catalogue.begun() as connection:
        key = (await connection.execute(sql.text(query), {"skipped": skipped})).scalar_one()
    asset = await catalogue.get(keys.parse(key))
    assert asset is not None
    return selection.cursor(listing.place(asset, selection), asset.key)  # as `page` gives it with the page that ends there


async def measure(name: str, dialect: str, opened: Callable[[float], Database], rows: int) -> None:
    """Fill it, and print what a user waits for."""
    began = time.perf_counter()
    async with SqlCatalogue(opened(FILLING_S)) as catalogue:
        await fill(catalogue, dialect, rows)
        print(f"\n{name}: {rows:,} records, filled in {time.perf_counter() - began:.0f} s\n")
        print("| | median ms | worst ms |\n|---|---|---|")
    async with SqlCatalogue(opened(60.0), Quota(1 << 60, 1 << 40)) as catalogue:
        half = rows // 2
        places = {place: await cursor_at(catalogue, int(half * place)) for place in (0.5, 0.99)}
        by = {sort: Selection(sort=sort) for sort in (Sort.SIZE, Sort.KEY)}
        deep = [(sort, one, await cursor_at(catalogue, half // 2, one)) for sort, one in by.items()]
        first = (await catalogue.page("big", PAGE)).assets
        many = [asset.key for asset in first]
        some = first[0]
        index = SqlFingerprints(catalogue)

        async def added(number: int) -> None:
            key = keys.mint("big", "jpg")
            now = datetime.now(UTC)
            await catalogue.add(replace(some, key=key, created=now, state=State.PENDING))
            await catalogue.mark(key, State.READY)

        steps: dict[str, Callable[[int], Awaitable[Any]]] = {
            f"first page of {PAGE}": lambda number: catalogue.page("big", PAGE),
            f"page behind {half // 2:,} records": lambda number: catalogue.page("big", PAGE, places[0.5]),
            f"page behind {int(half * 0.99):,} records": lambda number: catalogue.page("big", PAGE, places[0.99]),
            "first page of an owner of few": lambda number: catalogue.page(f"u{2 * (number % 400) + 1}", PAGE),
            **{
                name: lambda number, selection=selection: catalogue.page("big", PAGE, None, selection)
                for name, selection in SELECTED.items()
            },
            **{
                f"by {sort}, behind {half // 2:,}": lambda number, one=one, place=place: catalogue.page("big", PAGE, place, one)
                for sort, one, place in deep
            },
            "one record": lambda number: catalogue.get(many[number % PAGE]),
            f"{PAGE} records by their keys": lambda number: catalogue.many(many),
            "usage": lambda number: SqlQuotas(catalogue).usage("big", datetime.now(UTC)),
            "quarantined": lambda number: catalogue.quarantined(1000),
            "unfinished": lambda number: catalogue.unfinished(),
            **{
                f"similar ones, up to {distance} bits apart": lambda number, distance=distance: index.near(
                    "big", f"{random.Random(number).getrandbits(64):016x}", distance, 20, some.key
                )
                for distance in (3, 7, 11)
            },
            "a new record, marked ready": added,
        }
        for step, work in steps.items():
            await work(0)
            print(f"| {step} | {await timed(TIMES, work)} |", flush=True)


def main(rows: int = ROWS) -> None:
    """Both, one after the other."""
    with tempfile.TemporaryDirectory(prefix="media-proxy-bench-") as folder:
        path = Path(folder) / "catalogue.sqlite"
        asyncio.run(measure("SQLite", "sqlite", lambda deadline_s: SqliteDatabase(path, deadline_s), rows))
    SETTINGS.update({"fsync": "on", "full_page_writes": "on", "shared_buffers": "128MB", "max_wal_size": "2GB"})
    with PostgresServer() as server:
        url = server.url()
        asyncio.run(measure("PostgreSQL", "postgresql", lambda deadline_s: PostgresDatabase(url, 4, deadline_s), rows))


if __name__ == "__main__":
    main(*(int(argument) for argument in sys.argv[1:]))
