"""Loopback ports for programs that cannot be told to take any free one: nobody else is given the same, in whatever process."""

from __future__ import annotations

import random
import socket

FIRST, LAST = 20_000, 32_767
"""Below those that systems give to whoever asks for any (Linux from 32768, macOS from 49152), so that none is taken in between."""
TRIES = 1000


def free_port() -> int:
    """A port that nobody listens on, and that no other test on this machine is given as long as this process lives."""
    for _ in range(TRIES):
        port = random.randint(FIRST, LAST)
        claim = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            # UDP has ports of its own: holding this one is the claim, and the end of the process gives it back.
            claim.bind(("127.0.0.1", port))
            with socket.socket() as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(("127.0.0.1", port))
        except OSError:
            claim.close()
            continue
        claim.detach()
        return port
    raise AssertionError(f"no free port among {TRIES}")
