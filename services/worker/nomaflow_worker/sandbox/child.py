"""The child: waits for one request, calls the function, sends what it answered, and is gone."""

from __future__ import annotations

import asyncio
import contextlib
import faulthandler
import inspect
import json
import logging
import os
import socket
import sys
import time
import traceback
from collections.abc import Awaitable, Mapping
from pathlib import Path
from typing import Any, NoReturn

from nomaflow.errors import StepError
from nomaflow.plugins import resolve, values
from nomaflow.plugins.binding import Bound, bind
from nomaflow.plugins.offers import offers
from nomaflow.steps.copying.function.calling import Calling, RowError, Told
from nomaflow_worker.sandbox import facts, wire
from nomaflow_worker.sandbox.channel import Channel
from nomaflow_worker.sandbox.context import ChildContext, LoggingBridge

# Time for tasks the function left behind, and for connections, to end.
_TIDY_SECONDS = 1.0
_LINGER_SECONDS = 10.0


def serve(line: socket.socket, cancel: int, plugins: Path, scratch: Path) -> NoReturn:
    """Serve one request; never returns, whatever the user's code does."""
    try:
        channel = Channel(line)
        loop = asyncio.new_event_loop()
        asyncio.set_event_loop(loop)
        _settle_in(scratch)
        _rehearse(loop)
        message = channel.receive()
        if message is not None:
            _Call(channel, message["call"], plugins).run(loop, cancel)
    finally:
        # Python's own farewell would wait for threads the user's code may have left running.
        os._exit(0)


def _settle_in(scratch: Path) -> None:
    """Environment and streams of its own; the interpreter is the nursery's, forked."""
    os.environ.update({"HOME": str(scratch), "TMPDIR": str(scratch)})
    for name, fd in (("stdout", 1), ("stderr", 2)):
        stream = open(  # noqa: SIM115  they live as long as the process
            fd, "w", encoding="utf-8", errors="backslashreplace", buffering=1, closefd=False
        )
        setattr(sys, name, stream)
    faulthandler.enable()


def _rehearse(loop: asyncio.AbstractEventLoop) -> None:
    """Go the way of a call once: after a fork each page is copied at its first touch."""

    def example(*, number: int = 1, **_: object) -> object:
        return json.loads(values.to_json({"number": number}, "example returned"))

    given = {"number": "2"}
    bound = bind("example", example, None, kwargs=given, params=given, offers={})
    loop.run_until_complete(_in_thread(example, bound))


class _ImportFailed(Exception):
    """Its cause is what the user's module raised."""


class _Call:
    """One call, from the request to its answer."""

    def __init__(self, channel: Channel, request: Mapping[str, Any], plugins: Path) -> None:
        self._channel = channel
        self._request = request
        self._name: str = request["callable"]
        self._plugins = plugins
        self._portions: asyncio.Queue[bytes | None] = asyncio.Queue()

    def run(self, loop: asyncio.AbstractEventLoop, cancel: int) -> None:
        os.environ.update(self._request["environ"])
        time.tzset()
        ctx = ChildContext(self._channel, self._request)
        _log_through(ctx)
        work = loop.create_task(self._answer(ctx))

        def on_cancel() -> None:
            ctx.cancel()
            loop.call_soon_threadsafe(work.cancel)

        def on_rows(rows: bytes | None) -> None:
            loop.call_soon_threadsafe(self._portions.put_nowait, rows)

        self._channel.on_rows(on_rows)
        self._channel.listen(cancel, on_cancel)
        try:
            answer = loop.run_until_complete(work)
        except BaseException as error:  # noqa: BLE001  sys.exit in a task of the function's own
            answer = self._refusal(error)
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(Exception):  # whatever the function made of them
                stream.flush()
        if self._channel.send_text(answer) and self._channel.awaits_answers():
            # Closing the line would make them bounce, and lose the worker what is on it. The
            # guardian ends this process as soon as the worker has read the answer.
            time.sleep(_LINGER_SECONDS)

    async def _answer(self, ctx: ChildContext) -> str:
        """The message for the worker: the function's value, or what it raised instead."""
        try:
            answer = f'{{"result":{self._fitting(await self._called(ctx))}}}'
        except BaseException as error:  # noqa: BLE001  SystemExit is no reason to be silent
            answer = self._refusal(error)
        with contextlib.suppress(asyncio.CancelledError):
            await _tidy(ctx)
        return answer

    async def _called(self, ctx: ChildContext) -> Any:
        try:
            function = resolve.load(self._plugins, self._name)
        except StepError:
            raise
        except BaseException as error:
            raise _ImportFailed from error
        if self._request["rows"] is not None:
            return await _in_loop(self._with_rows(function))
        bound = bind(
            self._name,
            function,
            ctx,
            kwargs=self._request["kwargs"],
            params=self._request["params"],
            offers=offers(
                ctx,
                kwargs=self._request["kwargs"],
                connectors=ctx.kinds,
                last_step=ctx.last_step,
            ),
        )
        if inspect.iscoroutinefunction(function):
            return await _in_loop(function(*bound.args, **bound.kwargs))
        returned = await _in_thread(function, bound)
        return await _in_loop(returned) if inspect.isawaitable(returned) else returned

    async def _with_rows(self, function: resolve.Function) -> None:
        """Call the function with each row of a copy, for as long as some come."""

        async def ask(made: Told) -> Any:
            return self._channel.ask("columns", json.dumps(made))

        calling = Calling(self._name, function, self._request["rows"], ask)
        while (portion := await self._portions.get()) is not None:
            answer = await calling.answer(portion)
            if len(answer) > wire.MOST_ANSWER:
                raise StepError(
                    f"{self._name} answered {len(answer)} bytes for the rows of one portion, more "
                    f"than {wire.MOST_ANSWER}",
                    retryable=False,
                )
            self._channel.send_rows(answer)

    def _fitting(self, returned: Any) -> str:
        text = values.to_json(returned, f"{self._name} returned")
        if len(text) > wire.MOST_ANSWER:
            raise StepError(
                f"{self._name} returned {len(text)} bytes of JSON, more than {wire.MOST_ANSWER}: "
                "write them to a table and return their number",
                retryable=False,
            )
        return text

    def _refusal(self, error: BaseException) -> str:
        words: str | None = None
        match error:
            case _ImportFailed(__cause__=BaseException() as cause):
                error = cause
                words = f"importing {self._name.partition(':')[0]} failed: {_words(cause)}"
            case RowError(row=row, __cause__=BaseException() as cause):
                error = cause
                said = cause.message if isinstance(cause, StepError) else _words(cause)
                words = f"{said} (row {row})"
            case SystemExit() | asyncio.CancelledError() | KeyboardInterrupt():
                words = f"{self._name} {_words(error)}"
        return values.to_json({"error": facts.of(error, self._plugins, words)}, "an error with")


async def _in_loop(awaited: Awaitable[Any]) -> Any:
    ours = os.getpid()
    try:
        returned = await awaited
    except BaseException as error:
        _leave_if_forked(ours, error)
        raise
    _leave_if_forked(ours, None)
    return returned


async def _in_thread(function: resolve.Function, bound: Bound) -> Any:
    """Call a plain function beside the loop; told to stop, it is waited for until it is killed."""
    ours = os.getpid()

    def outcome() -> tuple[Any, BaseException | None]:
        # As a value: a future cannot hold StopIteration.
        answer: tuple[Any, BaseException | None]
        try:
            answer = function(*bound.args, **bound.kwargs), None
        except BaseException as error:  # noqa: BLE001  raised again below
            answer = None, error
        _leave_if_forked(ours, answer[1])
        return answer

    calling = asyncio.get_running_loop().run_in_executor(None, outcome)
    try:
        returned, error = await asyncio.shield(calling)
    except asyncio.CancelledError:
        returned, error = await calling
    if error is not None:
        raise error
    return returned


def _leave_if_forked(ours: int, error: BaseException | None) -> None:
    """A process the function forked ends where the function ends, as a script's would."""
    if os.getpid() == ours:
        return
    code = error.code if isinstance(error, SystemExit) and isinstance(error.code, int) else 0
    if error is not None and not isinstance(error, SystemExit):
        traceback.print_exception(error)
        code = 1
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.flush()
    os._exit(code)


async def _tidy(ctx: ChildContext) -> None:
    left = asyncio.all_tasks() - {asyncio.current_task()}
    for task in left:
        task.cancel()
    if left:
        await asyncio.wait(left, timeout=_TIDY_SECONDS)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_TIDY_SECONDS):
            await ctx.close()


def _log_through(ctx: ChildContext) -> None:
    """Python's own logging goes to the run's log as well."""
    root = logging.getLogger()
    root.handlers = [LoggingBridge(ctx.log)]
    root.setLevel(ctx.log_level)
    for chatty in ("httpx", "httpcore"):  # they write whole URLs, secrets included (SEC-S04)
        logging.getLogger(chatty).setLevel(logging.WARNING)


def _words(error: BaseException) -> str:
    match error:
        case SystemExit():
            return f"called sys.exit({error.code!r}): return a value, or raise to fail"
        case asyncio.CancelledError():
            return "was cancelled"
        case KeyboardInterrupt():
            return "was interrupted by SIGINT"
        case _:
            return f"{type(error).__name__}: {error}"
