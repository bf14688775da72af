"""Alembic's environment: migrates the connection it is handed."""

from alembic import context
from sqlmodel import SQLModel

from service.ledger import archive_tables as archive_tables  # all fill SQLModel.metadata
from service.ledger import derived_tables as derived_tables
from service.ledger import tables as tables

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=SQLModel.metadata,
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
