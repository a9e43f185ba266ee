"""Whether anything would be lost if a table were replaced by a freshly loaded one."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from nomaflow.steps.copying.postgres.catalog import Table

# Each line is something that a new table of the same name would not have, or that goes on
# looking at the old one. A reason is a word for the log.
_REASONS = """
    SELECT reason FROM (
        SELECT 'kind' AS reason FROM c WHERE relkind <> 'r' OR relispartition OR relhassubclass
            OR relpersistence <> 'p' OR reloftype <> 0
        UNION ALL SELECT 'inheritance' FROM pg_catalog.pg_inherits WHERE inhrelid = $1
        UNION ALL SELECT 'owner' FROM c
            WHERE relowner <> (SELECT oid FROM pg_catalog.pg_roles WHERE rolname = current_user)
        UNION ALL SELECT 'grants' FROM c WHERE relacl IS NOT NULL
        UNION ALL SELECT 'storage' FROM c WHERE reloptions IS NOT NULL OR reltablespace <> 0
            OR relreplident <> 'd' OR relam <> (SELECT oid FROM pg_catalog.pg_am
                                                WHERE amname = 'heap')
        UNION ALL SELECT 'policies' FROM c WHERE relrowsecurity OR relforcerowsecurity
        UNION ALL SELECT 'policies' FROM pg_catalog.pg_policy WHERE polrelid = $1
        UNION ALL SELECT 'triggers' FROM pg_catalog.pg_trigger WHERE tgrelid = $1
        UNION ALL SELECT 'rules' FROM pg_catalog.pg_rewrite WHERE ev_class = $1
        UNION ALL SELECT 'constraints' FROM pg_catalog.pg_constraint
            WHERE (conrelid = $1 AND contype NOT IN ('p', 'u', 'c', 'n'))
               OR (conrelid = $1 AND (condeferrable OR NOT convalidated)) OR confrelid = $1
        UNION ALL SELECT 'comments' FROM pg_catalog.pg_description
            WHERE (classoid = 'pg_class'::regclass
                   AND (objoid = $1 OR objoid IN (SELECT indexrelid FROM i)))
               OR (classoid = 'pg_constraint'::regclass
                   AND objoid IN (SELECT oid FROM pg_catalog.pg_constraint WHERE conrelid = $1))
        UNION ALL SELECT 'labels' FROM pg_catalog.pg_seclabel
            WHERE classoid = 'pg_class'::regclass AND objoid = $1
        UNION ALL SELECT 'statistics' FROM pg_catalog.pg_statistic_ext WHERE stxrelid = $1
        UNION ALL SELECT 'publications' FROM pg_catalog.pg_publication_rel WHERE prrelid = $1
        UNION ALL SELECT 'publications' FROM pg_catalog.pg_publication WHERE puballtables
        UNION ALL SELECT 'publications' FROM pg_catalog.pg_publication_namespace
            WHERE pnnspid = (SELECT relnamespace FROM c)
        UNION ALL SELECT 'subscriptions' FROM pg_catalog.pg_subscription_rel WHERE srrelid = $1
        UNION ALL SELECT 'indexes' FROM i WHERE NOT indisvalid OR indisclustered OR indisreplident
            OR indisexclusion
        UNION ALL SELECT 'indexes' FROM pg_catalog.pg_class
            WHERE oid IN (SELECT indexrelid FROM i)
              AND (reloptions IS NOT NULL OR reltablespace <> 0)
        UNION ALL SELECT 'columns' FROM pg_catalog.pg_attribute a
            JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
            WHERE a.attrelid = $1 AND a.attnum > 0 AND NOT a.attisdropped
              AND (a.attacl IS NOT NULL OR a.attoptions IS NOT NULL OR a.attidentity <> ''
                   OR COALESCE(a.attstattarget, -1) <> -1 OR a.attstorage <> t.typstorage
                   OR a.attcompression::text <> '')
        UNION ALL SELECT 'dependents' FROM pg_catalog.pg_depend d
            WHERE d.refclassid = 'pg_class'::regclass AND d.refobjid = $1
              AND NOT (d.classid = 'pg_class'::regclass
                       AND (d.objid IN (SELECT indexrelid FROM i)
                            OR d.objid = (SELECT reltoastrelid FROM c)))
              AND d.classid NOT IN ('pg_attrdef'::regclass, 'pg_constraint'::regclass)
              AND NOT (d.classid = 'pg_type'::regclass AND d.deptype = 'i')
        UNION ALL SELECT 'dependents' FROM pg_catalog.pg_depend d
            WHERE d.refclassid = 'pg_type'::regclass
              AND d.refobjid IN (SELECT reltype FROM c UNION SELECT t.typarray
                                 FROM pg_catalog.pg_type t JOIN c ON c.reltype = t.oid)
              AND d.deptype <> 'i'
    ) AS reasons LIMIT 1
"""
_WITH = """
    WITH c AS (SELECT * FROM pg_catalog.pg_class WHERE oid = $1),
         i AS (SELECT * FROM pg_catalog.pg_index WHERE indrelid = $1)
"""
# All of it that may have changed since it was looked at, in one word: asked while readers wait.
_SEAL = f"""
    {_WITH}
    SELECT row(
        pg_catalog.to_regclass($2)::oid,
        ({_REASONS}),
        (SELECT string_agg(a::text, ' ' ORDER BY attnum) FROM pg_catalog.pg_attribute a
         WHERE attrelid = $1),
        (SELECT string_agg(d::text, ' ' ORDER BY adnum) FROM pg_catalog.pg_attrdef d
         WHERE adrelid = $1),
        (SELECT string_agg(oid::text, ' ' ORDER BY oid) FROM pg_catalog.pg_constraint
         WHERE conrelid = $1),
        (SELECT string_agg(i::text, ' ' ORDER BY indexrelid) FROM i)
    )::text
"""
_NEEDS = 15  # pg_publication_namespace came with PostgreSQL 15; older servers apply in place

# What the new table needs to be the old one's twin: each index, cut where its name and table end.
_INDEXES = """
    SELECT x.relname::text AS name, k.conname::text AS constraint_name,
           k.contype::text AS constraint_type, i.indisunique AS is_unique,
           pg_catalog.pg_get_indexdef(i.indexrelid) AS definition,
           format('CREATE %sINDEX %I ON %I.%I ', CASE WHEN i.indisunique THEN 'UNIQUE ' END,
                  x.relname, n.nspname, c.relname) AS head
    FROM pg_catalog.pg_index i
    JOIN pg_catalog.pg_class x ON x.oid = i.indexrelid
    JOIN pg_catalog.pg_class c ON c.oid = i.indrelid
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    LEFT JOIN pg_catalog.pg_constraint k ON k.conindid = i.indexrelid AND k.contype IN ('p', 'u')
    WHERE i.indrelid = $1 ORDER BY x.relname
"""


async def reason_to_stay(connection: Any, table: Table) -> str | None:
    """A word for what would be lost by replacing the table; None when nothing would."""
    if connection.get_server_version().major < _NEEDS:
        return "server"
    found = await connection.fetchval(_WITH + _REASONS, table.oid)
    if found is None and not all(
        row["definition"].startswith(row["head"]) for row in await indexes(connection, table)
    ):
        return "indexes"
    return None if found is None else str(found)


async def seal(connection: Any, table: Table) -> Callable[[], Awaitable[str]]:
    """A question ready to be asked; its answer changes with the table and what hangs on it."""
    prepared = await connection.prepare(_SEAL)

    async def asked() -> str:
        return str(await prepared.fetchval(table.oid, table.sql))

    return asked


async def indexes(connection: Any, table: Table) -> list[Any]:
    """The table's indexes and the constraints they belong to."""
    return list(await connection.fetch(_INDEXES, table.oid))
