"""Alerts on their way: a real outbox, a real HTTP sink on loopback, time as an argument."""

import asyncio
import contextlib
import json
from datetime import UTC, datetime, timedelta

import httpx
import pytest

from nomaflow.alert_spec import Channels, ChannelSpec
from nomaflow.alerts import deliver
from nomaflow.store import database, deliveries
from nomaflow.store.births import NewRun, insert
from nomaflow.store.transitions import NewDelivery

T0 = datetime(2026, 11, 22, 2, 0, tzinfo=UTC)
SECRET = "T0S3CR3TT0K3N123456"


class Sink:
    """Answers each POST with the next of `answers` (the last one for ever) and keeps it."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.calls = []
        self.server = None

    async def __aenter__(self):
        self.server = await asyncio.start_server(self._answer, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_):
        self.server.close()
        await self.server.wait_closed()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server.sockets[0].getsockname()[1]}/hook/{SECRET}"

    async def _answer(self, reader, writer):
        with contextlib.closing(writer):
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            headers = dict(line.lower().split(": ", 1) for line in head.strip().splitlines()[1:])
            content = await reader.readexactly(int(headers["content-length"]))
            self.calls.append((headers, json.loads(content)))
            status, text = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
            writer.write(
                f"HTTP/1.1 {status}\r\nContent-Length: {len(text)}\r\n"
                f"Connection: close\r\n\r\n{text}".encode()
            )
            await writer.drain()


@pytest.fixture
async def db(database_url):
    opened = await database.connect(database_url, max_size=5)
    yield opened
    await opened.close()


@pytest.fixture
async def http():
    async with httpx.AsyncClient(timeout=5, trust_env=False) as client:
        yield client


def to(url, kind="slack", **more):
    return Channels({"ops": ChannelSpec(kind=kind, url=url, default=True, **more)})


def sender(db, http, channels, env=None):
    return deliver.Sender(db=db, channels=lambda: channels, env=lambda: env or {}, http=http)


PAYLOAD = {"event": "failed", "job_name": "j", "run_id": "", "error": "boom", "step": "s"}


async def write(db, channel="ops", recipient="", at=T0, payload=PAYLOAD):
    async with db.transaction() as connection:
        run_id = await insert(connection, NewRun(job_name="j", trigger="api", triggered_by="api"))
        message = NewDelivery("j", "failed", channel, recipient, payload)
        await deliveries.add(connection, run_id, [message, message])
        await connection.execute("UPDATE nomaflow.deliveries SET next_at = $1", at)
    return run_id


async def only(db, run_id):
    (delivery,) = await deliveries.of_run(db, run_id)
    return delivery


async def test_a_message_that_meets_503_twice_arrives_once_with_back_off(db, http):
    async with Sink(("503 Busy", "later"), ("503 Busy", ""), ("200 OK", "ok")) as sink:
        run_id = await write(db)
        post = sender(db, http, to("${env:HOOK}"), {"HOOK": sink.url})
        assert await deliver.deliver_due(post, at=T0) == 1
        first = await only(db, run_id)
        assert (first.status, first.attempts) == ("pending", 1)
        assert first.next_at == T0 + timedelta(seconds=5)
        assert "503 Service Unavailable: later" in first.error

        assert await deliver.deliver_due(post, at=T0 + timedelta(seconds=4)) == 0
        assert await deliver.deliver_due(post, at=T0 + timedelta(seconds=5)) == 1
        assert (await only(db, run_id)).next_at == T0 + timedelta(seconds=15)
        assert await deliver.deliver_due(post, at=T0 + timedelta(seconds=15)) == 1

        done = await only(db, run_id)
        assert (done.status, done.attempts, done.error) == ("sent", 3, None)
        assert done.sent_at == T0 + timedelta(seconds=15)
        assert await deliver.deliver_due(post, at=T0 + timedelta(days=1)) == 0
        assert len(sink.calls) == 3
        keys = {headers["idempotency-key"] for headers, _ in sink.calls}
        assert keys == {str(done.id)}
        assert "*j failed*" in sink.calls[-1][1]["text"]


async def test_a_dead_address_is_given_up_after_its_tries_and_can_be_sent_again(db, http):
    async with Sink(("200 OK", "ok")) as sink:
        url = sink.url
    run_id = await write(db)
    post = sender(db, http, to("${env:HOOK}"), {"HOOK": url})
    at = T0
    for _ in range(deliver.TRIES):
        assert await deliver.deliver_due(post, at=at) == 1
        at = (await only(db, run_id)).next_at or at
    dead = await only(db, run_id)
    assert (dead.status, dead.attempts, dead.next_at) == ("failed", deliver.TRIES, None)
    assert dead.error.startswith("channel `ops`: no connection: ")
    assert at - T0 < timedelta(minutes=40)
    assert await deliver.deliver_due(post, at=at + timedelta(days=1)) == 0
    status = await db.fetchval("SELECT status FROM nomaflow.runs WHERE id = $1", run_id)
    assert status == "queued"  # the run knows nothing of it

    async with Sink(("200 OK", "ok")) as sink:
        assert await deliveries.send_again(db, dead.id)
        post = sender(db, http, to("${env:HOOK}"), {"HOOK": sink.url})
        assert await deliver.deliver_due(post) == 1
        assert (await only(db, run_id)).status == "sent"
        assert not await deliveries.send_again(db, dead.id)


async def test_two_senders_send_each_message_once(db, http):
    async with Sink(("200 OK", "ok")) as sink:
        runs = [await write(db) for _ in range(30)]
        post = sender(db, http, to(sink.url))
        tried = await asyncio.gather(*(deliver.deliver_due(post, at=T0) for _ in range(3)))
        assert sum(tried) == len(sink.calls) == 30
        assert {(await only(db, run)).status for run in runs} == {"sent"}


async def test_a_message_whose_sender_died_is_sent_by_the_next_one(db, http):
    async with Sink(("200 OK", "ok")) as sink:
        run_id = await write(db)
        (taken,) = await deliveries.claim(db, limit=5, hold_seconds=60, at=T0)
        post = sender(db, http, to(sink.url))
        assert await deliver.deliver_due(post, at=T0 + timedelta(seconds=59)) == 0
        assert await deliver.deliver_due(post, at=T0 + timedelta(seconds=60)) == 1
        assert (await only(db, run_id)).attempts == 2
        # the one that was thought dead comes too late to say anything
        assert not await deliveries.not_sent(db, taken, "x", retry_in_seconds=None)
        assert (await only(db, run_id)).status == "sent"


async def test_secrets_never_get_into_the_outbox(db, http, caplog):
    echo = f"no such hook {SECRET}"
    async with Sink(("404 Not Found", echo)) as sink:
        run_id = await write(db)
        env = {"HOOK": sink.url, "TOKEN": "a-secret-of-ours"}
        channels = to("${env:HOOK}", headers={"Authorization": "Bearer ${env:TOKEN}"})
        await deliver.deliver_due(sender(db, http, channels, env), at=T0)
        failed = await only(db, run_id)
        assert failed.error == "channel `ops`: the server answered 404 Not Found: no such hook ***"
        assert sink.calls[0][0]["authorization"] == "bearer a-secret-of-ours"
        everything = str(await db.fetch("SELECT * FROM nomaflow.deliveries")) + caplog.text
        assert SECRET not in everything
        assert "a-secret-of-ours" not in everything


@pytest.mark.parametrize(
    ("channel", "recipient", "words"),
    [
        ("nobody", "", "there is no channel `nobody` in alerts.toml; it has `ops`"),
        ("default", "a@b.c", "e-mail is not available in this version"),
        ("default", "#team", "alerts.toml has no slack channel"),
    ],
)
async def test_what_cannot_be_reached_says_why(db, http, channel, recipient, words):
    run_id = await write(db, channel, recipient)
    channels = to("https://pager.invalid", kind="webhook")
    await deliver.deliver_due(sender(db, http, channels), at=T0)
    assert words in (await only(db, run_id)).error


async def test_mending_the_files_lets_a_waiting_message_through(db, http):
    async with Sink(("200 OK", "ok")) as sink:
        run_id = await write(db, "default")
        await deliver.deliver_due(sender(db, http, Channels()), at=T0)
        assert "no channel is the default one" in (await only(db, run_id)).error
        await deliver.deliver_due(sender(db, http, to("${env:HOOK}")), at=T0 + timedelta(seconds=5))
        assert (await only(db, run_id)).error == (
            "channel `ops`: `${env:HOOK}`: the project's .env has no variable `HOOK`"
        )
        await deliver.deliver_due(
            sender(db, http, to("${env:HOOK}"), {"HOOK": sink.url}),
            at=T0 + timedelta(seconds=15),
        )
        assert (await only(db, run_id)).status == "sent"


async def test_a_room_goes_through_the_slack_channel_with_its_name(db, http):
    async with Sink(("200 OK", "ok")) as sink:
        run_id = await write(db, "ops", "#team")
        await deliver.deliver_due(sender(db, http, to(sink.url)), at=T0)
        assert (await only(db, run_id)).status == "sent"
        assert sink.calls[0][1]["channel"] == "#team"


async def test_a_message_this_version_cannot_write_does_not_stop_the_others(db, http):
    async with Sink(("200 OK", "ok")) as sink:
        strange = await write(db, payload={**PAYLOAD, "event": "from-the-future"})
        plain = await write(db)
        assert await deliver.deliver_due(sender(db, http, to(sink.url)), at=T0) == 2
        assert (await only(db, strange)).error == "internal error (ValueError)"
        assert (await only(db, plain)).status == "sent"


def test_waits_double_up_to_a_quarter_of_an_hour_and_obey_the_server():
    waits = [deliver.wait_seconds(n) for n in range(1, deliver.TRIES)]
    assert waits == [5, 10, 20, 40, 80, 160, 320, 640, 900]
    assert deliver.wait_seconds(1, retry_after=30) == 30
    assert deliver.wait_seconds(1, retry_after=86_400) == 900
