"""A directory, a database and an ldap_sync between them, for the tests of that step."""

import base64
import json

import pytest
from directory import PEOPLE
from step_context import RealContext

from nomaflow.connectors import spec, sql
from nomaflow.errors import StepError
from nomaflow.steps.ldap_sync import LdapSync

USERS = """
    CREATE TABLE users (
        user_id text PRIMARY KEY, name text NOT NULL, email text, phones text, number int,
        note text DEFAULT 'kept'
    )
"""
MAPPING = {
    "uid": "user_id",
    "cn": "name",
    "mail": "email",
    "telephoneNumber": "phones",
    "employeeNumber": "number",
}
PERSON = """
dn: uid={uid},{people}
objectClass: inetOrgPerson
objectClass: adLike
uid: {uid}
cn: {cn}
sn: x
"""


class Sync:
    """One directory, one database, and a step between them."""

    def __init__(self, directory, url):
        self.directory = directory
        self.connectors = {
            "directory": spec.parse(directory.connector()),
            "default": spec.parse({"kind": "sql", "url": url}),
        }
        self.db = sql.open("default", self.connectors["default"])
        self.context = None

    def step(self, **changes):
        table = {
            "connector": "directory",
            "search_base": PEOPLE,
            "search_filter": "(objectClass=inetOrgPerson)",
            "mapping": MAPPING,
            "table": "users",
            "key": ["user_id"],
            **changes,
        }
        return LdapSync.model_validate({k: v for k, v in table.items() if v is not None})

    async def run(self, dry_run=False, **changes):
        self.context = RealContext(self.connectors, dry_run=dry_run)
        return await self.context.run(self.step(**changes))

    async def refused(self, **changes):
        with pytest.raises(StepError) as caught:
            await self.run(**changes)
        return caught.value

    def shown(self, table):
        """A table as messages name it."""
        match self.db.dialect:
            case "postgresql":
                return f"public.{table}"
            case "mysql":
                return f"{self.connectors['default'].url.rpartition('/')[2]}.{table}"
            case _:
                return f"main.{table}"

    def query(self, name, statement):
        """Give the target's connector a named query that writes."""
        declared = spec.NamedQuery(operation="write", sql=statement)
        target = self.connectors["default"]
        self.connectors["default"] = target.model_copy(update={"queries": {name: declared}})

    def teams(self, value):
        """Several values as each database holds them."""
        return value if isinstance(value, list) else json.loads(value)

    def person(self, uid, cn="A Person", **values):
        lines = [PERSON.format(uid=uid, cn=cn, people=PEOPLE).strip()]
        for name, given in values.items():
            for value in given if isinstance(given, list) else [given]:
                if isinstance(value, bytes):
                    lines.append(f"{name}:: {base64.b64encode(value).decode()}")
                else:
                    lines.append(f"{name}: {value}")
        self.directory.add("\n".join(lines) + "\n")


def counts(result):
    """Entries, and how many rows were inserted, updated, left alone."""
    return tuple(result.output[k] for k in ("entries", "inserted", "updated", "unchanged"))
