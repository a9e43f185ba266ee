"""An API of items that lives on this machine: pages of them, and those that changed since."""

import argparse
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, urlsplit


class ItemsStub:
    """Listens on loopback until `close()`; `asked` holds the query of each request, in order."""

    def __init__(self, count: int = 95, port: int = 0) -> None:
        self.items = [
            {"id": n, "name": f"Item {n}", "updated_at": "2026-01-01T00:00:00Z"}
            for n in range(1, count + 1)
        ]
        self.asked: list[dict[str, str]] = []
        stub = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                query = dict(parse_qsl(urlsplit(self.path).query))
                stub.asked.append(query)
                body = json.dumps(stub._answer(query)).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Say nothing; `asked` tells."""

        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        """The value of ITEMS_API_URL."""
        return f"http://127.0.0.1:{self._server.server_port}"

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()

    def _answer(self, query: dict[str, str]) -> dict[str, object]:
        found = [item for item in self.items if item["updated_at"] >= query.get("since", "")]
        size, page = int(query.get("size", "100")), int(query.get("page", "1"))
        return {"total": len(found), "data": found[(page - 1) * size : page * size]}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=8099)
    stub = ItemsStub(port=parser.parse_args().port)
    print(f"ITEMS_API_URL={stub.url}")
    threading.Event().wait()
