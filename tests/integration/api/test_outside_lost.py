"""Scripts and wrapped commands whose API is away: at their start, in the middle, at their end."""

import asyncio
import json
import logging
import os
import signal
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from nomaflow.client import AsyncJob, ClientError, Job
from nomaflow.outside import calls, outside_job

from .conftest import TOKEN, serve

NOMAFLOW = Path(sys.executable).parent / "nomaflow"
FROM_TO = ("--source", "amanda", "--destination", "socrata")


@pytest.fixture
def hasty(monkeypatch):
    """The same waits, only shorter."""
    monkeypatch.setattr(calls, "WAITS", (0.01, 0.02, 0.05))


def port_of(api):
    return int(api.url.rpartition(":")[2])


def job_at(port, **more):
    return AsyncJob("permits", f"http://127.0.0.1:{port}", "amanda", "socrata", TOKEN, **more)


async def rows(api):
    found = await api.db.fetch(
        """SELECT r.status, r.started_at, r.finished_at, e.records_processed, e.message
           FROM nomaflow.runs r JOIN nomaflow.external_runs e ON e.run_id = r.id
           ORDER BY r.queued_at"""
    )
    return [dict(row) for row in found]


async def test_no_api_at_the_start_is_said_before_any_work(unused_tcp_port, hasty):
    job = job_at(unused_tcp_port)
    for call in (job.most_recent, job.start):
        with pytest.raises(ClientError, match="does not answer") as refused:
            await call()
        assert refused.value.code == "UNAVAILABLE"
    worked = []
    with pytest.raises(ClientError):
        async with job:
            worked.append(True)
    assert worked == []


async def test_a_script_that_does_not_need_its_record_works_without(
    options, unused_tcp_port, hasty, caplog
):
    job = job_at(unused_tcp_port, required=False)
    async with job:
        assert job.unregistered
        assert (job.record["id"], job.record["status"]) == (None, "in_progress")
        await job.heartbeat("half")
        job.records_processed = 5
    assert any("the run is not registered" in r.message for r in caplog.records)
    before = datetime.now(UTC)
    async with job:
        began = datetime.fromisoformat(job.record["start_date"])
        async with serve(options, port=unused_tcp_port) as api:
            await job.heartbeat()  # the API is back: here it hears of the run
            (row,) = await rows(api)
            assert row["status"] == "running"
            assert abs(row["started_at"] - began) < timedelta(milliseconds=1)
            assert not job.unregistered
            await job.result("success", records_processed=7)
            (row,) = await rows(api)
    assert (row["status"], row["records_processed"]) == ("succeeded", 7)
    assert before <= row["started_at"] <= row["finished_at"]
    # The second end of `async with` found the API gone, or the run over; either is only told.
    assert any("not recorded" in r.message for r in caplog.records)


async def test_an_end_that_cannot_be_recorded_hides_nothing(options, hasty, caplog):
    async with serve(options) as api:
        port = port_of(api)
        ok, bad = job_at(port), job_at(port)
        await ok.start()
        await bad.start()
    await ok.__aexit__(None, None, None)
    with pytest.raises(ZeroDivisionError):
        async with _begun(bad):
            raise ZeroDivisionError
    told = [r.message for r in caplog.records if r.levelno == logging.ERROR]
    assert len(told) == 2
    assert all(one.startswith("the end of the run was not recorded: The API at") for one in told)
    with pytest.raises(ClientError):
        await ok.result("success")  # whoever asks for it in words hears of it


class _begun:  # noqa: N801  reads as a phrase
    def __init__(self, job):
        self.job = job

    async def __aenter__(self):
        return self.job

    async def __aexit__(self, *ended):
        await self.job.__aexit__(*ended)


async def test_a_sign_of_life_never_stops_the_work(options, hasty, caplog):
    async with serve(options) as api:
        port = port_of(api)
        job = job_at(port)
        begun = await job.start()
    assert await job.heartbeat("half") == begun
    assert any("not heard" in r.message for r in caplog.records)
    async with serve(options, port=port) as api:
        await api.query(
            "mutation ($r: ID!) { runAbort(run: $r) { errors { code } } }", r=begun["id"]
        )
        with pytest.raises(ClientError, match="already aborted") as over:
            await job.heartbeat()
    assert over.value.code == "INVALID_STATE"


async def test_an_api_that_swallows_requests_does_not_hold_a_script_for_ever(monkeypatch):
    monkeypatch.setattr(calls, "BRIEF_PATIENCE", 0.1)
    monkeypatch.setattr(calls, "BRIEF_TIMEOUT", 0.2)
    held = []

    async def swallow(reader, writer):
        held.append(writer)

    server = await asyncio.start_server(swallow, "127.0.0.1", 0)
    job = job_at(server.sockets[0].getsockname()[1])
    job.resume("00000000-0000-7000-8000-000000000000")
    async with asyncio.timeout(3):
        await job.heartbeat()
    for writer in held:
        writer.close()
    server.close()


@pytest.mark.parametrize("status", [502, 503, 504])
async def test_a_gateway_without_its_api_is_an_api_that_is_away(hasty, status):
    async def answer(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 %d Bad\r\nContent-Length: 0\r\nConnection: close\r\n\r\n" % status)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    with pytest.raises(ClientError, match=f"answers {status}") as refused:
        await job_at(server.sockets[0].getsockname()[1]).start()
    assert refused.value.code == "UNAVAILABLE"
    server.close()


async def test_a_lost_answer_starts_and_ends_nothing_twice(api, hasty):
    """A proxy that hands each request on and then breaks the first connection of each call."""
    drops = [True, False, True, False]

    async def between(reader, writer):
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        body = await reader.readexactly(length)
        there, back = await asyncio.open_connection("127.0.0.1", port_of(api))
        back.write(head.replace(b"Connection: keep-alive", b"Connection: close") + body)
        answer = await there.read()
        if not drops.pop(0):
            writer.write(answer)
            await writer.drain()
        writer.close()
        back.close()

    server = await asyncio.start_server(between, "127.0.0.1", 0)
    job = job_at(server.sockets[0].getsockname()[1])
    await job.start()
    ended = await job.result("success", records_processed=3)
    server.close()
    assert (ended["status"], ended["records_processed"], drops) == ("success", 3, [])
    assert [row["status"] for row in await rows(api)] == ["succeeded"]


def test_a_script_may_end_by_itself():
    assert outside_job.told(SystemExit(0)) is None
    assert outside_job.told(SystemExit()) is None
    assert outside_job.told(SystemExit(3)) == "SystemExit: 3"
    assert outside_job.told(SystemExit("no file")) == "SystemExit: no file"


async def test_sys_exit_in_the_block_is_a_success(api):
    def script():
        with pytest.raises(SystemExit), Job("permits", api.url, "a", "b", TOKEN):
            sys.exit()

    await asyncio.to_thread(script)
    assert [row["status"] for row in await rows(api)] == ["succeeded"]


# --- the wrapper

PATIENT = "import nomaflow.outside.calls as c; c.WAITS = (0.05, 0.05); "
MAIN = "from nomaflow.cli.main import main; main()"


async def wrapped(url, tmp_path, *arguments, token=TOKEN, **pipes):
    """Begin `nomaflow external run permits`, with short waits."""
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", PATIENT + MAIN, "external", "run", "permits", *FROM_TO),
        *arguments,
        env={**os.environ, "NOMAFLOW_URL": url, "NOMAFLOW_TOKEN": token},
        cwd=tmp_path,
        **{"stdout": asyncio.subprocess.PIPE, "stderr": asyncio.subprocess.PIPE, **pipes},
    )


def python(code):
    return ("--", sys.executable, "-c", code)


async def ended(process):
    async with asyncio.timeout(30):
        out, err = await process.communicate()
    return process.returncode, (out or b"").decode(), (err or b"").decode()


SHOW = "import os; print(sorted(k for k in os.environ if k.startswith('NOMAFLOW_R')))"


async def test_a_command_is_run_though_the_api_is_away(tmp_path, unused_tcp_port):
    url = f"http://127.0.0.1:{unused_tcp_port}"
    status, out, err = await ended(await wrapped(url, tmp_path, *python(SHOW)))
    assert (status, out) == (0, "['NOMAFLOW_RESULT']\n")
    assert "nomaflow: the run is not registered: The API at" in err
    status, out, err = await ended(await wrapped(url, tmp_path, "--required", *python(SHOW)))
    assert (status, out) == (2, "")
    assert "does not answer" in err


async def test_a_wrong_token_does_not_stop_the_work_and_a_wrong_name_does(api, tmp_path):
    status, out, err = await ended(
        await wrapped(api.url, tmp_path, *python("print('worked')"), token="nf_wrong")
    )
    assert (status, out) == (0, "worked\n")
    assert "refused the token" in err
    process = await wrapped(api.url, tmp_path, "--source", " ", *python("print('worked')"))
    status, out, err = await ended(process)
    assert (status, out) == (2, "")
    assert "`source` is empty" in err
    assert await rows(api) == []


async def test_an_api_that_comes_back_hears_of_the_whole_run(options, tmp_path, unused_tcp_port):
    code = "print('up', flush=True); input(); print('done')"
    url = f"http://127.0.0.1:{unused_tcp_port}"
    process = await wrapped(url, tmp_path, *python(code), stdin=asyncio.subprocess.PIPE)
    async with asyncio.timeout(20):
        assert await process.stdout.readline() == b"up\n"
    before = datetime.now(UTC)
    async with serve(options, port=unused_tcp_port) as api:
        process.stdin.write(b"\n")
        status, out, _ = await ended(process)
        assert (status, out) == (0, "done\n")
        (row,) = await rows(api)
    assert row["status"] == "succeeded"
    assert row["started_at"] < before < row["finished_at"]


async def test_huge_output_costs_little_and_the_end_of_it_is_kept(api, tmp_path):
    code = (
        "import sys\n"
        "for n in range(40): sys.stderr.write('x' * 1_000_000)\n"
        "for n in range(40_000): print(n, file=sys.stderr)\n"
        "print('y' * 5_000_000)\n"
        "sys.exit(7)"
    )
    status, out, err = await ended(await wrapped(api.url, tmp_path, *python(code)))
    assert (status, len(out), err.count("x")) == (7, 5_000_001, 40_000_000)
    (row,) = await rows(api)
    lines = row["message"].splitlines()
    assert lines[0] == "exit status 7"
    assert lines[1:] == [str(n) for n in range(39_980, 40_000)]


async def test_bytes_that_are_no_text_pass_through_as_they_are(api, tmp_path):
    code = "import sys; sys.stderr.buffer.write(b'\\xff\\xc3' + bytes(range(256))); sys.exit(1)"
    process = await wrapped(api.url, tmp_path, *python(code))
    async with asyncio.timeout(30):
        _, err = await process.communicate()
    assert err == b"\xff\xc3" + bytes(range(256))
    assert (await rows(api))[0]["message"].startswith("exit status 1\n")


async def test_a_reader_that_leaves_does_not_end_the_work(api, tmp_path):
    code = (
        "import sys, time\n"
        "sys.stderr.write('first\\n'); sys.stderr.flush(); input()\n"
        "for n in range(100): sys.stderr.write('more' * 10_000)\n"
        "open('done', 'w').close()"
    )
    ours, theirs = os.pipe()
    process = await wrapped(
        api.url, tmp_path, *python(code), stderr=theirs, stdin=asyncio.subprocess.PIPE
    )
    os.close(theirs)
    assert await asyncio.to_thread(os.read, ours, 6) == b"first\n"
    os.close(ours)
    process.stdin.write(b"\n")
    status, _, _ = await ended(process)
    assert (status, (tmp_path / "done").exists()) == (0, True)
    assert [row["status"] for row in await rows(api)] == ["succeeded"]


async def test_a_command_that_leaves_a_daemon_is_over_when_it_ends(api, tmp_path):
    code = (
        "import subprocess\nprint(subprocess.Popen(['sleep', '60'], stdout=subprocess.DEVNULL).pid)"
    )
    status, out, _ = await ended(await wrapped(api.url, tmp_path, *python(code)))
    assert status == 0
    assert [row["status"] for row in await rows(api)] == ["succeeded"]
    os.kill(int(out), signal.SIGKILL)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGQUIT])
async def test_signals_reach_the_command(api, tmp_path, number):
    code = (
        "import signal, sys\n"
        f"signal.signal({int(number)}, lambda *_: (print('heard', flush=True), sys.exit(0)))\n"
        "print('up', flush=True)\n"
        "signal.pause()"
    )
    process = await wrapped(api.url, tmp_path, *python(code), stdin=asyncio.subprocess.DEVNULL)
    assert await process.stdout.readline() == b"up\n"
    process.send_signal(number)
    status, out, _ = await ended(process)
    assert (status, out) == (0, "heard\n")
    assert [row["status"] for row in await rows(api)] == ["succeeded"]


async def test_a_command_killed_with_9_is_a_failure_that_says_so(api, tmp_path):
    code = "import os; os.kill(os.getpid(), 9)"
    status, _, _ = await ended(await wrapped(api.url, tmp_path, *python(code)))
    assert status == 137
    assert (await rows(api))[0]["message"] == "exit status 137, as after SIGKILL"


async def test_what_cannot_be_executed_is_126(api, tmp_path):
    (tmp_path / "data").write_text("no program")
    process = await wrapped(api.url, tmp_path, "--", "./data")
    status, _, err = await ended(process)
    assert (status, "Permission denied" in err) == (126, True)
    assert (await rows(api))[0]["status"] == "failed"


async def test_a_killed_wrapper_leaves_a_run_that_turns_stale(api, tmp_path):
    code = "import os; print(os.getpid(), flush=True); input()"
    process = await wrapped(
        *(api.url, tmp_path, "--heartbeat", "1"),
        *python(code),
        stdin=asyncio.subprocess.PIPE,
    )
    await process.stdout.readline()
    process.kill()
    process.stdin.close()  # its command has nothing left to wait for
    await process.wait()
    (row,) = await rows(api)
    assert row["status"] == "running"
    stale = await api.db.fetchval("SELECT stale_seconds FROM nomaflow.external_runs")
    assert stale == 30  # at least so long: three missed signs of life would be three seconds


async def test_what_a_command_says_of_itself_may_be_nonsense(api, tmp_path):
    for said in ("[]", "{", '{"records_processed": -1, "message": 5}', '"' + "x" * 100_000):
        code = f"import os; open(os.environ['NOMAFLOW_RESULT'], 'w').write({said!r})"
        status, _, _ = await ended(await wrapped(api.url, tmp_path, *python(code)))
        assert status == 0, said
    found = await rows(api)
    assert {(row["status"], row["records_processed"]) for row in found} == {("succeeded", 0)}
    assert json.dumps([row["message"] for row in found]) == "[null, null, null, null]"
