"""One connection to an MQTT 5 broker, turned by the thread that owns it."""

from __future__ import annotations

import ssl
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from edgewise.ports._extras import library
from edgewise.ports._secret import login_of
from edgewise.wire import Login, NotNow, NotValid, Tls

TURN_S = 0.25
RECEIVE_MAX = 20  # messages on their way to us at once
REFUSED_FOR_GOOD = {0x84: "its MQTT version", 0x85: "this client id", 0x86: "user or password", 0x87: "this user"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Broker:
    """Where a broker is, and who we are to it."""

    host: str
    port: int
    client: str
    keepalive_s: int
    timeout_s: float
    login: Login | None = None
    tls: Tls | None = None
    session_s: int = 0  # how long it keeps our session after the line is lost; 0 for no session
    message_bytes_max: int | None = None
    status_topic: str | None = None  # retained {"online": true} there, and the broker says false when we are lost


class MqttLine:
    """A connection. Not for several threads; every call is bounded in time.

    Raises:
        NotValid: the MQTT library is not installed, or a password cannot be read.
    """

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._mqtt = library("paho.mqtt.client", "mqtt", "MQTT")
        self._properties = library("paho.mqtt.properties", "mqtt", "MQTT")
        self._refused: Any = None
        self._granted: dict[int, Sequence[Any]] = {}
        self._messages: list[Any] = []
        self._client = self._mqtt.Client(
            self._mqtt.CallbackAPIVersion.VERSION2, client_id=broker.client, protocol=self._mqtt.MQTTv5
        )
        self._client.connect_timeout = broker.timeout_s
        self._client.on_connect = self._connected
        self._client.on_message = lambda _client, _data, message: self._messages.append(message)
        self._client.on_subscribe = lambda _client, _data, number, codes, _more: self._granted.update({number: codes})
        if (login := login_of(broker.login, f"the password at {broker.host}")) is not None:
            self._client.username_pw_set(*login)
        if broker.tls is not None:
            self._client.tls_set_context(tls_context(broker.tls))
        if broker.status_topic is not None:
            self._client.will_set(broker.status_topic, b'{"online": false}', qos=1, retain=True)

    # -- calls ---------------------------------------------------------------------------------------------------------

    def open(self) -> None:
        """Connect and wait for the broker's yes.

        Raises:
            NotNow: no broker answers, or it is busy. NotValid: it refuses this client for good.
        """
        broker = self._broker
        about = self._properties.Properties(library("paho.mqtt.packettypes", "mqtt", "MQTT").PacketTypes.CONNECT)
        about.SessionExpiryInterval = broker.session_s
        about.ReceiveMaximum = RECEIVE_MAX
        if broker.message_bytes_max is not None:
            about.MaximumPacketSize = broker.message_bytes_max + 65_536 + 1024  # topic and properties come on top
        try:
            self._client.connect(
                broker.host, broker.port, broker.keepalive_s, clean_start=broker.session_s == 0, properties=about
            )
        except (OSError, ValueError) as error:
            raise NotNow(f"no MQTT broker at {self._where} ({error}); is it on?", code="broker_down") from error
        self._until(lambda: self._refused is not None or self._client.is_connected(), "answered the connection")
        if self._refused is not None:
            self._say_refused()
        if broker.status_topic is not None:
            self.publish(broker.status_topic, b'{"online": true}', retain=True)

    def subscribe(self, topic: str, qos: int) -> None:
        """Be sent what comes on a topic; kept messages only the first time. NotValid: the broker refuses the topic."""
        options = library("paho.mqtt.subscribeoptions", "mqtt", "MQTT").SubscribeOptions
        how = options(qos=qos, retainHandling=options.RETAIN_SEND_IF_NEW_SUB)
        _, number = self._client.subscribe(topic, options=how)
        if number is None:
            raise self._lost()
        self._until(lambda: number in self._granted, f"answered the subscription to {topic}")
        if any(code.value >= 0x80 for code in self._granted[number]):
            raise NotValid(f"the broker at {self._where} refuses the topic {topic}", code="topic_refused")

    def turn(self, wait_s: float = TURN_S) -> list[Any]:
        """Do what is to be done on the line for a moment; the messages that came. NotNow: the line is lost."""
        if self._client.loop(wait_s) != self._mqtt.MQTT_ERR_SUCCESS:
            raise self._lost()
        messages, self._messages = self._messages, []
        return messages

    def publish(self, topic: str, data: bytes, *, retain: bool = False) -> None:
        """Send one message, QoS 1, and wait for the broker's word that it has it. NotNow: it did not come."""
        info = self._client.publish(topic, data, qos=1, retain=retain)
        try:
            self._until(info.is_published, f"acknowledged a message on {topic}")
        except (RuntimeError, ValueError) as error:  # so paho says that the line was lost before the message went
            raise self._lost() from error

    def close(self) -> None:
        """Say good-bye, so that a last will is not sent, and let go of the socket."""
        if self._client.is_connected():
            if self._broker.status_topic is not None:
                self._try_to_say_offline(self._broker.status_topic)
            self._client.disconnect()
        self._client.loop(0)  # writes what is left; a line that is gone answers with an error, and that is fine
        self._client._reset_sockets()  # paho closes its pair of sockets only when it is collected

    # -- small parts ---------------------------------------------------------------------------------------------------

    @property
    def _where(self) -> str:
        return f"{self._broker.host}:{self._broker.port}"

    def _connected(self, _client: Any, _data: Any, _flags: Any, reason: Any, _more: Any) -> None:
        self._refused = reason if reason.is_failure else None

    def _try_to_say_offline(self, topic: str) -> None:
        try:
            self.publish(topic, b'{"online": false}', retain=True)
        except NotNow:
            return  # then the broker says it, when it notices

    def _until(self, is_done: Any, what: str) -> None:
        end_s = time.monotonic() + self._broker.timeout_s
        while not is_done():
            if time.monotonic() > end_s:
                raise NotNow(
                    f"the broker at {self._where} has not {what} within {self._broker.timeout_s:g} s",
                    code="broker_slow",
                )
            if self._client.loop(0.05) != self._mqtt.MQTT_ERR_SUCCESS and not is_done():
                if self._refused is not None:
                    self._say_refused()
                raise self._lost()

    def _say_refused(self) -> None:
        what = REFUSED_FOR_GOOD.get(self._refused.value)
        if what is not None:
            raise NotValid(f"the broker at {self._where} refuses {what}: {self._refused}", code="broker_refuses")
        raise NotNow(f"the broker at {self._where} says: {self._refused}", code="broker_busy")

    def _lost(self) -> NotNow:
        return NotNow(f"the line to the broker at {self._where} is lost", code="broker_down")


def tls_context(tls: Tls) -> ssl.SSLContext:
    """A client's TLS settings from its record. NotValid: a file that cannot be read or is none."""
    try:
        context = ssl.create_default_context(cafile=tls.ca_file)
        if tls.certificate_file is not None:
            context.load_cert_chain(tls.certificate_file, tls.key_file)
    except (OSError, ssl.SSLError) as error:
        raise NotValid(
            f"the TLS files cannot be used: {error}; check ca_file, certificate_file and key_file"
        ) from error
    return context
