"""Alembic's environment: migrates the connection it is handed."""

from alembic import context
from sqlmodel import SQLModel

from service.ledger import tables as tables  # fills SQLModel.metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=SQLModel.metadata,
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
