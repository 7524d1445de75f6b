"""The hub's rows: tables, migrations, one writer, and a plain function for each question asked.

Every function takes a connection first and never opens its own, so that a caller decides what is one transaction.
"""

from edgewise.hub.store._store import Store

__all__ = ["Store"]
