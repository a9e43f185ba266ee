"""Code that misbehaves fails its own step, in a sentence, and leaves nothing behind (F12)."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from pathlib import Path

import pytest

from nomaflow.errors import NomaflowError, StepError
from nomaflow_worker.sandbox.pool import Sandbox

pytestmark = pytest.mark.asyncio(loop_scope="module")

DAEMON = """
    import os, signal, sys, time

    def daemon(ctx):
        \"\"\"Fork twice, leave the session, and ignore what can be ignored.\"\"\"
        reading, writing = os.pipe()
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                    signal.signal(number, signal.SIG_IGN)
                os.write(writing, str(os.getpid()).encode())
                os.close(writing)
                time.sleep(600)
            os._exit(0)
        os.close(writing)
        pid = int(os.read(reading, 20))
        ctx.log.info(f"pid {pid}")
        ctx.log.info(f"pid {os.getpid()}")
"""


async def failed(workshop, callable="m:f", **more) -> StepError:
    with pytest.raises(StepError) as error:
        await workshop.call(callable, **more)
    # The next call finds everything in order.
    workshop.write("fine.py", "def f(ctx): return 'fine'")
    assert await workshop.call("fine:f") == "fine"
    return error.value


@pytest.mark.parametrize("form", ["def", "async def"])
async def test_sys_exit(workshop, form):
    workshop.write("m.py", f"import sys\n{form} f(ctx):\n    sys.exit(3)")
    error = await failed(workshop)
    assert error.message == "m:f called sys.exit(3): return a value, or raise to fail"
    assert error.failure.type == "SystemExit"
    assert 'File "plugins/m.py", line 3' in error.failure.traceback


async def test_sys_exit_in_a_task_of_its_own(workshop):
    workshop.write(
        "m.py",
        """
        import asyncio, sys
        async def leave():
            sys.exit("bye")
        async def f(ctx):
            await asyncio.gather(leave(), asyncio.sleep(5))
        """,
    )
    assert "m:f called sys.exit('bye')" in (await failed(workshop)).message


async def test_a_function_that_cancels_itself_is_not_tried_again(workshop):
    workshop.write("m.py", "import asyncio\nasync def f(ctx):\n    raise asyncio.CancelledError")
    error = await failed(workshop)
    assert (error.message, error.failure.retryable) == ("m:f was cancelled", False)


async def test_os_exit(workshop):
    workshop.write("m.py", "import os\ndef f(ctx):\n    print('last words')\n    os._exit(7)")
    error = await failed(workshop)
    assert error.message == "m:f ended its process with status 7 before it returned (os._exit?)"
    assert workshop.ear.lines == [("INFO", "last words")]


async def test_a_segfault_says_where(workshop):
    workshop.write("m.py", "import ctypes\ndef f(ctx):\n    ctypes.string_at(0)")
    error = await failed(workshop)
    assert error.message == "m:f died of signal 11 (SIGSEGV)"
    assert "plugins/m.py" in workshop.ear.said()


async def test_an_abort_in_native_code(workshop):
    workshop.write("m.py", "import os\ndef f(ctx):\n    os.abort()")
    assert (await failed(workshop)).message == "m:f died of signal 6 (SIGABRT)"


@pytest.mark.parametrize(
    "body",
    [
        "def f(ctx):\n    while True: pass",
        "async def f(ctx):\n    while True: pass",
        "async def f(ctx):\n    import time\n    time.sleep(600)",
        "async def f(ctx):\n    import asyncio\n    await asyncio.sleep(600)",
    ],
)
async def test_what_never_ends_is_ended_at_its_timeout(workshop, body):
    workshop.write("m.py", body)
    started = time.monotonic()
    error = await failed(workshop, timeout_seconds=0.5)
    assert error.message == "m:f ran longer than 0.5 s and was stopped"
    assert error.category == "timeout"
    assert time.monotonic() - started < 3


async def test_a_coroutine_has_a_second_to_clean_up(workshop):
    workshop.write(
        "m.py",
        """
        import asyncio
        async def f(ctx):
            try:
                await asyncio.sleep(600)
            finally:
                ctx.log.info(f"cleaning up, cancelled={ctx.is_cancelled()}")
        """,
    )
    await failed(workshop, timeout_seconds=0.3)
    assert workshop.ear.lines == [("INFO", "cleaning up, cancelled=True")]


async def test_a_plain_function_sees_that_it_is_cancelled(workshop):
    workshop.write(
        "m.py",
        """
        import time
        def f(ctx):
            while not ctx.is_cancelled():
                time.sleep(0.01)
            ctx.log.info("stopped in time")
            return "ignored"
        """,
    )
    error = await failed(workshop, timeout_seconds=0.3)
    assert "ran longer than" in error.message
    assert workshop.ear.lines == [("INFO", "stopped in time")]


STUBBORN = """
    import asyncio, os, signal, time
    async def f(ctx):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        ctx.log.info(f"pid {os.getpid()}")
        while True:
            try:
                await asyncio.sleep(600)
            except asyncio.CancelledError:
                ctx.log.info("no")
"""


async def test_a_cancelled_call_is_over_within_two_seconds_whatever_the_code_does(workshop, gone):
    workshop.write("m.py", STUBBORN)
    call = asyncio.create_task(workshop.call("m:f", timeout_seconds=600))
    (pid,) = await workshop.ear.pids(1)
    started = time.monotonic()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert 0.9 < time.monotonic() - started < 2
    assert gone(pid)
    assert ("INFO", "no") in workshop.ear.lines


async def test_a_second_cancel_does_not_wait_for_the_grace(workshop, gone):
    workshop.write("m.py", STUBBORN)
    call = asyncio.create_task(workshop.call("m:f", timeout_seconds=600))
    (pid,) = await workshop.ear.pids(1)
    call.cancel()
    await asyncio.sleep(0)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    while not gone(pid):
        await asyncio.sleep(0.01)


async def test_a_daemon_does_not_outlive_the_call(workshop, gone):
    workshop.write("m.py", DAEMON)
    assert await workshop.call("m:daemon") is None
    daemon, child = await workshop.ear.pids(2)
    assert gone(daemon)
    assert gone(child)


async def test_a_daemon_does_not_outlive_a_timeout(workshop, gone):
    workshop.write(
        "m.py", DAEMON + "\n    def f(ctx):\n        daemon(ctx)\n        time.sleep(600)"
    )
    await failed(workshop, timeout_seconds=1)
    daemon, child = await workshop.ear.pids(2)
    assert gone(daemon)
    assert gone(child)


async def test_more_processes_than_allowed(workshop, gone):
    workshop.write(
        "m.py",
        """
        import subprocess, time
        def f(ctx):
            for _ in range(70):
                ctx.log.info(f"pid {subprocess.Popen(['sleep', '600']).pid}")
            time.sleep(600)
        """,
    )
    error = await failed(workshop)
    assert error.message == "m:f started more than 64 processes and was stopped"
    assert all(gone(pid) for pid in await workshop.ear.pids(1))


async def test_a_fork_bomb(workshop, tmp_path):
    # Bounded twice over: at most 400 forks, and every process ends by itself after 20 seconds.
    marker = tmp_path / "pids"
    workshop.write(
        "m.py",
        """
        import os, time
        def f(ctx, file, until):
            with open(file, "ab", buffering=0) as pids:
                while os.path.getsize(file) < 400 * 6 and time.time() < until:
                    if os.fork() == 0:
                        pids.write(b"%5d\\n" % os.getpid())
            time.sleep(20)
        """,
    )
    marker.touch()
    started = time.monotonic()
    error = await failed(
        workshop, kwargs={"file": str(marker), "until": time.time() + 20}, timeout_seconds=60
    )
    assert error.message == "m:f started more than 64 processes and was stopped"
    assert time.monotonic() - started < 40
    pids = {int(line) for line in marker.read_text().split()}
    left = [pid for pid in pids if b"nf-step" in _name(pid)]
    assert len(pids) > 10
    assert left == []


def _name(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/comm").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""


async def test_a_memory_hog(workshop):
    workshop.write(
        "m.py",
        """
        def f(ctx):
            kept = []
            while True:
                kept.append(bytearray(b"x") * 8_000_000)
        """,
    )
    error = await failed(workshop, memory_mb=300)
    assert "more than memory_mb = 300, and was stopped" in error.message
    used = int(error.message.split()[2])
    assert 300 < used < 900


async def test_memory_of_all_its_processes_counts_together(workshop):
    workshop.write(
        "m.py",
        """
        import subprocess, sys, time
        def f(ctx):
            hog = "x = bytearray(b'x') * 100_000_000; import time; time.sleep(600)"
            for _ in range(4):
                subprocess.Popen([sys.executable, "-c", hog])
            time.sleep(600)
        """,
    )
    error = await failed(workshop, memory_mb=300)
    assert "more than memory_mb = 300" in error.message


async def test_pages_shared_by_forks_count_once(workshop):
    workshop.write(
        "m.py",
        """
        import os, time
        def f(ctx):
            big = bytearray(b"x") * 150_000_000
            pids = []
            for _ in range(4):
                if (pid := os.fork()) == 0:
                    time.sleep(0.8)
                    os._exit(0)
                pids.append(pid)
            for pid in pids:
                os.waitpid(pid, 0)
            return len(big)
        """,
    )
    assert await workshop.call("m:f", memory_mb=400) == 150_000_000


async def test_cpu_time_has_its_own_bound_children_included(workshop):
    workshop.write(
        "m.py",
        """
        import subprocess, sys
        def f(ctx):
            subprocess.run([sys.executable, "-c", "while True: pass"])
        """,
    )
    error = await failed(workshop, cpu_seconds=1)
    assert error.message == "m:f used more than cpu_seconds = 1 and was stopped"


async def test_output_without_end_is_bounded_and_says_so(workshop):
    workshop.write(
        "m.py",
        """
        import os
        def f(ctx):
            block = b"0123456789abcdef" * 4095 + b"\\n"
            for _ in range(4000):
                os.write(1, block)
            os.write(1, b"the very last line\\n")
            return 4000 * len(block)
        """,
    )
    assert await workshop.call("m:f") > 250_000_000
    said = workshop.ear.said()
    assert len(said) < 3_000_000
    assert "bytes) of output left out]" in said
    assert workshop.ear.lines[-1] == ("INFO", "the very last line")


async def test_a_flood_of_log_lines_is_slowed_and_leaves_the_loop_to_others(workshop):
    workshop.write(
        "m.py",
        """
        import time
        def f(ctx):
            until = time.monotonic() + 1.5
            n = 0
            while time.monotonic() < until:
                ctx.log.info("again")
                n += 1
            return n
        """,
    )
    call = asyncio.create_task(workshop.call("m:f"))
    worst = 0.0
    while not call.done():
        before = time.monotonic()
        await asyncio.sleep(0.01)
        worst = max(worst, time.monotonic() - before)
    written = await call
    assert len(workshop.ear.lines) == written < 40_000
    assert worst < 0.6


@pytest.mark.parametrize(
    "junk",
    [
        "b'garbage' * 1000",
        "b'\\xff\\xff\\xff\\xff'",
        "b'\\x00\\x00\\x00\\x02{}'",
        "b'\\x00\\x00\\x00\\x0f' + b'{\"backend\": \"x\"}'[:15]",
    ],
)
async def test_rubbish_on_the_engines_own_line(workshop, junk):
    workshop.write(
        "m.py",
        f"""
        import os, stat, time
        def f(ctx):
            for fd in range(3, 64):
                try:
                    if stat.S_ISSOCK(os.fstat(fd).st_mode):
                        os.write(fd, {junk})
                except OSError:
                    pass
            time.sleep(600)
        """,
    )
    assert "m:f wrote on the engine's own line: " in (await failed(workshop)).message


async def test_closing_every_file_fails_only_the_step(workshop):
    workshop.write("m.py", "import os\ndef f(ctx):\n    os.closerange(0, 256)\n    return 1")
    assert "m:f" in (await failed(workshop, timeout_seconds=5)).message


async def test_a_process_forked_by_the_function_cannot_answer_for_it(workshop):
    workshop.write(
        "m.py",
        """
        import os, sys
        def fork(ending):
            pid = os.fork()
            if pid == 0:
                if ending == "exit":
                    sys.exit(5)
                if ending == "raise":
                    raise RuntimeError("in the fork")
                return "from the fork"
            return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        def plain(ctx, ending):
            return fork(ending)
        async def coroutine(ctx, ending):
            return fork(ending)
        """,
    )
    for form in ("plain", "coroutine"):
        codes = [
            await workshop.call(f"m:{form}", kwargs={"ending": ending})
            for ending in ("return", "exit", "raise")
        ]
        assert codes == [0, 5, 1]
    assert "RuntimeError: in the fork" in workshop.ear.said()


async def test_multiprocessing_works(workshop):
    workshop.write(
        "m.py",
        """
        import concurrent.futures, multiprocessing
        def square(n):
            return n * n
        def f(ctx, way):
            context = multiprocessing.get_context(way)
            with concurrent.futures.ProcessPoolExecutor(2, mp_context=context) as pool:
                return list(pool.map(square, range(5)))
        """,
    )
    for way in ("fork", "spawn"):
        assert await workshop.call("m:f", kwargs={"way": way}) == [0, 1, 4, 9, 16]


async def test_a_killed_child_is_told_apart_from_one_that_returned(workshop):
    workshop.write(
        "m.py", "import os, signal\ndef f(ctx):\n    os.kill(os.getpid(), signal.SIGKILL)"
    )
    error = await failed(workshop)
    assert error.message.startswith("m:f died of signal 9 (SIGKILL)")


async def test_killing_its_guardian_ends_the_call_and_everything_below(workshop, gone):
    workshop.write(
        "m.py",
        DAEMON
        + """
    def f(ctx):
        daemon(ctx)
        os.kill(os.getppid(), signal.SIGKILL)
        time.sleep(600)
""",
    )
    error = await failed(workshop)
    assert error.message == "m:f was stopped: its guardian process died"
    for pid in await workshop.ear.pids(2):
        while not gone(pid):
            await asyncio.sleep(0.01)


async def test_the_service_managers_signals_leave_a_running_step_alone(workshop):
    workshop.write(
        "m.py",
        """
        import os, signal, time
        async def f(ctx):
            for pid in (os.getppid(), os.getpid()):
                os.kill(pid, signal.SIGTERM)
            time.sleep(0.2)
            return "still here"
        """,
    )
    assert await workshop.call("m:f") == "still here"


async def test_a_nursery_that_was_killed_is_replaced(own_workshop):
    own_workshop.write("m.py", "def f(ctx): return 'fine'")
    nursery = own_workshop.sandbox._nursery.process
    os.kill(nursery.pid, signal.SIGKILL)
    await nursery.wait()
    assert [await own_workshop.call("m:f") for _ in range(3)] == ["fine"] * 3


async def test_a_waiting_child_that_was_killed_is_not_used(own_workshop):
    own_workshop.write("m.py", "def f(ctx): return 'fine'")
    while own_workshop.sandbox._spares[0].is_alive():
        for pid in _below(own_workshop.sandbox._nursery.process.pid):
            os.kill(pid, signal.SIGKILL)
        await asyncio.sleep(0.01)
    assert await own_workshop.call("m:f") == "fine"


def _below(pid: int) -> list[int]:
    return [int(text) for text in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


async def test_stopping_the_sandbox_ends_its_calls(own_workshop, gone):
    own_workshop.write("m.py", STUBBORN)
    call = asyncio.create_task(own_workshop.call("m:f", timeout_seconds=600))
    (pid,) = await own_workshop.ear.pids(1)
    nursery = own_workshop.sandbox._nursery.process.pid
    await own_workshop.sandbox.stop()
    with pytest.raises(StepError, match="m:f was stopped with the worker's sandbox"):
        await call
    assert gone(pid)
    assert gone(nursery)


async def test_a_python_that_does_not_work_is_said_at_the_start(tmp_path):
    for python, words in (
        ("/nowhere/python", "/nowhere/python does not start"),
        ("/bin/false", "did not come up within"),
    ):
        sandbox = Sandbox(tmp_path, python=python)
        with pytest.raises(NomaflowError, match=f"python steps cannot run: .*{words}"):
            await sandbox.start()
        await sandbox.stop()
