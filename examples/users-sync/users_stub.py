"""A user directory that lives on this machine: pages of users, for who brings the token."""

import argparse
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

LARGEST_PAGE = 100


def user(number: int, updated_at: str = "2026-01-01T00:00:00Z") -> dict[str, object]:
    """One user, as the API gives it."""
    return {
        "id": f"usr_{number:05}",
        "email": f"User.{number}@Example.COM",
        "first_name": f"First{number}",
        "last_name": f"Last{number}",
        "active": number % 4 != 0,
        "updated_at": updated_at,
    }


class UsersStub:
    """Listens on loopback from construction to `close()`.

    `users` is what it has, `asked` the query of every request. `limit_next()` lets the next request
    be told to wait a second; `before(query)` is called before each answer.
    """

    def __init__(self, token: str, count: int = 250, port: int = 0) -> None:
        self.users = [user(n) for n in range(1, count + 1)]
        self.asked: list[dict[str, str]] = []
        self.statuses: list[int] = []
        self.at_once = self._now = 0
        self.delay_seconds = 0.0
        self.before: Callable[[dict[str, str]], None] = lambda _query: None
        self._limited = 0
        self._lock = threading.Lock()
        stub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                with stub._busy():
                    status, answer = stub._answer(self.path, self.headers, token)
                body = json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                if status == 429:
                    self.send_header("Retry-After", "1")
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Say nothing; `asked` tells."""

        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        """The value of USERS_API_URL."""
        return f"http://127.0.0.1:{self._server.server_port}/v1"

    def limit_next(self, times: int = 1) -> None:
        """Tell the coming requests to wait."""
        self._limited += times

    @contextmanager
    def _busy(self) -> Iterator[None]:
        """Count how many requests are answered at once."""
        with self._lock:
            self._now += 1
            self.at_once = max(self.at_once, self._now)
        yield
        with self._lock:
            self._now -= 1

    def _answer(self, path: str, headers: object, token: str) -> tuple[int, object]:
        url = urlsplit(path)
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        self.asked.append(query)
        status, answer = self._found(url.path, query, headers.get("Authorization"), token)
        self.statuses.append(status)
        return status, answer

    def _found(
        self, path: str, query: dict[str, str], authorization: str | None, token: str
    ) -> tuple[int, object]:
        if authorization != f"Bearer {token}":
            return 401, {"message": "Who are you?"}
        if path != "/v1/users":
            return 404, {"message": "There are only users here"}
        with self._lock:
            if self._limited:
                self._limited -= 1
                return 429, {"message": "Slow down"}
        self.before(query)
        time.sleep(self.delay_seconds)
        since = query.get("updated_since", "")
        wanted = [one for one in self.users if str(one["updated_at"]) >= since]
        size = min(int(query.get("limit", "20")), LARGEST_PAGE)
        first = (int(query.get("page", "1")) - 1) * size
        return 200, {"data": wanted[first : first + size], "total": len(wanted)}

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=9003)
    parser.add_argument("--token", default="your_token")
    parser.add_argument("--count", type=int, default=250)
    options = parser.parse_args()
    stub = UsersStub(options.token, options.count, options.port)
    print(f"USERS_API_URL={stub.url}")
    print(f"USERS_API_TOKEN={options.token}")
    try:
        threading.Event().wait()
    except KeyboardInterrupt:
        stub.close()


if __name__ == "__main__":
    main()
