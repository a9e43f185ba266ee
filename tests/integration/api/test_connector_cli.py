"""`nomaflow connector`, run as a person or a script runs it, against a real API."""

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from workshop import SECRET_KEY

from nomaflow.cli import home
from nomaflow.store import connectors
from nomaflow.vault import Vault

from .conftest import TOKEN

NOMAFLOW = Path(sys.executable).parent / "nomaflow"


@pytest.fixture
def shell(api, tmp_path):
    """Run `nomaflow connector ...`; status, output and errors."""

    async def run(*arguments, given="", **environment):
        process = await asyncio.create_subprocess_exec(
            NOMAFLOW,
            "connector",
            *arguments,
            env={
                **os.environ,
                "NOMAFLOW_URL": api.url,
                "NOMAFLOW_TOKEN": TOKEN,
                **environment,
            },
            cwd=tmp_path,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        async with asyncio.timeout(30):
            out, err = await process.communicate(given.encode())
        return process.returncode, out.decode().strip(), err.decode().strip()

    return run


async def test_from_saving_to_deleting(shell, api, mariadb_url):
    parts = urlsplit(mariadb_url)
    place = ("--set", "driver=mysql", "--set", f"host={parts.hostname}")
    place += ("--set", f"port={parts.port}", "--set", f"user={parts.username}")
    save = ("save", "shop", "--kind", "sql", *place, "--secret", "password")
    assert await shell(*save, given="not-the-password\n") == (
        0,
        "Connector shop is saved, revision 1.",
        "",
    )
    status, out, _ = await shell("test", "shop", "default")
    assert status == 1
    assert "Access denied" in out
    assert "not-the-password" not in out
    status, out, _ = await shell(*save, "--json", given=f"{parts.password}\n")
    assert (status, json.loads(out)["revision"]) == (0, 2)
    # Without --secret the one there is stays.
    status, out, _ = await shell(*save[:-2], "--set", "pool_size=2")
    assert (status, out) == (0, "Connector shop is saved, revision 3.")
    status, out, _ = await shell("test", "--json")
    assert (status, [test["ok"] for test in json.loads(out)]) == (0, [True, True])
    status, out, _ = await shell("list")
    assert status == 0
    assert [line.split()[:2] for line in out.splitlines()[1:]] == [
        ["default", "sql"],
        ["shop", "sql"],
    ]
    assert "green" in out
    assert (await shell("delete", "shop"))[0] == 0
    status, _, err = await shell("delete", "shop")
    assert (status, "there is no connector `shop`" in err) == (2, True)
    status, _, err = await shell("test", "shop")
    assert (status, "there is no connector `shop`" in err) == (2, True)


async def test_tables_and_mistakes(shell, api):
    http = ("save", "crm", "--kind", "http", "--set", "url=https://api.example.org")
    auth = ("--set", "auth.type=bearer", "--set", "auth.token=${secret:token}")
    assert (await shell(*http, *auth, "--secret", "token", given="a-long-token\n"))[0] == 0
    row = await connectors.find(api.db, "crm")
    assert row.definition["auth"] == {"type": "bearer", "token": "${secret:token}"}
    status, _, err = await shell(*http, "--set", "hots=1")
    assert (status, "there is no field `hots`" in err) == (2, True)
    status, _, err = await shell(*http, "--set", "auth=1", "--set", "auth.type=x")
    assert (status, "no table" in err) == (2, True)


async def test_rotation_joins_the_home_that_the_environment_names(
    shell, tmp_path, database_url, redis_url
):
    named = {"NOMAFLOW_HOME": str(tmp_path / "home")}
    with home.locked(tmp_path / "home"):
        state = home.State(
            url="http://127.0.0.1:1",
            admin_token=TOKEN,
            secret_key=SECRET_KEY,
            database_url=database_url,
            redis_url=redis_url,
            project=str(tmp_path),
            pid=os.getpid(),
        )
        state.write(tmp_path / "home")
        status, out, err = await shell("rotate", **named)
        assert (status, out) == (0, "No connectors changed."), err
    status, _, err = await shell("rotate", **named)
    assert (status, "No `nomaflow up` is running on" in err) == (2, True)


async def test_rotation_works_on_the_database_itself(shell, api, database_url, redis_url):
    secret = ("save", "shop", "--kind", "sql", "--set", "driver=mysql", "--secret", "password")
    assert (await shell(*secret, given="a-password\n"))[0] == 0
    new = "another key that is long enough"
    place = {"NOMAFLOW_DATABASE_URL": database_url, "NOMAFLOW_REDIS_URL": redis_url}
    status, _, err = await shell("rotate", **place, NOMAFLOW_SECRET_KEY=new)
    assert (status, "NOMAFLOW_SECRET_KEY does not hold" in err) == (2, True)
    both = f"{new}, {SECRET_KEY}"
    status, out, _ = await shell("rotate", **place, NOMAFLOW_SECRET_KEY=both)
    assert status == 0
    assert out.splitlines() == [
        "Connector shop: encrypted with the first key.",
        "1 connector changed.",
    ]
    assert (await shell("rotate", **place, NOMAFLOW_SECRET_KEY=both))[1] == "No connectors changed."
    row = await connectors.find(api.db, "shop")
    assert Vault.of(new).open("shop", row.sealed) == {"password": "a-password"}
    status, _, err = await shell("rotate", **place, NOMAFLOW_SECRET_KEY=f"short,{SECRET_KEY}")
    assert (status, "each key must have 16 characters or more" in err) == (2, True)
