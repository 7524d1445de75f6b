"""The blobs beside the outbox's file: none goes while a record names it, and none is left when no record does."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable

from edgewise.edge import _outbox_sql as sql
from edgewise.edge._outbox_file import OutboxFile
from edgewise.ports import Blobs
from edgewise.wire import NotNow, NotTrusted, NotValid


class BlobFiles:
    """Deletes blobs, asking the file first. A file that outlives its record is swept; the other way would lose bytes.

    Args:
        checkpoint: called by name at each point where a power cut would matter.
    """

    def __init__(self, blobs: Blobs, file: OutboxFile, checkpoint: Callable[[str], None]) -> None:
        self._blobs = blobs
        self._file = file
        self._checkpoint = checkpoint

    def delete(self, unused: Iterable[str]) -> None:
        """Delete what no record named when its transaction was committed, which it has to be by now."""
        for blob in unused:
            self._checkpoint("blob_deleted")
            with contextlib.suppress(NotNow):
                self._drop_orphan(blob)

    def delete_last_uses(self, blobs: Iterable[str]) -> int:
        """Delete those that one segment alone names, which the hub has; how many there were."""
        gone = 0
        for blob in blobs:
            with contextlib.suppress(NotNow):
                (uses,) = self._file.rows(sql.BLOB_USES, blob)[0]
                if uses == 1 and self._blobs.has(blob):
                    self._blobs.delete(blob)
                    gone += 1
        return gone

    def forget(self, written: Iterable[str]) -> None:
        """Delete what was written for a transaction that failed."""
        for blob in written:
            with contextlib.suppress(NotNow, NotValid, NotTrusted):
                self._blobs.delete(blob)

    def sweep(self, blobs: Iterable[str]) -> int:
        """Delete those of these that no record names; the count. Raises NotNow: the disk fails."""
        return sum(self._drop_orphan(blob) for blob in blobs)

    def _drop_orphan(self, blob: str) -> bool:
        # Inside a transaction, so that no record of this blob can be on its way in meanwhile.
        with self._file.change() as db:
            if db.execute(sql.HAS_BLOB, (blob,)).fetchone():
                return False
            self._blobs.delete(blob)
            return True
