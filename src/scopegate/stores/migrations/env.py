"""What Alembic runs around the revisions: on a connection of ours within its transaction, or to print statements."""

from alembic import context

from scopegate.stores.revisions import TABLE

attributes = context.config.attributes

if context.is_offline_mode():
    context.configure(dialect_name=attributes["dialect"], version_table=TABLE, literal_binds=True)
else:
    context.configure(connection=attributes["connection"], version_table=TABLE)

with context.begin_transaction():
    context.run_migrations()
