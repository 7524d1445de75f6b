"""Events on an MQTT 5 topic, QoS 1."""

from __future__ import annotations

from pathlib import Path

from edgewise.ports._mqtt import Broker, MqttLine
from edgewise.ports._secret import below
from edgewise.wire import EdgewiseError, Login, MqttSink, SinkEvent, encode

NOT_IN_A_LEVEL = str.maketrans({"/": "_", "+": "_", "#": "_", "\0": "_"})


class MqttSinkLine:
    """A line to a broker that is opened when it is needed and again after it was lost.

    Args:
        secrets: the folder in which the password lies.
    Raises:
        NotValid, NotTrusted: the MQTT library is not installed, or a password or certificate cannot be used.
    """

    def __init__(self, spec: MqttSink, *, device: str, secrets: Path) -> None:
        self._spec = spec
        self._device = device
        self._broker = Broker(
            host=spec.host,
            port=spec.port,
            client=spec.client or f"{device}-sink-{spec.name}",
            keepalive_s=spec.keepalive_s,
            timeout_s=spec.timeout_s,
            login=_login(spec, secrets),
            tls=spec.tls,
            status_topic=None if spec.status_topic is None else spec.status_topic.replace("{device}", device),
        )
        MqttLine(self._broker)  # whatever a person has to mend is said at once
        self._line: MqttLine | None = None

    def send(self, event: SinkEvent) -> None:
        try:
            self._open().publish(self._topic(event), encode(event))
        except EdgewiseError:
            self._drop()
            raise

    def idle(self) -> None:
        try:
            self._open().turn(0.0)  # also without events: it keeps the line alive and the status true
        except EdgewiseError:
            self._drop()
            raise

    def close(self) -> None:
        self._drop()

    def _topic(self, event: SinkEvent) -> str:
        topic = self._spec.topic
        for name in ("device", "site", "event", "label"):
            topic = topic.replace(f"{{{name}}}", str(getattr(event, name)).translate(NOT_IN_A_LEVEL))
        return topic

    def _open(self) -> MqttLine:
        if self._line is None:
            line = MqttLine(self._broker)
            self._line = line
            line.open()
        return self._line

    def _drop(self) -> None:
        line, self._line = self._line, None
        if line is not None:
            line.close()


def _login(spec: MqttSink, secrets: Path) -> Login | None:
    if spec.login is None:
        return None
    held = {"password_file": below(secrets, spec.login.password_file), "password_env": spec.login.password_env}
    return Login(user=spec.login.user, **held)
