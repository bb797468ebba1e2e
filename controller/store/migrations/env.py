"""Run by Alembic. The connection comes from `controller.store.migrate`, inside a transaction of its own."""

from __future__ import annotations

from alembic import context

from controller.store.schema import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
context.run_migrations()
