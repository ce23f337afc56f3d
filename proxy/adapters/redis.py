"""Redis: what several processes share for a while. It may be away at any moment, and costs nothing then."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any, Self, TypeVar

import structlog
from redis.exceptions import AuthenticationError, AuthorizationError, ConnectionError, RedisError

from processors import tracing
from proxy.adapters.breaker import Breaker
from proxy.adapters.redis_client import close, connected
from proxy.errors import StoreRefused, Unavailable
from proxy.redis_address import Address

T = TypeVar("T")

AT_ONCE = 8
"""commands; more find no connection free. Our own work for a command is what takes time, so more would not be faster."""
COMMAND_S = 0.05
PATIENCE_S = 1.0
"""for a probe, for connecting, and for an answer when nobody waits for it any more"""
FIRST_PROBE_S, LAST_PROBE_S = 0.25, 2.0
PASSING = ("m:",)
"""Facts that must not come back from a snapshot: their names hold for one run of the server."""
FAILURES = (RedisError, OSError, TimeoutError)
TAKE = """
if redis.call('set', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2]) or redis.call('get', KEYS[1]) == ARGV[1] then return 0 end
return math.max(1, redis.call('pttl', KEYS[1]))
"""
RENEW = "if redis.call('get', KEYS[1]) == ARGV[1] then return redis.call('pexpire', KEYS[1], ARGV[2]) end return 0"
RELEASE = "if redis.call('get', KEYS[1]) == ARGV[1] then return redis.call('del', KEYS[1]) end return 0"

log = structlog.get_logger(__name__)


class RedisLink:
    """The Redis at *address*: each command has 50 ms, and when three in a row have failed it is left alone until a probe goes well.

    Enter it: it connects when it can, and goes on trying. *count* is told how each command ended: ``ok``, ``late`` or ``failed``.
    """

    def __init__(self, address: Address, count: Callable[[str], None] = lambda outcome: None) -> None:
        self._count = count
        self._breaker = Breaker(first_probe_s=FIRST_PROBE_S, last_probe_s=LAST_PROBE_S)
        self._opened = asyncio.Event()
        self._ending: set[asyncio.Future[Any]] = set()
        self._watching: asyncio.Task[None] | None = None
        self.client: Any = connected(address, AT_ONCE + 1, COMMAND_S, PATIENCE_S, self._greet)
        self.run = ""
        """the server's run: another one after each restart; of a cluster always the same"""

    async def __aenter__(self) -> Self:
        try:
            await asyncio.gather(*(self._probe() for _ in range(AT_ONCE)))  # each over a connection of its own, open from now on
        except (StoreRefused, Unavailable) as error:
            log.warning("redis.away", reason=error.detail)
            self._breaker.probed(well=False)
        self._watching = asyncio.create_task(self._watch())
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.gather(self._watching, *self._ending, return_exceptions=True)
        await close(self.client)

    @property
    def is_there(self) -> bool:
        """Whether commands go through."""
        return self._breaker.closed

    async def ask(self, command: Callable[[Any], Awaitable[T]], otherwise: T) -> T:
        """What *command* of the client gives; *otherwise* if Redis is left alone, refuses, or does not answer in time."""
        if not self._breaker.closed:
            return otherwise
        began = self._breaker.now()
        asked = asyncio.ensure_future(self._tried(command))
        try:
            with tracing.span("redis", {"db.system.name": "redis"}):
                answered = await _answered(asked, COMMAND_S)
        except asyncio.CancelledError:
            self._dismiss(asked)
            raise
        if not answered:
            self._dismiss(asked)
            self._failed(began, "late", "it does not answer")
            return otherwise
        error = asked.exception()
        if error is None:
            self._breaker.succeeded()
            self._count("ok")
            return asked.result()
        if not isinstance(error, FAILURES):
            raise error
        self._failed(began, "failed", _reason(error))
        return otherwise

    async def renew(self) -> None:
        """Give up the connections that nobody uses: the server that they led to may be gone."""
        pool = getattr(self.client, "connection_pool", None)
        if pool is not None:
            await pool.disconnect(inuse_connections=False)

    async def ping(self) -> dict[str, Any]:
        """How long an answer takes, in *latencyMs*; raises Unavailable, or StoreRefused for a password that does not hold."""
        began = time.perf_counter()
        await self._probe()
        return {"latencyMs": round((time.perf_counter() - began) * 1000, 2)}

    async def _tried(self, command: Callable[[Any], Awaitable[T]]) -> T:
        try:
            return await command(self.client)
        except ConnectionError:  # one that was kept from before the server was started again
            return await command(self.client)

    async def _greet(self, connection: Any) -> None:
        # A restart is noticed by the new connections that it makes necessary: each asks which run it has come to.
        await connection.on_connect()
        await connection.send_command("INFO", "server")
        info = await connection.read_response()
        found = [line for line in bytes(info).split(b"\r\n") if line.startswith(b"run_id:")]
        self.run = found[0][7:19].decode() if found else ""

    async def _probe(self) -> None:
        asked = asyncio.ensure_future(self.client.ping())
        try:
            if not await _answered(asked, PATIENCE_S):
                raise Unavailable("Redis does not answer")
            error = asked.exception()
            if isinstance(error, (AuthenticationError, AuthorizationError)):
                raise StoreRefused(_reason(error)) from error
            if isinstance(error, FAILURES):
                raise Unavailable(_reason(error)) from error
            if error is not None:
                raise error
        finally:
            self._dismiss(asked)

    async def _watch(self) -> None:
        while True:
            if self._breaker.closed:
                self._opened.clear()
                await self._opened.wait()
            await asyncio.sleep(self._breaker.probe_in_s)
            self._breaker.probing()
            well = False
            try:
                await self._probe()
                well = True
                log.info("redis.back")
            except (StoreRefused, Unavailable) as error:
                log.debug("redis.still_away", reason=error.detail)
            finally:
                self._breaker.probed(well=well)

    def _failed(self, began: float, outcome: str, reason: str) -> None:
        self._count(outcome)
        was_closed = self._breaker.closed
        self._breaker.failed(began)
        if was_closed and not self._breaker.closed:
            log.warning("redis.away", reason=reason)
            self._opened.set()

    def _dismiss(self, asked: asyncio.Future[Any]) -> None:
        # The library gives up the connection of a command that is cancelled: its answer can reach nobody else.
        if not asked.done():
            asked.cancel()
            self._ending.add(asked)
            asked.add_done_callback(self._ended)

    def _ended(self, asked: asyncio.Future[Any]) -> None:
        self._ending.discard(asked)
        if not asked.cancelled():
            asked.exception()


class RedisCache:
    """A `SharedCache` over *link*. Names begin with *prefix*; every value has an end."""

    def __init__(self, link: RedisLink, prefix: str) -> None:
        self._link = link
        self._prefix = prefix

    @property
    def is_there(self) -> bool:
        """Whether Redis answers."""
        return self._link.is_there

    async def get(self, name: str) -> bytes | None:
        """The value; None if there is none, or if the server may be another than the one that the name was made for."""
        run = self._link.run
        value: bytes | None = await self._link.ask(lambda client: client.get(self._name(name)), None)
        return value if run == self._link.run or not name.startswith(PASSING) else None

    async def set(self, name: str, value: bytes, ttl_s: float) -> None:
        """Keep it for *ttl_s* seconds."""
        await self._link.ask(lambda client: client.set(self._name(name), value, px=_ms(ttl_s)), None)

    async def add(self, name: str, value: bytes, ttl_s: float) -> None:
        """Keep it where nothing is."""
        await self._link.ask(lambda client: client.set(self._name(name), value, px=_ms(ttl_s), nx=True), None)

    async def delete(self, *names: str) -> None:
        """Drop them."""
        if names:
            await self._link.ask(lambda client: client.unlink(*map(self._name, names)), 0)

    async def take(self, name: str, holder: str, ttl_s: float) -> float:
        """The lease, or how long the present one lasts."""
        left = await self._link.ask(lambda client: client.eval(TAKE, 1, self._name(name), holder, _ms(ttl_s)), 0)
        return float(left) / 1000

    async def renew(self, name: str, holder: str, ttl_s: float) -> None:
        """Let it go on."""
        await self._link.ask(lambda client: client.eval(RENEW, 1, self._name(name), holder, _ms(ttl_s)), 0)

    async def release(self, name: str, holder: str) -> None:
        """Give it up."""
        await self._link.ask(lambda client: client.eval(RELEASE, 1, self._name(name), holder), 0)

    def _name(self, name: str) -> str:
        return f"{self._prefix}{self._link.run}:{name}" if name.startswith(PASSING) else f"{self._prefix}{name}"


async def _answered(asked: asyncio.Future[Any], seconds: float) -> bool:
    """Whether *asked* is done within *seconds*. They count for Redis: an answer that has come while we were busy is one."""
    await asyncio.wait([asked], timeout=seconds)
    for _ in range(3):  # the loop reads the socket, wakes the reader, and the reader the command
        if asked.done():
            return True
        await asyncio.sleep(0)
    return asked.done()


def _ms(seconds: float) -> int:
    return max(1, int(seconds * 1000))


def _reason(error: BaseException) -> str:
    # What the library says may have the address in it, so it goes to the log only as a kind.
    if isinstance(error, (AuthenticationError, AuthorizationError)):
        return "Redis does not take the password in REDIS_URL"
    return f"Redis cannot be asked ({type(error).__name__})"
