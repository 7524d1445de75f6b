"""Where events go beside the hub: one promise, a part for each kind, and one in memory."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol, assert_never

from edgewise.ports._clock import Clock
from edgewise.wire import ConsoleSink, FileSink, ModbusSink, MqttSink, SinkEvent, SinkSpec, WebhookSink

SINKS_FOLDER = "sinks"
SECRETS_FOLDER = "secrets"  # all that a use case may name


class Sink(Protocol):
    """A way out for events. It belongs to one thread; each call is bounded in time by the sink's ``timeout_s``."""

    def send(self, event: SinkEvent) -> None:
        """Nothing, once the other side has the event. The same event may come again after a failure.

        Raises:
            NotNow: not delivered, try again. NotValid, NotTrusted: this event will never be taken.
        """

    def idle(self) -> None:
        """What has to be done while nothing is sent: keep a line alive, go back to a safe value. Raises as `send`."""

    def close(self) -> None:
        """Let go: a machine is left in its safe value, a broker hears good-bye; asked twice changes nothing."""


class MemorySink:
    """A list of what was sent; refuses as told, for our tests and our users'.

    >>> from edgewise.wire import NotNow
    >>> sink = MemorySink(answers=[NotNow("busy")])
    >>> sink.idle()
    >>> sink.idles, sink.events
    (1, [])
    """

    def __init__(self, answers: list[Exception | None] | None = None) -> None:
        self.events: list[SinkEvent] = []
        self.answers = answers or []  # what the next calls raise; None for success, as when there is none left
        self.tries = 0
        self.idles = 0
        self.is_closed = False

    def send(self, event: SinkEvent) -> None:
        self.tries += 1
        answer = self.answers.pop(0) if self.answers else None
        if answer is not None:
            raise answer
        self.events.append(event)

    def idle(self) -> None:
        self.idles += 1

    def close(self) -> None:
        self.is_closed = True


def open_sink(spec: SinkSpec, *, folder: Path, device: str, clock: Clock) -> Sink:
    """The sink of this description. Nothing is connected before it is used.

    Args:
        folder: the device's folder; files are written below ``sinks`` in it, secrets are read from ``secrets``.
        device: its name, by which a broker knows it.
        clock: for intervals and holding times.
    Raises:
        NotValid, NotTrusted: its library is not installed, or a secret or certificate cannot be used.
    """
    match spec:
        case MqttSink():
            from edgewise.ports._sink_mqtt import MqttSinkLine

            return MqttSinkLine(spec, device=device, secrets=folder / SECRETS_FOLDER)
        case WebhookSink():
            from edgewise.ports._sink_webhook import Webhook

            return Webhook(spec, clock=clock, secrets=folder / SECRETS_FOLDER)
        case ModbusSink():
            from edgewise.ports._sink_modbus import ModbusWriter

            return ModbusWriter(spec, clock=clock)
        case FileSink():
            from edgewise.ports._sink_lines import LinesFile

            return LinesFile(spec, folder / SINKS_FOLDER)
        case ConsoleSink():
            from edgewise.ports._sink_lines import Console

            return Console(spec)
        case _:
            assert_never(spec)
