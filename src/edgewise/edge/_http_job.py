"""One request that an application answers on a thread of its own, without a task."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from edgewise.edge._http_head import Head

if TYPE_CHECKING:
    from edgewise.edge._http_connection import Connection


class Job:
    """Waits for the thread's answer, and hands it to the connection on the event loop."""

    def __init__(self, connection: Connection, head: Head) -> None:
        self._connection = connection
        self._head = head
        self._loop = asyncio.get_running_loop()
        self._is_gone = False

    def done(self, status: int, parts: Sequence[Any]) -> None:
        """The answer; called by the thread."""
        self._loop.call_soon_threadsafe(self._finish, status, parts)

    def _finish(self, status: int, parts: Sequence[Any]) -> None:
        if not self._is_gone:
            self._connection.answer(self._head, status, parts)

    def hung_up(self) -> None:
        """The client is gone, so nobody waits for the answer."""
        self._is_gone = True

    def client_ended(self) -> None:
        """The client says no more, and may still read the answer."""

    def room(self) -> None:
        """The client has read: nothing to do, an answer goes out at once."""
