"""A TCP proxy on loopback that misbehaves on command: the real link's faults for tests and the demo."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any, Self

READ_BYTES = 64 * 1024
START_S_MAX = 5.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Weather:
    """How the link is now.

    Attributes:
        up: False resets every open connection and refuses new ones.
        delay_s: added before each piece of data, in both directions.
        bytes_per_s: slows each direction down to this rate; None for no limit.
        reset_after_bytes: each connection is reset once it carried this many bytes; None for never.
    """

    up: bool = True
    delay_s: float = 0.0
    bytes_per_s: float | None = None
    reset_after_bytes: int | None = None


class FaultProxy:
    """Forwards connections from a free loopback port to `target`, under the current weather.

    It runs an event loop in a thread of its own, so that synchronous code can use it as a context manager:

        with FaultProxy(("127.0.0.1", 8080)) as proxy:
            ...  # connect to proxy.port
            proxy.weather = Weather(up=False)
    """

    def __init__(self, target: tuple[str, int]) -> None:
        self._target = target
        self._weather = Weather()
        self._writers: set[asyncio.StreamWriter] = set()
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, name="fault-proxy", daemon=True)
        self.port = 0
        self.bytes_carried = 0

    def __enter__(self) -> Self:
        self._thread.start()
        if not self._ready.wait(START_S_MAX):
            raise RuntimeError("the fault proxy did not start")
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(START_S_MAX)

    @property
    def weather(self) -> Weather:
        return self._weather

    @weather.setter
    def weather(self, weather: Weather) -> None:
        self._weather = weather
        if not weather.up:
            self._loop.call_soon_threadsafe(self._reset_all)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(asyncio.start_server(self._serve, "127.0.0.1", 0))
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        self._loop.run_forever()
        server.close()
        self._reset_all()
        waiting = asyncio.all_tasks(self._loop)
        for task in waiting:
            task.cancel()
        self._loop.run_until_complete(asyncio.gather(*waiting, return_exceptions=True))
        self._loop.close()

    def _reset_all(self) -> None:
        for writer in list(self._writers):
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not self._weather.up:
            writer.transport.abort()
            return
        try:
            far_reader, far_writer = await asyncio.open_connection(*self._target)
        except OSError:
            writer.transport.abort()
            return
        both = (writer, far_writer)
        self._writers.update(both)
        carried = _Counter()
        try:
            # Cancelled only when the proxy itself ends: there is nobody left to tell.
            with contextlib.suppress(asyncio.CancelledError):
                await _first_done(
                    self._pump(reader, far_writer, carried, both), self._pump(far_reader, writer, carried, both)
                )
        finally:
            self._writers.difference_update(both)
            for one in both:
                one.close()

    async def _pump(
        self,
        source: asyncio.StreamReader,
        sink: asyncio.StreamWriter,
        carried: _Counter,
        both: tuple[asyncio.StreamWriter, ...],
    ) -> None:
        with contextlib.suppress(OSError):
            while data := await source.read(READ_BYTES):
                weather = self._weather
                rate_s = len(data) / weather.bytes_per_s if weather.bytes_per_s else 0.0
                if weather.delay_s or rate_s:
                    await asyncio.sleep(weather.delay_s + rate_s)
                carried.bytes += len(data)
                self.bytes_carried += len(data)
                if weather.reset_after_bytes is not None and carried.bytes > weather.reset_after_bytes:
                    for one in both:
                        one.transport.abort()
                    return
                sink.write(data)
                await sink.drain()


@dataclass(slots=True)
class _Counter:
    bytes: int = 0


async def _first_done(*pumps: Coroutine[Any, Any, None]) -> None:
    """Wait until one direction ends, then end the other."""
    tasks: list[asyncio.Task[None]] = [asyncio.ensure_future(pump) for pump in pumps]
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
