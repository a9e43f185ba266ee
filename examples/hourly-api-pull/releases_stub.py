"""A GitHub that lives on this machine: 30 releases of any repository, for who brings the token."""

import argparse
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

RELEASES = [
    {
        "id": 9000 + n,
        "tag_name": f"v1.{n}.0",
        "name": f"Release 1.{n}" if n % 5 else None,
        "published_at": f"2026-{1 + n // 28:02}-{1 + n % 28:02}T08:00:00Z",
        "body": f"Changes of 1.{n}:\n* it is 'better'",
        "author": {"login": "octocat"},
    }
    for n in range(30)
]


class ReleasesStub:
    """Listens on loopback from construction to `close()`; `statuses` holds every answer's status.

    `fail_next(503, 2)` lets the next two requests fail with that status.
    """

    def __init__(self, token: str, port: int = 0) -> None:
        self.statuses: list[int] = []
        self._failures: list[int] = []
        stub = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                status, answer = stub._answer(self.path, self.headers.get("Authorization"), token)
                stub.statuses.append(status)
                body = json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json; charset=utf-8")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Say nothing; `statuses` tells."""

        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        """The value of GITHUB_API_URL."""
        return f"http://127.0.0.1:{self._server.server_port}"

    def fail_next(self, status: int, times: int = 1) -> None:
        """Answer the coming requests with an error."""
        self._failures += [status] * times

    def _answer(self, path: str, authorization: str | None, token: str) -> tuple[int, object]:
        if authorization != f"Bearer {token}":
            return 401, {"message": "Bad credentials"}
        if self._failures:
            return self._failures.pop(0), {"message": "Having an incident"}
        url = urlsplit(path)
        if not re.fullmatch(r"/repos/[^/]+/[^/]+/releases", url.path):
            return 404, {"message": "Not Found"}
        query = parse_qs(url.query)
        size = min(int(query.get("per_page", ["30"])[0]), 100)
        page = int(query.get("page", ["1"])[0])
        return 200, RELEASES[(page - 1) * size : page * size]

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=9002)
    parser.add_argument("--token", default="ghp_your_token")
    options = parser.parse_args()
    stub = ReleasesStub(options.token, options.port)
    print(f"GITHUB_API_URL={stub.url}")
    print(f"GITHUB_TOKEN={options.token}")
    try:
        threading.Event().wait()
    except KeyboardInterrupt:
        stub.close()


if __name__ == "__main__":
    main()
