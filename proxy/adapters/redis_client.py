"""A client of the library for every kind of Redis: one server, one that Sentinels name, a cluster; with TLS or without."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from redis.asyncio import BlockingConnectionPool, Connection, Redis, RedisCluster, SSLConnection, UnixDomainSocketConnection
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel
from redis.backoff import NoBackoff

from proxy.redis_address import Address, Kind


def connected(
    address: Address, connections: int, wait_s: float, patience_s: float, greet: Callable[[Any], Awaitable[None]]
) -> Redis | RedisCluster:
    """A client with at most *connections*, for a free one of which a command waits *wait_s* seconds; nothing is tried twice.

    *patience_s* is for connecting and for answers. *greet* is called with each new connection in place of the library's own
    ``on_connect`` (but for clusters, where that cannot be replaced).
    """
    sentinel_password = address.options.get("sentinel_password")
    tls: dict[str, Any] = {name: value for name, value in address.options.items() if name != "sentinel_password"}
    times: dict[str, Any] = {"socket_timeout": patience_s, "socket_connect_timeout": patience_s}
    common: dict[str, Any] = {
        "username": address.username,
        "password": address.password,
        "retry": Retry(NoBackoff(), 0),
        "protocol": 3,
        **times,
    }
    if address.kind is Kind.CLUSTER:
        nodes = [ClusterNode(host, port) for host, port in address.hosts]
        if address.tls:
            common |= {"ssl": True, **tls}
        return RedisCluster(startup_nodes=nodes, max_connections=connections, **common)
    common |= {"db": address.db, "redis_connect_func": greet}
    if address.kind is Kind.SENTINEL:
        if address.tls:
            common |= {"ssl": True, **tls}
            times |= {"ssl": True, **tls}
        sentinel: Any = Sentinel(list(address.hosts), sentinel_kwargs={"password": sentinel_password, **times}, **common)  # type: ignore[no-untyped-call]
        master: Redis = sentinel.master_for(address.service, max_connections=connections)
        return master
    if address.path is not None:
        common |= {"connection_class": UnixDomainSocketConnection, "path": address.path}
    else:
        host, port = address.hosts[0]
        common |= {"connection_class": SSLConnection, **tls} if address.tls else {"connection_class": Connection}
        common |= {"host": host, "port": port}
    return Redis.from_pool(BlockingConnectionPool(connections, wait_s, **common))


async def close(client: Any) -> None:
    """Close all connections of a client of `connected`, those to Sentinels too."""
    await client.aclose()
    watchers = getattr(getattr(client, "connection_pool", None), "sentinel_manager", None)
    for watcher in () if watchers is None else watchers.sentinels:
        await watcher.aclose()
