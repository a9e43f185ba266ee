"""`python -m nomaflow_api`: read the settings, listen, serve until told to stop."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import signal
import socket
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

import structlog
import uvicorn

from nomaflow import logs
from nomaflow.errors import NomaflowError
from nomaflow.settings import Settings
from nomaflow_api import app
from nomaflow_api.backing import Backing, Options
from nomaflow_api.doors.responses import SafeHeaders

if TYPE_CHECKING:
    from starlette.applications import Starlette

log = structlog.get_logger(__name__)

LARGEST_MESSAGE = 1024 * 1024
GRACE_SECONDS = 5


class Server(uvicorn.Server):
    """Uvicorn under our own signals, so that ending on SIGTERM is a good end."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to the loop."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop)
        yield

    def _stop(self) -> None:
        self.should_exit = True


def config(application: Starlette) -> uvicorn.Config:
    """Say how uvicorn serves: our log, no trust in proxies, small WebSocket messages."""
    return uvicorn.Config(
        SafeHeaders(application),  # outside of everything, so that no answer goes without
        lifespan="on",
        log_config=None,
        log_level="warning",  # what it says of its starting and ending, we say too
        access_log=False,  # a URL may hold what should not be kept
        server_header=False,
        proxy_headers=False,
        ws="websockets-sansio",
        ws_max_size=LARGEST_MESSAGE,
        ws_ping_interval=20,
        ws_ping_timeout=20,
        ws_per_message_deflate=False,
        timeout_graceful_shutdown=GRACE_SECONDS,
    )


def listen(host: str, port: int) -> socket.socket:
    """Open the socket: a TCP address, or a path for a Unix socket; OSError when it is taken."""
    if host.startswith("/"):
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.bind(host)
    else:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        # With the protocol named, asyncio sends small answers at once (TCP_NODELAY).
        listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
    listener.listen(2048)
    listener.setblocking(False)  # noqa: FBT003  the standard library's own signature
    return listener


def main() -> int:
    """Run the API until SIGTERM or SIGINT; 0 after an orderly end, 2 for wrong settings."""
    try:
        settings = Settings.read()
        options = Options.of(settings)
        listener = listen(settings.host, settings.port)
    except NomaflowError as error:
        print(f"nomaflow api: {error.message}", file=sys.stderr)  # noqa: T201  no log yet
        return 2
    except OSError as error:
        place = f"{settings.host}:{settings.port}"
        print(f"nomaflow api: cannot listen on {place}: {error.strerror}", file=sys.stderr)  # noqa: T201
        return 2
    asyncio.run(_serve(settings, options, listener))
    return 0


async def _serve(settings: Settings, options: Options, listener: socket.socket) -> None:
    backing = Backing(options)
    logs.configure("api", look=settings.log_format, redact=backing.secrets.masked)
    server = Server(config(app.make(backing)))
    log.info("api is listening", host=settings.host, port=settings.port)
    gc.collect()
    gc.freeze()  # the schema stays for ever; looking at it again only makes some answers slow
    await server.serve(sockets=[listener])
    log.info("api has stopped")


if __name__ == "__main__":
    sys.exit(main())
