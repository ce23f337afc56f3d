"""Who is counted as one client: a token's owner, or where requests come from. Pure."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where requests come from. Behind *trusted* proxies that is what they say (X-Forwarded-For), and else who connects."""

    trusted: Sequence[Network] = ()

    def of(self, remote: str | None, forwarded: Sequence[str]) -> str:
        """The client's address, of IPv6 the network (a /64) that a subscriber has; *forwarded* are the lines of the header.

        They are read from the right: each proxy adds whom it speaks to. What is no address ends the walk.
        """
        client = _address(remote or "")
        said = [part.strip() for line in forwarded for part in line.split(",")]
        while client is not None and said and any(client in network for network in self.trusted):
            before = _address(said.pop())
            if before is None:
                break
            client = before
        if client is None:
            return "nowhere"
        return str(client) if client.version == 4 else str(ipaddress.ip_network((client, 64), strict=False))


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    text = text.partition("%")[0].strip('"')
    if match := re.fullmatch(r"\[([^\]]+)\](?::\d+)?|(\d+\.\d+\.\d+\.\d+):\d+", text):
        text = match[1] or match[2]
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address
