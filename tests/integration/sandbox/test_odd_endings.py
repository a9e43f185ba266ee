"""Endings a function may come to that nobody wants: each is one sentence, of a bounded size."""

from __future__ import annotations

import re
import time

import pytest

from nomaflow.errors import FunctionError, StepError

pytestmark = pytest.mark.asyncio(loop_scope="module")


DEEP = """
def f(ctx):
    deep = []
    for _ in range(100_000):
        deep = [deep]
    return deep
"""


async def failure(workshop, body, **more) -> FunctionError | StepError:
    workshop.write("m.py", body)
    with pytest.raises(StepError) as caught:
        await workshop.call("m:f", **more)
    return caught.value


async def test_a_message_of_ten_megabytes_is_cut(workshop):
    error = await failure(workshop, "def f(ctx):\n    raise RuntimeError('x' * 10_000_000)")
    assert error.failure.type == "RuntimeError"
    assert "xx [... 10000000 characters in all ...] xx" in error.message
    assert len(error.message) < 10_000
    assert len(error.failure.traceback) < 100_000
    assert 'File "plugins/m.py", line 2' in error.failure.traceback


async def test_an_exception_that_cannot_be_written_is_still_a_failure(workshop):
    error = await failure(
        workshop,
        """
        class Shy(Exception):
            def __str__(self):
                raise ValueError("not today")
            __repr__ = __str__
        def f(ctx):
            raise Shy
        """,
    )
    assert isinstance(error, FunctionError)
    assert error.failure.type == "Shy"
    assert 'File "plugins/m.py", line 7' in error.failure.traceback


async def test_a_step_error_with_strange_facts_is_still_one(workshop):
    error = await failure(
        workshop,
        """
        from nomaflow.errors import StepError
        def f(ctx):
            raise StepError(123, category="weird", retryable="no", retry_after="soon",
                            http_status="404", output=[1, 2])
        """,
    )
    assert (error.message, error.category, error.retryable) == ("123", "error", True)
    assert (error.retry_after, error.http_status, error.output) == (None, None, {"output": [1, 2]})
    error = await failure(
        workshop,
        "from nomaflow.errors import StepError\n"
        "def f(ctx):\n    raise StepError('x', output={'a': object()})",
    )
    assert "a object at /error/output/a" in error.message


async def test_many_exceptions_at_once_are_told_together(workshop):
    error = await failure(
        workshop,
        """
        import asyncio
        async def bad(n):
            raise ValueError(f"bad {n}")
        async def f(ctx):
            async with asyncio.TaskGroup() as group:
                for n in range(200):
                    group.create_task(bad(n))
        """,
    )
    assert error.failure.type == "ExceptionGroup"
    assert "bad 0" in error.failure.traceback
    assert len(error.failure.traceback) < 100_000


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("def f(ctx):\n    return f(ctx)", "maximum recursion depth exceeded"),
        (DEEP, "nested more than 100 deep"),
        ("def f(ctx):\n    loop = {}\n    loop['a'] = loop\n    return loop", "inside itself"),
        (
            "def f(ctx):\n    return 'x' * 100_000_000",
            "returned 100000002 bytes of JSON, more than",
        ),
        ("def f(ctx):\n    return {'a': {1, object()}}", "a object at /a/"),
        ("def f(ctx):\n    return {(1, 2): 3}", r"the key \(1, 2\)"),
        ("def f(ctx):\n    return b'bytes'", "a bytes at /"),
        ("def f(ctx):\n    return lambda: 1", "a function at /"),
        ("def f(ctx):\n    yield 1", "a generator at /"),
        ("async def f(ctx):\n    yield 1", "a async_generator at /"),
        ("def f(ctx):\n    raise KeyboardInterrupt", "was interrupted"),
        ("def f(ctx):\n    raise GeneratorExit", "GeneratorExit"),
        (
            "async def f(ctx):\n    import asyncio\n    raise asyncio.CancelledError",
            "was cancelled",
        ),
        ("def f(ctx):\n    raise BaseException('base')", "base"),
        ("def f(ctx):\n    import sys\n    sys.exit()", r"called sys.exit\(None\)"),
    ],
)
async def test_it_is_a_sentence(workshop, body, words):
    error = await failure(workshop, body)
    assert re.search(words, error.message), error.message
    assert len(error.message) < 10_000


async def test_a_stack_without_bounds_dies_alone(workshop):
    error = await failure(
        workshop,
        """
        import sys
        def f(ctx):
            sys.setrecursionlimit(10**9)
            return f(ctx)
        """,
    )
    assert "signal" in error.message or "memory_mb" in error.message, error.message


@pytest.mark.parametrize("which", ["0, 1, 2", "0", "1", "2"])
async def test_a_function_without_its_streams_still_answers(workshop, which):
    workshop.write(
        "m.py",
        f"""
        import os
        def f(ctx):
            for fd in ({which},):
                os.close(fd)
            ctx.log.info("still here")
            return {{"done": True}}
        """,
    )
    assert await workshop.call("m:f") == {"done": True}
    assert ("INFO", "still here") in workshop.ear.lines


async def test_streams_that_are_gone_as_objects_do_no_harm(workshop):
    workshop.write(
        "m.py",
        """
        import sys
        def closed(ctx):
            sys.stdout.close()
            sys.stderr.close()
            return 1
        def none(ctx):
            sys.stdout = sys.stderr = None
            print("nowhere")
            return 2
        """,
    )
    assert await workshop.call("m:closed") == 1
    assert await workshop.call("m:none") == 2


async def test_another_folder_is_left_with_the_call(workshop):
    workshop.write(
        "m.py",
        """
        import os
        def f(ctx):
            before = os.getcwd()
            os.chdir("/")
            os.environ["LEFT"] = "behind"
            os.umask(0)
            return [before, "LEFT" in os.environ]
        def g(ctx):
            return [os.getcwd(), "LEFT" in os.environ, os.umask(0o22)]
        """,
    )
    first, _ = await workshop.call("m:f")
    folder, left, mask = await workshop.call("m:g")
    assert folder not in ("/", first)
    assert left is False
    assert mask != 0


async def test_megabytes_on_the_streams_are_bounded_and_say_so(workshop):
    workshop.write("m.py", "def f(ctx):\n    print('y' * 30_000_000)\n    return 1")
    started = time.monotonic()
    assert await workshop.call("m:f") == 1
    assert len(workshop.ear.said()) < 3_000_000
    assert "left out" in workshop.ear.said()
    assert time.monotonic() - started < 15


async def test_an_engine_that_the_function_has_taken_apart_fails_its_step_only(workshop):
    workshop.write(
        "m.py",
        """
        import json
        def f(ctx):
            json.dumps = None
            return 1
        def g(ctx):
            return 2
        """,
    )
    with pytest.raises(StepError, match="m:f"):
        await workshop.call("m:f")
    assert await workshop.call("m:g") == 2
