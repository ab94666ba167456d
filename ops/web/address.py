"""The address of the web process."""

import errno
import socket

from events.errors import UsageError
from ops.urls import parsed_listen

# Who reads nothing of what is sent for so long is gone, or wants to keep us busy.
STALLED_SECONDS = 60


def listening(address: str) -> socket.socket:
    """A socket that listens on WEB_LISTEN. Raises UsageError when the address cannot be had."""
    host, port = parsed_listen(address)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # With the protocol named, asyncio sets TCP_NODELAY on its connections; without, each answer on a connection that
    # is kept waits 40 ms for the client's acknowledgement.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        # Its connections inherit it.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 1000 * STALLED_SECONDS)
    try:
        listener.bind((host, port))
        listener.listen(128)
    except OSError as error:
        listener.close()
        advice = "Set another address."
        if error.errno == errno.EADDRINUSE:
            advice = "If another `mbevents up` or `mbevents web` runs, end it; or set WEB_LISTEN to another address."
        raise UsageError(f"WEB_LISTEN: cannot listen on {address}: {error.strerror}. {advice}") from None
    return listener
