"""The recipe of a smoke test (W10): down thrice is one call, and one that recovers is none."""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from recipes import load


class Service:
    """Answers /healthz with the statuses it is given, then with 200."""

    def __init__(self) -> None:
        self.answers: list[int] = []
        self.asked: list[str] = []
        service = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                service.asked.append(self.path)
                self.send_response(service.answers.pop(0) if service.answers else 200)
                self.end_headers()
                self.wfile.write(b"the database is away")

            def log_message(self, *_: object) -> None: ...

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}"


@pytest.fixture(scope="module")
def service():
    made = Service()
    yield made
    made.server.shutdown()
    made.server.server_close()


@pytest.fixture(scope="module")
def on_call():
    stub = load("nightly-sync", "slack_stub.py").SlackStub(tell=lambda _line: None)
    yield stub
    stub.close()


@pytest.fixture(scope="module")
def up(start, example, service, on_call):
    project = example("health-check")
    jobs = project / "jobs.toml"
    lines = jobs.read_text().replace("base_seconds = 30", "base_seconds = 0.1").splitlines()
    jobs.write_text("\n".join(line for line in lines if not line.startswith("schedule = ")))
    (project / ".env").write_text(
        f"SERVICE_URL={service.url}\nON_CALL_WEBHOOK_URL={on_call.url('/on-call')}\n"
    )
    return start(project)


async def test_down_thrice_is_one_call_and_less_is_none(up, service, on_call):
    service.answers = [503, 503]
    run = await up.ended(await up.trigger("healthz-smoke-test"))
    assert run["status"] == "SUCCEEDED", run
    assert len(run["steps"][0]["attempts"]) == 3

    service.answers = [503, 503, 503]
    run = await up.ended(await up.trigger("healthz-smoke-test"))
    assert run["status"] == "FAILED"
    assert len(run["steps"][0]["attempts"]) == 3
    assert "answered 503" in run["reason"]
    assert service.asked == ["/healthz"] * 6

    async def told():
        return on_call.texts("/on-call")

    (text,) = await up.eventually(told, bool)
    assert "healthz-smoke-test" in text
    assert "the database is away" in text

    assert (await up.ended(await up.trigger("healthz-smoke-test")))["status"] == "SUCCEEDED"
    assert len(on_call.calls) == 1
