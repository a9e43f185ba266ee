"""The programs' own log: one form for all lines, secrets masked, chatty libraries silent."""

import json
import logging

import pytest
import structlog

from nomaflow import logs


@pytest.fixture(autouse=True)
def restored_logging():
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = handlers, level
    structlog.reset_defaults()


def mask(value):
    return value.replace("hunter2", "***") if isinstance(value, str) else value


def lines(capsys):
    return [json.loads(line) for line in capsys.readouterr().err.splitlines()]


def test_our_lines_and_a_librarys_have_the_same_form(capsys):
    logs.configure("worker", look="json")
    structlog.get_logger("ours").info("claimed", run_id="r1")
    logging.getLogger("arq.worker").warning("redis %s", "gone")
    ours, theirs = lines(capsys)
    assert (ours["event"], ours["run_id"], ours["program"]) == ("claimed", "r1", "worker")
    assert (theirs["event"], theirs["logger"]) == ("redis gone", "arq.worker")
    assert set(ours) - {"run_id"} == set(theirs)


@pytest.mark.parametrize("look", ["json", "console"])
def test_uvicorn_says_nothing_twice(capsys, look):
    logs.configure("api", look=look)
    coloured = {"color_message": "Started \x1b[36m%d\x1b[0m"}
    logging.getLogger("uvicorn.error").error("Started %d", 5, extra=coloured)
    written = capsys.readouterr().err
    assert (written.count("Started"), "color_message" in written) == (1, False)


@pytest.mark.parametrize("look", ["json", "console"])
def test_secrets_are_masked_in_text_fields_and_tracebacks(capsys, look):
    logs.configure("api", look=look, redact=mask)
    local_variable = "hunter2"
    try:
        raise ValueError(local_variable)
    except ValueError:
        structlog.get_logger().exception("failed with hunter2", url="http://u:hunter2@h")
        logging.getLogger("uvicorn.error").exception("and hunter2")
    written = capsys.readouterr().err
    assert "hunter2" not in written
    assert written.count("Traceback") == 2


def test_httpx_does_not_print_urls(capsys):
    logs.configure("worker", look="json")
    logging.getLogger("httpx").info("HTTP Request: GET http://bob:hunter2@host/?token=hunter2")
    assert capsys.readouterr().err == ""


def test_context_bound_once_is_on_every_line(capsys):
    logs.configure("worker", look="json")
    with structlog.contextvars.bound_contextvars(run_id="r1", step="load"):
        structlog.get_logger().info("one")
        logging.getLogger("asyncpg").warning("two")
    assert [(line["run_id"], line["step"]) for line in lines(capsys)] == [("r1", "load")] * 2
