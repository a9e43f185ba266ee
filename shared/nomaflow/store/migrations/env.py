"""How alembic reaches the database: over the connection that `nomaflow.store.migrate` hands it."""

from __future__ import annotations

from alembic import context

from nomaflow.store.tables import every

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=every.metadata,
    version_table_schema=every.SCHEMA,
    include_schemas=True,
    include_name=lambda name, kind, _parents: kind != "schema" or name == every.SCHEMA,
    transactional_ddl=True,
)
with context.begin_transaction():
    context.run_migrations()
