"""Nodes of an OPC UA server, subscribed to, as rows of their newest values."""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
from collections.abc import Iterator
from typing import Any

from edgewise.ports._clock import Clock
from edgewise.ports._extras import library
from edgewise.ports._rows import live_name, row_frame
from edgewise.ports._secret import login_of
from edgewise.ports._source import Frame
from edgewise.ports._source_thread import ThreadSource, live_source
from edgewise.wire import EdgewiseError, NotNow, NotValid, OpcUaSpec, RowFields

TURN_S = 0.5
SETTLE_S = 0.02  # values of one publication come one after the other
DENIED = {"BadUserAccessDenied", "BadIdentityTokenRejected", "BadIdentityTokenInvalid", "BadSecurityChecksFailed"}
WAITING_MAX = 10_000  # changes of values that asyncua holds for us


def opcua_source(spec: OpcUaSpec, *, clock: Clock) -> ThreadSource:
    """Rows of the nodes' newest values, one when something changed, at most one in ``every_s``.

    Raises:
        NotValid: asyncua is not installed, or the password cannot be read.
    """
    library("asyncua", "factory", "OPC UA")
    # It writes every failure to standard error by itself; we say it once.
    logging.getLogger("asyncua").setLevel(logging.CRITICAL + 1)
    login = login_of(spec.login, f"the password at {spec.url}")
    count = itertools.count(1)

    def read(source: ThreadSource) -> Iterator[Frame | None]:
        loop = asyncio.new_event_loop()
        line = OpcUaLine(spec, login)
        try:
            loop.run_until_complete(line.open())
            source.well()
            while True:
                if not loop.run_until_complete(line.turn()):
                    yield None
                    continue
                now = clock.now()
                name = live_name(spec.name, now, next(count))
                try:
                    yield row_frame(line.values, RowFields(), name=name, taken_at=now, group=spec.group)
                except NotValid as error:
                    source.skip(f"{spec.url}: {error}")
        finally:
            loop.run_until_complete(line.close())
            loop.close()

    return live_source(read, spec)


class OpcUaLine:
    """One session with one subscription. Its coroutines run in the loop of the thread that owns it."""

    def __init__(self, spec: OpcUaSpec, login: tuple[str, str] | None) -> None:
        self.values: dict[str, Any] = {item.column: None for item in spec.nodes}
        self._spec = spec
        self._opc = library("asyncua", "factory", "OPC UA")
        self._client = self._opc.Client(spec.url, timeout=spec.timeout_s, watchdog_intervall=spec.silence_s_max)
        if login is not None:
            self._client.set_user(login[0])
            self._client.set_password(login[1])
        self._column_of: dict[Any, str] = {}
        self._subscription: Any = None
        self._changed = False
        self._next_s = 0.0
        self._is_open = False

    async def open(self) -> None:
        """Connect and subscribe.

        Raises:
            NotNow: no server answers. NotValid: it refuses the user, or does not know a node.
        """
        spec = self._spec
        try:
            if spec.security != "none":
                await self._secure()
            await self._client.connect()
            self._is_open = True
            await self._subscribe()
        except EdgewiseError:
            raise
        except Exception as error:  # asyncua raises its own and asyncio's errors, and OSError
            raise self._of(error) from error

    async def turn(self) -> bool:
        """Wait a moment for changes; whether a new row is due. NotNow: the line is lost."""
        left_s = max(self._next_s - time.monotonic(), SETTLE_S) if self._changed else TURN_S
        event = await self._subscription.next_event(timeout=min(left_s, TURN_S))
        end_s = time.monotonic() + TURN_S
        while event is not None:
            self._take(event)
            event = await self._subscription.next_event(timeout=SETTLE_S) if time.monotonic() < end_s else None
        now_s = time.monotonic()
        if not self._changed or now_s < self._next_s - SETTLE_S:  # a server may publish faster than it was asked to
            return False
        self._changed, self._next_s = False, now_s + self._spec.every_s
        return True

    async def close(self) -> None:
        """Say good-bye as far as the line allows; bounded in time."""
        try:
            if self._is_open:
                await asyncio.wait_for(self._client.disconnect(), self._spec.timeout_s)
            else:
                self._client.disconnect_socket()
        except Exception as error:
            del error  # the line was given up already
        others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    # -- small parts ---------------------------------------------------------------------------------------------------

    async def _secure(self) -> None:
        spec, policies = self._spec, library("asyncua.crypto.security_policies", "factory", "OPC UA")
        assert spec.tls is not None, "the record asks for it"
        modes = self._opc.ua.MessageSecurityMode
        await self._client.set_security(
            policies.SecurityPolicyBasic256Sha256,
            certificate=spec.tls.certificate_file,
            private_key=spec.tls.key_file,
            server_certificate=spec.tls.ca_file,  # the server's own certificate, pinned
            mode=modes.Sign if spec.security == "sign" else modes.SignAndEncrypt,
        )

    async def _subscribe(self) -> None:
        nodes = []
        for item in self._spec.nodes:
            try:
                node = self._client.get_node(item.node)
            except Exception as error:
                raise NotValid(f"{item.node!r} is not a node id: {error}", code="node_invalid") from error
            nodes.append(node)
            self._column_of[node.nodeid] = item.column
        every_ms = self._spec.every_s * 1000
        self._subscription = await self._client.create_subscription(every_ms, queue_maxsize=WAITING_MAX)
        handles = await self._subscription.subscribe_data_change(nodes, sampling_interval=every_ms)
        for item, handle in zip(self._spec.nodes, handles, strict=True):
            if not isinstance(handle, int):
                raise NotValid(f"{self._spec.url} gives no {item.node}: {handle.name}", code="node_unknown")

    def _take(self, event: Any) -> None:
        if not hasattr(event, "node"):
            raise NotNow(f"the OPC UA server {self._spec.url} is gone", code="opcua_lost")
        good = event.data.monitored_item.Value.StatusCode.is_good()
        self.values[self._column_of[event.node.nodeid]] = event.value if good else None
        self._changed = True

    def _of(self, error: Exception) -> EdgewiseError:
        what = f"{type(error).__name__} {error}".strip()
        if type(error).__name__ in DENIED:
            return NotValid(f"the OPC UA server {self._spec.url} refuses us: {what}", code="opcua_refuses")
        return NotNow(f"no OPC UA server at {self._spec.url} ({what}); is it on?", code="opcua_down")
