"""`nomaflow connector`: the outside systems that jobs reach, and whether each one answers."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nomaflow.cli import connector_documents, listings, run_arguments, talk

if TYPE_CHECKING:
    from nomaflow.outside.api_client import Client

RED = 1
PANEL = "Jobs and runs"

JSON = dict[str, Any]
Name = Annotated[str, typer.Argument(metavar="NAME", help="The connector's name.")]

connector = typer.Typer(
    name="connector",
    help="List, test, make and remove connectors; encrypt their secrets anew.",
    no_args_is_help=True,
)


def register(app: typer.Typer) -> None:
    """Add `nomaflow connector ...`."""
    app.add_typer(connector, rich_help_panel=PANEL)


@connector.command("list")
def list_connectors(
    as_json: talk.Json = False, url: talk.Url = None, home: talk.Home = None
) -> None:
    """List the connectors: where each was declared, who uses it, how its last test went."""

    async def ask(client: Client) -> list[JSON]:
        data = await client.query(connector_documents.CONNECTORS)
        return list(data["connectors"])

    found = talk.talk(url, home, ask)
    if as_json:
        talk.print_json(found)
    else:
        listings.print_connectors(found)


@connector.command("test")
def try_connectors(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME]...", help="Which; default: all.")
    ] = None,
    as_json: talk.Json = False,
    url: talk.Url = None,
    home: talk.Home = None,
) -> None:
    """Try connectors, five seconds each at most; exit with 1 when one of them is red."""

    async def ask(client: Client) -> list[JSON]:
        chosen = names
        if not chosen:
            data = await client.query(connector_documents.CONNECTORS)
            chosen = [each["name"] for each in data["connectors"]]
        return [await _tested(client, name) for name in chosen]

    tests = talk.talk(url, home, ask)
    if as_json:
        talk.print_json(tests)
    else:
        listings.print_connector_tests(tests)
    if not all(test["ok"] for test in tests):
        raise typer.Exit(RED)


@connector.command("save")
def save_connector(
    name: Name,
    kind: Annotated[str, typer.Option("--kind", help="sql, http or ldap.")],
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="A setting; may be repeated."),
    ] = None,
    secrets: Annotated[
        list[str] | None,
        typer.Option(
            "--secret", metavar="NAME", help="A secret, asked for or read as a line of input."
        ),
    ] = None,
    as_json: talk.Json = False,
    url: talk.Url = None,
    home: talk.Home = None,
) -> None:
    """Make a connector, or change one that was made so; secrets not named here stay.

    Dots lead into tables: `--set auth.type=bearer`. Settings name secrets as ${secret:NAME}.
    """
    given = {
        "name": name,
        "kind": kind,
        "settings": run_arguments.nested("--set", settings or ()),
        "secrets": {secret: _secret(secret) for secret in secrets or ()} or None,
    }

    async def ask(client: Client) -> JSON:
        found = await client.query(connector_documents.CONNECTOR, {"name": name})
        there = found["connector"]
        if there is None:
            made = await client.mutate(connector_documents.CREATE, {"input": given})
            return dict(made["connector"])
        kept = {"queries": _queries(there), **given}
        changed = await client.mutate(connector_documents.UPDATE, {"input": kept})
        return dict(changed["connector"])

    saved = talk.talk(url, home, ask)
    if as_json:
        talk.print_json(saved)
    else:
        print(f"Connector {name} is saved, revision {saved['revision']}.")


@connector.command("delete")
def delete_connector(
    name: Name, as_json: talk.Json = False, url: talk.Url = None, home: talk.Home = None
) -> None:
    """Remove a connector that was made through the API, and its secrets."""

    async def ask(client: Client) -> JSON:
        payload = await client.mutate(connector_documents.DELETE, {"name": name})
        return {"deleted": payload["deleted"]}

    gone = talk.talk(url, home, ask)
    if as_json:
        talk.print_json(gone)
    else:
        print(f"Connector {name} is deleted.")


@connector.command("rotate")
def rotate_secrets(home: talk.Home = None) -> None:
    """Encrypt stored secrets with the first key of NOMAFLOW_SECRET_KEY.

    Works on the database itself. Give every program the new key before the old one, separated by
    a comma, then rotate, then take the old key away.
    """
    from nomaflow.cli.programs import join, named_home
    from nomaflow.in_force import connector_changes
    from nomaflow.settings import Settings
    from nomaflow.store import database
    from nomaflow.vault import Vault

    join(home or named_home())
    settings = Settings.read()
    vault = Vault.of(settings.secret_keys)

    async def work() -> list[str]:
        db = await database.connect(settings.database, max_size=2, application="nomaflow rotate")
        try:
            return await connector_changes.rotate(db, vault)
        finally:
            await db.close()

    changed = asyncio.run(work())
    for name in changed:
        print(f"Connector {name}: encrypted with the first key.")
    print(f"{len(changed) or 'No'} connector{'' if len(changed) == 1 else 's'} changed.")


async def _tested(client: Client, name: str) -> JSON:
    payload = await client.mutate(connector_documents.TEST, {"name": name})
    return {"name": name, **payload["test"]}


def _secret(name: str) -> str:
    if sys.stdin.isatty():
        return str(typer.prompt(f"Secret {name}", hide_input=True, err=True))
    return sys.stdin.readline().rstrip("\r\n")


def _queries(connector: JSON) -> JSON:
    return {
        query["name"]: {key: query[key] for key in ("operation", "sql", "description", "params")}
        for query in connector["queries"]
    }
