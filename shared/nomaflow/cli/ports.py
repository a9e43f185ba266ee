"""Which port the API gets: the one asked for or an error, else 8080 or the next free one."""

from __future__ import annotations

import errno
import socket

from nomaflow.errors import Code, NomaflowError

DEFAULT = 8080
TRIES = 100


def choose(host: str, asked: int | None) -> int:
    """Pick the port; NomaflowError (IN_USE) when the one asked for is taken."""
    if asked is not None:
        if not is_free(host, asked):
            raise NomaflowError(
                Code.IN_USE,
                f"Port {asked} on {host} is taken by another program. Stop that one, or choose "
                "another --port.",
            )
        return asked
    for port in range(DEFAULT, DEFAULT + TRIES):
        if is_free(host, port):
            return port
    raise NomaflowError(
        Code.IN_USE,
        f"Ports {DEFAULT} to {DEFAULT + TRIES - 1} on {host} are all taken. Choose a --port.",
    )


def is_free(host: str, port: int) -> bool:
    """Tell whether a server could listen there; NomaflowError (INVALID) for a foreign address."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            return False
        if error.errno == errno.EACCES:
            raise NomaflowError(
                Code.FORBIDDEN, f"This user may not listen on port {port}. Choose another --port."
            ) from None
        raise NomaflowError(
            Code.INVALID, f"This machine cannot listen on {host}: {error.strerror}."
        ) from None
    return True


def served_url(host: str, port: int) -> str:
    """Give the URL by which this machine reaches what listens on that address."""
    reached = {"0.0.0.0": "127.0.0.1", "::": "[::1]", "::1": "[::1]"}.get(host, host)  # noqa: S104
    return f"http://{reached}:{port}"
