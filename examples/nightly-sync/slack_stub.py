"""A Slack that lives on this machine: takes webhook calls, counts them and prints what they say."""

import argparse
import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class SlackStub:
    """Listens on loopback until `close()`; `calls` holds (path, JSON body) in order."""

    def __init__(self, port: int = 0, tell: Callable[[str], None] = print) -> None:
        self.calls: list[tuple[str, dict]] = []
        stub = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                length = int(self.headers.get("Content-Length", 0))
                try:
                    body = json.loads(self.rfile.read(length))
                except ValueError:
                    self.send_error(400, "the body is not JSON")
                    return
                stub.calls.append((self.path, body))
                tell(f"call {len(stub.calls)} to {self.path}: {body.get('text', body)}")
                self.send_response(200)
                self.end_headers()
                self.wfile.write(b"ok")

            def log_message(self, *_: object) -> None:
                """Say nothing more: `tell` has said it."""

        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def url(self, path: str) -> str:
        """Where a webhook of that path is reached."""
        return f"http://127.0.0.1:{self._server.server_port}{path}"

    def texts(self, path: str) -> list[str]:
        """What was said to one webhook, in order."""
        return [body.get("text", "") for called, body in self.calls if called == path]

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=9001)
    stub = SlackStub(parser.parse_args().port)
    print(f"SLACK_WEBHOOK_URL={stub.url('/success')}")
    print(f"ON_CALL_WEBHOOK_URL={stub.url('/on-call')}")
    try:
        threading.Event().wait()
    except KeyboardInterrupt:
        stub.close()


if __name__ == "__main__":
    main()
