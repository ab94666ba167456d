"""Ports of the loopback for servers that are told theirs before they start."""

import random
import socket
from contextlib import suppress

# Below those that Linux gives to clients, which could take one between our look and the server's bind.
_RANGE = range(20_000, 32_000)
_given: set[int] = set()


def free_port() -> int:
    """A port of 127.0.0.1 that nobody has, another one each time."""
    while True:
        port = random.choice(_RANGE)
        with suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            if port not in _given:
                _given.add(port)
                return port
