"""Migration at the door, with sentences for a database that does not answer."""

from __future__ import annotations

from urllib.parse import urlsplit

import asyncpg
from alembic.util import CommandError

from nomaflow.errors import Code, NomaflowError
from nomaflow.store import migrate as migrations


async def migrate(url: str) -> None:
    """Migrate; NomaflowError (UNAVAILABLE) when the database cannot be reached or refuses us."""
    try:
        await migrations.upgrade(url)
    except CommandError as error:
        raise NomaflowError(
            Code.INVALID,
            f"The database at {_place(url)} was made by another version of Nomaflow ({error}). "
            "Start that version, or a newer one.",
        ) from None
    except (OSError, TimeoutError, asyncpg.PostgresConnectionError) as error:
        raise NomaflowError(
            Code.UNAVAILABLE,
            f"The database at {_place(url)} does not answer ({type(error).__name__}). "
            "Is NOMAFLOW_DATABASE_URL right, and is the server up?",
        ) from None
    except (asyncpg.InvalidAuthorizationSpecificationError, asyncpg.InvalidCatalogNameError) as no:
        raise NomaflowError(
            Code.UNAVAILABLE,
            f"The database at {_place(url)} refuses us: {no}. Look at NOMAFLOW_DATABASE_URL.",
        ) from None


def _place(url: str) -> str:
    """Name host and database, never the user's password."""
    parts = urlsplit(url)
    return f"{parts.hostname or 'the local socket'}{parts.path}"
