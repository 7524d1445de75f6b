"""A listening socket for the two servers, bound before anything else starts, so that a busy port changes nothing."""

from __future__ import annotations

import errno
import socket

from edgewise.wire import NotNow, NotValid

BACKLOG = 1024


def listen(host: str, port: int, *, option: str = "--http-port") -> socket.socket:
    """A listening socket; port 0 lets the system choose.

    Args:
        option: of the command line that chooses the port, for messages.

    Raises:
        NotNow: another program has the port.
        NotValid: this machine has no such address, or the port may not be used.
    """
    if not 0 <= port <= 65_535:
        raise NotValid(f"cannot listen on {host!r} port {port}: a port is from 0 to 65535", code="address_invalid")
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise NotNow(
                f"port {port} of {host} is already in use by another program; give {option} N (0 picks a free one)",
                code="port_busy",
            ) from error
        raise NotValid(
            f"cannot listen on {host!r} port {port}: {error.strerror or error}; choose another address, or {option}",
            code="address_invalid",
        ) from error


def address(listener: socket.socket, *, secure: bool = False) -> str:
    """The URL under which a listening socket can be reached.

    >>> with listen("127.0.0.1", 0) as listener:
    ...     address(listener).startswith("http://127.0.0.1:")
    True
    """
    host, port = listener.getsockname()[:2]
    scheme = "https" if secure else "http"
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"
