"""Calling a function of the plugins in a child process: what it gets, gives and is told."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from nomaflow.errors import FunctionError, StepError
from nomaflow.steps.base import EarlierStep

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_a_function_gets_its_context_and_gives_its_value(workshop):
    workshop.write(
        "app/main.py",
        """
        async def f(ctx, *, name, **_):
            return {
                "name": name, "run_id": ctx.run_id, "job_id": ctx.job_id, "step": ctx.step_name,
                "attempt": ctx.attempt, "by": ctx.triggered_by, "trigger": ctx.trigger,
                "user": ctx.session_user,
                "dry": ctx.dry_run, "level": ctx.log_level, "params": dict(ctx.params),
                "state": dict(ctx.state), "due": ctx.scheduled_for, "stop": ctx.is_cancelled(),
            }
        """,
    )
    answer = await workshop.call(
        "app.main:f",
        kwargs={"name": "x"},
        params={"name": "x", "other": [1]},
        attempt=2,
        trigger="replay",
        triggered_by="user:alice",
        session_user="alice",
        dry_run=True,
        state={"last": "2026-01-01"},
        scheduled_for=datetime(2026, 11, 25, tzinfo=UTC),
    )
    assert answer == {
        "name": "x",
        "run_id": "run-1",
        "job_id": "job-1",
        "step": "step-1",
        "attempt": 2,
        "by": "user:alice",
        "trigger": "replay",
        "user": "alice",
        "dry": True,
        "level": "INFO",
        "params": {"name": "x", "other": [1]},
        "state": {"last": "2026-01-01"},
        "due": "2026-11-25T00:00:00+00:00",
        "stop": False,
    }


async def test_a_plain_function_runs_beside_the_loop(workshop):
    workshop.write(
        "m.py",
        """
        import threading
        def f(ctx, n: int = 0):
            ctx.log.info("working")
            return [n + 1, threading.current_thread() is threading.main_thread()]
        """,
    )
    assert await workshop.call("m:f", kwargs={"n": "41"}) == [42, False]
    assert ("INFO", "working") in workshop.ear.lines


async def test_a_package_is_a_module_too_and_modules_import_each_other(workshop):
    workshop.write("pkg/__init__.py", "from pkg.inner import VALUE\ndef f(ctx):\n    return VALUE")
    workshop.write("pkg/inner.py", "import shared_words\nVALUE = shared_words.WORD")
    workshop.write("shared_words.py", "WORD = 'hello'")
    assert await workshop.call("pkg:f") == "hello"


async def test_an_edit_is_seen_by_the_next_call_even_within_a_second(workshop):
    for number in range(5):
        workshop.write("m.py", f"def f(ctx):\n    return {number}")
        assert await workshop.call("m:f") == number
    assert not (workshop.plugins / "__pycache__").exists()


async def test_each_call_has_a_process_of_its_own(workshop):
    workshop.write("m.py", "SEEN = []\ndef f(ctx):\n    SEEN.append(1)\n    return len(SEEN)")
    assert [await workshop.call("m:f") for _ in range(3)] == [1, 1, 1]


async def test_an_earlier_step_is_read_whole_by_its_name(workshop):
    workshop.write(
        "m.py",
        """
        def f(ctx, previous_step):
            first = ctx.previous_step("fetch")
            return [first.status, len(first.output["body"]), previous_step.name,
                    previous_step.output["n"]]
        """,
    )
    earlier = {
        "fetch": EarlierStep("fetch", "succeeded", {"body": ["x" * 100] * 30_000}),
        "count": EarlierStep("count", "failed", {"n": 7}),
    }
    answer = await workshop.call("m:f", earlier=earlier)
    assert answer == ["succeeded", 30_000, "count", 7]
    workshop.write("n.py", "def f(ctx):\n    return ctx.previous_step('fech').output")
    with pytest.raises(StepError, match=r"no step 'fech' .* earlier steps: fetch, count"):
        await workshop.call("n:f", earlier=earlier)


async def test_lines_carry_level_time_and_fields_and_start_at_the_runs_level(workshop):
    workshop.write(
        "m.py",
        """
        import logging, sys
        def f(ctx):
            ctx.log.debug("fine print")
            ctx.log.warning("careful", page=3)
            ctx.log.error("bad\\x1b[31m")
            logging.getLogger("lib").info("from a library")
            logging.getLogger("httpx").info("https://secret")
            print("printed")
            print("complained", file=sys.stderr)
        """,
    )
    before = time.time()
    await workshop.call("m:f")
    ear = workshop.ear
    assert set(ear.lines) == {
        ("WARNING", "careful"),
        ("ERROR", "bad\\x1b[31m"),
        ("INFO", "from a library"),
        ("INFO", "printed"),
        ("WARNING", "complained"),
    }
    assert ear.fields[ear.lines.index(("WARNING", "careful"))] == {"page": 3}
    assert all(before <= at.timestamp() <= time.time() for at in ear.times)
    await workshop.call("m:f", log_level="DEBUG")
    assert ("DEBUG", "fine print") in ear.lines


async def test_progress_comes_at_a_pace_people_can_read_and_the_last_always(workshop):
    workshop.write(
        "m.py",
        "def f(ctx):\n    for n in range(1001):\n        ctx.progress(n, 1000, message='rows')",
    )
    await workshop.call("m:f")
    reports = workshop.ear.reports
    assert reports[-1] == {"done": 1000, "total": 1000, "unit": "rows", "message": "rows"}
    assert len(reports) < 20


async def test_the_environment_holds_what_the_step_lists_and_no_more(workshop):
    workshop.write(
        "m.py",
        """
        import os, subprocess
        def f(ctx):
            below = subprocess.run(["env"], capture_output=True, text=True).stdout
            mine = open(f"/proc/{os.getpid()}/environ").read()
            parent = open(f"/proc/{os.getppid()}/environ").read()
            return [dict(os.environ), below, mine + parent, os.getcwd(), os.listdir()]
        """,
    )
    answer = await workshop.call("m:f", environ={"GITHUB_TOKEN": "t0ken"})
    environ, below, raw, folder, files = answer
    assert environ["GITHUB_TOKEN"] == "t0ken"
    assert "GITHUB_TOKEN=t0ken" in below
    assert environ["HOME"] == environ["TMPDIR"] == folder
    assert files == []
    assert environ.keys() <= {
        *("PATH", "HOME", "TMPDIR", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "PYTHONPATH"),
        *("LD_LIBRARY_PATH", "SSL_CERT_FILE", "SSL_CERT_DIR", "GITHUB_TOKEN"),
    }
    assert "secret" not in below + raw
    assert not Path(folder).exists()


async def test_an_exception_comes_with_class_message_and_the_users_traceback(workshop):
    workshop.write(
        "app/deep.py",
        """
        import json
        def inner(text):
            return json.loads(text)
        async def f(ctx):
            try:
                inner("{")
            except ValueError as error:
                raise RuntimeError("row-count delta 80.0% > threshold 50.0%") from error
        """,
    )
    with pytest.raises(FunctionError) as failed:
        await workshop.call("app.deep:f")
    failure = failed.value.failure
    assert failure.type == "RuntimeError"
    assert failure.message == "row-count delta 80.0% > threshold 50.0%"
    assert failure.retryable
    assert failure.traceback.count('File "plugins/app/deep.py"') == 3
    assert "json/decoder.py" in failure.traceback
    assert "nomaflow" not in failure.traceback
    assert "asyncio" not in failure.traceback


@pytest.mark.parametrize(
    ("raised", "category", "kind"),
    [
        ("TimeoutError('slow')", "timeout", "TimeoutError"),
        ("ConnectionResetError('cut')", "connection", "ConnectionResetError"),
        ("StopIteration()", "error", "RuntimeError"),
    ],
)
async def test_the_category_follows_the_class(workshop, raised, category, kind):
    workshop.write("m.py", f"def f(ctx):\n    raise {raised}")
    with pytest.raises(FunctionError) as failed:
        await workshop.call("m:f")
    assert failed.value.category == category
    assert failed.value.failure.type == kind


async def test_a_step_error_of_the_function_keeps_its_facts(workshop):
    workshop.write(
        "m.py",
        """
        from nomaflow.errors import StepError
        def f(ctx):
            raise StepError("no use", retryable=False, output={"seen": 3}, retry_after=9)
        """,
    )
    with pytest.raises(StepError) as failed:
        await workshop.call("m:f")
    error = failed.value
    assert 'File "plugins/m.py", line 4' in error.failure.traceback
    assert (error.message, error.retryable, error.output, error.retry_after) == (
        "no use",
        False,
        {"seen": 3},
        9,
    )


@pytest.mark.parametrize(
    ("source", "callable", "words"),
    [
        ("def f(ctx): pass", "nope:f", "no module 'nope' under .*neither nope.py nor nope/__init"),
        ("def f(ctx): pass", "m:g", "m.py has no function 'g': it has f"),
        ("f = 3", "m:f", "'f' of .*m.py is a int, not a function"),
        ("class f:\n    pass", "m:f", "'f' of .*m.py is a type, not a function"),
        ("from os import system", "m:system", "'system' of .*m.py is a builtin_function_or_method"),
        ("from os import makedirs", "m:makedirs", "defined in os: a step calls functions"),
        ("import os\nf = os.makedirs", "m:f", "defined in os: a step calls functions"),
        ("def f(ctx): pass", "os:system", "no module 'os' under"),
        ("def f(ctx): pass", "subprocess:run", "no module 'subprocess' under"),
        ("def f(ctx): pass", "m:f.__globals__", "write `module.path:function`"),
        ("import nowhere_to_be_found", "m:f", "importing m failed: ModuleNotFoundError"),
        ("def f(ctx:\n    pass", "m:f", "importing m failed: SyntaxError"),
        ("import sys\nsys.exit(4)", "m:f", r"importing m failed: called sys.exit\(4\)"),
        ("def f(ctx, *, day): pass", "m:f", "m:f needs 'day'"),
        ("def f(ctx): return object()", "m:f", "m:f returned a object at /"),
        ("def f(ctx): return float('inf')", "m:f", "m:f returned inf at /"),
        ("def f(ctx): ctx.get_connector('x')", "m:f", "there is no connector 'x'"),
    ],
)
async def test_what_is_wrong_is_said_in_a_sentence(workshop, source, callable, words):
    workshop.write("m.py", source)
    with pytest.raises(StepError, match=words):
        await workshop.call(callable)


async def test_a_broken_import_shows_where(workshop):
    workshop.write("pkg/__init__.py", "")
    workshop.write("pkg/m.py", "from pkg import other\ndef f(ctx): pass")
    workshop.write("pkg/other.py", "x = 1\ny = x / 0")
    with pytest.raises(FunctionError) as failed:
        await workshop.call("pkg.m:f")
    assert failed.value.failure.type == "ZeroDivisionError"
    assert 'File "plugins/pkg/other.py", line 2' in failed.value.failure.traceback


async def test_a_plugin_named_like_an_installed_module_is_told_so(workshop):
    for name in ("json", "httpx"):
        workshop.write(f"{name}.py", "def f(ctx): pass")
        with pytest.raises(StepError, match=f"'{name}' under .* has the name of an installed"):
            await workshop.call(f"{name}:f")


async def test_a_link_out_of_the_folder_is_refused_and_one_inside_is_not(workshop, tmp_path):
    outside = tmp_path / "outside.py"
    outside.write_text("def f(ctx): return 1")
    (workshop.plugins / "m.py").symlink_to(outside)
    with pytest.raises(StepError, match="leads out of the plugins folder"):
        await workshop.call("m:f")
    workshop.write("real.py", "def f(ctx): return 1")
    (workshop.plugins / "n.py").symlink_to("real.py")
    assert await workshop.call("n:f") == 1


async def test_a_decorator_with_wraps_is_fine_and_one_without_is_explained(workshop):
    workshop.write(
        "deco.py",
        """
        import functools
        def good(f):
            @functools.wraps(f)
            def wrapper(*a, **k):
                return f(*a, **k)
            return wrapper
        def bad(f):
            return lambda *a, **k: f(*a, **k)
        """,
    )
    workshop.write("m.py", "import deco\n@deco.good\ndef f(ctx): return 1\ng = deco.bad(f)")
    assert await workshop.call("m:f") == 1
    with pytest.raises(StepError, match=r"needs functools\.wraps"):
        await workshop.call("m:g")


async def test_a_large_answer_arrives_and_too_large_a_one_is_explained(workshop):
    workshop.write("m.py", "def f(ctx, n):\n    return 'x' * n")
    assert len(await workshop.call("m:f", kwargs={"n": 20_000_000})) == 20_000_000
    with pytest.raises(StepError, match="returned 40000002 bytes of JSON, more than 33554432"):
        await workshop.call("m:f", kwargs={"n": 40_000_000})


async def test_ten_calls_at_once_do_not_mix(workshop):
    workshop.write(
        "m.py",
        "async def f(ctx, n):\n    ctx.log.info(f'n={n}')\n    return [n, ctx.params['p']]",
    )
    calls = [workshop.call("m:f", kwargs={"n": n}, params={"p": n * 2}) for n in range(10)]
    assert await asyncio.gather(*calls) == [[n, n * 2] for n in range(10)]
    assert sorted(t for _, t in workshop.ear.lines) == [f"n={n}" for n in range(10)]


async def test_tasks_and_threads_left_behind_do_not_hold_the_answer_up(workshop):
    workshop.write(
        "m.py",
        """
        import asyncio, threading, time
        async def f(ctx):
            asyncio.create_task(asyncio.sleep(60))
            threading.Thread(target=time.sleep, args=(60,)).start()
            return "done"
        """,
    )
    started = time.monotonic()
    assert await workshop.call("m:f") == "done"
    assert time.monotonic() - started < 3


async def test_arguments_that_json_cannot_hold_never_reach_a_child(workshop):
    workshop.write("m.py", "def f(ctx, **_): return 1")
    started = time.monotonic()
    with pytest.raises(StepError, match="the call of m:f holds a object at /call/kwargs/x"):
        await workshop.call("m:f", kwargs={"x": object()})
    assert time.monotonic() - started < 3
    assert await workshop.call("m:f") == 1


async def test_a_function_starts_runs_and_goes_on_meanwhile(workshop):
    workshop.write(
        "m.py",
        """
        import asyncio
        from decimal import Decimal
        async def f(ctx):
            first, second = await asyncio.gather(
                ctx.call_job("load", {"day": Decimal("1.50")}), ctx.call_job("tell", wait=False)
            )
            chain = [f"{up.job}@{run}" for up, (_, run) in zip(ctx.parent_chain, ctx.parent_chain)]
            return [first.run_id, first.status, second.output["n"], chain, ctx.prev_rows_affected]
        async def refused(ctx):
            await ctx.call_job("refused")
        async def odd(ctx, given):
            await ctx.call_job("load", object() if given is None else {"x": {1: object()}})
        """,
    )
    earlier = {"copy": EarlierStep("copy", "succeeded", {}, 41)}
    answer = await workshop.call("m:f", earlier=earlier)
    assert answer == ["run-1", "succeeded", 1, ["outer@run-a", "inner@run-b"], 41]
    assert workshop.ear.called == [
        ("load", {"day": 1.5}, True, True),
        ("tell", {}, False, True),
    ]
    for name, kwargs, words in (
        ("m:refused", {}, "there is no job `refused`"),
        ("m:odd", {"given": None}, "are a object; give a table"),
        ("m:odd", {"given": 1}, "hold a object at /x/1"),
    ):
        with pytest.raises(StepError, match=words):
            await workshop.call(name, kwargs=kwargs)


async def test_what_a_function_waits_for_is_called_back_with_its_end(workshop):
    workshop.write(
        "m.py",
        """
        import asyncio
        async def gives_up(ctx):
            try:
                await asyncio.wait_for(ctx.call_job("endless"), 0.1)
            except TimeoutError:
                return "gave up"
        async def stays(ctx):
            await ctx.call_job("endless")
        """,
    )
    assert await workshop.call("m:gives_up") == "gave up"
    assert workshop.ear.called_back == ["endless"]
    with pytest.raises(StepError, match="ran longer than"):
        await workshop.call("m:stays", timeout_seconds=0.5)
    assert workshop.ear.called_back == ["endless", "endless"]
