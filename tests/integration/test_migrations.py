"""Migrations: one line of them, the whole way up, down and up again."""

from importlib import resources

import asyncpg
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from nomaflow.store import database, migrate

CATALOGUE = """
SELECT 'column', table_name, column_name, data_type, is_nullable, column_default
FROM information_schema.columns WHERE table_schema = 'nomaflow'
UNION ALL
SELECT 'index', tablename, indexname, indexdef, NULL, NULL FROM pg_indexes
WHERE schemaname = 'nomaflow'
UNION ALL
SELECT 'constraint', c.conrelid::regclass::text, c.conname, pg_get_constraintdef(c.oid), NULL, NULL
FROM pg_constraint c WHERE c.connamespace = 'nomaflow'::regnamespace
UNION ALL
SELECT 'routine', p.proname, pg_get_functiondef(p.oid), NULL, NULL, NULL
FROM pg_proc p WHERE p.pronamespace = 'nomaflow'::regnamespace AND p.prokind = 'f'
ORDER BY 1, 2, 3"""


def settings(connection=None):
    config = Config()
    folder = resources.files("nomaflow.store") / "migrations"
    config.set_main_option("script_location", str(folder))
    config.attributes["connection"] = connection
    return config


async def everything(url):
    connection = await asyncpg.connect(url)
    try:
        return [tuple(row) for row in await connection.fetch(CATALOGUE)]
    finally:
        await connection.close()


async def moved(url, deed, revision):
    engine = create_async_engine(database.sqlalchemy_url(url), poolclass=NullPool)
    async with engine.begin() as connection:
        await connection.run_sync(lambda one: deed(settings(one), revision))
    await engine.dispose()


def test_there_is_one_head_and_each_follows_the_one_before():
    script = ScriptDirectory.from_config(settings())
    found = [revision.revision for revision in script.walk_revisions()]
    assert script.get_heads() == [found[0]]
    assert found == sorted(found, reverse=True)


async def test_the_whole_way_up_and_down_and_up(new_pg_url):
    url = await new_pg_url()
    await migrate.upgrade(url)
    newest = await everything(url)
    assert {kind for kind, *_ in newest} >= {"column", "index", "constraint"}
    script = ScriptDirectory.from_config(settings())
    steps = [revision.revision for revision in script.walk_revisions()]
    for older, newer in zip(steps[1:], steps, strict=False):
        there = await everything(url)
        await moved(url, command.downgrade, older)
        below = await everything(url)
        await moved(url, command.upgrade, newer)
        assert await everything(url) == there, newer
        await moved(url, command.downgrade, older)
        assert await everything(url) == below, newer
    # Down at the first revision now; before it there is nothing to go back to.
    await migrate.upgrade(url)
    assert await everything(url) == newest
