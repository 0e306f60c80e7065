"""Runs the migrations on the connection that `upgrade.migrate` hands over; it owns the transaction."""

from __future__ import annotations

from alembic import context

from knowledge_system.storage.schema import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,
    transactional_ddl=True,
)
context.run_migrations()
