"""Run by alembic: applies the versions on the connection that `migrate` hands over."""

from alembic import context

from edgewise.hub.store.tables import metadata

# Only alembic gives the module a config; whoever else imports this file, such as a collector of doctests, runs nothing.
if hasattr(context, "config"):
    context.configure(
        connection=context.config.attributes["connection"],
        target_metadata=metadata,
        render_as_batch=True,  # SQLite cannot alter most of a table; alembic then copies it
    )
    with context.begin_transaction():
        context.run_migrations()
