"""The commands that look: `media-proxy health`, how the running service is, and `media-proxy usage`, who has how much."""

from __future__ import annotations

import json
import sys
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from proxy.command import configured, fail, run

if TYPE_CHECKING:
    from proxy.settings import Settings

DEADLINE_S = 10.0
ANYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - not to listen on, to be asked at
MOST_BYTES = 1 << 20
HEADINGS = {"owner": "owner", "store": "store", "type": "type", "day": "came on"}


def health(
    url: Annotated[str | None, typer.Option(help="Where the service is; without it where the settings say.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="What /api/health answers, as JSON.")] = False,
) -> None:
    """How the running service and each of its parts are. Exit status 0 if all is well, 1 if something is not, 2 if none answers."""
    settings = configured({})
    base = url or f"http://{_bracketed(ANYWHERE.get(settings.media_host, settings.media_host))}:{settings.media_port}"
    found = _asked(base.rstrip("/") + "/api/health", _token(settings))
    if as_json:
        print(json.dumps(found))
    else:
        print(f"{base}: {found['status']}")
        for name, part in found.get("parts", {}).items():
            facts = "  ".join(f"{key}={value}" for key, value in part.items() if _is_short(key, value))
            print(f"  {name:22} {part['status']:8} {part.get('ms', ''):>8}  {facts}".rstrip())
        if "parts" not in found:
            print("  its parts are shown to operators: MEDIA_OPERATOR_NETWORKS, or the service's own JWT_SECRET", file=sys.stderr)
    raise SystemExit(0 if found["status"] == "ok" else 1)


def usage(
    watch: Annotated[float | None, typer.Option(min=1, help="Look again every so many seconds.")] = None,
    top: Annotated[int, typer.Option(min=1, max=10_000, help="Owners and types that are shown.")] = 20,
    as_json: Annotated[bool, typer.Option("--json", help="A JSON object, or with --watch one a line.")] = False,
) -> None:
    """Objects and bytes by owner, store and type, and what came on each of the last days."""
    settings = configured({})

    async def work() -> int:
        import asyncio

        from proxy import moving

        before: int | None = None
        async with moving.records(settings) as records:
            while True:
                found = await records.usage()
                told = _told(found, top, before, watch)
                before = told["bytes"]
                if as_json:
                    print(json.dumps(told), flush=True)
                else:
                    _show(told, clears=watch is not None and sys.stdout.isatty())
                if watch is None:
                    return 0
                await asyncio.sleep(watch)

    run(work, "it only looks")


def _told(found: dict[str, list[dict[str, Any]]], top: int, before: int | None, every_s: float | None) -> dict[str, Any]:
    sums = {name: sum(row[name] for row in found["owner"]) for name in ("bytes", "objects")}
    days = [{**row, "day": _day(row["day"])} for row in found["day"]]
    told = {"time": datetime.now(UTC).isoformat(timespec="seconds"), **sums, "owners": len(found["owner"])}
    told |= {"owner": found["owner"][:top], "store": found["store"], "type": found["type"][:top], "day": days}
    if before is not None and every_s is not None:
        told["growth_per_s"] = (sums["bytes"] - before) / every_s
    return told


def _day(number: int) -> str:
    return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(days=number)).date().isoformat()


def _show(told: dict[str, Any], *, clears: bool) -> None:
    from proxy.meter import sized

    if clears:
        print("\x1b[2J\x1b[H", end="")
    grown = f", {sized(told['growth_per_s'])}/s more" if told.get("growth_per_s", 0) > 0 else ""
    print(f"{told['time']}: {told['objects']} objects of {told['owners']} owners, {sized(told['bytes'])}{grown}")
    for name, heading in HEADINGS.items():
        print(f"\n{heading:40} {'objects':>10} {'size':>12}")
        for row in told[name]:
            print(f"{row[name]:40} {row['objects']:>10} {sized(row['bytes']):>12}")
    sys.stdout.flush()


def _is_short(name: str, value: object) -> bool:
    """Whether it belongs into a table: what is long is in the JSON."""
    return name not in {"status", "ms"} and not isinstance(value, (dict, list))


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _token(settings: Settings) -> str | None:
    """An operator's, where this configuration can make one."""
    from proxy.app import service_token, token_maker
    from proxy.settings import BadSettings

    if settings.jwt_public_key is not None:
        return None
    if settings.jwt_secret is None and not settings.media_data_dir.is_dir():
        return None  # the service's own secret lies elsewhere, and none is to be made here
    try:
        return service_token(token_maker(settings)[0])
    except BadSettings as error:
        fail(str(error))


def _asked(url: str, token: str | None) -> dict[str, Any]:
    from http.client import HTTPConnection, HTTPException, HTTPSConnection
    from urllib.parse import urlsplit

    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        fail("--url is where the service is, such as http://127.0.0.1:10020.")
    made = HTTPSConnection if parts.scheme == "https" else HTTPConnection
    line = made(parts.hostname, parts.port, timeout=DEADLINE_S)
    began = time.monotonic()
    try:
        line.request("GET", parts.path, headers={} if token is None else {"Authorization": f"Bearer {token}"})
        answer = line.getresponse()
        found = json.loads(answer.read(MOST_BYTES))
        if answer.status != 200 or not isinstance(found, dict) or "status" not in found:
            fail(f"What is at {parts.netloc} answers {answer.status}, and not as a media proxy does.")
    except (OSError, HTTPException) as error:
        why = getattr(error, "strerror", None) or str(error) or type(error).__name__
        fail(f"No media proxy answers at {parts.netloc} ({why}): start it, or name its address with --url.")
    except ValueError:
        fail(f"What is at {parts.netloc} is no media proxy.")
    finally:
        line.close()
    return {**found, "ms": round((time.monotonic() - began) * 1000, 1)}
