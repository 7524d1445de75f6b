"""Messages of an MQTT 5 topic as frames."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from edgewise.ports._clock import Clock
from edgewise.ports._mqtt import Broker, MqttLine
from edgewise.ports._rows import live_name, message_frame
from edgewise.ports._source import Frame
from edgewise.ports._source_thread import ThreadSource, live_source
from edgewise.wire import MqttSpec, NotValid

CONNECT_S_MAX = 10.0


def mqtt_source(spec: MqttSpec, *, clock: Clock) -> ThreadSource:
    """Frames of a topic: each message a picture, known by its first bytes, or a row as JSON; the topic is a fact.

    A client with a name (``client``) has a session: what comes while we are away waits at the broker.

    Raises:
        NotValid: the MQTT library is not installed, or a password or certificate cannot be read.
    """
    count = itertools.count(1)
    topic = spec.topic if spec.share is None else f"$share/{spec.share}/{spec.topic}"
    broker = Broker(
        host=spec.host,
        port=spec.port,
        client=spec.client or "",
        keepalive_s=spec.keepalive_s,
        timeout_s=CONNECT_S_MAX,
        login=spec.login,
        tls=spec.tls,
        session_s=spec.session_s if spec.client else 0,
        message_bytes_max=spec.message_bytes_max,
    )
    MqttLine(broker)  # whatever a person has to mend is said at once, not from the thread

    def read(source: ThreadSource) -> Iterator[Frame | None]:
        line = MqttLine(broker)
        try:
            line.open()
            line.subscribe(topic, spec.qos)
            source.well()
            while True:
                for message in line.turn():
                    now = clock.now()
                    name = live_name(spec.name, now, next(count))
                    try:
                        frame = message_frame(bytes(message.payload), spec.row, name=name, taken_at=now)
                    except NotValid as error:
                        source.skip(f"{message.topic[:100]}: {error}")
                        continue
                    yield frame._replace(facts={"topic": message.topic, **frame.facts})
                yield None
        finally:
            line.close()

    return live_source(read, spec)
