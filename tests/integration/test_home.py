"""The home folder of `up` and its port: one owner at a time, private files, plain sentences."""

import json
import os
import socket
import stat
import subprocess
import sys
import textwrap

import pytest

from nomaflow import private_files
from nomaflow.cli import home, ports
from nomaflow.errors import Code, NomaflowError

STATE = home.State(
    url="http://127.0.0.1:8080",
    admin_token="nf_admin_x",
    secret_key="key",
    database_url="postgresql://h/d",
    redis_url="redis://h",
    project="/p",
    pid=os.getpid(),
)


@pytest.fixture
def owner(tmp_path):
    """Another process that holds the home."""
    program = textwrap.dedent("""
        import sys
        from pathlib import Path
        from nomaflow.cli import home
        with home.locked(Path(sys.argv[1])):
            print("held", flush=True)
            sys.stdin.read()
    """)
    with subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout.readline() == "held\n"
        yield process


def test_a_second_owner_is_told_who_has_the_home(tmp_path, owner):
    refused = pytest.raises(NomaflowError, match=f"process {owner.pid}.*another --home")
    with refused as caught, home.locked(tmp_path):
        pass
    assert caught.value.code is Code.BUSY
    assert home.is_running(tmp_path)


def test_a_killed_owner_holds_nothing(tmp_path, owner):
    owner.kill()
    owner.wait()
    assert not home.is_running(tmp_path)
    with home.locked(tmp_path):
        pass


def test_the_state_is_read_only_while_up_runs(tmp_path, owner):
    STATE.write(tmp_path)
    assert home.State.read(tmp_path) == STATE
    assert stat.S_IMODE((tmp_path / "state.json").stat().st_mode) == 0o600
    owner.kill()
    owner.wait()
    with pytest.raises(NomaflowError, match="No `nomaflow up` is running"):
        home.State.read(tmp_path)


@pytest.mark.parametrize("content", ["", "{", json.dumps({"url": "x"})])
def test_a_state_still_being_written_counts_as_none(tmp_path, owner, content):
    (tmp_path / "state.json").write_text(content)
    with pytest.raises(NomaflowError, match="No `nomaflow up` is running"):
        home.State.read(tmp_path)


def test_a_secret_is_made_once_and_kept_for_its_owner_alone(tmp_path):
    assert home.keep_secret(tmp_path, "admin-token", "first") == ("first", True)
    assert home.keep_secret(tmp_path, "admin-token", "second") == ("first", False)
    assert stat.S_IMODE((tmp_path / "admin-token").stat().st_mode) == 0o600


def test_a_private_file_is_replaced_whole_or_not_at_all(tmp_path):
    private_files.write(tmp_path / "f", "old")
    with pytest.raises(UnicodeEncodeError):
        private_files.write(tmp_path / "f", "\ud800")
    assert [path.name for path in tmp_path.iterdir()] == ["f"]
    assert (tmp_path / "f").read_text() == "old"


def test_tokens_have_the_form_of_every_token():
    token = home.new_admin_token()
    assert token.startswith("nf_admin_")
    assert len(token.removeprefix("nf_admin_")) == 43


@pytest.fixture
def taken():
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        yield server.getsockname()[1]


def test_a_port_that_was_asked_for_and_is_taken_is_an_error(taken):
    with pytest.raises(NomaflowError, match=f"Port {taken} on 127.0.0.1 is taken") as caught:
        ports.choose("127.0.0.1", taken)
    assert caught.value.code is Code.IN_USE


def test_the_default_port_gives_way_to_the_next_free_one(taken, monkeypatch):
    monkeypatch.setattr(ports, "DEFAULT", taken)
    assert taken < ports.choose("127.0.0.1", None) < taken + ports.TRIES


def test_an_address_of_another_machine_is_refused():
    with pytest.raises(NomaflowError, match=r"cannot listen on 192\.0\.2\.1"):
        ports.choose("192.0.2.1", 8080)
