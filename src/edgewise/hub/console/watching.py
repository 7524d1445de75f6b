"""Pages that follow something: a stream of events in which each says only that something changed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

from starlette.concurrency import run_in_threadpool

from edgewise.hub.limits import Limits
from edgewise.wire import EdgewiseError

QUIET_S = 15.0  # after which a line without meaning shows proxies that the stream is alive


class Watchers:
    """The streams that are open now, no more than a bound. Only the event loop touches it."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._open = 0

    @property
    def are_full(self) -> bool:
        return self._open >= self._limits.console_watchers_max

    async def changes(self, stamp: Callable[[], str]) -> AsyncIterator[str]:
        """Server-sent events: one at the start and one whenever `stamp` is another, until the stream has its age.

        The event carries nothing of what changed: the page asks for that with its own session and rights.
        """
        self._open += 1
        try:
            loop, last, spoken = asyncio.get_running_loop(), "", 0.0
            ends = loop.time() + self._limits.console_watch_s
            while loop.time() < ends:
                try:
                    now = await run_in_threadpool(stamp)
                except EdgewiseError:
                    now = last  # the store is busy; the next look is soon
                if now != last:
                    last, spoken = now, loop.time()
                    yield "event: change\ndata: look again\n\n"
                elif loop.time() - spoken > QUIET_S:
                    spoken = loop.time()
                    yield ": still here\n\n"
                await asyncio.sleep(self._limits.console_watch_look_s)
        finally:
            self._open -= 1
