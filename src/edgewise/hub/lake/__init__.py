"""The lake: what devices sent and people said, as Delta Lake tables that any engine reads.

deltalake, pyarrow and duckdb are imported where they are first used, never when a hub starts.
"""

from edgewise.hub.lake._committer import Lake
from edgewise.hub.lake._place import LakeConfig, Place, place_of
from edgewise.hub.lake._query import Asked, ask
from edgewise.hub.lake._status import status
from edgewise.hub.lake._tables import TABLES, Column, Table

__all__ = ["TABLES", "Asked", "Column", "Lake", "LakeConfig", "Place", "Table", "ask", "place_of", "status"]
