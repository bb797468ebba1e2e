"""Alembic's: how the schema came to be. `controller.store.migrate` runs them when a store is opened."""
